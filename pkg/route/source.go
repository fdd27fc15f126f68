// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// table plans a rule from each address to the configured table, and no routes.
func (b *builder) table() {
	for _, a := range b.addrs {
		b.plan.Want(pod, "table", owntable.Rule(netstate.ProtoRoute, a.Addr(), netstate.LatePriority, b.c.Table))
	}
}

// ownTables plans a table for each address of the NIC, because addresses of different
// subnets use different gateways. It moves the NIC's routes out of main into these
// tables, so that only packets from its addresses leave by this NIC.
func (b *builder) ownTables() error {
	if err := b.routesAlone(); err != nil {
		return err
	}
	var taken []int
	for _, a := range b.sources() {
		nic := owntable.NIC{
			Owner: netstate.ProtoRoute, Name: b.v.IfName, Addrs: []netip.Addr{a.Addr()}, Subnets: []netip.Prefix{a.Masked()},
			Gateway: func(netstate.Family) netip.Addr { return b.gateway(a) },
			Has:     func(r netstate.Route) bool { return b.isOf(r, a) },
		}
		table, err := nic.Table(b.v.Snapshot, netstate.RouteTable, netstate.RouteTable, taken...)
		if older := b.olderTable(a.Addr()); older != 0 {
			table, err = older, nil
		}
		if err != nil {
			return err
		}
		taken = append(taken, table)
		b.subnet(a, table)
		nic.Want(&b.plan, b.v.Snapshot, netstate.FamilyOf(a.Addr()), table)
	}
	if b.c.SourceHints {
		b.sourceHints()
	}
	b.dropMoved()
	return nil
}

// routesAlone returns an error if coordinator routes packets from an address of the
// NIC. With tables of both plugins, the address would not reach Services and the node.
func (b *builder) routesAlone() error {
	isReply := func(r netstate.Rule) bool {
		return r.Proto == netstate.ProtoCoordinator && r.Priority == netstate.ReplyPriority && r.Mask != 0
	}
	rules := netstate.All[netstate.Rule](b.v.Snapshot, pod)
	with := "the first NIC of a pod on underlay networks"
	taken := slices.ContainsFunc(rules, isReply) && speaksToNode(b.v)
	for _, r := range rules {
		from := func(a netip.Prefix) bool { return r.From == netstate.Single(a.Addr()) }
		if owntable.IsOwn(r, netstate.ProtoCoordinator) && slices.ContainsFunc(b.sources(), from) && !isOlder(b.v, r) {
			taken, with = true, netstate.Words(r)
		}
	}
	if !taken {
		return nil
	}
	return config.Invalid("sbr: link %s: coordinator already routes packets from its addresses (%s): chain either coordinator or route with sbr behind a NIC, not both", b.v.IfName, with)
}

// olderTable returns the table that an earlier version of route made for an address, 0
// if it made none.
func (b *builder) olderTable(a netip.Addr) int {
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if owntable.IsOwn(r, netstate.ProtoCoordinator) && r.From.Addr() == a && isOlder(b.v, r) {
			return r.Table
		}
	}
	return 0
}

// sources returns the addresses that get a table. Those of prevResult come first and
// get the lowest numbers. The NIC's other addresses follow: without a table they would
// lose their routes.
func (b *builder) sources() []netip.Prefix {
	out := slices.Clone(b.addrs)
	for _, a := range onNIC(b.v) {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr() == a.Addr() }) {
			out = append(out, a)
		}
	}
	return out
}

// isOf reports whether a route by the NIC belongs into the table of address a: its
// source or next hop is in the subnet of a, or in no subnet of the NIC's addresses.
func (b *builder) isOf(r netstate.Route, a netip.Prefix) bool {
	if netstate.FamilyOf(r.Dst.Addr()) != netstate.FamilyOf(a.Addr()) {
		return false
	}
	in := func(p netip.Prefix) bool { return p.Contains(r.Src) || p.Contains(r.Via) }
	return in(a) || !slices.ContainsFunc(b.sources(), in)
}

// gateway returns the gateway of an address: the configured one if it is in the
// address's subnet, or else the one that prevResult has for the address, the configured
// one, or one of prevResult in the subnet.
func (b *builder) gateway(a netip.Prefix) netip.Addr {
	configured := b.c.Gateways[netstate.FamilyOf(a.Addr())]
	if a.Contains(configured) {
		return configured
	}
	for _, ip := range b.v.PrevIPs() {
		if ip.Prefix.Addr() == a.Addr() && ip.Gateway.IsValid() {
			return ip.Gateway
		}
	}
	if configured.IsValid() {
		return configured
	}
	candidates := b.v.PrevGateways()
	if i := slices.IndexFunc(candidates, a.Contains); i >= 0 {
		return candidates[i]
	}
	return netip.Addr{}
}

// subnet plans a route to the address's own subnet, if neither main nor the table has
// one.
func (b *builder) subnet(a netip.Prefix, table int) {
	there := func(r netstate.Route) bool {
		return r.Dev == b.v.IfName && r.Dst == a.Masked() && (r.Table == netstate.TableMain || r.Table == table)
	}
	if a.IsSingleIP() || slices.ContainsFunc(netstate.All[netstate.Route](b.v.Snapshot, pod), there) {
		return
	}
	b.plan.Want(pod, "the address's own subnet", netstate.NewRoute(netstate.ProtoRoute, table, a, netip.Addr{}, b.v.IfName, a.Addr()))
}

// sourceHints plans a route in main to each subnet with the NIC's address there as the
// source, for programs that bind to no address.
func (b *builder) sourceHints() {
	for _, a := range b.sources() {
		if !a.IsSingleIP() && !slices.ContainsFunc(b.plan.Present, func(i netstate.Item) bool { return isHint(i.Object, a, b.v.IfName) }) {
			b.plan.Want(pod, "addSourceHints", b.hint(a))
		}
	}
}

// hint returns the route of sourceHints for an address. For an IPv4 address the kernel
// usually has made it already.
func (b *builder) hint(a netip.Prefix) netstate.Route {
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		if isHint(r, a, b.v.IfName) {
			return r
		}
	}
	return netstate.NewRoute(netstate.ProtoRoute, netstate.TableMain, a, netip.Addr{}, b.v.IfName, a.Addr())
}

// isHint reports whether an object is a route of main to an address's subnet, with a
// source in that subnet.
func isHint(o netstate.Object, a netip.Prefix, dev string) bool {
	r, ok := o.(netstate.Route)
	return ok && r.Dev == dev && r.Table == netstate.TableMain && r.Dst == a.Masked() && !r.Via.IsValid() && a.Contains(r.Src)
}

// dropMoved plans the deletion of the NIC's routes in main. Routes by a gateway go
// before the routes that lead to the gateway. Routes to link-local destinations stay,
// and so do those from router advertisements, which the kernel would make again.
func (b *builder) dropMoved() {
	for _, r := range slices.Backward(gatewaysLast(netstate.All[netstate.Route](b.v.Snapshot, pod))) {
		moved := slices.ContainsFunc(b.sources(), func(a netip.Prefix) bool { return b.isOf(r, a) })
		wanted := slices.ContainsFunc(b.plan.Present, func(i netstate.Item) bool { return i.NS == pod && i.Object.Key() == r.Key() })
		if r.Table == netstate.TableMain && r.Dev == b.v.IfName && moved && !wanted && !r.Owned() && r.Proto != netstate.ProtoRA && !r.Dst.Addr().IsLinkLocalUnicast() {
			b.plan.Unwant(pod, "it is in its address's own table", r)
		}
	}
}

// gatewaysLast sorts routes in an order in which they can be added: those by a gateway
// come last.
func gatewaysLast(routes []netstate.Route) []netstate.Route {
	slices.SortStableFunc(routes, func(a, b netstate.Route) int {
		switch {
		case a.Via.IsValid() == b.Via.IsValid():
			return 0
		case a.Via.IsValid():
			return 1
		}
		return -1
	})
	return routes
}
