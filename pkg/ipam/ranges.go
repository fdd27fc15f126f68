// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// ParseRange reads an address or a range of a pool: 10.6.168.171 or
// 10.6.168.171-10.6.168.180.
func ParseRange(text string) (netipx.IPRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	from, err := netip.ParseAddr(first)
	to := from
	if err == nil && isRange {
		to, err = netip.ParseAddr(last)
	}
	switch {
	case err != nil || from.Zone() != "" || to.Zone() != "" || from.Is4In6() || to.Is4In6():
		return netipx.IPRange{}, fmt.Errorf("%q: want an address, such as 10.6.168.171, or a range, such as 10.6.168.171-10.6.168.180", text)
	case from.Is4() != to.Is4():
		return netipx.IPRange{}, fmt.Errorf("%q: want two addresses of one family", text)
	case to.Less(from):
		return netipx.IPRange{}, fmt.Errorf("%q: want the lower address first: %s-%s", text, to, from)
	}
	return netipx.IPRangeFrom(from, to), nil
}

// Addresses returns the addresses of a list of ranges. It leaves out what is no range:
// Validate says what is wrong with a list.
func Addresses(ranges []string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, text := range ranges {
		if r, err := ParseRange(text); err == nil {
			b.AddRange(r)
		}
	}
	set, _ := b.IPSet() // its errors are of wrong ranges, which ParseRange refuses
	return set
}

// Without returns the addresses of a that are in none of the others.
func Without(a *netipx.IPSet, others ...*netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(a)
	for _, o := range others {
		b.RemoveSet(o)
	}
	set, _ := b.IPSet()
	return set
}

// Intersection returns the addresses that are in both a and b.
func Intersection(a, b *netipx.IPSet) *netipx.IPSet {
	var builder netipx.IPSetBuilder
	builder.AddSet(a)
	builder.Intersect(b)
	out, _ := builder.IPSet()
	return out
}

// union returns the addresses that are in any of the sets; nil is an empty one.
func union(sets ...*netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, s := range sets {
		if s != nil {
			b.AddSet(s)
		}
	}
	out, _ := b.IPSet()
	return out
}

// set returns the addresses of ranges.
func set(ranges ...netipx.IPRange) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		b.AddRange(r)
	}
	out, _ := b.IPSet()
	return out
}

// Total returns the addresses of a pool or subnet: its ips without its excludeIPs.
func (s SubnetSpec) Total() *netipx.IPSet {
	return Without(Addresses(s.IPs), Addresses(s.ExcludeIPs))
}

// Prefix returns the subnet without bits of the host. It isn't valid if the subnet is none.
func (s SubnetSpec) Prefix() netip.Prefix {
	return prefixOf(s.Subnet)
}

// Space returns the network in which the addresses are: that of network, or of vlan; "" if
// neither names one. Equal addresses in two spaces are different ones.
func (s SubnetSpec) Space() string {
	if v := s.vlan(); s.Network == "" && v != 0 {
		return "vlan" + strconv.Itoa(v)
	}
	return s.Network
}

// Count returns how many addresses a set has, math.MaxInt64 if there are more.
func Count(set *netipx.IPSet) int64 {
	total := new(big.Int)
	for _, r := range set.Ranges() {
		total.Add(total, size(r))
	}
	if !total.IsInt64() {
		return math.MaxInt64
	}
	return total.Int64()
}

// size returns how many addresses a range has.
func size(r netipx.IPRange) *big.Int {
	from, to := r.From().As16(), r.To().As16()
	n := new(big.Int).Sub(new(big.Int).SetBytes(to[:]), new(big.Int).SetBytes(from[:]))
	return n.Add(n, big.NewInt(1))
}

// Text returns a set as a pool's ips.
func Text(set *netipx.IPSet) []string {
	var out []string
	for _, r := range set.Ranges() {
		if r.From() == r.To() {
			out = append(out, r.From().String())
		} else {
			out = append(out, r.From().String()+"-"+r.To().String())
		}
	}
	return out
}

// Key is an address in a space: the name of an IPAddress.
type Key struct {
	Space string // the network or VLAN of the pool, "" for none
	Addr  netip.Addr
}

// String returns the name of the IPAddress: 10.6.168.171, or
// fd00-0006-0000-0000-0000-0000-0000-0171, with .SPACE behind it where there is one. A name
// has no colon (RFC 1123).
func (k Key) String() string {
	name := k.Addr.String()
	if k.Addr.Is6() {
		name = strings.ReplaceAll(k.Addr.StringExpanded(), ":", "-")
	}
	if k.Space != "" {
		name += "." + k.Space
	}
	return name
}

// Compare orders keys by space and address.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Space, o.Space), k.Addr.Compare(o.Addr))
}
