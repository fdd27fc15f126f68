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
	for _, read := range []func(*fib.Space) error{
		s.fibLinks, s.fibAddrs, s.fibRules, s.fibRoutes, s.fibNeighs, s.fibSettings, s.fibMerged,
	} {
		if err := read(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Space) fibLinks(out *fib.Space) error {
	type answer struct {
		link
		fib fib.Link
	}
	list, err := dump(s.conn, linkRequest(""), func(b []byte) (answer, bool) { return answer{decodeLink(b), decodeConf(b)}, true })
	if err != nil {
		return fmt.Errorf("%s: list links: %w", s.ns, err)
	}
	for _, l := range list {
		s.remember(l.link)
		l.fib.Name, l.fib.Up, l.fib.Loopback, l.fib.Group = l.Name, l.Up, l.loopback, l.Group
		out.Links = append(out.Links, l.fib)
	}
	return nil
}

// decodeConf reads the settings of a link: an array of each family, in the order of
// linux/ip.h, where the first has the number 1, and of linux/ipv6.h.
func decodeConf(b []byte) (l fib.Link) {
	const ipv4Conf, ipv6Conf = 1, 2 // IFLA_INET_CONF, IFLA_INET6_CONF
	attrs(b[unix.SizeofIfInfomsg:], func(typ uint16, spec []byte) {
		if typ != unix.IFLA_AF_SPEC {
			return
		}
		attrs(spec, func(family uint16, v []byte) {
			attrs(v, func(typ uint16, conf []byte) {
				at := func(i int) int {
					if len(conf) < 4*(i+1) {
						return 0
					}
					return int(int32(nl.NativeEndian().Uint32(conf[4*i:])))
				}
				switch {
				case family == unix.AF_INET && typ == ipv4Conf:
					l.Conf = fib.Settings{
						Forwarding: at(0) != 0, SendRedirects: at(5) != 0, RPFilter: at(7), AcceptLocal: at(22) != 0,
						SourceMark: at(23) != 0, RouteLocalnet: at(25) != 0,
					}
				case family == unix.AF_INET6 && typ == ipv6Conf:
					l.PreferTemporary, l.OwnAddressesOnly = at(10) >= 2, at(37) != 0
				}
			})
		})
	})
	return l
}

func (s *Space) fibAddrs(out *fib.Space) error {
	type answer struct {
		fib.Addr
		index int
	}
	list, err := dump(s.conn, request(unix.RTM_GETADDR, 0, nl.NewIfAddrmsg(unix.AF_UNSPEC)), func(b []byte) (answer, bool) {
		a := decodeAddr(b)
		flags, peer := addrFlags(b)
		out := fib.Addr{Prefix: a.Prefix, Peer: a.Prefix.Masked(), Scope: netstate.Scope(a.scope), Temporary: a.temporary}
		if peer.IsValid() {
			out.Peer = netip.PrefixFrom(peer, a.Prefix.Bits()).Masked()
		}
		out.Secondary = flags&unix.IFA_F_SECONDARY != 0 && a.Prefix.Addr().Is4()
		out.Deprecated = flags&unix.IFA_F_DEPRECATED != 0
		out.Tentative = a.Tentative || a.failed
		return answer{out, a.index}, true
	})
	if err != nil {
		return fmt.Errorf("%s: list addresses: %w", s.ns, err)
	}
	for _, a := range list {
		var ok bool
		if a.Dev, ok, err = s.linkName(a.index); err != nil {
			return err
		}
		if ok {
			out.Addrs = append(out.Addrs, a.Addr)
		}
	}
	return nil
}

// addrFlags returns the flags of an address, and IFA_ADDRESS: on a point-to-point
// link that is the far end's.
func addrFlags(b []byte) (flags uint32, address netip.Addr) {
	flags = uint32(nl.DeserializeIfAddrmsg(b).Flags)
	attrs(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_FLAGS:
			flags = nl.NativeEndian().Uint32(v)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		}
	})
	return flags, address
}

func (s *Space) fibRules(out *fib.Space) error {
	for _, f := range families {
		list, err := dump(s.conn, request(unix.RTM_GETRULE, 0, rtmHeader(afOf(f))), func(b []byte) (fib.Rule, bool) {
			return decodeFIBRule(b), true
		})
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without that family
		}
		if err != nil {
			return fmt.Errorf("%s: list IPv%d rules: %w", s.ns, f, err)
		}
		out.Rules = append(out.Rules, list...)
	}
	return nil
}

// decodeFIBRule reads a rule with all that it may ask for.
func decodeFIBRule(b []byte) fib.Rule {
	plain, _ := decodeRule(b)
	msg := nl.DeserializeRtMsg(b)
	r := fib.Rule{
		Rule: plain, Action: fib.Action(msg.Type), Invert: msg.Flags&unix.FIB_RULE_INVERT != 0, TOS: msg.Tos,
		SuppressPrefix: -1, SuppressGroup: -1,
	}
	if msg.Flags&findSource != 0 {
		r.Unknown = "find_saddr"
	}
	attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.FRA_IIFNAME:
			r.In = unix.ByteSliceToString(v)
		case unix.FRA_OIFNAME:
			r.Out = unix.ByteSliceToString(v)
		case unix.FRA_GOTO:
			r.Target = int(nl.NativeEndian().Uint32(v))
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressPrefix = int(int32(nl.NativeEndian().Uint32(v)))
		case unix.FRA_SUPPRESS_IFGROUP:
			r.SuppressGroup = int(int32(nl.NativeEndian().Uint32(v)))
		case unix.FRA_UID_RANGE:
			r.UIDs = &fib.Range{First: nl.NativeEndian().Uint32(v), Last: nl.NativeEndian().Uint32(v[4:])}
		case unix.FRA_IP_PROTO:
			r.Protocol = v[0]
		case unix.FRA_SPORT_RANGE:
			r.SrcPorts = portRange(v)
		case unix.FRA_DPORT_RANGE:
			r.DstPorts = portRange(v)
		case unix.FRA_L3MDEV:
			if v[0] != 0 {
				r.Unknown = "l3mdev"
			}
		case unix.FRA_TUN_ID, fraDSCP, fraFlowLabel:
			r.Unknown = "a tunnel's ID, a DSCP or a flow label"
		}
	})
	return r
}

// Of linux/fib_rules.h: FIB_RULE_FIND_SADDR, FRA_DSCP and FRA_FLOWLABEL.
const (
	findSource   = 0x10000
	fraDSCP      = 25
	fraFlowLabel = 26
)

func portRange(v []byte) *fib.Range {
	return &fib.Range{First: uint32(binary.NativeEndian.Uint16(v)), Last: uint32(binary.NativeEndian.Uint16(v[2:]))}
}

func (s *Space) fibRoutes(out *fib.Space) error {
	for _, f := range families {
		type answer struct {
			fib.Route
			hops []fibHop
		}
		list, err := dump(s.conn, request(unix.RTM_GETROUTE, 0, rtmHeader(afOf(f))), func(b []byte) (answer, bool) {
			r, hops := decodeFIBRoute(b)
			return answer{r, hops}, nl.DeserializeRtMsg(b).Flags&unix.RTM_F_CLONED == 0
		})
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: list IPv%d routes: %w", s.ns, f, err)
		}
		for _, r := range list {
			for _, h := range r.hops {
				if h.oif == 0 {
					continue // a route that refuses
				}
				if h.Dev, _, err = s.linkName(h.oif); err != nil {
					return err
				}
				r.Hops = append(r.Hops, h.Hop)
			}
			out.Routes = append(out.Routes, r.Route)
		}
	}
	return nil
}

type fibHop struct {
	fib.Hop
	oif int
}

func decodeFIBRoute(b []byte) (fib.Route, []fibHop) {
	msg := nl.DeserializeRtMsg(b)
	plain := decodeRoute(b)
	r := fib.Route{
		Kind: fib.Kind(plain.kind), Table: plain.Table, Dst: plain.Dst, TOS: msg.Tos, Metric: plain.Metric,
		Scope: plain.Scope, Src: plain.Src, Proto: plain.Proto,
	}
	attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_SRC:
			from, _ := netip.AddrFromSlice(v)
			r.From = netip.PrefixFrom(from, int(msg.Src_len))
		case unix.RTA_PREF:
			r.Pref = v[0]
		}
	})
	hop := func(flags uint32, oif int, via netip.Addr) fibHop {
		return fibHop{fib.Hop{
			NextHop: fib.NextHop{Via: via}, Onlink: flags&unix.RTNH_F_ONLINK != 0,
			Dead: flags&unix.RTNH_F_DEAD != 0, // also where it is to be ignored (fib_nexthop_info)
		}, oif}
	}
	if plain.hops == nil {
		return r, []fibHop{hop(msg.Flags, plain.oif, plain.Via)}
	}
	var hops []fibHop
	for _, h := range plain.hops {
		hops = append(hops, hop(uint32(h.flags), h.oif, h.via))
	}
	return r, hops
}

// fibNeighs notes the neighbours that did not answer.
func (s *Space) fibNeighs(out *fib.Space) error {
	type answer struct {
		index int
		dst   netip.Addr
	}
	list, err := dump(s.conn, request(unix.RTM_GETNEIGH, 0, &ndMsg{}), func(b []byte) (a answer, failed bool) {
		a.index = int(binary.NativeEndian.Uint32(b[4:]))
		attrs(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
			if typ == unix.NDA_DST {
				a.dst, _ = netip.AddrFromSlice(v)
			}
		})
		return a, binary.NativeEndian.Uint16(b[8:])&unix.NUD_FAILED != 0
	})
	if err != nil {
		return fmt.Errorf("%s: list neighbours: %w", s.ns, err)
	}
	for _, a := range list {
		name, ok, err := s.linkName(a.index)
		if err != nil {
			return err
		}
		if ok {
			out.Failed[fib.NextHop{Dev: name, Via: a.dst}] = true
		}
	}
	return nil
}

// fibSettings reads what is set for all links.
func (s *Space) fibSettings(out *fib.Space) error {
	read := func(f netstate.Family, name string) (int, error) {
		c := netstate.Sysctl{Family: f, Dev: "all", Name: name}
		err := s.withSysctl(c, unix.O_RDONLY, func(fd int) (err error) {
			c.Value, err = readNumber(fd)
			return err
		})
		if withoutIPv6(c, err) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%s: read %s: %w", s.ns, c.Path(), err)
		}
		return c.Value, nil
	}
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
		n, err := read(item.f, item.name)
		if err != nil {
			return err
		}
		item.set(n)
	}
	return nil
}

// fibMerged finds out whether local is still a part of main: there is nothing that
// tells but an answer about a local address.
func (s *Space) fibMerged(out *fib.Space) error {
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
