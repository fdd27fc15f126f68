// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// overlay is an underlay NIC of a pod whose first NIC another CNI made: that one
// already leads to the node and to Services.
func (b *builder) overlay() error {
	first := b.c.PodDefaultNIC
	eth0, ok := b.link(first)
	if !ok {
		return fmt.Errorf("pod: link %s: no such device: it is the pod's first NIC (podDefaultCNINIC)", first)
	}
	dev, bridge, err := b.hostDevice(eth0)
	if err != nil {
		return err
	}
	b.rpFilter("all", b.nic, first)
	firstAddrs := b.c.firstAddrs(b.v)
	for _, s := range b.sides {
		firstOf := ofFamily(firstAddrs, s.family)
		var via netip.Addr
		if bridge {
			via = pastBridge(firstOf)
		}
		b.hostRoutes(s, dev, via, eth0.MAC)
		if len(firstOf) == 0 {
			continue // the overlay isn't of this family
		}
		b.nodeRoutes(s, netstate.TableMain, first, b.nextHop(firstOf), firstOf[0])
	}
	if !b.c.TunePodRoutes {
		b.stale(0, 0)
		return nil
	}
	if err := b.routesAlone(); err != nil {
		return err
	}
	eth0Table, err := b.own(first, firstAddrs).Table(b.v.Snapshot, b.c.FirstTable-1, b.c.FirstTable)
	if err != nil {
		return err
	}
	table, err := b.own(b.nic, b.addrs).Table(b.v.Snapshot, b.c.FirstTable, b.c.FirstTable, eth0Table)
	if err != nil {
		return err
	}
	for _, s := range b.sides {
		firstOf := ofFamily(firstAddrs, s.family)
		if !slices.ContainsFunc(firstOf, b.isRouted) {
			b.ownTable(s.family, first, firstOf, eth0Table)
		}
		b.ownTable(s.family, b.nic, b.addrs, table)
		if len(firstOf) > 0 {
			b.nodeRoutes(s, table, first, b.nextHop(firstOf), netip.Addr{})
		}
		if err := b.policyRoutes(s, table); err != nil {
			return err
		}
	}
	b.sharedSubnet()
	if err := b.defaultRoutes(); err != nil {
		return err
	}
	b.stale(table, eth0Table)
	return nil
}

// hostDevice is where the node reaches the pod's first NIC: the far end of its
// veth, or the bridge that one is a port of.
func (b *builder) hostDevice(eth0 netstate.Link) (name string, bridge bool, err error) {
	far, ok := netstate.Get(b.v.Snapshot, host, netstate.Link{Name: eth0.Peer.Name})
	if !ok || eth0.Peer.Name == "" {
		return "", false, fmt.Errorf("pod: link %s is no veth to the node: mode overlay needs one", eth0.Name)
	}
	if far.Master != "" {
		return far.Master, true, nil
	}
	return far.Name, false, nil
}

// pastBridge is the node's next hop to the NIC by a bridge: an IPv6 address of the
// pod's first NIC, if it has one. Without it the kernel tells the bridge's other
// pods by redirects that the NIC's address is on the bridge, at the MAC of the pod
// that has it now, and they never forget (ip6_forward, ndisc_send_redirect: none
// where the next hop is no link-local address). IPv4's redirects name any next hop,
// and end with its ARP entry: of all addresses the NIC's own does least harm in
// them, as its next owner answers for it.
func pastBridge(first []netip.Addr) netip.Addr {
	for _, a := range first {
		if a.Is6() {
			return a
		}
	}
	return netip.Addr{}
}

// nextHop is the first NIC's gateway: the node, as the overlay's pods see it. It
// is not valid where the NIC has none; then the node is asked for by ARP or NDP. The
// NIC's default is in main, or in a table of its own that we or plugin route made.
func (b *builder) nextHop(first []netip.Addr) netip.Addr {
	table := b.tableOf(b.c.PodDefaultNIC)
	if i := slices.IndexFunc(first, b.isRouted); i >= 0 {
		table = b.routed(first[i])
	}
	for _, r := range b.defaultsOf(netstate.FamilyOf(first[0]), b.c.PodDefaultNIC, table) {
		return r.Via
	}
	return netip.Addr{}
}

// routed is the table that plugin route gave an address, 0 if it gave it none.
func (b *builder) routed(a netip.Addr) int {
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if owntable.IsOwn(r, netstate.ProtoRoute) && r.From.Addr() == a {
			return r.Table
		}
	}
	return 0
}

// isRouted reports whether plugin route gave an address a table of its own.
func (b *builder) isRouted(a netip.Addr) bool { return b.routed(a) != 0 }
