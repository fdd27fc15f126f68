// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Family is an address family by its version number.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is6() {
		return IPv6
	}
	return IPv4
}

// Rule is an entry of the routing policy database. It selects a table.
type Rule struct {
	Family   Family
	Priority int
	From     netip.Prefix // not valid: from all
	To       netip.Prefix // not valid: to all
	Mark     uint32
	Mask     uint32 // 0: any mark
	Table    int
	Proto    Protocol
	Rest     bool // it has more conditions, printed as "..."; no rule of ours has any
}

func (r Rule) Kind() Kind { return KindRule }

// Key returns the rule without its protocol. To the kernel, two rules that differ
// in nothing else are the same (rule_exists in net/core/fib_rules.c).
func (r Rule) Key() Object {
	r.Proto = 0
	return r
}

func (r Rule) Device() string { return "" }

func (r Rule) Owned() bool { return r.Proto.Ours() && !r.Rest }

// filledFrom leaves the protocol open. A foreign rule that does the same as ours
// keeps its owner.
func (r Rule) filledFrom(have Object) Object {
	r.Proto = have.(Rule).Proto
	return r
}

func (r Rule) String() string {
	var b strings.Builder
	b.WriteString("pref " + strconv.Itoa(r.Priority) + " from ")
	if r.From.IsValid() {
		b.WriteString(prefixText(r.From))
	} else {
		b.WriteString("all")
	}
	if r.To.IsValid() {
		b.WriteString(" to " + prefixText(r.To))
	}
	if r.Mask != 0 {
		fmt.Fprintf(&b, " fwmark %#x/%#x", r.Mark, r.Mask)
	}
	b.WriteString(" lookup " + tableName(r.Table))
	if r.Proto != 0 {
		b.WriteString(" proto " + r.Proto.String())
	}
	if r.Rest {
		b.WriteString(" ...")
	}
	return b.String()
}

// WantMain wants the rule by which all packets look up table main, in each namespace and
// family whose rules are in the snapshot. The kernel makes it with the namespace
// (fib_default_rules_init in net/ipv4/fib_rules.c, fib6_rules_net_init in
// net/ipv6/fib6_rules.c), and `ip rule flush` deletes it: without it no packet leaves the
// namespace, and the kernel refuses routes by gateways that only main leads to: it comes first.
// A rule to main of another priority does as well.
func (p *Plan) WantMain(s *Snapshot) {
	for _, ns := range []NS{Host, Pod} {
		for _, f := range Families {
			read := false // the kernel's rule for table local can be moved, but ip rule flush leaves it
			main := Rule{Family: f, Priority: mainPriority, Table: TableMain, Proto: ProtoKernel}
			for _, r := range All[Rule](s, ns) {
				all := Rule{Family: f, Priority: r.Priority, Table: r.Table, Proto: r.Proto}
				read = read || r == all && r.Table == TableLocal
				if r == all && r.Table == TableMain {
					main = r
				}
			}
			if read {
				p.Present = slices.Insert(p.Present, 0, Item{NS: ns, Object: main, Why: "the way to all that no other table has", Shared: true})
			}
		}
	}
}

// mainPriority is the priority of the kernel's rule for table main.
const mainPriority = 32766

// Families lists both address families. The kernel is asked for each by itself.
var Families = []Family{IPv4, IPv6}
