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

// actLookup is FR_ACT_TO_TBL of linux/fib_rules.h.
const actLookup = 1

// rule is an answer to a RTM_GETRULE request: a netstate.Rule, and what that can't
// hold.
type rule struct {
	netstate.Rule
	action             uint8 // FR_ACT_*
	invert             bool
	tos                uint8
	in, out            string // links
	target             int    // of a jump
	suppressPrefix     int    // -1: none
	suppressGroup      int
	uids               *numbers
	protocol           uint8
	srcPorts, dstPorts *numbers
	unknown            string // what it asks for beside all that
	plain              bool   // it has none of that, and looks up a table
}

// numbers are those from the first to the last.
type numbers struct{ first, last uint32 }

// Of linux/fib_rules.h: FIB_RULE_FIND_SADDR, FRA_DSCP and FRA_FLOWLABEL.
const (
	findSource   = 0x10000
	fraDSCP      = 25
	fraFlowLabel = 26
)

// decodeRule reads an answer.
func decodeRule(b []byte) rule {
	msg := nl.DeserializeRtMsg(b) // struct fib_rule_hdr has the same layout
	r := rule{action: msg.Type, invert: msg.Flags&unix.FIB_RULE_INVERT != 0, tos: msg.Tos, suppressPrefix: -1, suppressGroup: -1}
	r.plain = msg.Type == actLookup && !r.invert && msg.Tos == 0
	r.Rule = netstate.Rule{Family: netstate.IPv4, Table: int(msg.Table)}
	if msg.Family == unix.AF_INET6 {
		r.Family = netstate.IPv6
	}
	if msg.Flags&findSource != 0 {
		r.unknown = "find_saddr"
	}
	attrs(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
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
			r.suppressPrefix = int(int32(nl.NativeEndian().Uint32(v)))
			r.plain = r.plain && r.suppressPrefix == -1
		case unix.FRA_SUPPRESS_IFGROUP:
			r.suppressGroup = int(int32(nl.NativeEndian().Uint32(v)))
			r.plain = r.plain && r.suppressGroup == -1
		default:
			r.plain = false
			r.decodeMore(typ, v)
		}
	})
	return r
}

// decodeMore reads what a netstate.Rule can't hold.
func (r *rule) decodeMore(typ uint16, v []byte) {
	ports := func() *numbers {
		return &numbers{uint32(nl.NativeEndian().Uint16(v)), uint32(nl.NativeEndian().Uint16(v[2:]))}
	}
	switch typ {
	case unix.FRA_IIFNAME:
		r.in = unix.ByteSliceToString(v)
	case unix.FRA_OIFNAME:
		r.out = unix.ByteSliceToString(v)
	case unix.FRA_GOTO:
		r.target = int(nl.NativeEndian().Uint32(v))
	case unix.FRA_UID_RANGE:
		r.uids = &numbers{nl.NativeEndian().Uint32(v), nl.NativeEndian().Uint32(v[4:])}
	case unix.FRA_IP_PROTO:
		r.protocol = v[0]
	case unix.FRA_SPORT_RANGE:
		r.srcPorts = ports()
	case unix.FRA_DPORT_RANGE:
		r.dstPorts = ports()
	case unix.FRA_L3MDEV:
		if v[0] != 0 {
			r.unknown = "l3mdev"
		}
	case unix.FRA_TUN_ID, fraDSCP, fraFlowLabel:
		r.unknown = "a tunnel's ID, a DSCP or a flow label"
	}
}

// rules lists the rules of a family. Each family is asked for alone: a dump of all
// was seen to lack some.
func (s *Space) rules(f netstate.Family) ([]rule, error) {
	out, err := dump(s.conn, request(unix.RTM_GETRULE, 0, rtmHeader(afOf(f))), func(b []byte) (rule, bool) { return decodeRule(b), true })
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without that family
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d rules: %w", s.ns, f, err)
	}
	return out, nil
}

// ReadRules puts the rules of a family that look up a table into the snapshot. Those
// with more conditions than a rule of ours has are there for the table's sake.
func (s *Space) ReadRules(snap *netstate.Snapshot, f netstate.Family) error {
	rules, err := s.rules(f)
	if err != nil {
		return err
	}
	s.leading[f] = 0
	for i, r := range rules {
		r.Rest = !r.plain
		if r.plain || r.Table != 0 { // or else it looks up none
			snap.Put(s.ns, r.Rule)
		}
		// The first rule looks up the node's own addresses, and the list is in
		// the order in which packets meet it.
		everything := netstate.Rule{Family: f, Priority: r.Priority, Table: r.Table, Proto: r.Proto}
		if i == 1 && r.plain && r.Rule == everything && rules[0].Table == netstate.TableLocal {
			s.leading[f] = r.Table
		}
	}
	return nil
}

func ruleRequest(op netstate.Op, r netstate.Rule) *nl.NetlinkRequest {
	body := rtmHeader(afOf(r.Family))
	body.Type = actLookup
	typ, flags := unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	if op.After == nil {
		typ, flags = unix.RTM_DELRULE, 0
	}
	req := request(typ, flags, body)
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
