// SPDX-License-Identifier: Apache-2.0

package survey

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
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// ReadFIB reads everything by which the namespace decides where a packet goes: links,
// addresses, rules, routes, failed neighbours and settings.
func ReadFIB(s *kernel.Namespace) (*fib.Namespace, error) {
	out := &fib.Namespace{Failed: map[fib.NextHop]bool{}}
	for _, read := range []func(*kernel.Namespace, *fib.Namespace) error{fibLinks, fibAddrs, fibRules, fibRoutes, fibNeighs, fibSettings, fibMerged} {
		if err := read(s, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fibLinks(s *kernel.Namespace, out *fib.Namespace) error {
	list, err := s.AllLinks()
	for _, l := range list {
		four := func(name string) int { return l.Settings.Of(netstate.IPv4, name) }
		out.Links = append(out.Links, fib.Link{
			Name: l.Name, Up: l.Up, Loopback: l.Loopback, Group: l.Group,
			Conf: fib.Settings{
				Forwarding: four("forwarding") != 0, SendRedirects: four("send_redirects") != 0,
				RPFilter: four("rp_filter"), AcceptLocal: four("accept_local") != 0,
				SourceMark: four("src_valid_mark") != 0, RouteLocalnet: four("route_localnet") != 0,
			},
			PreferTemporary:  l.Settings.Of(netstate.IPv6, "use_tempaddr") >= 2,
			OwnAddressesOnly: l.Settings.Of(netstate.IPv6, "use_oif_addrs_only") != 0,
		})
	}
	return err
}

func fibAddrs(s *kernel.Namespace, out *fib.Namespace) error {
	list, err := s.Addrs(0)
	if err != nil {
		return err
	}
	for _, a := range list {
		name, ok, err := s.LinkName(a.Index)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		peer := a.Prefix.Masked()
		if a.Peer.IsValid() {
			peer = netip.PrefixFrom(a.Peer, a.Prefix.Bits()).Masked()
		}
		out.Addrs = append(out.Addrs, fib.Addr{
			Prefix: a.Prefix, Peer: peer, Dev: name, Scope: netstate.Scope(a.Scope),
			Secondary: a.Secondary, Temporary: a.Temporary, Deprecated: a.Deprecated, Tentative: a.Tentative || a.Failed,
		})
	}
	return nil
}

func fibRules(s *kernel.Namespace, out *fib.Namespace) error {
	for _, f := range netstate.Families {
		list, err := s.Rules(f)
		if err != nil {
			return err
		}
		for _, r := range list {
			out.Rules = append(out.Rules, fibRule(r))
		}
	}
	return nil
}

// fibRule returns a rule in the type of package fib.
func fibRule(r rtnetlink.Rule) fib.Rule {
	out := fib.Rule{
		Rule: r.Rule, Action: fib.Action(r.Action), Invert: r.Invert, TOS: r.TOS, In: r.In, Out: r.Out, Target: r.Target,
		SuppressPrefix: r.SuppressPrefix, SuppressGroup: r.SuppressGroup, Protocol: r.IPProtocol, Unknown: r.Unknown,
	}
	for _, n := range []struct {
		from *rtnetlink.Numbers
		to   **fib.Range
	}{{r.UIDs, &out.UIDs}, {r.SrcPorts, &out.SrcPorts}, {r.DstPorts, &out.DstPorts}} {
		if n.from != nil {
			*n.to = &fib.Range{First: n.from.First, Last: n.from.Last}
		}
	}
	return out
}

func fibRoutes(s *kernel.Namespace, out *fib.Namespace) error {
	for _, f := range netstate.Families {
		list, err := s.AllRoutes(f)
		if err != nil {
			return err
		}
		for _, r := range list {
			entry := fib.Route{
				Kind: fib.Kind(r.Type), Table: r.Table, Dst: r.Dst, From: r.From, TOS: r.TOS, Metric: r.Metric,
				Scope: r.Scope, Src: r.Src, Proto: r.Proto, Pref: r.Pref,
			}
			for _, h := range r.Ways() {
				if h.OIF == 0 {
					continue // unreachable, prohibit, blackhole or throw
				}
				name, _, err := s.LinkName(h.OIF)
				if err != nil {
					return err
				}
				entry.Hops = append(entry.Hops, fib.Hop{
					NextHop: fib.NextHop{Dev: name, Via: h.Via}, Onlink: h.Onlink,
					Dead: h.Flags&unix.RTNH_F_DEAD != 0, // also set if ignore_routes_with_linkdown ignores the hop (fib_nexthop_info)
				})
			}
			out.Routes = append(out.Routes, entry)
		}
	}
	return nil
}

// fibNeighs reads the neighbours that did not answer (NUD_FAILED).
func fibNeighs(s *kernel.Namespace, out *fib.Namespace) error {
	list, err := s.Neighbours()
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.State&unix.NUD_FAILED == 0 {
			continue
		}
		name, ok, err := s.LinkName(n.Index)
		if err != nil {
			return err
		}
		if ok {
			out.Failed[fib.NextHop{Dev: name, Via: n.Dst}] = true
		}
	}
	return nil
}

// fibSettings reads the settings for all links.
func fibSettings(s *kernel.Namespace, out *fib.Namespace) error {
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
		n, err := s.ForAll(item.f, item.name)
		if err != nil {
			return err
		}
		item.set(n)
	}
	return nil
}

// fibMerged finds out whether the kernel still has the tables local and main merged. It
// asks the kernel for a route to a local address: only the table in the answer tells.
// Without such an address it goes by the rules.
func fibMerged(s *kernel.Namespace, out *fib.Namespace) error {
	for _, a := range out.Addrs {
		if !a.Prefix.Addr().Is4() {
			continue
		}
		r, err := s.RouteTo(a.Prefix.Addr(), false)
		if err != nil {
			return err
		}
		if r.Type == unix.RTN_LOCAL {
			out.Merged = r.Table == netstate.TableMain
			return nil
		}
	}
	ruled := func(r fib.Rule) bool { return r.Family == netstate.IPv4 && r.Priority != 0 && r.Priority < 32766 }
	out.Merged = !slices.ContainsFunc(out.Rules, ruled)
	return nil
}

// Decide asks the kernel what it would do with a packet (RTM_GETROUTE).
func Decide(s *kernel.Namespace, f fib.Flow) (fib.Answer, error) {
	body := rtnetlink.RouteHeader(rtnetlink.AddrFamily(f.Dst))
	body.Dst_len = uint8(f.Dst.BitLen())
	if f.Dst.Is4() { // IPv6 always answers with the table, and refuses the flag
		body.Flags = unix.RTM_F_LOOKUP_TABLE
	}
	req := netlink.NewRequest(unix.RTM_GETROUTE, 0, body)
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
		index, err := s.LinkIndex(l.name)
		if err != nil {
			return fib.Answer{}, fmt.Errorf("%s: link %s: %w", s.NS(), l.name, err)
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
	var r rtnetlink.Route
	err := s.Conn().Do(req, func(b []byte) { r = rtnetlink.DecodeRoute(b) })
	for _, refused := range []syscall.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EXDEV} {
		if errors.Is(err, refused) {
			return fib.Answer{Err: refused}, nil
		}
	}
	if err != nil {
		return fib.Answer{}, fmt.Errorf("%s: route get %s: %w", s.NS(), f.Dst, err)
	}
	name, _, err := s.LinkName(r.OIF)
	return fib.Answer{Kind: fib.Kind(r.Type), Table: r.Table, Dev: name, Via: r.Via, Src: r.Src}, err
}
