// SPDX-License-Identifier: Apache-2.0

package hostlink

import "github.com/multihome/multihome/pkg/netstate"

// Settings holds the settings of the node's end of a link to pods.
type Settings struct {
	RPFilter int  // the sysctl rp_filter; -1 leaves it; 1 checks IPv6 sources too
	IPv6     bool // IPv6 is in use on the link
}

// strict is the value of rp_filter that accepts a packet only on the link by which its
// source is reached (RFC 3704).
const strict = 1

// Group returns the group that the link must be in; 0 leaves the group.
func (s Settings) Group() int {
	if s.RPFilter == strict {
		return netstate.SourceGroup
	}
	return 0
}

// Want wants the settings for a link. The check of sources applies to links in our group
// only; a link that another program made isn't in it.
func (s Settings) Want(plan *netstate.Plan, l netstate.Link) {
	dev := l.Name
	const why = "pods send from no address but their own"
	if s.RPFilter >= 0 {
		plan.Want(host, why, netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: s.RPFilter})
	}
	if l.Group == netstate.SourceGroup {
		plan.WantShared(host, why, netstate.SourceCheck{})
	}
	plan.Want(host, "the node takes no routes from there", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "accept_ra", Value: 0})
	if s.IPv6 {
		plan.Want(host, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "disable_ipv6", Value: 0})
	}
}
