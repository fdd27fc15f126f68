// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// overlay plans an underlay NIC of a pod whose first NIC was made by another CNI. The
// first NIC already leads to the node and to Services.
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

// hostDevice returns the node's link to the pod's first NIC: the far end of its veth, or
// the bridge that has that end as a port.
func (b *builder) hostDevice(eth0 netstate.Link) (name string, bridge bool, err error) {
	far, ok := netstate.Get(b.v.Snapshot, host, netstate.Link{Name: eth0.Peer.Name})
	if !ok || eth0.Peer.Name == "" {
		return "", false, fmt.Errorf("pod: link %s is not a veth to the node: mode overlay needs one", eth0.Name)
	}
	if far.Master != "" {
		return far.Master, true, nil
	}
	return far.Name, false, nil
}

// pastBridge returns the node's next hop to the NIC over a bridge: an IPv6 address of the
// pod's first NIC, if it has one. Without a next hop, the kernel sends redirects to the
// bridge's other pods: the NIC's address is on the bridge, at the MAC of the pod that has
// it now. They never forget that. The kernel sends no redirect if the next hop is not a
// link-local address (ip6_forward, ndisc_send_redirect). IPv4 sends redirects for any
// next hop, and they end with the next hop's ARP entry. The NIC's own address does the
// least harm as their next hop: its next owner answers for it.
func pastBridge(first []netip.Addr) netip.Addr {
	for _, a := range first {
		if a.Is6() {
			return a
		}
	}
	return netip.Addr{}
}

// nextHop returns the first NIC's gateway, which is the node in the overlay. It is not
// valid if the NIC has none; the pod then resolves the node's address by ARP or NDP. The
// NIC's default route is in main, or in its own table, made by coordinator or by plugin
// route.
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

// routed returns the table that plugin route gave an address, 0 if it gave none.
func (b *builder) routed(a netip.Addr) int {
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if owntable.IsOwn(r, netstate.ProtoRoute) && r.From.Addr() == a {
			return r.Table
		}
	}
	return 0
}

// isRouted reports whether plugin route gave an address a table.
func (b *builder) isRouted(a netip.Addr) bool { return b.routed(a) != 0 }
