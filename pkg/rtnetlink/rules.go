// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// actLookup is FR_ACT_TO_TBL of linux/fib_rules.h.
const actLookup = 1

// Rule is an answer to a RTM_GETRULE request: a netstate.Rule, and the actions and
// conditions that it can't hold.
type Rule struct {
	netstate.Rule
	Action             uint8 // FR_ACT_*
	Invert             bool
	TOS                uint8
	In, Out            string // names of the incoming and outgoing link
	Target             int    // priority of the rule to go to
	SuppressPrefix     int    // -1 for none
	SuppressGroup      int    // -1 for none
	UIDs               *Numbers
	IPProtocol         uint8
	SrcPorts, DstPorts *Numbers
	Unknown            string // a further condition, in words
	Plain              bool   // the rule looks up a table, and the netstate.Rule holds all of it
}

// Numbers is the range of numbers from First to Last.
type Numbers struct{ First, Last uint32 }

// FIB_RULE_FIND_SADDR, FRA_DSCP and FRA_FLOWLABEL of linux/fib_rules.h.
const (
	findSource   = 0x10000
	fraDSCP      = 25
	fraFlowLabel = 26
)

// DecodeRule decodes an answer to a RTM_GETRULE request.
func DecodeRule(b []byte) Rule {
	msg := nl.DeserializeRtMsg(b) // struct fib_rule_hdr has the same layout
	r := Rule{Action: msg.Type, Invert: msg.Flags&unix.FIB_RULE_INVERT != 0, TOS: msg.Tos, SuppressPrefix: -1, SuppressGroup: -1}
	r.Plain = msg.Type == actLookup && !r.Invert && msg.Tos == 0
	r.Rule = netstate.Rule{Family: netstate.IPv4, Table: int(msg.Table)}
	if msg.Family == unix.AF_INET6 {
		r.Family = netstate.IPv6
	}
	if msg.Flags&findSource != 0 {
		r.Unknown = "find_saddr"
	}
	netlink.Attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.FRA_DST:
			a, _ := netip.AddrFromSlice(v)
			r.To = netip.PrefixFrom(a, int(msg.Dst_len))
		case unix.FRA_SRC:
			a, _ := netip.AddrFromSlice(v)
			r.From = netip.PrefixFrom(a, int(msg.Src_len))
		case unix.FRA_PRIORITY:
			r.Priority = int(nl.NativeEndian().Uint32(v))
		case unix.FRA_FWMARK:
			r.Mark = nl.NativeEndian().Uint32(v)
		case unix.FRA_FWMASK:
			r.Mask = nl.NativeEndian().Uint32(v)
		case unix.FRA_TABLE:
			r.Table = int(nl.NativeEndian().Uint32(v))
		case unix.FRA_PROTOCOL:
			r.Proto = netstate.Protocol(v[0])
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.SuppressPrefix = int(int32(nl.NativeEndian().Uint32(v)))
			r.Plain = r.Plain && r.SuppressPrefix == -1
		case unix.FRA_SUPPRESS_IFGROUP:
			r.SuppressGroup = int(int32(nl.NativeEndian().Uint32(v)))
			r.Plain = r.Plain && r.SuppressGroup == -1
		default:
			r.Plain = false
			r.decodeMore(typ, v)
		}
	})
	return r
}

// decodeMore decodes an attribute that a netstate.Rule can't hold.
func (r *Rule) decodeMore(typ uint16, v []byte) {
	ports := func() *Numbers {
		return &Numbers{uint32(nl.NativeEndian().Uint16(v)), uint32(nl.NativeEndian().Uint16(v[2:]))}
	}
	switch typ {
	case unix.FRA_IIFNAME:
		r.In = unix.ByteSliceToString(v)
	case unix.FRA_OIFNAME:
		r.Out = unix.ByteSliceToString(v)
	case unix.FRA_GOTO:
		r.Target = int(nl.NativeEndian().Uint32(v))
	case unix.FRA_UID_RANGE:
		r.UIDs = &Numbers{nl.NativeEndian().Uint32(v), nl.NativeEndian().Uint32(v[4:])}
	case unix.FRA_IP_PROTO:
		r.IPProtocol = v[0]
	case unix.FRA_SPORT_RANGE:
		r.SrcPorts = ports()
	case unix.FRA_DPORT_RANGE:
		r.DstPorts = ports()
	case unix.FRA_L3MDEV:
		if v[0] != 0 {
			r.Unknown = "l3mdev"
		}
	case unix.FRA_TUN_ID, fraDSCP, fraFlowLabel:
		r.Unknown = "a tunnel's ID, a DSCP or a flow label"
	}
}

// RuleRequest returns the request that adds or deletes a rule.
func RuleRequest(op netstate.Op, r netstate.Rule) *nl.NetlinkRequest {
	body := RouteHeader(FamilyNumber(r.Family))
	body.Type = actLookup
	typ, flags := unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	if op.After == nil {
		typ, flags = unix.RTM_DELRULE, 0
	}
	req := netlink.NewRequest(typ, flags, body)
	if r.From.IsValid() {
		body.Src_len = uint8(r.From.Bits())
		req.AddData(nl.NewRtAttr(unix.FRA_SRC, r.From.Addr().AsSlice()))
	}
	if r.To.IsValid() {
		body.Dst_len = uint8(r.To.Bits())
		req.AddData(nl.NewRtAttr(unix.FRA_DST, r.To.Addr().AsSlice()))
	}
	if r.Mask != 0 {
		req.AddData(nl.NewRtAttr(unix.FRA_FWMARK, nl.Uint32Attr(r.Mark)))
		req.AddData(nl.NewRtAttr(unix.FRA_FWMASK, nl.Uint32Attr(r.Mask)))
	}
	req.AddData(nl.NewRtAttr(unix.FRA_PRIORITY, nl.Uint32Attr(uint32(r.Priority))))
	req.AddData(nl.NewRtAttr(unix.FRA_TABLE, nl.Uint32Attr(uint32(r.Table))))
	req.AddData(nl.NewRtAttr(unix.FRA_PROTOCOL, nl.Uint8Attr(uint8(r.Proto))))
	return req
}
