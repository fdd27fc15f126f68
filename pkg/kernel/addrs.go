// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// Addrs returns the addresses of one link, or of all links with index 0. For a link
// that is gone it returns none, and no error.
func (s *Namespace) Addrs(index int) ([]rtnetlink.Addr, error) {
	body := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	body.Index = uint32(index)
	out, err := netlink.Dump(s.conn, netlink.NewRequest(unix.RTM_GETADDR, 0, body), func(b []byte) (rtnetlink.Addr, bool) { return rtnetlink.DecodeAddr(b), true })
	if index != 0 && errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list addresses: %w", s.ns, err)
	}
	return out, nil
}

// ReadAddrs puts all global addresses into the snapshot. It asks the kernel for the
// names of links that weren't read before.
func (s *Namespace) ReadAddrs(snap *netstate.Snapshot) error {
	list, err := s.Addrs(0)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Failed {
			continue
		}
		name, ok, err := s.LinkName(a.Index)
		if err != nil {
			return err
		}
		if ok {
			a.Dev = name
			snap.Put(s.ns, a.Addr)
		}
	}
	return nil
}

// settleTime is how long AwaitAddrs waits, and settleTries how often it looks in that
// time. Duplicate address detection takes one to two seconds with the kernel's defaults
// (RFC 4862, 5.4).
const (
	settleTime  = 5 * time.Second
	settleTries = 250
)

// AwaitAddrs waits until no address of a link is tentative: the kernel refuses a
// tentative address as the source of a route. It returns an error if another host has an
// address, and if an address is still tentative after settleTime.
func (s *Namespace) AwaitAddrs(snap *netstate.Snapshot, dev string) error {
	for range settleTries {
		tentative := false
		for _, a := range netstate.All[netstate.Addr](snap, s.ns) {
			tentative = tentative || a.Dev == dev && a.Tentative
		}
		if !tentative {
			return nil
		}
		time.Sleep(settleTime / settleTries)
		list, err := s.Addrs(s.index[dev])
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.Failed {
				return s.duplicate(a, dev)
			}
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				a.Dev = dev
				snap.Put(s.ns, a.Addr)
			}
		}
	}
	return fmt.Errorf("%s: an address of link %s is still tentative after %s", s.ns, dev, settleTime)
}

// Duplicate returns an error if another host has a global address of a link. The kernel found that out
// (duplicate address detection), and doesn't use the address.
func (s *Namespace) Duplicate(dev string) error {
	index, ok := s.index[dev]
	if !ok {
		return nil
	}
	list, err := s.Addrs(index)
	for _, a := range list {
		if a.Failed && a.Scope == unix.RT_SCOPE_UNIVERSE {
			return s.duplicate(a, dev)
		}
	}
	return err
}

func (s *Namespace) duplicate(a rtnetlink.Addr, dev string) error {
	return fmt.Errorf("%s: addr %s dev %s: another host has it", s.ns, a.Prefix, dev)
}

func (s *Namespace) addrRequest(op netstate.Op, a netstate.Addr) (*nl.NetlinkRequest, error) {
	index, err := s.LinkIndex(a.Dev)
	if err != nil {
		return nil, err
	}
	body := nl.NewIfAddrmsg(rtnetlink.AddrFamily(a.Prefix.Addr()))
	body.Prefixlen = uint8(a.Prefix.Bits())
	body.Index = uint32(index)
	typ, flags := unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	if op.After == nil {
		typ, flags = unix.RTM_DELADDR, 0
	}
	req := netlink.NewRequest(typ, flags, body)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice()))
	return req, nil
}
