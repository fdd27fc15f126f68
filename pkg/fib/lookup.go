// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/multihome/multihome/pkg/netstate"
)

// Output decides on a packet made in the namespace.
func (s *Namespace) Output(f Flow) Decision {
	f.In, f.Src = "", withoutUnspecified(f.Src)
	if f.Dst.Is4() {
		return s.output4(f)
	}
	return s.output6(f)
}

// Input decides on a packet that comes in by f.In. Rules see it as root's
// (sock_net_uid).
func (s *Namespace) Input(f Flow) Decision {
	f.Out, f.UID, f.Src = "", 0, withoutUnspecified(f.Src)
	if f.Dst.Is6() {
		return s.input6(f)
	}
	d := s.input4(f)
	if d.Err != 0 {
		d.Choices = nil
	}
	return d
}

// withoutUnspecified turns the unspecified address, which stands for none, into the invalid one.
func withoutUnspecified(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// tableMatch is the result of looking up one table.
type tableMatch struct {
	route *Route
	hops  []way
	err   syscall.Errno // of a route that refuses
}

// way is a usable next hop with its route.
type way struct {
	route *Route
	hop   Hop
}

// errAgain is the result of a throw route: ask the next rule.
const errAgain = syscall.EAGAIN

// refusals are the errors of refusing route types (fib_props, ip6_rt_type_to_error).
var refusals = [256]syscall.Errno{
	Blackhole: syscall.EINVAL, Unreachable: syscall.EHOSTUNREACH, Prohibit: syscall.EACCES, Throw: errAgain,
}

// lookup asks the rules in order (fib_rules_lookup) and notes each one; table searches
// one table.
func (s *Namespace) lookup(d *Decision, table func(int) tableMatch) tableMatch {
	rules := s.rulesOf(d.Flow.Dst)
	for i := 0; i < len(rules); i++ {
		step := Step{Rule: rules[i], Mismatch: rules[i].mismatch(d.Flow)}
		if step.Mismatch != "" {
			d.Steps = append(d.Steps, step)
			continue
		}
		switch step.Rule.Action {
		case Goto, Nop:
			target := slices.IndexFunc(rules, func(r Rule) bool { return r.Priority == step.Rule.Target })
			step.PassedOver = "it does nothing"
			if step.Rule.Action == Goto && target > i {
				step.PassedOver = fmt.Sprintf("go on at %d", step.Rule.Target)
				i = target - 1
			}
			d.Steps = append(d.Steps, step)
			continue
		case Lookup:
		default:
			d.Steps = append(d.Steps, step)
			err := refusals[Kind(step.Rule.Action)]
			if step.Rule.Action == RejectUnreachable {
				err = syscall.ENETUNREACH // fib4_rule_action, fib6_rule_action
			}
			return tableMatch{err: err}
		}
		got := table(step.Rule.Table)
		step.Route = got.route
		step.PassedOver = s.passedOver(step.Rule, got)
		d.Steps = append(d.Steps, step)
		if step.PassedOver == "" {
			return got
		}
	}
	return tableMatch{err: syscall.ENETUNREACH}
}

// rulesOf returns the rules of the address's family.
func (s *Namespace) rulesOf(a netip.Addr) []Rule {
	var out []Rule
	for _, r := range s.Rules {
		if r.Family == netstate.FamilyOf(a) {
			out = append(out, r)
		}
	}
	return out
}

// passedOver says why a rule ignores the result of its table; "" if it takes it
// (fib4_rule_suppress, fib6_rule_suppress).
func (s *Namespace) passedOver(r Rule, got tableMatch) string {
	switch {
	case got.route == nil:
		return "no route"
	case got.err == errAgain:
		return "the route says: ask the next rule"
	case got.err != 0:
		return ""
	case got.route.Dst.Bits() <= r.SuppressPrefix:
		return fmt.Sprintf("the rule wants a prefix longer than %d", r.SuppressPrefix)
	}
	if l, ok := s.Link(got.hops[0].hop.Dev); ok && l.Group == r.SuppressGroup {
		return fmt.Sprintf("the rule wants no link of group %d", r.SuppressGroup)
	}
	return ""
}

// candidates returns the routes of a table whose destination contains an address:
// longest prefix first, otherwise in the kernel's order.
func (s *Namespace) candidates(table int, f Flow) []*Route {
	var out []*Route
	for i := range s.Routes {
		r := &s.Routes[i]
		if r.Table == table && r.Dst.Contains(f.Dst) && prefixMatches(r.From, f.Src) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *Route) int {
		return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(b.From.Bits(), a.From.Bits()))
	})
	return out
}
