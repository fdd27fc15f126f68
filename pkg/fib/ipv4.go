// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/multihome/multihome/pkg/netstate"
)

// isBroadcast reports whether a is 255.255.255.255: all hosts on the link.
func isBroadcast(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// output4 follows ip_route_output_key_hash_rcu of net/ipv4/route.c.
func (s *Namespace) output4(f Flow) Decision {
	d := Decision{Flow: f, merged: s.Merged}
	refuse := func(err syscall.Errno, why string) Decision {
		d.Err, d.Why = err, why
		return d
	}
	everybody := isBroadcast(f.Dst) || f.Dst.IsMulticast()
	if f.Src.IsValid() {
		switch {
		case f.Src.IsMulticast() || isBroadcast(f.Src):
			return refuse(syscall.EINVAL, f.Src.String()+" can't be a source")
		case len(s.linksOf(f.Src)) == 0:
			return refuse(syscall.ENETUNREACH, "no link has the source "+f.Src.String())
		case f.Out == "" && everybody:
			return s.made4(d, s.linksOf(f.Src), Unicast)
		}
	}
	if f.Out != "" {
		out, ok := s.Link(f.Out)
		switch {
		case !ok:
			return refuse(syscall.ENODEV, "there is no link "+f.Out)
		case !out.Up:
			return refuse(syscall.ENETUNREACH, "link "+f.Out+" is down")
		case isBroadcast(f.Dst) || isLocalMulticast(f.Dst):
			return s.made4(d, []way{onLink(f.Out)}, Unicast)
		case f.Dst.IsMulticast() && !f.Src.IsValid():
			d.Flow.Src = s.select4(f.Out, netip.Addr{}, netstate.ScopeGlobal)
		}
	}
	got := s.lookup(&d, func(table int) tableMatch { return s.table4(table, d.Flow) })
	switch {
	case got.err == 0:
		d = s.made4(d, s.alternatives4(got), got.route.Kind)
	case f.Out != "":
		// The kernel assumes that a destination without a route is on the link.
		d = s.made4(d, []way{onLink(f.Out)}, Unicast)
	default:
		d.Err = got.err
	}
	d.Flow = f
	return d
}

// made4 follows __mkroute_output, after choosing the source.
func (s *Namespace) made4(d Decision, ways []way, kind Kind) Decision {
	d.Kind = kind
	switch {
	case isBroadcast(d.Flow.Dst):
		d.Kind = Broadcast
	case d.Flow.Dst.IsMulticast():
		d.Kind = Multicast
	}
	for _, w := range ways {
		c := Choice{Route: w.route, Hop: w.hop, Src: d.Flow.Src}
		if !c.Src.IsValid() {
			c.Src = s.source4(w, d.Flow.Dst)
		}
		out, _ := s.Link(w.hop.Dev)
		if c.Src.IsLoopback() && !out.Loopback && d.Kind != Local && !out.Conf.RouteLocalnet && !s.All.RouteLocalnet {
			d.mayRefuse, d.Why = true, "the source "+c.Src.String()+" must not leave by "+w.hop.Dev
			continue
		}
		c.Hop = s.used(c.Hop)
		// A multicast group reached only by the default route is on the link.
		if d.Kind == Broadcast || d.Kind == Multicast && w.route != nil && w.route.Dst.Bits() < 4 {
			c.Hop.Via = netip.Addr{}
		}
		d.Choices = append(d.Choices, c)
	}
	if d.mayRefuse && len(d.Choices) == 0 {
		d.Err = syscall.EINVAL
	}
	return d
}

// used returns the hop as packets use it: the kernel ignores a gateway that is one of
// the namespace's own addresses on that link (fib_check_nh, rt_set_nexthop).
func (s *Namespace) used(h Hop) Hop {
	own := func(a Addr) bool { return a.Prefix.Addr() == h.Via }
	if h.Via.Is4() && !h.Onlink && slices.ContainsFunc(s.on(h.Dev, h.Via), own) {
		h.Via = netip.Addr{}
	}
	return h
}

// linksOf returns the links that an address is local on (__ip_dev_find). The whole
// loopback subnet is local.
func (s *Namespace) linksOf(a netip.Addr) []way {
	var out []way
	for _, have := range s.Addrs {
		if have.Prefix.Addr() == a {
			out = append(out, onLink(have.Dev))
		}
	}
	if len(out) > 0 {
		return out
	}
	got := s.table4(netstate.TableLocal, Flow{Dst: a})
	if got.route == nil || got.route.Kind != Local {
		return nil
	}
	return []way{onLink(got.hops[0].hop.Dev)}
}

// onLink returns a hop by a link without a route.
func onLink(dev string) way { return way{hop: Hop{NextHop: NextHop{Dev: dev}}} }

// isLocalMulticast reports whether a is in 224.0.0.0/24, which routers never forward.
func isLocalMulticast(a netip.Addr) bool {
	return a.Is4() && a.IsLinkLocalMulticast()
}

// table4 follows fib_table_lookup of net/ipv4/fib_trie.c.
func (s *Namespace) table4(table int, f Flow) tableMatch {
	for _, r := range s.candidates(table, f) {
		if s.Merged && table == netstate.TableLocal && s.longerInMain(r, f) {
			return tableMatch{}
		}
		if err := refusals[r.Kind]; r.TOS == 0 && err != 0 {
			return tableMatch{route: r, err: err}
		}
		if r.TOS != 0 {
			continue
		}
		var ways []way
		for _, h := range r.Hops {
			if !h.Dead && (f.Out == "" || f.Out == h.Dev) {
				ways = append(ways, way{r, h})
			}
		}
		if len(ways) > 0 {
			return tableMatch{route: r, hops: ways}
		}
	}
	return tableMatch{}
}

// longerInMain reports whether main has a longer prefix than a route of local. While
// both are one table, the longer prefix wins.
func (s *Namespace) longerInMain(r *Route, f Flow) bool {
	in := s.candidates(netstate.TableMain, f)
	return len(in) > 0 && in[0].Dst.Bits() > r.Dst.Bits()
}

// alternatives4 returns the hops of the route found, and of other default routes with
// the same metric (fib_select_default). The state of their gateways decides between them.
func (s *Namespace) alternatives4(got tableMatch) []way {
	ways := got.hops
	if len(got.route.Hops) > 1 || got.route.Dst.Bits() != 0 || got.route.Kind != Unicast {
		return ways
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		if r != got.route && r.Table == got.route.Table && r.Dst == got.route.Dst && r.Metric == got.route.Metric &&
			r.Scope == got.route.Scope && r.Kind == Unicast && r.TOS == 0 && len(r.Hops) > 0 && !r.Hops[0].Dead && r.Hops[0].Via.IsValid() {
			ways = append(ways, way{r, r.Hops[0]})
		}
	}
	return ways
}

// source4 returns the source address for a hop (fib_result_prefsrc).
func (s *Namespace) source4(w way, dst netip.Addr) netip.Addr {
	switch {
	case w.route == nil:
		return s.select4(w.hop.Dev, netip.Addr{}, netstate.ScopeLink)
	case w.route.Src.IsValid():
		return w.route.Src
	case w.route.Kind == Local:
		return dst
	}
	via := w.hop.Via
	if !via.Is4() {
		via = netip.Addr{}
	}
	return s.select4(w.hop.Dev, via, w.route.Scope)
}

// select4 follows inet_select_addr of net/ipv4/devinet.c: it prefers an address of the
// link in the gateway's subnet, then the link's first address, then another link's.
func (s *Namespace) select4(dev string, via netip.Addr, scope netstate.Scope) netip.Addr {
	localnet := netstate.ScopeHost
	if l, _ := s.Link(dev); l.Conf.RouteLocalnet || s.All.RouteLocalnet {
		localnet = netstate.ScopeLink
	}
	var first netip.Addr
	any4 := netip.IPv4Unspecified()
	for _, a := range s.on(dev, any4) {
		if a.Secondary || min(a.Scope, localnet) > scope {
			continue
		}
		if !via.IsValid() || a.Peer.Contains(via) {
			return a.Prefix.Addr()
		}
		if !first.IsValid() {
			first = a.Prefix.Addr()
		}
	}
	if first.IsValid() {
		return first
	}
	for _, l := range s.Links {
		for _, a := range s.on(l.Name, any4) {
			if !a.Secondary && a.Scope != netstate.ScopeLink && a.Scope <= scope {
				return a.Prefix.Addr()
			}
		}
	}
	return netip.Addr{}
}

// input4 follows ip_route_input_slow of net/ipv4/route.c.
func (s *Namespace) input4(f Flow) Decision {
	d := Decision{Flow: f, merged: s.Merged}
	refuse := func(err syscall.Errno, why string) Decision {
		d.Err, d.Why = err, why
		return d
	}
	in, ok := s.Link(f.In)
	localnet := in.Conf.RouteLocalnet || s.All.RouteLocalnet
	switch {
	case !ok:
		return refuse(syscall.ENODEV, "there is no link "+f.In)
	case f.Dst.IsMulticast():
		d.Kind = Multicast
		d.Choices = []Choice{{Hop: Hop{NextHop: NextHop{Dev: loopback}}}}
		return d
	case !f.Src.IsValid() && isBroadcast(f.Dst): // such as a DHCP client's
		d.Kind = Broadcast
		d.Choices = []Choice{{Hop: Hop{NextHop: NextHop{Dev: loopback}}}}
		return d
	case !f.Src.IsValid() || f.Src.IsMulticast() || isBroadcast(f.Src) || f.Dst.IsUnspecified():
		return refuse(syscall.EINVAL, "such a packet can't be")
	case isBroadcast(f.Dst):
		return s.delivered4(d, nil, Broadcast)
	case (f.Dst.IsLoopback() || f.Src.IsLoopback()) && !localnet:
		return refuse(syscall.EINVAL, "addresses of the loopback don't come from outside (route_localnet 0)")
	}
	got := s.lookup(&d, func(table int) tableMatch { return s.table4(table, f) })
	switch {
	case got.err != 0 && !in.Conf.Forwarding:
		return refuse(syscall.EHOSTUNREACH, "no route, and "+f.In+" does not forward")
	case got.err != 0:
		return refuse(got.err, "")
	case got.route.Kind == Broadcast || got.route.Kind == Local:
		return s.delivered4(d, got.hops[:1], got.route.Kind)
	case !in.Conf.Forwarding:
		return refuse(syscall.EHOSTUNREACH, "it isn't for this namespace, and "+f.In+" does not forward (forwarding 0)")
	case got.route.Kind != Unicast:
		return refuse(syscall.EINVAL, "a route of type "+got.route.Kind.String()+" takes nothing from outside")
	}
	d.Kind = Unicast
	for _, w := range got.hops {
		c := Choice{Route: w.route, Hop: s.used(w.hop)}
		if d = s.checked4(d, in, c.Hop.Dev); d.Err == 0 {
			d.Choices = append(d.Choices, c)
		}
		d.mayRefuse, d.Err = d.mayRefuse || d.Err != 0, 0
	}
	if len(d.Choices) == 0 {
		d.Err = syscall.EXDEV
	}
	return d
}

// delivered4 decides on a packet addressed to the namespace itself.
func (s *Namespace) delivered4(d Decision, ways []way, kind Kind) Decision {
	d.Kind = kind
	c := Choice{Hop: Hop{NextHop: NextHop{Dev: loopback}}}
	for _, w := range ways {
		c.Route, c.Hop = w.route, w.hop
	}
	d.Choices = []Choice{c}
	in, _ := s.Link(d.Flow.In)
	if kind == Broadcast {
		f := d.Flow
		d.Flow.Dst = netip.Addr{}
		d = s.checked4(d, in, "")
		d.Flow = f
		return d
	}
	return s.checked4(d, in, "")
}

// checked4 follows fib_validate_source of net/ipv4/fib_frontend.c: it checks that a
// packet's source may come in by in. The packet leaves by out; "" if it is delivered.
func (s *Namespace) checked4(d Decision, in Link, out string) Decision {
	f := d.Flow
	filter := max(in.Conf.RPFilter, s.All.RPFilter)
	acceptLocal := in.Conf.AcceptLocal || s.All.AcceptLocal
	refuse := func(err syscall.Errno, why string) Decision {
		d.Err, d.Why = err, why
		return d
	}
	if filter == 0 && (in.Name != out || !in.Conf.SendRedirects && !s.All.SendRedirects) {
		if acceptLocal {
			return d
		}
		if s.Merged && !s.hasLocalRoutes() {
			if s.has(f.Src) {
				return refuse(syscall.EINVAL, "the source "+f.Src.String()+" is one of the namespace's own (accept_local 0)")
			}
			return d
		}
	}
	reverse := s.reverse(f, in, out)
	d.Reverse = &reverse
	back := slices.ContainsFunc(reverse.Choices, func(c Choice) bool {
		return slices.ContainsFunc(c.Route.Hops, func(h Hop) bool { return h.Dev == in.Name })
	})
	switch {
	case reverse.Err == 0 && reverse.Kind != Unicast && (reverse.Kind != Local || !acceptLocal):
		return refuse(syscall.EINVAL, "the source "+f.Src.String()+" is a "+reverse.Kind.String()+" address here")
	case reverse.Err == 0 && (back || reverse.Kind == Local && in.Loopback):
		return d
	case filter != 0 && (reverse.Err != 0 || len(s.on(in.Name, f.Src)) == 0):
		return refuse(syscall.EXDEV, "rp_filter: there is no way back to "+f.Src.String()+" by "+in.Name)
	case filter == 1 && reverse.Err == 0:
		return refuse(syscall.EXDEV, "rp_filter: the way back to "+f.Src.String()+" is by "+reverse.Choices[0].Hop.Dev+", not by "+in.Name)
	}
	return d
}

// hasLocalRoutes reports whether a route not made by the kernel makes an address local.
func (s *Namespace) hasLocalRoutes() bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool {
		return r.Kind == Local && !r.ipv6() && r.Proto != protoKernel
	})
}

// protoKernel is RTPROT_KERNEL.
const protoKernel = 2

// reverse looks up the route back to the source of a packet.
func (s *Namespace) reverse(f Flow, in Link, out string) Decision {
	back := Flow{Src: f.Dst, Dst: f.Src, In: out, Protocol: f.Protocol, SrcPort: f.DstPort, DstPort: f.SrcPort}
	if in.Conf.SourceMark || s.All.SourceMark {
		back.Mark = f.Mark
	}
	d := Decision{Flow: back, merged: s.Merged}
	got := s.lookup(&d, func(table int) tableMatch { return s.table4(table, back) })
	if got.err != 0 {
		d.Err = got.err
		return d
	}
	d.Kind = got.route.Kind
	for _, w := range got.hops {
		d.Choices = append(d.Choices, Choice{Route: w.route, Hop: w.hop})
	}
	return d
}
