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
	dev, err := b.hostDevice(eth0)
	if err != nil {
		return err
	}
	b.rpFilter("all", b.nic, first)
	firstAddrs := b.c.firstAddrs(b.t)
	eth0Table := b.c.FirstTable - 1
	for _, s := range b.sides {
		b.hostRoutes(s, dev, eth0.MAC)
		firstOf := ofFamily(firstAddrs, s.family)
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
		b.policyRoutes(s, table)
	}
	b.sharedSubnet()
	return b.defaultRoutes()
}

// hostDevice is where the node reaches the pod's first NIC: the far end of its
// veth, or the bridge that one is a port of.
func (b *builder) hostDevice(eth0 netstate.Link) (string, error) {
	far, ok := netstate.Get(b.t.Snapshot, host, netstate.Link{Name: eth0.Peer.Name})
	if !ok || eth0.Peer.Name == "" {
		return "", fmt.Errorf("pod: link %s is no veth to the node: mode overlay needs one", eth0.Name)
	}
	if far.Master != "" {
		return far.Master, nil
	}
	return far.Name, nil
}

// nextHop is the first NIC's gateway: the node, as the overlay's pods see it. It
// is not valid where the NIC has none; then the node is asked for by ARP or NDP.
func (b *builder) nextHop(f netstate.Family, table int) netip.Addr {
	for _, r := range b.defaultsOf(f, b.c.PodDefaultNIC, table) {
		return r.Via
	}
	return netip.Addr{}
}
