// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// Route is an answer to a RTM_GETROUTE request.
type Route struct {
	netstate.Route
	OIF   int
	Hops  []Hop // of a multipath route; nil for any other
	Type  uint8 // RTN_*
	Flags uint32
	TOS   uint8
	From  netip.Prefix // IPv6: only for packets from this prefix (a subtree)
	Pref  uint8        // IPv6: the router's preference (RFC 4191)
}

// Ways returns the next hops of a route, one or more.
func (r *Route) Ways() []Hop {
	if r.Hops != nil {
		return r.Hops
	}
	return []Hop{{OIF: r.OIF, Via: r.Via, Onlink: r.Onlink, Flags: uint8(r.Flags)}}
}

// Hop is a next hop of a route.
type Hop struct {
	OIF    int
	Via    netip.Addr
	Onlink bool
	Flags  uint8 // RTNH_F_*
}

// RouteHeader returns a struct rtmsg of linux/rtnetlink.h with an address family.
func RouteHeader(fam int) *nl.RtMsg {
	return &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(fam)}}
}

// DecodeRoute decodes an answer to a RTM_GETROUTE request.
func DecodeRoute(b []byte) Route {
	msg := nl.DeserializeRtMsg(b)
	r := Route{Type: msg.Type, Flags: msg.Flags, TOS: msg.Tos}
	r.Table = int(msg.Table)
	r.Proto = netstate.Protocol(msg.Protocol)
	r.Scope = netstate.Scope(msg.Scope)
	r.Onlink = msg.Flags&unix.RTNH_F_ONLINK != 0
	// The kernel leaves out the destination of a default route.
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
		r.Scope = netstate.ScopeGlobal // IPv6 routes have no scope
	}
	netlink.Attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_TABLE:
			r.Table = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_OIF:
			r.OIF = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(v)
		case unix.RTA_VIA: // a gateway of the other family (RFC 5549)
			if len(v) > 2 {
				r.Via, _ = netip.AddrFromSlice(v[2:])
			}
		case unix.RTA_SRC:
			from, _ := netip.AddrFromSlice(v)
			r.From = netip.PrefixFrom(from, int(msg.Src_len))
		case unix.RTA_PREF:
			r.Pref = v[0]
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(v)
		case unix.RTA_PRIORITY:
			r.Metric = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_METRICS:
			netlink.Attrs(v, func(typ uint16, v []byte) {
				switch typ {
				case unix.RTAX_MTU:
					r.MTU = int(nl.NativeEndian().Uint32(v))
				case unix.RTAX_ADVMSS:
					r.AdvMSS = int(nl.NativeEndian().Uint32(v))
				}
			})
		case unix.RTA_MULTIPATH:
			r.Hops = decodeHops(v)
		}
	})
	r.Dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r
}

func decodeHops(b []byte) []Hop {
	var out []Hop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(nl.NativeEndian().Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return out
		}
		h := Hop{OIF: int(nl.NativeEndian().Uint32(b[4:])), Onlink: b[2]&unix.RTNH_F_ONLINK != 0, Flags: b[2]}
		netlink.Attrs(b[unix.SizeofRtNexthop:n], func(typ uint16, v []byte) {
			if typ == unix.RTA_GATEWAY {
				h.Via, _ = netip.AddrFromSlice(v)
			}
		})
		out = append(out, h)
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}

// FIBMatch is RTM_F_FIB_MATCH of linux/rtnetlink.h: the kernel returns the matching entry
// of the table.
const FIBMatch = 0x2000

// FamilyNumber returns AF_INET6 or AF_INET for an address family.
func FamilyNumber(f netstate.Family) int {
	if f == netstate.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Sizes returns the attribute with a route's MTU and segment size (RTA_METRICS), nil if it
// has neither.
func Sizes(r netstate.Route) *nl.RtAttr {
	if r.MTU == 0 && r.AdvMSS == 0 {
		return nil
	}
	out := nl.NewRtAttr(unix.RTA_METRICS, nil)
	if r.MTU != 0 {
		out.AddRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(r.MTU)))
	}
	if r.AdvMSS != 0 {
		out.AddRtAttr(unix.RTAX_ADVMSS, nl.Uint32Attr(uint32(r.AdvMSS)))
	}
	return out
}

// Gateway returns the attribute with a route's gateway: RTA_GATEWAY, or RTA_VIA if the
// gateway and the destination are of different families (RFC 5549).
func Gateway(r netstate.Route) *nl.RtAttr {
	via := r.Via.AsSlice()
	if r.Via.Is6() == r.IPv6() {
		return nl.NewRtAttr(unix.RTA_GATEWAY, via)
	}
	return nl.NewRtAttr(unix.RTA_VIA, append(nl.Uint16Attr(uint16(AddrFamily(r.Via))), via...))
}
