// SPDX-License-Identifier: Apache-2.0

package netstate

import "net/netip"

// Neigh is an entry of the ARP or NDP table.
type Neigh struct {
	Dev string
	Dst netip.Addr
	MAC MAC
	// Permanent entries are never probed and don't age. What the kernel
	// learnt by itself has this false, and is replaced where a plan wants a
	// permanent one.
	Permanent bool
}

func (n Neigh) Kind() Kind     { return KindNeigh }
func (n Neigh) Key() Object    { return Neigh{Dev: n.Dev, Dst: n.Dst} }
func (n Neigh) Device() string { return n.Dev }

// Owned is false: an entry goes with its link, and the links are ours.
func (n Neigh) Owned() bool { return false }

func (n Neigh) String() string {
	s := n.Dst.String() + " dev " + n.Dev
	if n.MAC != (MAC{}) { // or else only the key is known
		s += " lladdr " + n.MAC.String()
	}
	if n.Permanent {
		s += " nud permanent"
	}
	return s
}
