// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"net/netip"
	"slices"
)

// source6 returns the source of a packet that leaves by a link, as ipv6_dev_get_saddr of
// net/ipv6/addrconf.c does by RFC 6724, section 5. It is invalid if there is none.
func (s *Namespace) source6(dev string, dst netip.Addr) netip.Addr {
	out, _ := s.Link(dev)
	onlyOwn := dst.IsMulticast() || scopeOf(dst) <= scopeLink || out.OwnAddressesOnly
	var best []int
	var source netip.Addr
	for _, l := range s.Links {
		if onlyOwn && l.Name != dev {
			continue
		}
		for _, a := range s.on(l.Name, dst) {
			if a.Tentative || a.Prefix.Addr().IsMulticast() {
				continue
			}
			if score := scores(a, l, dev, dst); best == nil || slices.Compare(score, best) > 0 {
				best, source = score, a.Prefix.Addr()
			}
		}
	}
	return source
}

// scores rates an address by each rule in turn; higher is better.
func scores(a Addr, l Link, dev string, dst netip.Addr) []int {
	addr := a.Prefix.Addr()
	scope := scopeOf(addr)
	if scope >= scopeOf(dst) {
		scope = -scope // the smallest one that reaches it
	} else {
		scope -= 128
	}
	return []int{
		truth(addr == dst),
		scope,
		truth(addr.IsLoopback() || !a.Deprecated),
		truth(l.Name == dev),
		truth(label(addr) == label(dst)),
		truth(a.Temporary == l.PreferTemporary),
		truth(isORCHID(addr) == isORCHID(dst)),
		min(sameBits(addr, dst), a.Prefix.Bits()),
	}
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Scopes of addresses (RFC 4291, 2.7).
const (
	scopeLink   = 2
	scopeSite   = 5
	scopeGlobal = 14
)

func scopeOf(a netip.Addr) int {
	switch {
	case a.IsMulticast():
		return int(a.As16()[1] & 0xf)
	case a.IsLoopback() || a.IsLinkLocalUnicast():
		return scopeLink
	case in(a, network{0xfe, 0xc0}, 10):
		return scopeSite
	}
	return scopeGlobal
}

// network is the leading bytes of a prefix: bytes, so that nothing is parsed at start.
type network [16]byte

func in(a netip.Addr, n network, bits int) bool {
	return sameBits(a, netip.AddrFrom16(n)) >= bits
}

// labels are the kernel's (net/ipv6/addrlabel.c), longer prefixes before the ones that
// contain them.
var labels = [...]struct {
	network network
	bits    int
	label   int
}{
	{network{15: 1}, 128, 0},                 // ::1
	{network{10: 0xff, 11: 0xff}, 96, 4},     // ::ffff:0:0
	{network{}, 96, 3},                       // ::
	{network{0x20, 0x01}, 32, 6},             // 2001::
	{network{0x20, 0x01, 0x00, 0x10}, 28, 7}, // 2001:10::
	{network{0x20, 0x02}, 16, 2},             // 2002::
	{network{0xfc}, 7, 5},                    // fc00::
	{network{}, 0, 1},
}

func label(a netip.Addr) int {
	for _, l := range labels {
		if in(a, l.network, l.bits) {
			return l.label
		}
	}
	return 0
}

// isORCHID reports whether an address is a hash, not a location (RFC 4843).
func isORCHID(a netip.Addr) bool { return in(a, network{0x20, 0x01, 0x00, 0x10}, 28) }

// sameBits counts the leading bits that two addresses share.
func sameBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for n < 128 && (x[n/8]^y[n/8])>>(7-n%8)&1 == 0 {
		n++
	}
	return n
}
