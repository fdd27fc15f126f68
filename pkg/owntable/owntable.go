// SPDX-License-Identifier: Apache-2.0

// Package owntable plans the routing table of a pod's NIC, or of one of its addresses:
// packets from the address leave by the NIC. It is pure, and serves every plugin that
// makes such tables.
//
//	nic := owntable.NIC{Owner: netstate.ProtoRoute, Name: "net1", Addrs: addrs, Gateway: gateway}
//	table, err := nic.Table(snapshot, 100, 100)
//	…
//	nic.Want(&plan, snapshot, netstate.IPv4, table)
//
// Beware: a plan must find the same table as the ADD before it, even if another program
// flushed the rules. [NIC.Find] goes by the rules and routes that it finds, so give it
// every table that another NIC of the plan has.
package owntable

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
)

// pod is the namespace of all objects of this package.
const pod = netstate.Pod

// NIC is one of a pod's NICs, and those of its addresses that share a table.
type NIC struct {
	Owner   netstate.Protocol // the plugin that makes the table
	Name    string
	Addrs   []netip.Addr
	Subnets []netip.Prefix // on the link, beside the connected routes of table main
	// Gateway returns the NIC's gateway if the plugin knows it. If the address is not
	// valid, the kernel's default routes by this NIC count.
	Gateway func(netstate.Family) netip.Addr
	// Has reports whether a route by the NIC belongs to these addresses. If it is nil,
	// all do.
	Has func(netstate.Route) bool
	// Checking is set in CHECK: default routes of router advertisements that came since ADD
	// don't count.
	Checking bool
}

// Want wants the rules from the NIC's addresses of a family, and a table with the NIC's
// own routes: main's routes by this NIC, and its default routes.
func (n NIC) Want(plan *netstate.Plan, s *netstate.Snapshot, f netstate.Family, table int) {
	for _, a := range n.Addrs {
		if netstate.FamilyOf(a) == f {
			plan.Want(pod, "packets from an address leave by its NIC", Rule(n.Owner, a, netstate.FromPriority, table))
			n.leave(plan, s, a, table)
		}
	}
	for _, r := range n.Ways(s, f) {
		r.Table = table
		plan.Want(pod, "the NIC's own routes", r)
	}
	for _, r := range n.Defaults(s, f, table) {
		r.Table = table
		plan.Want(pod, "the NIC's own default route", r)
		for _, former := range n.routes(s, f, func(o netstate.Route) bool {
			return o.Table == table && o.Dst == r.Dst && o.Metric == r.Metric && o.Via != r.Via && o.Proto == netstate.ProtoRA
		}) {
			plan.Drop(pod, "its router advertises itself no longer", former)
		}
	}
}

// leave drops the rule from an address to a table that is no longer the NIC's own one, and the NIC's
// routes there.
func (n NIC) leave(plan *netstate.Plan, s *netstate.Snapshot, a netip.Addr, table int) {
	for _, r := range netstate.All[netstate.Rule](s, pod) {
		if !IsOwn(r, n.Owner) || r.From.Addr() != a || r.Table == table {
			continue
		}
		plan.Drop(pod, whyLost, r)
		for _, o := range n.routes(s, r.Family, func(o netstate.Route) bool { return o.Table == r.Table }) {
			plan.Drop(pod, whyLost, o)
		}
	}
}

// whyLost is the reason for leaving a table.
const whyLost = "another program has taken the table"

// Lost reports whether another program has taken a table with a default route of ours: a rule
// of that program looks it up, and the default route is gone. Istio's ambient mode
// puts its own in its place, in table 100.
func Lost(s *netstate.Snapshot, table int) bool {
	return slices.ContainsFunc(netstate.All[netstate.Rule](s, pod), func(rule netstate.Rule) bool {
		return rule.Table == table && !rule.Owned() && !slices.ContainsFunc(netstate.All[netstate.Route](s, pod), func(r netstate.Route) bool {
			return r.Table == table && r.Dst.Bits() == 0 && netstate.FamilyOf(r.Dst.Addr()) == rule.Family
		})
	})
}

// lost reports whether another program has taken the NIC's table.
func (n NIC) lost(s *netstate.Snapshot, table int) bool {
	return Lost(s, table) && (len(n.Defaults(s, netstate.IPv4, table)) > 0 || len(n.Defaults(s, netstate.IPv6, table)) > 0)
}

// Rule returns the rule that looks up a table for packets from an address.
func Rule(owner netstate.Protocol, a netip.Addr, priority, table int) netstate.Rule {
	return netstate.Rule{Family: netstate.FamilyOf(a), Priority: priority, From: netstate.Single(a), Table: table, Proto: owner}
}

// Ways returns main's routes by the NIC: connected routes and those of the NIC's IPAM. It
// leaves out default routes, our routes to the node (they have a source), and routes to
// link-local destinations, which need no table.
func (n NIC) Ways(s *netstate.Snapshot, f netstate.Family) []netstate.Route {
	return n.routes(s, f, func(r netstate.Route) bool {
		return r.Table == netstate.TableMain && r.Dst.Bits() > 0 && !r.Dst.Addr().IsLinkLocalUnicast() && (!r.Owned() || !r.Src.IsValid())
	})
}

// Defaults returns the NIC's default routes in the form that they have in main. They are
// by its gateway, if that is known. They come from main, or else from the table into
// which an earlier ADD put them, or else Defaults makes one by the gateway.
func (n NIC) Defaults(s *netstate.Snapshot, f netstate.Family, table int) []netstate.Route {
	gateway := n.Gateway(f)
	in := func(table int) []netstate.Route {
		return n.routes(s, f, func(r netstate.Route) bool {
			return r.Table == table && r.Dst.Bits() == 0 && (!gateway.IsValid() || r.Via == gateway)
		})
	}
	main, own := in(netstate.TableMain), in(table)
	if n.Checking && len(own) > 0 {
		main = slices.DeleteFunc(main, func(r netstate.Route) bool { return r.Proto == netstate.ProtoRA })
	}
	if found := choose(main, own); len(found) > 0 {
		return found
	}
	if !gateway.IsValid() {
		return nil
	}
	r := netstate.NewRoute(n.Owner, netstate.TableMain, netstate.Default(gateway), gateway, n.Name, netip.Addr{})
	r.Onlink = (gateway.Is4() || !gateway.IsLinkLocalUnicast()) && !n.onLink(s, gateway)
	return []netstate.Route{r}
}

// choose returns the default routes that a NIC's own table should have, by those of main
// and of the table itself. Of those that lose in main it takes one, with the metric that
// the kernel gives such routes by default, if the table has no other.
func choose(main, own []netstate.Route) (out []netstate.Route) {
	var losing []netstate.Route
	for _, r := range main {
		if r.LosesDefault() {
			losing = append(losing, netstate.NewRoute(r.Proto, r.Table, r.Dst, r.Via, r.Dev, r.Src))
		} else {
			out = append(out, r)
		}
	}
	advertised := func(r netstate.Route) bool { return r.Proto == netstate.ProtoRA }
	same := func(o netstate.Route) bool {
		return slices.ContainsFunc(losing, func(l netstate.Route) bool { return l.Via == o.Via })
	}
	switch {
	case len(out) > 0:
		return onePerMetric(out, own)
	case len(losing) == 0 || slices.ContainsFunc(own, func(o netstate.Route) bool { return !advertised(o) || same(o) }):
		return own
	}
	return losing[:1]
}

// onePerMetric leaves out routes of router advertisements for which there is another of the
// same metric: a table has one route of ours of each. It keeps those that the NIC's own
// table has.
func onePerMetric(routes, own []netstate.Route) (out []netstate.Route) {
	rank := func(r netstate.Route) int {
		switch {
		case r.Proto != netstate.ProtoRA:
			return 0
		case slices.ContainsFunc(own, func(o netstate.Route) bool { return o.Via == r.Via && o.Metric == r.Metric }):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(routes, func(a, b netstate.Route) int { return rank(a) - rank(b) })
	for _, r := range routes {
		taken := func(o netstate.Route) bool { return o.Metric == r.Metric }
		if r.Proto != netstate.ProtoRA || !slices.ContainsFunc(out, taken) {
			out = append(out, r)
		}
	}
	return out
}

// onLink reports whether a gateway is in a subnet on the link.
func (n NIC) onLink(s *netstate.Snapshot, gateway netip.Addr) bool {
	return slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(gateway) }) ||
		slices.ContainsFunc(n.Ways(s, netstate.FamilyOf(gateway)), func(w netstate.Route) bool { return !w.Via.IsValid() && w.Dst.Contains(gateway) })
}

// has reports whether a route is by the NIC and belongs to its addresses.
func (n NIC) has(r netstate.Route) bool { return r.Dev == n.Name && (n.Has == nil || n.Has(r)) }

// routes returns the routes of a family by the NIC that satisfy ok.
func (n NIC) routes(s *netstate.Snapshot, f netstate.Family, ok func(netstate.Route) bool) []netstate.Route {
	return slices.DeleteFunc(netstate.All[netstate.Route](s, pod), func(r netstate.Route) bool {
		return netstate.FamilyOf(r.Dst.Addr()) != f || !n.has(r) || !ok(r)
	})
}
