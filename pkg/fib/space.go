// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// Namespace holds everything that routing depends on in one network namespace. Every list is
// in the kernel's order: of equal entries the kernel takes the first.
type Namespace struct {
	Links  []Link
	Addrs  []Addr
	Rules  []Rule
	Routes []Route
	// Failed are the next hops whose MAC could not be resolved (NUD_FAILED), by link
	// and address.
	Failed map[NextHop]bool

	// Merged is set while no IPv4 rule was ever added or deleted: then the tables
	// local and main are one (fib_unmerge).
	Merged bool
	// All holds the settings of net.ipv4.conf.all.
	All Settings
	// Forwarding6 is net.ipv6.conf.all.forwarding.
	Forwarding6 bool
}

// Link is an interface.
type Link struct {
	Name     string
	Up       bool
	Loopback bool
	Group    int
	Conf     Settings // net.ipv4.conf.<name>

	OwnAddressesOnly bool // net.ipv6.conf.<name>.use_oif_addrs_only
	PreferTemporary  bool // net.ipv6.conf.<name>.use_tempaddr is 2
}

// Settings holds the values of net.ipv4.conf that routing depends on.
type Settings struct {
	Forwarding    bool
	RPFilter      int
	AcceptLocal   bool
	RouteLocalnet bool
	SourceMark    bool // src_valid_mark
	SendRedirects bool
}

// Addr is an address of a link.
type Addr struct {
	Dev    string
	Prefix netip.Prefix // with its host bits
	Peer   netip.Prefix // of the far end, where it is a point-to-point link; else that of the subnet
	Scope  netstate.Scope

	Secondary  bool // IPv4: not the first of its subnet
	Temporary  bool // IPv6: RFC 8981
	Deprecated bool
	Tentative  bool // IPv6: it can't be used yet, or never
}

// NextHop is a neighbour's address on a link.
type NextHop struct {
	Dev string
	Via netip.Addr
}

// Kind is a route's type, RTN_* of linux/rtnetlink.h.
type Kind uint8

// The types of routes that the kernel has.
const (
	Unicast     Kind = 1
	Local       Kind = 2
	Broadcast   Kind = 3
	Anycast     Kind = 4
	Multicast   Kind = 5
	Blackhole   Kind = 6
	Unreachable Kind = 7
	Prohibit    Kind = 8
	Throw       Kind = 9
)

var kindNames = [...]string{"", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprint(uint8(k))
}

// Route is an entry of a routing table.
type Route struct {
	Kind   Kind
	Table  int
	Dst    netip.Prefix
	From   netip.Prefix // IPv6: only packets with such a source; not valid: all
	TOS    uint8        // IPv4: only packets of this type of service; 0: all
	Metric int
	Scope  netstate.Scope
	Src    netip.Addr // preferred source
	Proto  netstate.Protocol
	Pref   uint8 // IPv6: ICMPV6_ROUTER_PREF_*
	Hops   []Hop // several: any of them is taken
}

// Hop is a next hop of a route.
type Hop struct {
	NextHop
	Onlink bool
	Dead   bool // its link is down, or has no carrier and such routes are to be ignored
}

// String returns the route in the syntax of ip(8).
func (r Route) String() string {
	route := netstate.Route{Table: r.Table, Dst: r.Dst, Metric: r.Metric, Src: r.Src, Scope: r.Scope, Proto: r.Proto}
	prefix := ""
	if r.Kind != Unicast {
		prefix = r.Kind.String() + " "
	}
	if len(r.Hops) == 1 {
		route.Dev, route.Via, route.Onlink = r.Hops[0].Dev, r.Hops[0].Via, r.Hops[0].Onlink
		return prefix + route.String()
	}
	text := prefix + strings.ReplaceAll(route.String(), " dev ", "")
	for _, h := range r.Hops {
		text += " nexthop"
		if h.Via.IsValid() {
			text += " via " + h.Via.String()
		}
		text += " dev " + h.Dev
	}
	return text
}

func (r Route) ipv6() bool { return r.Dst.Addr().Is6() }

// Link returns the link of that name, and whether there is one.
func (s *Namespace) Link(name string) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// loopback is the name of the loopback link of every namespace.
const loopback = "lo"

// has reports whether the namespace has an address.
func (s *Namespace) has(a netip.Addr) bool {
	return slices.ContainsFunc(s.Addrs, func(have Addr) bool { return have.Prefix.Addr() == a })
}

// on returns a link's addresses of another address's family.
func (s *Namespace) on(dev string, of netip.Addr) []Addr {
	var out []Addr
	for _, a := range s.Addrs {
		if a.Dev == dev && a.Prefix.Addr().Is4() == of.Is4() {
			out = append(out, a)
		}
	}
	return out
}
