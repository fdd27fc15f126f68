// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// readMarks adds the pod's reply marks to the snapshot. It derives the wanted marks from
// the rest of the snapshot; marks that differ are noted as damaged.
func readMarks(k *kernel.Namespaces, snap *netstate.Snapshot) error {
	want := wantedMark(snap)
	if err := k.Pod.ReadMark(snap, want); err != nil {
		return err
	}
	want.Backend = netstate.Iptables
	for _, want.Family = range []netstate.Family{netstate.IPv4, netstate.IPv6} {
		if err := k.Pod.ReadMark(snap, want); err != nil {
			return err
		}
	}
	return nil
}

// wantedMark returns the marks that our reply rule needs, zero without such a rule: the
// rule's bits, the link of its table's route, and, if that is not a link of ours, the
// node's MAC on that link.
func wantedMark(snap *netstate.Snapshot) (m netstate.Mark) {
	table := 0
	for _, r := range netstate.All[netstate.Rule](snap, netstate.Pod) {
		if r.Owned() && r.Mask != 0 {
			m.Bits, table = r.Mask, r.Table
		}
	}
	var via netip.Addr
	for _, r := range netstate.All[netstate.Route](snap, netstate.Pod) {
		if r.Table == table && r.Dst.Bits() == 0 && r.Owned() {
			m.Dev, via = r.Dev, r.Via
		}
	}
	if !leadsToOurs(snap, m.Dev) {
		n, _ := netstate.Get(snap, netstate.Pod, netstate.Neigh{Dev: m.Dev, Dst: via})
		m.From = n.MAC
	}
	return m
}

// leadsToOurs reports whether a link of the pod is a veth of ours: its host end has our
// alias.
func leadsToOurs(snap *netstate.Snapshot, dev string) bool {
	l, _ := netstate.Get(snap, netstate.Pod, netstate.Link{Name: dev})
	peer, _ := netstate.Get(snap, l.Peer.NS, netstate.Link{Name: l.Peer.Name})
	return peer.Owned()
}
