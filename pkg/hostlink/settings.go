// SPDX-License-Identifier: Apache-2.0

package hostlink

import "github.com/multihome/multihome/pkg/netstate"

// Settings are those of the node's end of a link to pods.
type Settings struct {
	RPFilter int  // -1 leaves it
	IPv6     bool // in use
}

// Want wants them for a link.
func (s Settings) Want(plan *netstate.Plan, dev string) {
	if s.RPFilter >= 0 {
		plan.Want(host, "pods send from no address but their own", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: s.RPFilter})
	}
	plan.Want(host, "the node takes no routes from there", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "accept_ra", Value: 0})
	if s.IPv6 {
		plan.Want(host, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "disable_ipv6", Value: 0})
	}
}
