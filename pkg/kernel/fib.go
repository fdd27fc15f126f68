// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

// ReadFIB reads all that the namespace decides by where a packet goes. No plugin does
// that, for it takes as long as the namespace is large.
func (s *Space) ReadFIB() (*fib.Space, error) {
	out := &fib.Space{Failed: map[fib.NextHop]bool{}}
	for _, read := range []func(*Space, *fib.Space) error{fibLinks, fibAddrs, fibRules, fibRoutes, fibNeighs, fibSettings, fibMerged} {
		if err := read(s, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fibLinks(s *Space, out *fib.Space) error {
	list, err := s.answers()
	for _, l := range list {
		four := func(name string) int { return l.settings.of(netstate.IPv4, name) }
		out.Links = append(out.Links, fib.Link{
			Name: l.Name, Up: l.Up, Loopback: l.loopback, Group: l.Group,
			Conf: fib.Settings{
				Forwarding: four("forwarding") != 0, SendRedirects: four("send_redirects") != 0,
				RPFilter: four("rp_filter"), AcceptLocal: four("accept_local") != 0,
				SourceMark: four("src_valid_mark") != 0, RouteLocalnet: four("route_localnet") != 0,
			},
			PreferTemporary:  l.settings.of(netstate.IPv6, "use_tempaddr") >= 2,
			OwnAddressesOnly: l.settings.of(netstate.IPv6, "use_oif_addrs_only") != 0,
		})
	}
	return err
}

func fibAddrs(s *Space, out *fib.Space) error {
	list, err := s.addrs(0)
	if err != nil {
		return err
	}
	for _, a := range list {
		name, ok, err := s.linkName(a.index)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		peer := a.Prefix.Masked()
		if a.peer.IsValid() {
			peer = netip.PrefixFrom(a.peer, a.Prefix.Bits()).Masked()
		}
		out.Addrs = append(out.Addrs, fib.Addr{
			Prefix: a.Prefix, Peer: peer, Dev: name, Scope: netstate.Scope(a.scope),
			Secondary: a.secondary, Temporary: a.temporary, Deprecated: a.deprecated, Tentative: a.Tentative || a.failed,
		})
	}
	return nil
}

func fibRules(s *Space, out *fib.Space) error {
	for _, f := range families {
		list, err := s.rules(f)
		if err != nil {
			return err
		}
		for _, r := range list {
			out.Rules = append(out.Rules, fibRule(r))
		}
	}
	return nil
}

// fibRule is a rule as package fib has it.
func fibRule(r rule) fib.Rule {
	out := fib.Rule{
		Rule: r.Rule, Action: fib.Action(r.action), Invert: r.invert, TOS: r.tos, In: r.in, Out: r.out, Target: r.target,
		SuppressPrefix: r.suppressPrefix, SuppressGroup: r.suppressGroup, Protocol: r.protocol, Unknown: r.unknown,
	}
	for _, n := range []struct {
		from *numbers
		to   **fib.Range
	}{{r.uids, &out.UIDs}, {r.srcPorts, &out.SrcPorts}, {r.dstPorts, &out.DstPorts}} {
		if n.from != nil {
			*n.to = &fib.Range{First: n.from.first, Last: n.from.last}
		}
	}
	return out
}

func fibRoutes(s *Space, out *fib.Space) error {
	for _, f := range families {
		list, err := s.entries(f)
		if err != nil {
			return err
		}
		for _, r := range list {
			entry := fib.Route{
				Kind: fib.Kind(r.kind), Table: r.Table, Dst: r.Dst, From: r.from, TOS: r.tos, Metric: r.Metric,
				Scope: r.Scope, Src: r.Src, Proto: r.Proto, Pref: r.pref,
			}
			for _, h := range r.ways() {
				if h.oif == 0 {
					continue // a route that refuses
				}
				name, _, err := s.linkName(h.oif)
				if err != nil {
					return err
				}
				entry.Hops = append(entry.Hops, fib.Hop{
					NextHop: fib.NextHop{Dev: name, Via: h.via}, Onlink: h.onlink,
					Dead: h.flags&unix.RTNH_F_DEAD != 0, // also where it is to be ignored (fib_nexthop_info)
				})
			}
			out.Routes = append(out.Routes, entry)
		}
	}
	return nil
}

// fibNeighs notes the neighbours that did not answer.
func fibNeighs(s *Space, out *fib.Space) error {
	list, err := s.neighs()
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.state&unix.NUD_FAILED == 0 {
			continue
		}
		name, ok, err := s.linkName(n.index)
		if err != nil {
			return err
		}
		if ok {
			out.Failed[fib.NextHop{Dev: name, Via: n.Dst}] = true
		}
	}
	return nil
}

// fibSettings reads what is set for all links.
func fibSettings(s *Space, out *fib.Space) error {
	for _, item := range []struct {
		f    netstate.Family
		name string
		set  func(int)
	}{
		{netstate.IPv4, "forwarding", func(n int) { out.All.Forwarding = n != 0 }},
		{netstate.IPv4, "rp_filter", func(n int) { out.All.RPFilter = n }},
		{netstate.IPv4, "accept_local", func(n int) { out.All.AcceptLocal = n != 0 }},
		{netstate.IPv4, "route_localnet", func(n int) { out.All.RouteLocalnet = n != 0 }},
		{netstate.IPv4, "src_valid_mark", func(n int) { out.All.SourceMark = n != 0 }},
		{netstate.IPv4, "send_redirects", func(n int) { out.All.SendRedirects = n != 0 }},
		{netstate.IPv6, "forwarding", func(n int) { out.Forwarding6 = n != 0 }},
	} {
		n, err := s.forAll(item.f, item.name)
		if err != nil {
			return err
		}
		item.set(n)
	}
	return nil
}

// fibMerged finds out whether local is still a part of main: there is nothing that
// tells but an answer about a local address.
func fibMerged(s *Space, out *fib.Space) error {
	for _, a := range out.Addrs {
		if !a.Prefix.Addr().Is4() {
			continue
		}
		r, err := s.routeTo(a.Prefix.Addr(), false)
		if err != nil {
			return err
		}
		if r.kind == unix.RTN_LOCAL {
			out.Merged = r.Table == netstate.TableMain
			return nil
		}
	}
	ruled := func(r fib.Rule) bool { return r.Family == netstate.IPv4 && r.Priority != 0 && r.Priority < 32766 }
	out.Merged = !slices.ContainsFunc(out.Rules, ruled)
	return nil
}

// Decide asks the kernel what it would do with a packet (RTM_GETROUTE).
func (s *Space) Decide(f fib.Flow) (fib.Answer, error) {
	body := rtmHeader(family(f.Dst))
	body.Dst_len = uint8(f.Dst.BitLen())
	if f.Dst.Is4() { // IPv6 always tells the table, and refuses the flag
		body.Flags = unix.RTM_F_LOOKUP_TABLE
	}
	req := request(unix.RTM_GETROUTE, 0, body)
	number := func(typ int, n uint32) { req.AddData(nl.NewRtAttr(typ, nl.Uint32Attr(n))) }
	req.AddData(nl.NewRtAttr(unix.RTA_DST, f.Dst.AsSlice()))
	if f.Src.IsValid() {
		body.Src_len = uint8(f.Src.BitLen())
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, f.Src.AsSlice()))
	}
	for _, l := range []struct {
		typ  int
		name string
	}{{unix.RTA_IIF, f.In}, {unix.RTA_OIF, f.Out}} {
		if l.name == "" {
			continue
		}
		index, err := s.linkIndex(l.name)
		if err != nil {
			return fib.Answer{}, fmt.Errorf("%s: link %s: %w", s.ns, l.name, err)
		}
		number(l.typ, uint32(index))
	}
	number(unix.RTA_MARK, f.Mark)
	number(unix.RTA_UID, f.UID)
	switch f.Protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		for typ, port := range map[int]uint16{unix.RTA_SPORT: f.SrcPort, unix.RTA_DPORT: f.DstPort} {
			req.AddData(nl.NewRtAttr(typ, binary.BigEndian.AppendUint16(nil, port)))
		}
		fallthrough
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{f.Protocol}))
	}
	var r route
	err := s.conn.do(req, func(b []byte) { r = decodeRoute(b) })
	for _, refused := range []syscall.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EXDEV} {
		if errors.Is(err, refused) {
			return fib.Answer{Err: refused}, nil
		}
	}
	if err != nil {
		return fib.Answer{}, fmt.Errorf("%s: route get %s: %w", s.ns, f.Dst, err)
	}
	name, _, err := s.linkName(r.oif)
	return fib.Answer{Kind: fib.Kind(r.kind), Table: r.Table, Dev: name, Via: r.Via, Src: r.Src}, err
}
