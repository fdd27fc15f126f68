// SPDX-License-Identifier: Apache-2.0

// Package owntable plans the routing table that a pod's NIC, or one of its
// addresses, has for itself: what comes from the address leaves by the NIC. It is
// pure, and for all plugins that make such tables.
package owntable

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
)

// pod is where everything of this package is.
const pod = netstate.Pod

// NIC is one of a pod's NICs and those of its addresses that share a table.
type NIC struct {
	Owner   netstate.Protocol // the plugin that the table is made by
	Name    string
	Addrs   []netip.Addr
	Subnets []netip.Prefix // that are on the link, beyond what table main says
	// Gateway returns the one that the NIC is known to have; not valid: what the
	// kernel has by this NIC.
	Gateway func(netstate.Family) netip.Addr
	// Has says which of the routes by the NIC are meant; nil: all.
	Has func(netstate.Route) bool
}

// Want wants the rules from the NIC's addresses of a family, and in the table its
// own ways: what main has by this NIC, and its default.
func (n NIC) Want(plan *netstate.Plan, s *netstate.Snapshot, f netstate.Family, table int) {
	for _, a := range n.Addrs {
		if netstate.FamilyOf(a) == f {
			plan.Want(pod, "what comes from an address leaves by its NIC", Rule(n.Owner, a, netstate.FromPriority, table))
		}
	}
	for _, r := range n.Ways(s, f) {
		r.Table = table
		plan.Want(pod, "the NIC's own ways", r)
	}
	for _, r := range n.Defaults(s, f, table) {
		r.Table = table
		plan.Want(pod, "the NIC's own way out", r)
	}
}

// Rule leads what comes from an address to a table.
func Rule(owner netstate.Protocol, a netip.Addr, priority, table int) netstate.Rule {
	return netstate.Rule{Family: netstate.FamilyOf(a), Priority: priority, From: netstate.Single(a), Table: table, Proto: owner}
}

// Ways returns what main has by the NIC but its defaults: connected routes and
// those that its IPAM gave it, but not what leads to the node (ours, with a
// source). Link-local destinations need no table.
func (n NIC) Ways(s *netstate.Snapshot, f netstate.Family) []netstate.Route {
	return n.routes(s, f, func(r netstate.Route) bool {
		return r.Table == netstate.TableMain && r.Dst.Bits() > 0 && !r.Dst.Addr().IsLinkLocalUnicast() && (!r.Owned() || !r.Src.IsValid())
	})
}

// Defaults returns the NIC's default routes, as they are or would be in main: by
// its gateway, as the kernel has them by this NIC in main, else in the table
// where an earlier ADD put them.
func (n NIC) Defaults(s *netstate.Snapshot, f netstate.Family, table int) []netstate.Route {
	gateway := n.Gateway(f)
	for _, from := range []int{netstate.TableMain, table} {
		found := n.routes(s, f, func(r netstate.Route) bool {
			return r.Table == from && r.Dst.Bits() == 0 && (!gateway.IsValid() || r.Via == gateway)
		})
		if len(found) > 0 {
			return found
		}
	}
	if !gateway.IsValid() {
		return nil
	}
	r := netstate.NewRoute(n.Owner, netstate.TableMain, netstate.Default(gateway), gateway, n.Name, netip.Addr{})
	r.Onlink = (gateway.Is4() || !gateway.IsLinkLocalUnicast()) && !n.onLink(s, gateway)
	return []netstate.Route{r}
}

// onLink reports whether a gateway is known to be a neighbour on the link.
func (n NIC) onLink(s *netstate.Snapshot, gateway netip.Addr) bool {
	return slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(gateway) }) ||
		slices.ContainsFunc(n.Ways(s, netstate.FamilyOf(gateway)), func(w netstate.Route) bool { return !w.Via.IsValid() && w.Dst.Contains(gateway) })
}

func (n NIC) has(r netstate.Route) bool { return r.Dev == n.Name && (n.Has == nil || n.Has(r)) }

// routes returns the routes of a family by the NIC that satisfy ok.
func (n NIC) routes(s *netstate.Snapshot, f netstate.Family, ok func(netstate.Route) bool) []netstate.Route {
	return slices.DeleteFunc(netstate.All[netstate.Route](s, pod), func(r netstate.Route) bool {
		return netstate.FamilyOf(r.Dst.Addr()) != f || !n.has(r) || !ok(r)
	})
}
