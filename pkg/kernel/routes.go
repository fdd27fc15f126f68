// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// route is an answer to a RTM_GETROUTE request.
type route struct {
	netstate.Route
	oif   int
	hops  []hop // of a multipath route
	kind  uint8 // RTN_*
	flags uint32
	tos   uint8
	from  netip.Prefix // of packets that it is for: a subtree of IPv6
	pref  uint8        // of a router of IPv6 (RFC 4191)
}

// ways are the next hops of a route, be they one or many.
func (r *route) ways() []hop {
	if r.hops != nil {
		return r.hops
	}
	return []hop{{oif: r.oif, via: r.Via, onlink: r.Onlink, flags: uint8(r.flags)}}
}

// hop is one way of a multipath route.
type hop struct {
	oif    int
	via    netip.Addr
	onlink bool
	flags  uint8 // RTNH_F_*
}

// rtmHeader is struct rtmsg of linux/rtnetlink.h.
func rtmHeader(fam int) *nl.RtMsg {
	return &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(fam)}}
}

// decodeRoute reads an answer.
func decodeRoute(b []byte) route {
	msg := nl.DeserializeRtMsg(b)
	r := route{kind: msg.Type, flags: msg.Flags, tos: msg.Tos}
	r.Table = int(msg.Table)
	r.Proto = netstate.Protocol(msg.Protocol)
	r.Scope = netstate.Scope(msg.Scope)
	r.Onlink = msg.Flags&unix.RTNH_F_ONLINK != 0
	// The kernel leaves the destination of a default route out.
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
		r.Scope = netstate.ScopeGlobal // IPv6 routes have none
	}
	attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_TABLE:
			r.Table = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_OIF:
			r.oif = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(v)
		case unix.RTA_VIA: // a gateway of the other family (RFC 5549)
			if len(v) > 2 {
				r.Via, _ = netip.AddrFromSlice(v[2:])
			}
		case unix.RTA_SRC:
			from, _ := netip.AddrFromSlice(v)
			r.from = netip.PrefixFrom(from, int(msg.Src_len))
		case unix.RTA_PREF:
			r.pref = v[0]
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(v)
		case unix.RTA_PRIORITY:
			r.Metric = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_MULTIPATH:
			r.hops = decodeHops(v)
		}
	})
	r.Dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r
}

func decodeHops(b []byte) []hop {
	var out []hop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(nl.NativeEndian().Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return out
		}
		h := hop{oif: int(nl.NativeEndian().Uint32(b[4:])), onlink: b[2]&unix.RTNH_F_ONLINK != 0, flags: b[2]}
		attrs(b[unix.SizeofRtNexthop:n], func(typ uint16, v []byte) {
			if typ == unix.RTA_GATEWAY {
				h.via, _ = netip.AddrFromSlice(v)
			}
		})
		out = append(out, h)
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}

// routes lists the unicast routes of a family in a table, of all tables with 0;
// the kernel does the filtering.
func (s *Space) routes(f netstate.Family, table, oif int) ([]route, error) {
	body := rtmHeader(afOf(f))
	body.Type = unix.RTN_UNICAST
	req := request(unix.RTM_GETROUTE, 0, body)
	if table != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))))
	}
	if oif != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(oif))))
	}
	out, err := dump(s.conn, req, func(b []byte) (route, bool) {
		r := decodeRoute(b)
		return r, r.kind == unix.RTN_UNICAST && r.flags&unix.RTM_F_CLONED == 0
	})
	if errors.Is(err, unix.ENOENT) { // no such table yet
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d routes: %w", s.ns, f, err)
	}
	return out, nil
}

// entries lists all routes of a family, of every table and kind.
func (s *Space) entries(f netstate.Family) ([]route, error) {
	out, err := dump(s.conn, request(unix.RTM_GETROUTE, 0, rtmHeader(afOf(f))), func(b []byte) (route, bool) {
		r := decodeRoute(b)
		return r, r.flags&unix.RTM_F_CLONED == 0
	})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without that family
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d routes: %w", s.ns, f, err)
	}
	return out, nil
}

// ReadRoutes puts the unicast routes of a table into the snapshot, of all
// tables with 0, as far as keep says so. A multipath route is put as one route
// per next hop: that is how the kernel builds an IPv6 one out of several
// defaults, and how each can be deleted on its own.
func (s *Space) ReadRoutes(snap *netstate.Snapshot, f netstate.Family, table int, keep func(netip.Prefix) bool) error {
	list, err := s.routes(f, table, 0)
	if err != nil {
		return err
	}
	return s.putRoutes(snap, list, func(r netstate.Route) bool { return keep == nil || keep(r.Dst) })
}

// ReadRoutesBy puts those of a table by a link into the snapshot; the kernel does the
// filtering.
func (s *Space) ReadRoutesBy(snap *netstate.Snapshot, f netstate.Family, table int, dev string) error {
	index, ok := s.index[dev]
	if !ok {
		return nil // no link, no route
	}
	list, err := s.routes(f, table, index)
	if err != nil {
		return err
	}
	return s.putRoutes(snap, list, func(r netstate.Route) bool { return r.Dev == dev && r.Table == table })
}

// HasAddr reports whether an address is one of the namespace's own.
func (s *Space) HasAddr(a netip.Addr) (bool, error) {
	r, err := s.routeTo(a, false)
	return r.kind == unix.RTN_LOCAL, err
}

// putRoutes puts routes into the snapshot, as far as keep says so.
func (s *Space) putRoutes(snap *netstate.Snapshot, list []route, keep func(netstate.Route) bool) error {
	for _, r := range list {
		for _, h := range r.ways() {
			name, ok, err := s.linkName(h.oif)
			if err != nil {
				return err
			}
			r.Dev, r.Via, r.Onlink = name, h.via, h.onlink
			if ok && keep(r.Route) {
				snap.Put(s.ns, r.Route)
			}
		}
	}
	return nil
}

// ReadOn puts what a link carries into the snapshot: its global addresses, and
// the unicast routes by it but for those that the kernel makes of addresses.
func (s *Space) ReadOn(snap *netstate.Snapshot, dev string) error {
	index, err := s.linkIndex(dev)
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", s.ns, dev, err)
	}
	addrs, err := s.addrs(index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.scope == unix.RT_SCOPE_UNIVERSE && a.index == index {
			a.Dev = dev
			snap.Put(s.ns, a.Addr)
		}
	}
	for _, f := range families {
		list, err := s.routes(f, 0, index)
		if err != nil {
			return err
		}
		err = s.putRoutes(snap, list, func(r netstate.Route) bool { return r.Dev == dev && r.Proto != unix.RTPROT_KERNEL })
		if err != nil {
			return err
		}
	}
	return nil
}

// rtmFibMatch is RTM_F_FIB_MATCH of linux/rtnetlink.h.
const rtmFibMatch = 0x2000

// routeTo asks for the way to an address; the route is the zero one if there is
// none. With match it is the entry of the table that matches, as it stands
// there; otherwise it is what the kernel makes of that for this address, with
// the source it would choose.
func (s *Space) routeTo(dst netip.Addr, match bool) (route, error) {
	body := rtmHeader(family(dst))
	body.Dst_len = uint8(dst.BitLen())
	if dst.Is4() { // IPv6 always tells the table, and refuses the flag
		body.Flags = unix.RTM_F_LOOKUP_TABLE
	}
	if match {
		body.Flags |= rtmFibMatch
	}
	req := request(unix.RTM_GETROUTE, 0, body)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, dst.AsSlice()))
	var r route
	err := s.conn.do(req, func(b []byte) { r = decodeRoute(b) })
	// No route, or one that is unreachable, prohibit or blackhole.
	for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, none) {
			return route{}, nil
		}
	}
	if err != nil {
		return route{}, fmt.Errorf("%s: route get %s: %w", s.ns, dst, err)
	}
	return r, nil
}

// ReadHostRoutes puts what a table has for single addresses into the snapshot,
// and the links that those routes go by. Of an address that is this namespace's own
// it puts that, and no route.
// Each is asked for by its key. Where the rules lead every packet to that table first,
// or the packets to these addresses, the most specific route is the one that was
// found; else the table is listed.
func (s *Space) ReadHostRoutes(snap *netstate.Snapshot, f netstate.Family, table int, dsts map[netip.Prefix]bool) error {
	leads, first := true, s.leading[f] == table
	var found []route
	for dst := range dsts {
		r, err := s.routeTo(dst.Addr(), true)
		if err != nil {
			return err
		}
		if r.kind == unix.RTN_LOCAL || r.kind == unix.RTN_ANYCAST {
			return s.putOwn(snap, dst.Addr(), r)
		}
		leads = leads && r.Table == table
		if r.Table == table && r.Dst == dst {
			found = append(found, r)
		}
	}
	if !first && (!leads || table != netstate.TableMain) {
		var err error
		if found, err = s.routes(f, table, 0); err != nil {
			return err
		}
	}
	if err := s.putRoutes(snap, found, func(r netstate.Route) bool { return dsts[r.Dst] }); err != nil {
		return err
	}
	for _, r := range netstate.All[netstate.Route](snap, s.ns) {
		if err := s.readOwner(snap, r.Dev); err != nil {
			return err
		}
	}
	return nil
}

// ReadOwn puts those of some addresses into the snapshot that this namespace takes for
// its own, on any link, as the kernel does when it gets a packet to one.
func (s *Space) ReadOwn(snap *netstate.Snapshot, addrs []netip.Prefix) error {
	for _, a := range addrs {
		r, err := s.routeTo(a.Addr(), true)
		if err != nil {
			return err
		}
		if r.kind != unix.RTN_LOCAL && r.kind != unix.RTN_ANYCAST {
			continue
		}
		if err := s.putOwn(snap, a.Addr(), r); err != nil {
			return err
		}
	}
	return nil
}

// putOwn puts an address of this namespace into the snapshot, of which the kernel's
// route to it tells the link, and not the subnet.
func (s *Space) putOwn(snap *netstate.Snapshot, a netip.Addr, r route) error {
	name, ok, err := s.linkName(r.oif)
	if err == nil && ok {
		snap.Put(s.ns, netstate.Addr{Dev: name, Prefix: netstate.Single(a)})
	}
	return err
}

// readOwner puts the link of a route into the snapshot, if it isn't there yet:
// its alias tells whose the route is.
func (s *Space) readOwner(snap *netstate.Snapshot, dev string) error {
	if _, ok := netstate.Get(snap, s.ns, netstate.Link{Name: dev}); ok {
		return nil
	}
	return s.ReadLink(snap, dev)
}

// afOf is the number of an address family.
func afOf(f netstate.Family) int {
	if f == netstate.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (s *Space) routeRequest(op netstate.Op, r netstate.Route) (*nl.NetlinkRequest, error) {
	index, err := s.linkIndex(r.Dev)
	if err != nil {
		return nil, err
	}
	body := rtmHeader(family(r.Dst.Addr()))
	body.Dst_len = uint8(r.Dst.Bits())
	body.Table = unix.RT_TABLE_UNSPEC // RTA_TABLE has room for it
	body.Protocol = uint8(r.Proto)
	body.Scope = uint8(r.Scope)
	body.Type = unix.RTN_UNICAST
	if r.Onlink {
		body.Flags |= unix.RTNH_F_ONLINK
	}
	typ, flags := unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	switch {
	case op.After == nil:
		typ, flags = unix.RTM_DELROUTE, 0
	case op.Before != nil:
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	req := request(typ, flags, body)
	if r.Dst.Bits() > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	}
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(r.Table))))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if r.Via.IsValid() {
		req.AddData(gateway(r))
	}
	if r.Src.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	if r.Metric != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Metric))))
	}
	return req, nil
}

// gateway is RTA_GATEWAY, or RTA_VIA where the gateway is of another family
// than the destination (RFC 5549).
func gateway(r netstate.Route) *nl.RtAttr {
	via := r.Via.AsSlice()
	if r.Via.Is6() == r.IPv6() {
		return nl.NewRtAttr(unix.RTA_GATEWAY, via)
	}
	return nl.NewRtAttr(unix.RTA_VIA, append(nl.Uint16Attr(uint16(family(r.Via))), via...))
}
