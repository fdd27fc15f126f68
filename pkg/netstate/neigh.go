// SPDX-License-Identifier: Apache-2.0

package netstate

import "net/netip"

// Neigh is an entry of the ARP or NDP table.
type Neigh struct {
	Dev string
	Dst netip.Addr
	MAC MAC
	// Permanent entries are never probed and don't age. An entry that the
	// kernel learnt by itself is not permanent. A permanent entry of a plan
	// replaces it.
	Permanent bool
}

func (n Neigh) Kind() Kind     { return KindNeigh }
func (n Neigh) Key() Object    { return Neigh{Dev: n.Dev, Dst: n.Dst} }
func (n Neigh) Device() string { return n.Dev }

// Owned returns false: the kernel has no room for a mark on an entry.
func (n Neigh) Owned() bool { return false }

func (n Neigh) String() string {
	s := n.Dst.String() + " dev " + n.Dev
	if n.MAC != (MAC{}) { // a key has none
		s += " lladdr " + n.MAC.String()
	}
	if n.Permanent {
		s += " nud permanent"
	}
	return s
}
