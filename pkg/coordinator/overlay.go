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
	far, err := b.hostDevice(eth0)
	if err != nil {
		return err
	}
	b.rpFilter("all", b.nic, first)
	firstAddrs := b.c.firstAddrs(b.v)
	for _, s := range b.sides {
		firstOf := ofFamily(firstAddrs, s.family)
		var via netip.Addr
		if far.Type == "bridge" {
			via = pastBridge(firstOf)
		}
		b.hostRoutes(s, far.Name, via, eth0.MAC)
		if len(firstOf) == 0 {
			continue // the overlay isn't of this family
		}
		to := b.firstWay(firstOf)
		b.nodeRoutes(s, netstate.TableMain, to, firstOf[0])
		if !to.via.IsValid() {
			b.nodeNeighbours(s, first, far.MAC)
		}
	}
	if !b.c.TunePodRoutes {
		b.stale(0, 0)
		return nil
	}
	if err := b.routesAlone(); err != nil {
		return err
	}
	if err := b.routesFirst(); err != nil {
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
			b.nodeRoutes(s, table, b.firstWay(firstOf), netip.Addr{})
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
func (b *builder) hostDevice(eth0 netstate.Link) (netstate.Link, error) {
	far, ok := netstate.Get(b.v.Snapshot, host, netstate.Link{Name: eth0.Peer.Name})
	if !ok || eth0.Peer.Name == "" {
		return netstate.Link{}, fmt.Errorf("pod: link %s is not a veth to the node: mode overlay needs one", eth0.Name)
	}
	if far.Master == "" {
		return far, nil
	}
	master, ok := netstate.Get(b.v.Snapshot, host, netstate.Link{Name: far.Master})
	if !ok || master.Type != "bridge" {
		return netstate.Link{}, fmt.Errorf("host: link %s, the other end of the pod's %s, is a port of %s, which is no bridge of Linux (kind %q): the node can't send to the pod by it: "+
			"mode overlay needs a first NIC whose other end is a link of the node or a port of a bridge", far.Name, eth0.Name, far.Master, master.Type)
	}
	return master, nil
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

// firstWay returns the way of the first NIC's default route: its gateway is the node in the
// overlay, and its sizes are those of the overlay's tunnel, for Cilium gives them to the route and not to the link. There is no
// gateway after Multus deleted it for an annotation with default-route: the
// pod then needs neighbour entries for the node. The NIC's default route is in main, or in its own table, made by
// coordinator or by plugin route.
func (b *builder) firstWay(first []netip.Addr) way {
	table := b.tableOf(b.c.PodDefaultNIC)
	if i := slices.IndexFunc(first, b.isRouted); i >= 0 {
		table = b.routed(first[i])
	}
	for _, r := range b.defaultsOf(netstate.FamilyOf(first[0]), b.c.PodDefaultNIC, table) {
		return way{r.Dev, r.Via, r.MTU, r.AdvMSS}
	}
	return way{dev: b.c.PodDefaultNIC}
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
