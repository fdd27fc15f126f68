// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// Addr is an answer to a RTM_GETADDR request.
type Addr struct {
	netstate.Addr
	Index      int
	Scope      uint8
	Peer       netip.Addr // IFA_ADDRESS: on a point-to-point link the address of the other end
	Secondary  bool       // IPv4: not the first address in its subnet
	Deprecated bool       // not for new connections
	Temporary  bool       // replaced by another one before long (RFC 8981)
	Failed     bool       // another host has it (RFC 4862, 5.4.5)
}

// DecodeAddr decodes an answer to a RTM_GETADDR request.
func DecodeAddr(b []byte) Addr {
	msg := nl.DeserializeIfAddrmsg(b)
	a := Addr{Index: int(msg.Index), Scope: msg.Scope}
	flags := uint32(msg.Flags)
	var local netip.Addr
	netlink.Attrs(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			a.Peer, _ = netip.AddrFromSlice(v)
		case unix.IFA_FLAGS:
			flags = nl.NativeEndian().Uint32(v)
		}
	})
	if !local.IsValid() {
		local = a.Peer
	}
	a.Prefix = netip.PrefixFrom(local, int(msg.Prefixlen))
	a.Dynamic = flags&unix.IFA_F_PERMANENT == 0
	a.Tentative = flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	// IFA_F_TEMPORARY and IFA_F_SECONDARY are the same bit.
	a.Temporary = local.Is6() && flags&unix.IFA_F_TEMPORARY != 0
	a.Secondary = local.Is4() && flags&unix.IFA_F_SECONDARY != 0
	a.Deprecated = flags&unix.IFA_F_DEPRECATED != 0
	a.Failed = flags&unix.IFA_F_DADFAILED != 0
	return a
}

// AddrFamily returns AF_INET6 for an IPv6 address and AF_INET for any other.
func AddrFamily(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
