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

// decodeRule reads a rule; whole is false for one that says more than a netstate.Rule
// can hold, such as a prohibition, or one that also asks for a port or an interface.
func decodeRule(b []byte) (r netstate.Rule, whole bool) {
	msg := nl.DeserializeRtMsg(b) // struct fib_rule_hdr has the same layout
	whole = msg.Type == actLookup && msg.Flags&unix.FIB_RULE_INVERT == 0 && msg.Tos == 0
	r = netstate.Rule{Family: netstate.IPv4, Table: int(msg.Table)}
	if msg.Family == unix.AF_INET6 {
		r.Family = netstate.IPv6
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
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			whole = whole && nl.NativeEndian().Uint32(v) == 0xffffffff // unset
		default:
			whole = false
		}
	})
	return r, whole
}

// ReadRules puts the rules of a family that look up a table into the snapshot. Those
// with more conditions than a rule of ours has are there for the table's sake.
// Each family is asked for alone: a dump of all was seen to lack some.
func (s *Space) ReadRules(snap *netstate.Snapshot, f netstate.Family) error {
	type answer struct {
		netstate.Rule
		whole bool
	}
	rules, err := dump(s.conn, request(unix.RTM_GETRULE, 0, rtmHeader(afOf(f))), func(b []byte) (answer, bool) {
		r, whole := decodeRule(b)
		return answer{r, whole}, true
	})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a kernel without that family
	}
	if err != nil {
		return fmt.Errorf("%s: list IPv%d rules: %w", s.ns, f, err)
	}
	s.leading[f] = 0
	for i, r := range rules {
		r.Rest = !r.whole
		if r.whole || r.Table != 0 { // or else it looks up none
			snap.Put(s.ns, r.Rule)
		}
		// The first rule looks up the node's own addresses, and the list is in
		// the order in which packets meet it.
		everything := netstate.Rule{Family: f, Priority: r.Priority, Table: r.Table, Proto: r.Proto}
		if i == 1 && r.whole && r.Rule == everything && rules[0].Table == netstate.TableLocal {
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
