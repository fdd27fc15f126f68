// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// ReadRelease reads what Release goes by: the link and its neighbours of these
// addresses.
func ReadRelease(k *kernel.Namespaces, snap *netstate.Snapshot, dev string, addrs []netip.Addr) error {
	if err := k.Host.ReadLink(snap, dev); err != nil {
		return err
	}
	for _, a := range addrs {
		if err := k.Host.ReadNeigh(snap, dev, a); err != nil {
			return err
		}
	}
	return nil
}

// Release returns the deletion of what a plugin made to lead to a pod's addresses by
// a link of the node that stays. What belongs to an address's next owner by now is
// left alone: on a link that pods share, only the MAC in the neighbour entry tells
// whose it is. With mac "" the link is the pod's own. What is kept of the neighbours,
// something else of the pod still wants.
func Release(snap *netstate.Snapshot, owner netstate.Protocol, table int, dev, mac string, addrs, kept []netip.Addr) []netstate.Op {
	var ops, neighs []netstate.Op
	for _, a := range addrs {
		n := netstate.Neigh{Dev: dev, Dst: a}
		if have, ok := netstate.Get(snap, host, n); ok && mac != "" && have.MAC.String() != mac {
			continue
		}
		ops = append(ops, netstate.Op{NS: host, Before: netstate.NewRoute(owner, table, netstate.Single(a), netip.Addr{}, dev, netip.Addr{})})
		if !slices.Contains(kept, a) {
			neighs = append(neighs, netstate.Op{NS: host, Before: n})
		}
	}
	return append(ops, neighs...) // those of one kind are one datagram
}
