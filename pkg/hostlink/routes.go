// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// ReadRelease reads the input of Release: the link, and the neighbour entries of the
// addresses on it.
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

// Release returns the deletion of the routes and neighbour entries that a plugin made for
// a pod's addresses on a link of the node that stays. It spares objects of an address's
// next owner: on a link that pods share, the MAC in the neighbour entry tells whose they
// are. An empty mac means that the link is the pod's own. Neighbour entries of the
// addresses kept stay: another object of the pod needs them.
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
	return append(ops, neighs...) // operations of one kind go in one datagram
}
