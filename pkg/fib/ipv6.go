// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"net/netip"
	"slices"
)

// Flags of a lookup, RT6_LOOKUP_F_* of net/ip6_route.h.
type strictness struct {
	iface     bool // the link must be the one that was asked for
	reachable bool // gateways that are known not to answer don't count
}

// output6 follows ip6_route_output_flags of net/ipv6/route.c.
func (s *Namespace) output6(f Flow) Decision {
	d := Decision{Flow: f}
	strict := strictness{iface: needsLink(f.Dst) || f.Out != "" && !f.Src.IsValid(), reachable: !s.Forwarding6}
	got := s.lookup(&d, func(table int) tableMatch { return s.table6(table, f, f.Out, strict) })
	return s.made6(d, got)
}

// input6 follows ip6_route_input_lookup. Unlike IPv4 it does not check the source, and a
// packet for another host is dropped only when it is forwarded.
func (s *Namespace) input6(f Flow) Decision {
	d := Decision{Flow: f}
	strict := strictness{iface: needsLink(f.Dst), reachable: !s.Forwarding6}
	got := s.lookup(&d, func(table int) tableMatch { return s.table6(table, f, f.In, strict) })
	return s.made6(d, got)
}

// needsLink follows rt6_need_strict: such addresses are valid on one link only.
func needsLink(a netip.Addr) bool { return a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback() }

func (s *Namespace) made6(d Decision, got tableMatch) Decision {
	if got.err != 0 {
		d.Err = got.err
		return d
	}
	d.Kind = got.route.Kind
	for _, w := range got.hops {
		c := Choice{Route: w.route, Hop: w.hop, Src: d.Flow.Src}
		if !c.Src.IsValid() {
			if c.Src = w.route.Src; !c.Src.IsValid() {
				c.Src = s.source6(w.hop.Dev, d.Flow.Dst)
			}
		}
		d.Choices = append(d.Choices, c)
	}
	return d
}

// table6 follows fib6_table_lookup: it tries prefixes from the longest on until one has
// a usable route; if none has, it also takes gateways that do not answer.
func (s *Namespace) table6(table int, f Flow, dev string, strict strictness) tableMatch {
	nodes := prefixes(s.candidates(table, f))
	for len(nodes) > 0 && s.hidden(nodes[0][0]) {
		nodes = nodes[1:]
	}
	for _, node := range nodes {
		if got := s.select6(node, dev, strict); got.route != nil {
			return got
		}
	}
	if strict.reachable {
		strict.reachable = false
		return s.table6(table, f, dev, strict)
	}
	return tableMatch{}
}

// hidden reports whether a lookup misses a route for all sources because routes for
// particular sources have the same destination (fib6_node_lookup_1: a subtree without a
// match leads to the next shorter prefix, and at last to the default).
func (s *Namespace) hidden(r *Route) bool {
	return !r.From.IsValid() && r.Dst.Bits() > 0 && slices.ContainsFunc(s.Routes, func(o Route) bool {
		return o.Table == r.Table && o.Dst == r.Dst && o.From.IsValid()
	})
}

// prefixes groups routes with the same destination and source.
func prefixes(routes []*Route) [][]*Route {
	var out [][]*Route
	for i, r := range routes {
		if i > 0 && r.Dst == routes[i-1].Dst && r.From == routes[i-1].From {
			out[len(out)-1] = append(out[len(out)-1], r)
			continue
		}
		out = append(out, []*Route{r})
	}
	return out
}

// select6 follows rt6_select: it takes the best route of the lowest metric; if none of
// those is usable, the best of all others.
func (s *Namespace) select6(node []*Route, dev string, strict strictness) tableMatch {
	lowest := 0
	for lowest < len(node) && node[lowest].Metric == node[0].Metric {
		lowest++
	}
	for _, routes := range [][]*Route{node[:lowest], node[lowest:]} {
		best, score := way{}, -1
		for _, r := range routes {
			for _, h := range r.Hops {
				if n, ok := s.score(r, h, dev, strict); ok && n > score {
					best, score = way{r, h}, n
				}
			}
		}
		if best.route != nil {
			return s.found6(best, dev, strict)
		}
	}
	return tableMatch{}
}

// score follows find_match and rt6_score_route; ok is false for an unusable hop.
func (s *Namespace) score(r *Route, h Hop, dev string, strict strictness) (n int, ok bool) {
	if h.Dead {
		return 0, false
	}
	if dev == "" || dev == h.Dev {
		n = 2
	} else if strict.iface {
		return 0, false
	}
	if strict.reachable && h.Via.IsValid() && s.Failed[h.NextHop] {
		return 0, false
	}
	return n | int(r.Pref^2)<<2, true // IPV6_DECODE_PREF
}

// found6 returns the route with every hop that may be chosen (fib6_select_path).
func (s *Namespace) found6(best way, dev string, strict strictness) tableMatch {
	got := tableMatch{route: best.route, err: refusals[best.route.Kind]}
	for _, h := range best.route.Hops {
		if _, ok := s.score(best.route, h, dev, strict); ok || h == best.hop {
			got.hops = append(got.hops, way{best.route, h})
		}
	}
	return got
}
