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

// Neighbours returns the neighbour table of the namespace, of both families.
func (s *Namespace) Neighbours() ([]rtnetlink.Neigh, error) {
	list, err := netlink.Dump(s.conn, netlink.NewRequest(unix.RTM_GETNEIGH, 0, &rtnetlink.NeighHeader{}), func(b []byte) (rtnetlink.Neigh, bool) { return rtnetlink.DecodeNeigh(b), true })
	if err != nil {
		return nil, fmt.Errorf("%s: list neighbours: %w", s.ns, err)
	}
	return list, nil
}

// ReadNeigh puts the entry for one address on one link into the snapshot, if there is one.
// It asks by the key (Linux 5.0): a dump would walk the neighbour table of the whole
// machine, which all namespaces share.
func (s *Namespace) ReadNeigh(snap *netstate.Snapshot, dev string, dst netip.Addr) error {
	index, ok := s.index[dev]
	if !ok {
		return nil // no link, no entry
	}
	req := netlink.NewRequest(unix.RTM_GETNEIGH, 0, &rtnetlink.NeighHeader{Family: uint8(rtnetlink.AddrFamily(dst)), Index: index})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, dst.AsSlice()))
	var n rtnetlink.Neigh
	err := s.conn.Do(req, func(b []byte) { n = rtnetlink.DecodeNeigh(b) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: read neigh %s dev %s: %w", s.ns, dst, dev, err)
	}
	n.Dev, n.Dst = dev, dst
	snap.Put(s.ns, n.Neigh)
	return nil
}

// EndLookups ends what packets began while a route to a single address was missing: the lookup of
// the address on another link, where it isn't. A packet waits there for three seconds, with
// the default settings (mcast_solicit times retrans_time_ms, arp(7)), and TCP doesn't send it again
// while its copy waits (skb_still_in_host_queue in net/ipv4/tcp_output.c). So
// connections would stay broken although the operations have brought the route back. It looks at
// operations that added such a route, and ends no other lookup.
func (k *Namespaces) EndLookups(ops []netstate.Op) error {
	var errs []error
	for _, ns := range []netstate.NS{netstate.Pod, netstate.Host} {
		by := map[netip.Addr]string{} // the link of the route to an address
		for _, op := range ops {
			if r, ok := op.After.(netstate.Route); ok && op.NS == ns && r.Dst.IsSingleIP() {
				by[r.Dst.Addr()] = r.Dev
			}
		}
		if len(by) > 0 {
			errs = append(errs, k.Of(ns).endLookups(by))
		}
	}
	return errors.Join(errs...)
}

// endLookups ends lookups of addresses that are on other links than the given ones.
func (s *Namespace) endLookups(by map[netip.Addr]string) error {
	list, err := s.Neighbours()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range list {
		dev, asked := by[n.Dst]
		if !asked || n.State&unix.NUD_INCOMPLETE == 0 {
			continue
		}
		index, err := s.LinkIndex(dev)
		if err == nil && index != n.Index {
			req := netlink.NewRequest(unix.RTM_DELNEIGH, 0, &rtnetlink.NeighHeader{Family: uint8(rtnetlink.AddrFamily(n.Dst)), Index: n.Index})
			req.AddData(nl.NewRtAttr(unix.NDA_DST, n.Dst.AsSlice()))
			err = s.conn.Do(req, nil)
		}
		if err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("%s: end the lookup of %s: %w", s.ns, n.Dst, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Namespace) neighRequest(op netstate.Op, n netstate.Neigh) (*nl.NetlinkRequest, error) {
	index, err := s.LinkIndex(n.Dev)
	if err != nil {
		return nil, err
	}
	body := &rtnetlink.NeighHeader{Family: uint8(rtnetlink.AddrFamily(n.Dst)), Index: index, State: unix.NUD_STALE}
	if n.Permanent {
		body.State = unix.NUD_PERMANENT
	}
	typ, flags := unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if op.After == nil {
		typ, flags = unix.RTM_DELNEIGH, 0
	}
	req := netlink.NewRequest(typ, flags, body)
	req.AddData(nl.NewRtAttr(unix.NDA_DST, n.Dst.AsSlice()))
	if op.After != nil {
		req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, n.MAC[:]))
	}
	return req, nil
}
