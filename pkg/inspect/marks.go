// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// readMarks puts the pod's reply marks into the snapshot that holds everything else.
// What they should be follows from that; what is there and isn't so is damaged.
func readMarks(k *kernel.Kernel, snap *netstate.Snapshot) error {
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

// wantedMark returns the marks that our rule for replies is there for, zero without
// such a rule: its bits, the link that its table leads to, and where that isn't a
// link of ours, the MAC that the node has there.
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

// leadsToOurs reports whether a link of the pod is the end of a veth of ours, which
// has its alias at the node's end.
func leadsToOurs(snap *netstate.Snapshot, dev string) bool {
	l, _ := netstate.Get(snap, netstate.Pod, netstate.Link{Name: dev})
	peer, _ := netstate.Get(snap, l.Peer.NS, netstate.Link{Name: l.Peer.Name})
	return peer.Owned()
}
