// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
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
	eth0Table := b.c.FirstTable - 1
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
		b.nodeRoutes(s, netstate.TableMain, first, b.nextHop(s.family, eth0Table), firstOf[0])
	}
	if !b.c.TunePodRoutes {
		return nil
	}
	table, err := b.tableOf(b.nic, b.addrs, b.c.FirstTable)
	if err != nil {
		return err
	}
	for _, s := range b.sides {
		b.ownTable(s.family, first, firstAddrs, eth0Table)
		b.ownTable(s.family, b.nic, b.addrs, table)
		if via := b.nextHop(s.family, eth0Table); len(ofFamily(firstAddrs, s.family)) > 0 {
			b.nodeRoutes(s, table, first, via, netip.Addr{})
		}
		if err := b.policyRoutes(s, table); err != nil {
			return err
		}
	}
	b.sharedSubnet()
	return b.defaultRoutes()
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
// is not valid where the NIC has none; then the node is asked for by ARP or NDP.
func (b *builder) nextHop(f netstate.Family, table int) netip.Addr {
	for _, r := range b.defaultsOf(f, b.c.PodDefaultNIC, table) {
		return r.Via
	}
	return netip.Addr{}
}
