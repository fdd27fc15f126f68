// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"slices"
	"strings"
)

// Scopes returns scripts of two pods, one address and two nodes, whose schedules are all run to
// some depth. Each is there twice. In the first, with a name that ends in "any", everything
// deviates at every step. In the second only what writes does, before it writes, which leaves
// few enough points for two deviations.
func Scopes() []Scope {
	one := Settings{Machines: 2, Pools: 1, Addresses: 1, Pods: 2, Controllers: 1}
	a, b := createOn("a", "node0", "p0"), createOn("b", "node1", "p0")
	writers := [][]string{{": create", ": update", ": delete", ": write", ": remove", ": set"}}
	var out []Scope
	for name, script := range map[string][]Event{
		"handover": {a, together(remove("a"), b), pass()},
		"force":    {a, together(force(), b), pass()},
		"again":    {a, together(force(), createOn("a", "node1", "p0")), pass()},
		"restart":  {a, together(die("a"), b), remove("a")},
		"node":     {a, together(unnode("node0"), b), pass()},
	} {
		out = append(out,
			Scope{Name: name + "-any", Settings: one, Script: script, Stalls: 3, Kills: true, Early: true, goesWrong: goesWrong{true, true, true, true}},
			Scope{Name: name, Settings: one, Script: script, Stalls: 2, Who: writers, Kills: true, goesWrong: goesWrong{Requests: true}})
	}
	slices.SortFunc(out, func(a, b Scope) int { return strings.Compare(a.Name, b.Name) })
	return out
}
