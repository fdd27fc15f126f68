// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"slices"
	"strings"
)

// Scopes returns scripts of two pods, one address and two nodes, or of an application, whose
// schedules are all run to some depth. Each is there twice, but for set-orphaned. In the first, with a name that ends in "any", everything
// deviates at every step. In the second only what writes does, before it writes, which leaves
// few enough points for two deviations.
func Scopes() []Scope {
	one := Settings{Machines: 2, Pools: 1, Addresses: 1, Pods: 2, Controllers: 1}
	a, b := createOn("a", "node0", "p0"), createOn("b", "node1", "p0")
	owning := Settings{Machines: 2, Pools: 1, Addresses: 3, Pods: 4, Controllers: 1, Deployments: 2, StatefulSets: 1, VirtualMachines: 1, Subnets: 1, Retain: true}
	writers := [][]string{{": create", ": update", ": delete", ": write", ": remove", ": set"}}
	var out []Scope
	for name, script := range map[string][]Event{
		"app-again": {app("app0", 1, "+0"), together(unwant("app0"), app("app0", 1, "+1"))},
		"set-rises": {set(1, "+2"), set(0, "+2"), set(1, "+2")},
		"set-again": {set(1, "+1"), unwant("set0"), set(1, "+1")},
		"vm-moves":  {vm("vm0"), migrate("vm0"), restart("vm0")},
		"handover":  {a, together(remove("a"), b), pass()},
		"force":     {a, together(force(), b), pass()},
		"again":     {a, together(force(), createOn("a", "node1", "p0")), pass()},
		"restart":   {a, together(die("a"), b), remove("a")},
		"node":      {a, together(unnode("node0"), b), pass()},
	} {
		settings := one
		if strings.Contains(name, "-") {
			settings = owning
		}
		out = append(out,
			Scope{Name: name + "-any", Settings: settings, Script: script, Stalls: 3, Kills: true, Early: true, goesWrong: goesWrong{Requests: true, Lists: true, Looks: true, Runtimes: true}},
			Scope{Name: name, Settings: settings, Script: script, Stalls: 2, Who: writers, Kills: true, goesWrong: goesWrong{Requests: true}})
	}
	// A pod that ends before a controller hears that it was adopted ends as the former owner's: nothing stands still here.
	owning.Frees = true
	out = append(out, Scope{Name: "set-orphaned", Settings: owning, Who: writers, Kills: true, goesWrong: goesWrong{Requests: true},
		Script: []Event{set(1, "+1"), orphan("set0"), set(1, "+1"), remove("set0-0")}})
	slices.SortFunc(out, func(a, b Scope) int { return strings.Compare(a.Name, b.Name) })
	return out
}
