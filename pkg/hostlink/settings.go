// SPDX-License-Identifier: Apache-2.0

package hostlink

import "github.com/multihome/multihome/pkg/netstate"

// Settings are those of the node's end of a link to pods.
type Settings struct {
	RPFilter int  // -1 leaves it; 1 is for IPv6 as well
	IPv6     bool // in use
}

// strict is the value of rp_filter that lets a packet in only by the link by which
// its source is reached.
const strict = 1

// Group is the one that the link must be in; 0: whatever it is in.
func (s Settings) Group() int {
	if s.RPFilter == strict {
		return netstate.SourceGroup
	}
	return 0
}

// Want wants them for a link. The check of sources is about links in our group alone,
// which one that somebody else made isn't in.
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
