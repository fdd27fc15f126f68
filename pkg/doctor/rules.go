// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/survey"
)

var ruleBeforeOurs = Kind{
	ID: "rule-before-ours", Severity: Problem,
	What: "a routing rule of the node before ours leads packets to a pod elsewhere",
	Why:  "Our rule, of priority 1000 unless hostRulePriority says otherwise, leads packets to the table with the ways to the pods. A rule before it that takes packets from an address of the node, or all, leads them into a LAN or a tunnel, where the pod isn't. Then the node doesn't reach its pods, and they get no answers from it. The kernel gives a rule without a priority one less than that of the first rule but local, so 999 (fib_default_rule_pref in net/core/fib_rules.c): ip rule add leaves it to the kernel, and so do wg-quick, and systemd-networkd since version 250 (systemd#20453). Rules of netplan and ifupdown have what their file says. Cilium has the same problem with its own rules (k8s-snap#903).",
	Remedy: `COMMANDS
# also set these priorities in the configuration that makes the rules, such as priority in netplan, Priority= in systemd-networkd, or ip rule add pref`,
}

// lastPriority is the largest priority before that of the kernel's rule for table main.
const lastPriority = 32765

// diversion is a packet from the node to a pod that other software's rules lead elsewhere.
type diversion struct {
	rules []fib.Rule // those before our rule that decide on it, in the order in which they are asked
	flow  fib.Flow
	way   string // what becomes of it
	ours  int    // the priority of our rule
}

// foreignRules looks for rules before ours that decide on packets from the node to pods. It
// asks the kernel, for each pod and each address by which the pod knows the node.
func foreignRules(n *node) error {
	var space *fib.Namespace
	var all []diversion
	for _, r := range netstate.All[netstate.Route](n.snapshot, host) {
		if !r.Owned() || !r.Dst.IsSingleIP() {
			continue
		}
		priority, ok := n.priorityOf(r)
		if !ok {
			continue
		}
		for _, src := range n.sourcesTo(r) {
			flow := fib.Flow{Src: src, Dst: r.Dst.Addr()}
			got, err := survey.Decide(n.kernel.Host, flow)
			if err != nil {
				return err
			}
			if got.Err == 0 && got.Dev == r.Dev && got.Via == r.Via {
				continue
			}
			if space == nil {
				if space, err = survey.ReadFIB(n.kernel.Host); err != nil {
					return err
				}
			}
			d := diversion{flow: flow, ours: priority, way: "by " + got.Dev, rules: rulesBefore(*space, flow, priority)}
			if got.Err != 0 {
				d.way = "nowhere (" + got.Err.Error() + ")"
			}
			if len(d.rules) > 0 {
				all = append(all, d)
			}
		}
	}
	n.reportDiversions(all)
	return nil
}

// priorityOf returns the priority of our rule that looks up a route's table.
func (n *node) priorityOf(r netstate.Route) (int, bool) {
	for _, rule := range netstate.All[netstate.Rule](n.snapshot, host) {
		if rule.Owned() && rule.Table == r.Table && rule.Family == netstate.FamilyOf(r.Dst.Addr()) {
			return rule.Priority, true
		}
	}
	return 0, false
}

// sourcesTo returns the addresses by which the pod behind one of our routes knows the node:
// the source of the route, and those to which the pod has routes of ours. It returns none
// if no pod that is examined has the address.
func (n *node) sourcesTo(r netstate.Route) (out []netip.Addr) {
	f := netstate.FamilyOf(r.Dst.Addr())
	of := map[netip.Addr]bool{}
	for _, a := range netstate.All[netstate.Addr](n.snapshot, host) {
		of[a.Prefix.Addr()] = true
	}
	add := func(a netip.Addr) {
		if of[a] && netstate.FamilyOf(a) == f && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, p := range n.pods {
		if !slices.ContainsFunc(p.addrs(""), func(a netstate.Addr) bool { return a.Prefix.Addr() == r.Dst.Addr() }) {
			continue
		}
		add(r.Src)
		for _, to := range netstate.All[netstate.Route](p.snapshot, inPod) {
			if to.Owned() && to.Dst.IsSingleIP() {
				add(to.Dst.Addr())
			}
		}
	}
	return out
}

// rulesBefore returns the rules of others, before a rule of ours, that decide on a packet:
// one, and without it the next one, until none of them does.
func rulesBefore(space fib.Namespace, flow fib.Flow, ours int) (out []fib.Rule) {
	space.Rules = slices.Clone(space.Rules)
	for {
		steps := space.Output(flow).Steps
		if len(steps) == 0 {
			return out
		}
		last := steps[len(steps)-1]
		by := last.Rule
		if last.Mismatch != "" || last.PassedOver != "" || by.Owned() || by.Priority > ours || by.Table == netstate.TableLocal {
			return out
		}
		out = append(out, by)
		space.Rules = slices.DeleteFunc(space.Rules, func(r fib.Rule) bool { return r.String() == by.String() && r.Family == by.Family })
	}
}

// reportDiversions adds a finding for each set of rules.
func (n *node) reportDiversions(all []diversion) {
	for len(all) > 0 {
		first := all[0]
		name := func(d diversion) string {
			var out []string
			for _, r := range d.rules {
				out = append(out, fmt.Sprintf("rule %s", r))
			}
			return strings.Join(out, ", ")
		}
		same := func(d diversion) bool {
			return name(d) == name(first) && netstate.FamilyOf(d.flow.Dst) == netstate.FamilyOf(first.flow.Dst)
		}
		var flows []string
		for _, d := range all {
			if same(d) {
				flows = append(flows, fmt.Sprintf("from %s to %s %s", d.flow.Src, d.flow.Dst, d.way))
			}
		}
		all = slices.DeleteFunc(all, same)
		more := ""
		if len(flows) > shown {
			flows, more = flows[:shown], fmt.Sprintf("; and %d more", len(flows)-shown)
		}
		var commands []string
		for _, r := range first.rules {
			commands = append(commands, moveBehind(r, first.ours)...)
		}
		n.found(ruleBeforeOurs, fmt.Sprintf("%s: packets %s%s", name(first), strings.Join(flows, "; "), more), "COMMANDS", strings.Join(commands, "\n"))
	}
}

// moveBehind returns the commands that give a rule a priority behind one of ours. Rules keep
// their order: each priority grows by ours.
func moveBehind(r fib.Rule, ours int) []string {
	ip := fmt.Sprintf("ip -%d rule", r.Family)
	moved := r
	moved.Priority = ours + max(r.Priority, 1)
	switch {
	case r.Unknown != "":
		return []string{fmt.Sprintf("# give this rule, which %s show pref %d prints, a priority above %d", ip, r.Priority, ours)}
	case moved.Priority > lastPriority:
		return []string{fmt.Sprintf("# set hostRulePriority of coordinator below %d, and recreate the pods", r.Priority)}
	}
	return []string{ip + " add " + moved.String(), ip + " del " + r.String()}
}
