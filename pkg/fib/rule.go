// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// Action is what a rule does with a matching packet, FR_ACT_* of linux/fib_rules.h.
type Action uint8

// The actions of rules.
const (
	Lookup            Action = 1
	Goto              Action = 2
	Nop               Action = 3
	RejectBlackhole   Action = 6
	RejectUnreachable Action = 7
	RejectProhibit    Action = 8
)

// Rule is an entry of the routing policy database.
type Rule struct {
	netstate.Rule
	Action  Action
	Target  int // of Goto: the priority where it goes on
	Invert  bool
	In, Out string // the names of links; "": any
	TOS     uint8
	UIDs    *Range // of the owner of the socket; nil: all

	Protocol           uint8  // IPPROTO_*; 0: all
	SrcPorts, DstPorts *Range // nil: all

	SuppressPrefix int // routes with a prefix no longer than this don't count; -1: all do
	SuppressGroup  int // routes by links of this group don't count; -1: all do

	// Unknown names a selector that this package does not know. Such a rule counts as
	// not matching.
	Unknown string
}

// Range is inclusive at both ends.
type Range struct{ First, Last uint32 }

func (r *Range) contains(n uint32) bool { return r == nil || n >= r.First && n <= r.Last }

func (r *Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// String returns the rule in the syntax of ip(8).
func (r Rule) String() string {
	plain := r.Rule.String() // pref … from … fwmark … lookup … proto …
	head, tail, _ := strings.Cut(plain, " lookup ")
	table, proto, _ := strings.Cut(tail, " ")
	var b strings.Builder
	if r.Invert {
		head = strings.Replace(head, " from ", " not from ", 1)
	}
	b.WriteString(head)
	add := func(is bool, format string, a ...any) {
		if is {
			fmt.Fprintf(&b, " "+format, a...)
		}
	}
	add(r.TOS != 0, "tos %#x", r.TOS)
	add(r.In != "", "iif %s", r.In)
	add(r.Out != "", "oif %s", r.Out)
	if r.UIDs != nil {
		add(true, "uidrange %s", r.UIDs)
	}
	add(r.Protocol != 0, "ipproto %d", r.Protocol)
	if r.SrcPorts != nil {
		add(true, "sport %s", r.SrcPorts)
	}
	if r.DstPorts != nil {
		add(true, "dport %s", r.DstPorts)
	}
	switch r.Action {
	case Lookup:
		add(true, "lookup %s", table)
	case Goto:
		add(true, "goto %d", r.Target)
	case Nop:
		add(true, "nop")
	default:
		add(true, "%s", Kind(r.Action))
	}
	add(r.SuppressPrefix >= 0, "suppress_prefixlength %d", r.SuppressPrefix)
	add(r.SuppressGroup >= 0, "suppress_ifgroup %d", r.SuppressGroup)
	add(proto != "", "%s", proto)
	add(r.Unknown != "", "(%s)", r.Unknown)
	return b.String()
}

// mismatch names the selector that a packet does not match; "" if the rule matches.
// It follows fib_rule_match, fib4_rule_match and fib6_rule_match.
func (r Rule) mismatch(f Flow) string {
	why := r.differs(f)
	if !r.Invert {
		return why
	}
	if why != "" {
		return ""
	}
	return "it is for all packets but those"
}

func (r Rule) differs(f Flow) string {
	switch {
	case r.Unknown != "":
		return "trace doesn't know " + r.Unknown
	case r.In != "" && r.In != f.in():
		return "it came in by " + f.in()
	case r.Out != "" && r.Out != f.Out:
		return "it isn't bound to " + r.Out
	case (r.Mark^f.Mark)&r.Mask != 0:
		return fmt.Sprintf("the mark is %#x", f.Mark)
	case !r.UIDs.contains(f.UID):
		return fmt.Sprintf("the socket is of user %d", f.UID)
	case !prefixMatches(r.From, f.Src):
		if !f.Src.IsValid() {
			return "it has no source yet"
		}
		return "it is from " + f.Src.String()
	case !prefixMatches(r.To, f.Dst):
		return "it is to " + f.Dst.String()
	case r.TOS != 0:
		return "its type of service is 0"
	case r.Protocol != 0 && r.Protocol != f.Protocol:
		return fmt.Sprintf("the protocol is %d", f.Protocol)
	case !r.SrcPorts.contains(uint32(f.SrcPort)):
		return fmt.Sprintf("the source port is %d", f.SrcPort)
	case !r.DstPorts.contains(uint32(f.DstPort)):
		return fmt.Sprintf("the port is %d", f.DstPort)
	}
	return ""
}

// prefixMatches reports whether a rule's prefix contains an address, which may be missing. A
// prefix of length 0 contains everything.
func prefixMatches(p netip.Prefix, a netip.Addr) bool {
	return !p.IsValid() || p.Bits() == 0 || a.IsValid() && p.Contains(a)
}
