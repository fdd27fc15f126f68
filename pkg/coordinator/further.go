// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// further plans another NIC of a pod whose first NIC is in underlay mode. The NIC gets a
// routing table, and rules that look it up for packets from the NIC's addresses.
func (b *builder) further() error {
	if err := b.findWire(); err != nil {
		return err
	}
	if err := b.findReplies(); err != nil {
		return err
	}
	b.rpFilter(b.nic)
	first := b.c.firstAddrs(b.v)
	for _, s := range b.sides {
		src := s.pod[0] // replaced by the first NIC's address of the family, if it has one
		if of := ofFamily(first, s.family); len(of) > 0 {
			src = of[0]
		}
		b.node(s, src)
		b.hostRoutes(s, b.wire.host, netip.Addr{}, b.wire.podMAC)
	}
	b.replyMark()
	if !b.c.TunePodRoutes {
		b.stale(0, b.tableOf(b.c.PodDefaultNIC))
		return nil
	}
	if err := b.routesAlone(); err != nil {
		return err
	}
	if err := b.routesFirst(); err != nil {
		return err
	}
	table, err := b.own(b.nic, b.addrs).Table(b.v.Snapshot, b.c.FirstTable, b.c.FirstTable, b.replies)
	if err != nil {
		return err
	}
	for _, s := range b.sides {
		b.ownTable(s.family, b.nic, b.addrs, table)
		b.nodeRoutes(s, table, way{dev: b.wire.pod}, netip.Addr{})
		if err := b.policyRoutes(s, table); err != nil {
			return err
		}
	}
	if b.c.ToRules {
		b.toRules(table)
	}
	firsts, err := b.firstTable(b.c.PodDefaultNIC, first, table)
	if err != nil {
		return err
	}
	b.sharedSubnet()
	if err := b.defaultRoutes(); err != nil {
		return err
	}
	b.stale(table, firsts)
	return nil
}

// firstTable gives the first NIC a table too, as soon as the pod has other NICs.
// Otherwise the reply to a peer in another NIC's subnet that calls the first NIC's
// address would leave by that other NIC. The tables taken are others of this plan.
func (b *builder) firstTable(nic string, addrs []netip.Addr, taken ...int) (int, error) {
	table, err := b.own(nic, addrs).Table(b.v.Snapshot, b.c.ReplyTable-1, b.c.FirstTable, append(taken, b.replies)...)
	if err != nil {
		return 0, err
	}
	for _, s := range b.c.sides(b.v, addrs) {
		b.ownTable(s.family, nic, addrs, table)
		b.nodeRoutes(s, table, way{dev: b.wire.pod}, netip.Addr{})
	}
	return table, nil
}

// own describes a NIC for package owntable. The gateway of the attachment's NIC comes
// from prevResult. For the first NIC it counts only if prevResult has a default route: a
// further NIC's ADD sees that route and not the first NIC's prevResult.
func (b *builder) own(nic string, addrs []netip.Addr) owntable.NIC {
	return owntable.NIC{Owner: netstate.ProtoCoordinator, Name: nic, Addrs: addrs, Checking: b.v.Checking, Gateway: func(f netstate.Family) netip.Addr {
		if nic != b.nic || nic == b.c.PodDefaultNIC && !b.prevDefault(f) {
			return netip.Addr{}
		}
		return b.prevGateway(f)
	}}
}

// ownTable wants a NIC's own table: main's routes by this NIC, and its default.
func (b *builder) ownTable(f netstate.Family, nic string, addrs []netip.Addr, table int) {
	b.own(nic, addrs).Want(&b.plan, b.v.Snapshot, f, table)
}

// defaultsOf returns a NIC's default routes in main or in its own table.
func (b *builder) defaultsOf(f netstate.Family, nic string, table int) []netstate.Route {
	return b.own(nic, nil).Defaults(b.v.Snapshot, f, table)
}

// toRules wants the rules of the older veth: one to each address of the NIC with the
// prefix length of its subnet. The kernel keeps and shows the bits behind the mask as
// they were given.
func (b *builder) toRules(table int) {
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dev == b.nic {
			b.plan.Want(pod, "packets to a NIC's subnet leave by that NIC", netstate.Rule{
				Family: netstate.FamilyOf(a.Prefix.Addr()), Priority: netstate.LatePriority, To: a.Prefix, Table: table, Proto: netstate.ProtoCoordinator,
			})
		}
	}
}

// prevGateway returns the gateway that prevResult gives the attachment's NIC.
func (b *builder) prevGateway(f netstate.Family) netip.Addr {
	for _, gateway := range b.v.PrevGateways() {
		if netstate.FamilyOf(gateway) == f {
			return gateway
		}
	}
	return netip.Addr{}
}

// prevDefault reports whether prevResult has a default route of a family.
func (b *builder) prevDefault(f netstate.Family) bool {
	return slices.ContainsFunc(b.v.Prev.Routes, func(r *types.Route) bool {
		ones, _ := r.Dst.Mask.Size()
		return ones == 0 && (r.Dst.IP.To4() != nil) == (f == netstate.IPv4)
	})
}

// hasFurther reports whether other NICs of the pod have tables of ours.
func (b *builder) hasFurther() bool {
	first := b.own(b.nic, b.addrs).Find(b.v.Snapshot, b.replies)
	return slices.ContainsFunc(netstate.All[netstate.Rule](b.v.Snapshot, pod), func(r netstate.Rule) bool {
		return owntable.IsOwn(r, netstate.ProtoCoordinator) && r.Table != first
	})
}

// routesAlone returns an error if plugin route has given tables to the NIC's addresses:
// packets from these addresses would follow route's tables and not coordinator's.
func (b *builder) routesAlone() error {
	i := slices.IndexFunc(b.addrs, b.isRouted)
	if i < 0 {
		return nil
	}
	return config.Invalid("pod: link %s: plugin route has given %s table %d: chain either coordinator or route with sbr behind a NIC, not both", b.nic, b.addrs[i], b.routed(b.addrs[i]))
}

// routesFirst returns an error if another plugin of the chain routes packets from the NIC's addresses, as the CNI project's
// sbr does: its rules come before ours, and it has taken the NIC's routes out of main. A rule that an application
// adds after ADD is its own affair.
func (b *builder) routesFirst() error {
	rules := netstate.All[netstate.Rule](b.v.Snapshot, pod)
	for _, a := range b.addrs {
		from := netstate.Single(a)
		other := slices.IndexFunc(rules, func(r netstate.Rule) bool { return !r.Owned() && r.From == from })
		ours := slices.ContainsFunc(rules, func(r netstate.Rule) bool { return isOurs(r) && r.From == from })
		if other >= 0 && !ours {
			return config.Invalid("pod: link %s: another plugin, such as sbr, has made %s: leave it out of the chain, for coordinator gives the NIC a table of its own", b.nic, netstate.Words(rules[other]))
		}
	}
	return nil
}

// sharedSubnet keeps NICs of one subnet from answering ARP for each other (arp_ignore,
// arp_announce: Documentation/networking/ip-sysctl.rst).
func (b *builder) sharedSubnet() {
	subnets := map[netip.Prefix][]string{}
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		subnet := a.Prefix.Masked()
		if a.Prefix.Addr().Is4() && !a.Prefix.IsSingleIP() && !slices.Contains(subnets[subnet], a.Dev) {
			subnets[subnet] = append(subnets[subnet], a.Dev)
		}
	}
	for _, subnet := range slices.SortedFunc(maps.Keys(subnets), netip.Prefix.Compare) {
		devs := subnets[subnet]
		if len(devs) < 2 || !slices.Contains(devs, b.nic) {
			continue
		}
		for _, dev := range devs {
			b.plan.Want(pod, "two NICs share a subnet: each answers for its own address", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "arp_ignore", Value: 1})
			b.plan.Want(pod, "two NICs share a subnet: each asks in its own name", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "arp_announce", Value: 2})
		}
	}
}

// defaultRoutes puts the default routes of one NIC into main: of the first NIC, or of
// podDefaultRouteNIC. A packet without a source address to decide by leaves by them. The
// other NICs' default routes are in their own tables only.
func (b *builder) defaultRoutes() error {
	named, key := b.c.DefaultRouteNIC, "podDefaultRouteNIC"
	if b.c.Origin(key) == keys.Pod {
		key = "annotation " + keys.DefaultRouteNICAnnotation
		if _, ok := b.link(named); !ok {
			named = "" // a further one of the pod's NICs, to come
		}
	}
	if named == "" {
		for _, f := range families {
			if b.hasOtherDefault(f) {
				b.yield(f, b.nic)
			}
		}
		return nil
	}
	if _, ok := b.link(named); !ok {
		return config.Invalid("%s: %s: no such link in the pod", key, named)
	}
	found := false
	for _, f := range families {
		defaults := b.defaultsOf(f, named, b.tableOf(named))
		if len(defaults) == 0 {
			continue // the other NICs keep their default routes in this family
		}
		found = true
		for _, r := range defaults {
			r.Table = netstate.TableMain
			b.plan.Want(pod, key, r)
		}
		for _, nic := range []string{b.c.PodDefaultNIC, b.nic} {
			if nic != named {
				b.yield(f, nic)
			}
		}
	}
	if !found {
		return fmt.Errorf("%s: link %s has no gateway", key, named)
	}
	return nil
}

// tableOf returns the table that coordinator gave a NIC of the pod, 0 if it gave none.
func (b *builder) tableOf(nic string) int {
	var addrs []netip.Addr
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dev == nic {
			addrs = append(addrs, a.Prefix.Addr())
		}
	}
	return b.own(nic, addrs).Find(b.v.Snapshot, b.replies)
}

// hasOtherDefault reports whether main has a default route by another NIC of the pod. One
// that loses is not such a route: its NIC isn't to have the pod's default route.
func (b *builder) hasOtherDefault(f netstate.Family) bool {
	return len(b.routes(f, func(r netstate.Route) bool {
		return r.Table == netstate.TableMain && r.Dst.Bits() == 0 && r.Dev != b.nic && r.Dev != podEnd && !r.LosesDefault()
	})) > 0
}
