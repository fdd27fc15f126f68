// SPDX-License-Identifier: Apache-2.0

package netstate

import "net/netip"

// Addr is an address on a link.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits
	// Dynamic addresses have a lifetime. The kernel made them from a router
	// advertisement (RFC 4862), or a DHCP client did.
	Dynamic bool
	// Tentative addresses can't be used as a source yet (RFC 4862, 5.4).
	Tentative bool
}

func (a Addr) Kind() Kind     { return KindAddr }
func (a Addr) Key() Object    { return Addr{Dev: a.Dev, Prefix: a.Prefix} }
func (a Addr) Device() string { return a.Dev }

// Owned returns false: the kernel has no room for a mark on an address.
func (a Addr) Owned() bool { return false }

func (a Addr) String() string {
	s := a.Prefix.String() + " dev " + a.Dev
	if a.Dynamic {
		s += " dynamic"
	}
	if a.Tentative {
		s += " tentative"
	}
	return s
}
