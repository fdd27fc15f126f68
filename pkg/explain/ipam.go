// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// ipam holds the keys for addresses and routes of the CNI project's host-local and
// static, and of whereabouts. Other IPAM plugins are unknown.
type ipam struct {
	Type string
	subnet
	Ranges    [][]subnet
	Addresses []struct{ Address, Gateway string }
	Routes    []struct{ Dst, GW string }

	span
	IPRanges []span
}

// subnet is a range of host-local.
type subnet struct{ Subnet, RangeStart, Gateway string }

// span is a range of whereabouts: a CIDR, or two addresses and a length,
// "10.6.168.10-10.6.168.99/16".
type span struct {
	Range string
	Start string `json:"range_start"`
}

// isKnown reports whether the keys tell all addresses and routes of the NIC.
func (c ipam) isKnown() bool {
	return slices.Contains([]string{"host-local", "static", "whereabouts"}, c.Type)
}

// assumedRoute is a route that IPAM is assumed to give.
type assumedRoute struct {
	dst netip.Prefix
	via netip.Addr
}

// addresses returns the given addresses, or else those of static. If the NIC has none by
// its description, it adds the first address of each range.
func (c ipam) addresses(given []netip.Prefix, has bool) []netip.Prefix {
	if len(given) > 0 {
		return given
	}
	var out []netip.Prefix
	for _, a := range c.Addresses {
		if p, err := netip.ParsePrefix(a.Address); err == nil {
			out = append(out, p)
		}
	}
	if has {
		return out
	}
	sets := c.Ranges // a NIC gets one address of each set
	if c.Subnet != "" {
		sets = append([][]subnet{{c.subnet}}, sets...)
	}
	for _, set := range sets {
		for _, s := range set[:min(len(set), 1)] {
			out = append(out, firstOf(s.Subnet, s.RangeStart, s.gateway())...)
		}
	}
	for _, s := range append([]span{c.span}, c.IPRanges...) {
		from, to, ok := strings.Cut(s.Range, "-")
		if ok {
			_, length, _ := strings.Cut(to, "/")
			s.Start, s.Range = cmp.Or(s.Start, from), from+"/"+length
		}
		out = append(out, firstOf(s.Range, s.Start, "")...)
	}
	return out
}

// gateway returns the configured gateway, or else the first address
// (host-local, allocator.Range.Canonicalize).
func (s subnet) gateway() string {
	p, err := netip.ParsePrefix(s.Subnet)
	if err != nil || s.Gateway != "" {
		return s.Gateway
	}
	return p.Masked().Addr().Next().String()
}

// firstOf returns the first address of a subnet, or of a range in it, that is not the
// gateway. It returns none if the configuration is wrong.
func firstOf(subnet, start, gateway string) []netip.Prefix {
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		return nil
	}
	first := p.Masked().Addr().Next()
	if a, err := netip.ParseAddr(start); err == nil {
		first = a
	}
	if first.String() == gateway {
		first = first.Next()
	}
	if !p.Contains(first) {
		return nil
	}
	return []netip.Prefix{netip.PrefixFrom(first, p.Bits())}
}

// gateways returns the given gateways, and then those that IPAM has for the addresses.
func (c ipam) gateways(addrs []netip.Prefix, given []netip.Addr) []netip.Addr {
	out := slices.Clone(given)
	add := func(text string) {
		if g, err := netip.ParseAddr(text); err == nil && !slices.ContainsFunc(given, func(o netip.Addr) bool { return o.Is6() == g.Is6() }) {
			out = append(out, g)
		}
	}
	for _, a := range c.Addresses {
		add(a.Gateway)
	}
	for _, s := range append(slices.Concat(c.Ranges...), c.subnet) {
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil || !slices.ContainsFunc(addrs, func(a netip.Prefix) bool { return p.Contains(a.Addr()) }) {
			continue
		}
		add(s.gateway())
	}
	if c.Type == "whereabouts" {
		add(c.Gateway)
	}
	return out
}

// routes returns the routes that IPAM gives the NIC, each by its own gateway or by the
// first one of its family. If the IPAM is unknown, a given gateway implies a default
// route.
func (c ipam) routes(addrs []netip.Prefix, gateways []netip.Addr, given bool) []assumedRoute {
	var out []assumedRoute
	for _, r := range c.Routes {
		dst, err := netip.ParsePrefix(r.Dst)
		if err != nil {
			continue
		}
		if via, err := netip.ParseAddr(r.GW); err == nil {
			out = append(out, assumedRoute{dst, via})
		} else if i := slices.IndexFunc(gateways, func(g netip.Addr) bool { return g.Is6() == dst.Addr().Is6() }); i >= 0 {
			out = append(out, assumedRoute{dst, gateways[i]})
		}
	}
	if !c.isKnown() && given {
		for _, g := range gateways {
			out = append(out, assumedRoute{netstate.Default(g), g})
		}
	}
	return slices.DeleteFunc(out, func(w assumedRoute) bool {
		return !slices.ContainsFunc(addrs, func(a netip.Prefix) bool { return a.Addr().Is6() == w.via.Is6() })
	})
}

// addressLines returns an address and the route to its subnet, which the kernel makes,
// as lines for netstate.Parse.
func addressLines(dev string, p netip.Prefix) []string {
	lines := []string{fmt.Sprintf("pod: addr %s dev %s", p, dev)}
	switch {
	case p.IsSingleIP() && p.Addr().Is4():
		return lines
	case p.Addr().Is4():
		return append(lines, fmt.Sprintf("pod: route %s dev %s proto kernel scope link src %s", p.Masked(), dev, p.Addr()))
	}
	return append(lines, fmt.Sprintf("pod: -6 route %s dev %s proto kernel metric 256", p.Masked(), dev))
}

// routeLine returns a route as a line for netstate.Parse.
func routeLine(dev string, dst netip.Prefix, via netip.Addr) string {
	r := netstate.NewRoute(netstate.ProtoCoordinator, netstate.TableMain, dst, via, dev, netip.Addr{})
	r.Proto = protoBoot
	return netstate.Line(netstate.Pod, r)
}

// protoBoot is RTPROT_BOOT of linux/rtnetlink.h, the default of ip(8).
const protoBoot netstate.Protocol = 3
