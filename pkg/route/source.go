// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// table leads what comes from each address to one table, and that is all.
func (b *builder) table() {
	for _, a := range b.addrs {
		b.plan.Want(pod, "table", owntable.Rule(netstate.ProtoRoute, a.Addr(), netstate.LatePriority, b.c.Table))
	}
}

// ownTables gives each address of the NIC a table: addresses of different subnets
// leave by different gateways. The NIC's routes are moved there out of main, so
// that nothing leaves by this NIC that doesn't come from it.
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

// routesAlone returns an error if coordinator routes what comes from an address of the
// NIC: with two tables for it, Services and the node would be out of its reach.
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
	return config.Invalid("sbr: link %s: coordinator routes what comes from its addresses (%s): chain coordinator behind a NIC, or route with sbr, and not both", b.v.IfName, with)
}

// olderTable is the one that an earlier version of route gave an address, 0 if it gave
// it none.
func (b *builder) olderTable(a netip.Addr) int {
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if owntable.IsOwn(r, netstate.ProtoCoordinator) && r.From.Addr() == a && isOlder(b.v, r) {
			return r.Table
		}
	}
	return 0
}

// sources are the addresses that have a table: those of prevResult first, which
// get the lowest numbers, and then what else the NIC has, which would lose its
// routes else.
func (b *builder) sources() []netip.Prefix {
	out := slices.Clone(b.addrs)
	for _, a := range onNIC(b.v) {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr() == a.Addr() }) {
			out = append(out, a)
		}
	}
	return out
}

// isOf reports whether a route by the NIC is one of an address: its source or its
// next hop is in the address's subnet, or in no address's.
func (b *builder) isOf(r netstate.Route, a netip.Prefix) bool {
	if netstate.FamilyOf(r.Dst.Addr()) != netstate.FamilyOf(a.Addr()) {
		return false
	}
	in := func(p netip.Prefix) bool { return p.Contains(r.Src) || p.Contains(r.Via) }
	return in(a) || !slices.ContainsFunc(b.sources(), in)
}

// gateway is the one that is configured for an address's subnet, that prevResult
// gives the address, or its subnet, or any that is configured.
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

// subnet is an address's own, which its table has even if main has not.
func (b *builder) subnet(a netip.Prefix, table int) {
	there := func(r netstate.Route) bool {
		return r.Dev == b.v.IfName && r.Dst == a.Masked() && (r.Table == netstate.TableMain || r.Table == table)
	}
	if a.IsSingleIP() || slices.ContainsFunc(netstate.All[netstate.Route](b.v.Snapshot, pod), there) {
		return
	}
	b.plan.Want(pod, "the address's own subnet", netstate.NewRoute(netstate.ProtoRoute, table, a, netip.Addr{}, b.v.IfName, a.Addr()))
}

// sourceHints leaves main a way to each subnet, with the address that is to be
// used for it, for who doesn't bind to one.
func (b *builder) sourceHints() {
	for _, a := range b.sources() {
		if !a.IsSingleIP() && !slices.ContainsFunc(b.plan.Present, func(i netstate.Item) bool { return isHint(i.Object, a, b.v.IfName) }) {
			b.plan.Want(pod, "addSourceHints", b.hint(a))
		}
	}
}

// hint is what the kernel has already for an IPv4 address.
func (b *builder) hint(a netip.Prefix) netstate.Route {
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		if isHint(r, a, b.v.IfName) {
			return r
		}
	}
	return netstate.NewRoute(netstate.ProtoRoute, netstate.TableMain, a, netip.Addr{}, b.v.IfName, a.Addr())
}

// isHint reports whether an object is a route of main to an address's subnet with
// an address of that subnet as its source.
func isHint(o netstate.Object, a netip.Prefix, dev string) bool {
	r, ok := o.(netstate.Route)
	return ok && r.Dev == dev && r.Table == netstate.TableMain && r.Dst == a.Masked() && !r.Via.IsValid() && a.Contains(r.Src)
}

// dropMoved takes the NIC's routes out of main, those by a gateway before what
// leads to that. Link-local destinations stay, and so does what the kernel would
// make again.
func (b *builder) dropMoved() {
	for _, r := range slices.Backward(gatewaysLast(netstate.All[netstate.Route](b.v.Snapshot, pod))) {
		moved := slices.ContainsFunc(b.sources(), func(a netip.Prefix) bool { return b.isOf(r, a) })
		wanted := slices.ContainsFunc(b.plan.Present, func(i netstate.Item) bool { return i.NS == pod && i.Object.Key() == r.Key() })
		if r.Table == netstate.TableMain && r.Dev == b.v.IfName && moved && !wanted && !r.Owned() && r.Proto != netstate.ProtoRA && !r.Dst.Addr().IsLinkLocalUnicast() {
			b.plan.Unwant(pod, "it is in its address's own table", r)
		}
	}
}

// gatewaysLast sorts routes so that they can be added in that order.
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
