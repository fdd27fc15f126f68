// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// addr is an answer to a RTM_GETADDR request.
type addr struct {
	netstate.Addr
	index      int
	scope      uint8
	peer       netip.Addr // IFA_ADDRESS: the far end's on a point-to-point link
	secondary  bool       // IPv4: of a subnet that another address is of, too
	deprecated bool       // not for new connections
	temporary  bool       // RFC 8981: soon replaced by another
	failed     bool       // somebody else has it (RFC 4862, 5.4.5)
}

// decodeAddr reads an answer.
func decodeAddr(b []byte) addr {
	msg := nl.DeserializeIfAddrmsg(b)
	a := addr{index: int(msg.Index), scope: msg.Scope}
	flags := uint32(msg.Flags)
	var local netip.Addr
	attrs(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			a.peer, _ = netip.AddrFromSlice(v)
		case unix.IFA_FLAGS:
			flags = nl.NativeEndian().Uint32(v)
		}
	})
	if !local.IsValid() {
		local = a.peer
	}
	a.Prefix = netip.PrefixFrom(local, int(msg.Prefixlen))
	a.Dynamic = flags&unix.IFA_F_PERMANENT == 0
	a.Tentative = flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	// One bit of both: IFA_F_TEMPORARY and IFA_F_SECONDARY.
	a.temporary = local.Is6() && flags&unix.IFA_F_TEMPORARY != 0
	a.secondary = local.Is4() && flags&unix.IFA_F_SECONDARY != 0
	a.deprecated = flags&unix.IFA_F_DEPRECATED != 0
	a.failed = flags&unix.IFA_F_DADFAILED != 0
	return a
}

// addrs asks for the addresses of one link, or of all with index 0. A link that
// has gone in the meantime has none.
func (s *Space) addrs(index int) ([]addr, error) {
	body := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	body.Index = uint32(index)
	out, err := dump(s.conn, request(unix.RTM_GETADDR, 0, body), func(b []byte) (addr, bool) { return decodeAddr(b), true })
	if index != 0 && errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list addresses: %w", s.ns, err)
	}
	return out, nil
}

// ReadAddrs puts all global addresses into the snapshot. A link whose name
// isn't known yet is asked for it.
func (s *Space) ReadAddrs(snap *netstate.Snapshot) error {
	list, err := s.addrs(0)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.scope != unix.RT_SCOPE_UNIVERSE || a.failed {
			continue
		}
		name, ok, err := s.linkName(a.index)
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

// How long Settle waits, and how often it looks: duplicate address detection
// takes one to two seconds with the kernel's defaults (RFC 4862, 5.4).
const (
	settleTime  = 5 * time.Second
	settleTries = 250
)

// Settle waits until no address of a link is tentative any more: until then the
// kernel takes none for the source of a route. An address that somebody else
// has is an error, and so is one that stays tentative.
func (s *Space) Settle(snap *netstate.Snapshot, dev string) error {
	for range settleTries {
		tentative := false
		for _, a := range netstate.All[netstate.Addr](snap, s.ns) {
			tentative = tentative || a.Dev == dev && a.Tentative
		}
		if !tentative {
			return nil
		}
		time.Sleep(settleTime / settleTries)
		list, err := s.addrs(s.index[dev])
		if err != nil {
			return err
		}
		for _, a := range list {
			if a.failed {
				return fmt.Errorf("%s: addr %s dev %s: another host has it", s.ns, a.Prefix, dev)
			}
			if a.scope == unix.RT_SCOPE_UNIVERSE {
				a.Dev = dev
				snap.Put(s.ns, a.Addr)
			}
		}
	}
	return fmt.Errorf("%s: an address of link %s is still tentative after %s", s.ns, dev, settleTime)
}

func (s *Space) addrRequest(op netstate.Op, a netstate.Addr) (*nl.NetlinkRequest, error) {
	index, err := s.linkIndex(a.Dev)
	if err != nil {
		return nil, err
	}
	body := nl.NewIfAddrmsg(family(a.Prefix.Addr()))
	body.Prefixlen = uint8(a.Prefix.Bits())
	body.Index = uint32(index)
	typ, flags := unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	if op.After == nil {
		typ, flags = unix.RTM_DELADDR, 0
	}
	req := request(typ, flags, body)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice()))
	return req, nil
}

// family is the address family number of an address.
func family(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
