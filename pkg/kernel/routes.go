// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// routes returns the unicast routes of a family in a table, or in all tables with 0, by the
// link with index oif, or by all links with 0. The kernel does the filtering.
func (s *Namespace) routes(f netstate.Family, table, oif int) ([]rtnetlink.Route, error) {
	body := rtnetlink.RouteHeader(rtnetlink.FamilyNumber(f))
	body.Type = unix.RTN_UNICAST
	req := netlink.NewRequest(unix.RTM_GETROUTE, 0, body)
	if table != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))))
	}
	if oif != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(oif))))
	}
	out, err := netlink.Dump(s.conn, req, func(b []byte) (rtnetlink.Route, bool) {
		r := rtnetlink.DecodeRoute(b)
		return r, r.Type == unix.RTN_UNICAST && r.Flags&unix.RTM_F_CLONED == 0
	})
	if errors.Is(err, unix.ENOENT) { // no such table yet
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d routes: %w", s.ns, f, err)
	}
	return out, nil
}

// AllRoutes returns all routes of a family, of every table and type.
func (s *Namespace) AllRoutes(f netstate.Family) ([]rtnetlink.Route, error) {
	out, err := netlink.Dump(s.conn, netlink.NewRequest(unix.RTM_GETROUTE, 0, rtnetlink.RouteHeader(rtnetlink.FamilyNumber(f))), func(b []byte) (rtnetlink.Route, bool) {
		r := rtnetlink.DecodeRoute(b)
		return r, r.Flags&unix.RTM_F_CLONED == 0
	})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without that family
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d routes: %w", s.ns, f, err)
	}
	return out, nil
}

// ReadRoutes puts the unicast routes of a table, or of all tables with 0, into the snapshot:
// those whose destination keep accepts, or all if keep is nil. It puts a multipath route as
// one route per next hop: the kernel builds an IPv6 multipath route from several routes
// itself, and each can be deleted on its own.
func (s *Namespace) ReadRoutes(snap *netstate.Snapshot, f netstate.Family, table int, keep func(netip.Prefix) bool) error {
	list, err := s.routes(f, table, 0)
	if err != nil {
		return err
	}
	return s.putRoutes(snap, list, func(r netstate.Route) bool { return keep == nil || keep(r.Dst) })
}

// ReadRoutesBy puts the unicast routes of a table by one link into the snapshot. The kernel
// does the filtering. The link must have been read; otherwise nothing is put.
func (s *Namespace) ReadRoutesBy(snap *netstate.Snapshot, f netstate.Family, table int, dev string) error {
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

// HasAddr reports whether the namespace has an address, on any link.
func (s *Namespace) HasAddr(a netip.Addr) (bool, error) {
	r, err := s.RouteTo(a, false)
	return r.Type == unix.RTN_LOCAL, err
}

// putRoutes puts the routes that keep accepts into the snapshot, one per next hop.
func (s *Namespace) putRoutes(snap *netstate.Snapshot, list []rtnetlink.Route, keep func(netstate.Route) bool) error {
	for _, r := range list {
		for _, h := range r.Ways() {
			name, ok, err := s.LinkName(h.OIF)
			if err != nil {
				return err
			}
			r.Dev, r.Via, r.Onlink = name, h.Via, h.Onlink
			if ok && keep(r.Route) {
				snap.Put(s.ns, r.Route)
			}
		}
	}
	return nil
}

// ReadCarried puts a link's global addresses into the snapshot, and the unicast routes by
// that link, without those that the kernel makes for addresses.
func (s *Namespace) ReadCarried(snap *netstate.Snapshot, dev string) error {
	index, err := s.LinkIndex(dev)
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", s.ns, dev, err)
	}
	addrs, err := s.Addrs(index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Scope == unix.RT_SCOPE_UNIVERSE && a.Index == index {
			a.Dev = dev
			snap.Put(s.ns, a.Addr)
		}
	}
	for _, f := range netstate.Families {
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

// RouteTo returns the route that the kernel uses for packets to an address, the zero Route
// if there is none. With match, it returns the matching entry of the table unchanged.
// Without, it returns the route for this single address, with the source that the kernel
// chooses.
func (s *Namespace) RouteTo(dst netip.Addr, match bool) (rtnetlink.Route, error) {
	body := rtnetlink.RouteHeader(rtnetlink.AddrFamily(dst))
	body.Dst_len = uint8(dst.BitLen())
	if dst.Is4() { // IPv6 always tells the table, and refuses the flag
		body.Flags = unix.RTM_F_LOOKUP_TABLE
	}
	if match {
		body.Flags |= rtnetlink.FIBMatch
	}
	req := netlink.NewRequest(unix.RTM_GETROUTE, 0, body)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, dst.AsSlice()))
	var r rtnetlink.Route
	err := s.conn.Do(req, func(b []byte) { r = rtnetlink.DecodeRoute(b) })
	// No route, or one that is unreachable, prohibit or blackhole.
	for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, none) {
			return rtnetlink.Route{}, nil
		}
	}
	if err != nil {
		return rtnetlink.Route{}, fmt.Errorf("%s: route get %s: %w", s.ns, dst, err)
	}
	return r, nil
}

// ReadHostRoutes puts a table's routes to single addresses into the snapshot, and the links
// of these routes. If one of the addresses is the namespace's own, it puts this address and
// no routes.
//
// It asks for the route to each address. The answers are complete if the kernel looks up
// every packet in this table first. For main they are also complete if all answers are from
// it. Otherwise it lists the table.
func (s *Namespace) ReadHostRoutes(snap *netstate.Snapshot, f netstate.Family, table int, dsts map[netip.Prefix]bool) error {
	leads, first := true, s.leading[f] == table
	var found []rtnetlink.Route
	for dst := range dsts {
		r, err := s.RouteTo(dst.Addr(), true)
		if err != nil {
			return err
		}
		if r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_ANYCAST {
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

// ReadOwn puts into the snapshot those of the addresses that are the namespace's own, on
// any link. It asks for the route to each: packets to an own address match a local or
// anycast route.
func (s *Namespace) ReadOwn(snap *netstate.Snapshot, addrs []netip.Prefix) error {
	for _, a := range addrs {
		r, err := s.RouteTo(a.Addr(), true)
		if err != nil {
			return err
		}
		if r.Type != unix.RTN_LOCAL && r.Type != unix.RTN_ANYCAST {
			continue
		}
		if err := s.putOwn(snap, a.Addr(), r); err != nil {
			return err
		}
	}
	return nil
}

// putOwn puts an address of this namespace into the snapshot, with the link of the local
// route r to it. The route doesn't tell the prefix length, so it puts a single address.
func (s *Namespace) putOwn(snap *netstate.Snapshot, a netip.Addr, r rtnetlink.Route) error {
	name, ok, err := s.LinkName(r.OIF)
	if err == nil && ok {
		snap.Put(s.ns, netstate.Addr{Dev: name, Prefix: netstate.Single(a)})
	}
	return err
}

// readOwner puts the link of a route into the snapshot, if it isn't there yet. The link's
// alias names the attachment that owns the route.
func (s *Namespace) readOwner(snap *netstate.Snapshot, dev string) error {
	if _, ok := netstate.Get(snap, s.ns, netstate.Link{Name: dev}); ok {
		return nil
	}
	return s.ReadLink(snap, dev)
}

func (s *Namespace) routeRequest(op netstate.Op, r netstate.Route) (*nl.NetlinkRequest, error) {
	index, err := s.LinkIndex(r.Dev)
	if err != nil {
		return nil, err
	}
	body := rtnetlink.RouteHeader(rtnetlink.AddrFamily(r.Dst.Addr()))
	body.Dst_len = uint8(r.Dst.Bits())
	body.Table = unix.RT_TABLE_UNSPEC // RTA_TABLE holds the number, which may exceed 255
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
	req := netlink.NewRequest(typ, flags, body)
	if r.Dst.Bits() > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	}
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(r.Table))))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if r.Via.IsValid() {
		req.AddData(rtnetlink.Gateway(r))
	}
	if r.Src.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	if r.Metric != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Metric))))
	}
	if sizes := rtnetlink.Sizes(r); sizes != nil {
		req.AddData(sizes)
	}
	return req, nil
}
