// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// Release returns the deletion of what leads to a pod's addresses by a link of
// the node that stays. What belongs to an address's next owner by now is left
// alone: on a link that pods share, only the MAC in the neighbour entry tells
// whose it is. With mac "" the link is the pod's own.
func Release(k *kernel.Kernel, snap *netstate.Snapshot, table int, dev, mac string, addrs []netip.Addr) ([]netstate.Op, error) {
	if err := k.Host.ReadLink(snap, dev); err != nil {
		return nil, err
	}
	var ops, neighs []netstate.Op
	for _, a := range addrs {
		n := netstate.Neigh{Dev: dev, Dst: a}
		if err := k.Host.ReadNeigh(snap, dev, a); err != nil {
			return append(ops, neighs...), err
		}
		if have, ok := netstate.Get(snap, host, n); ok && mac != "" && have.MAC.String() != mac {
			continue
		}
		ops = append(ops, netstate.Op{NS: host, Before: netstate.NewRoute(table, netstate.Single(a), netip.Addr{}, dev, netip.Addr{})})
		neighs = append(neighs, netstate.Op{NS: host, Before: n})
	}
	return append(ops, neighs...), nil // those of one kind are one datagram
}
