// SPDX-License-Identifier: Apache-2.0

package simulate_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/multihome/multihome/controlplane/simulate"
)

var (
	schedules = flag.Uint64("schedules", 150, "how many schedules TestSchedules runs without applications")
	owning    = flag.Uint64("owning", 30, "how many schedules TestSchedules runs with applications")
	first     = flag.Uint64("first", 0, "the seed of the first schedule")
	all       = flag.Bool("all", false, "TestScopes and TestControls run all schedules of their scopes")
	one       = flag.String("one", "", "a schedule for TestOne to print: small, middle, large, owning or sharing with a seed, as small:7, or a scope or control with its deviations, as force:17/2,40/1")
	without   = flag.String("without", "", "a protection that TestOne switches off, as look-again")
)

// worlds are the settings that tests use. In a small one everybody wants the same address; a
// large one is that of the issue. In the last two, applications have pools of their own.
var worlds = map[string]simulate.Settings{
	"small":  {Machines: 2, Pools: 1, Addresses: 1, Pods: 4, Controllers: 2, Steps: 3000, UserDeletes: true, Strangers: 1, Dual: true, Static: 2},
	"middle": {Machines: 3, Pools: 2, Addresses: 3, Pods: 8, Controllers: 2, Steps: 4000, UserDeletes: true, Strangers: 1, Dual: true, Static: 2},
	"large":  {Machines: 5, Pools: 3, Addresses: 14, Pods: 50, Controllers: 2, Steps: 12000, UserDeletes: true, Strangers: 1, Dual: true, Static: 2},
	"owning": {
		Machines: 2, Pools: 1, Addresses: 5, Pods: 10, Controllers: 2, Steps: 4000, UserDeletes: true, Strangers: 1, Dual: true, Static: 2,
		Deployments: 2, StatefulSets: 1, VirtualMachines: 1, Replicas: 3, Subnets: 2,
	},
	"sharing": {
		Machines: 2, Pools: 1, Addresses: 3, Pods: 6, Controllers: 2, Steps: 2500, UserDeletes: true, Strangers: 1, Dual: true, Static: 2,
		Deployments: 1, StatefulSets: 1, VirtualMachines: 1, Replicas: 2, Subnets: 1,
	},
}

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400)
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// TestOne runs one schedule and prints what happens in it.
func TestOne(t *testing.T) {
	text := *one
	if text == "" {
		text = "small:0"
	}
	var off []simulate.Protection
	for _, p := range simulate.All() {
		if dashed(p.String()) == *without {
			off = append(off, p)
		}
	}
	r := schedule(t, text, true, off...)
	t.Log(strings.Join(r.Trace, "\n"))
	t.Logf("%d steps, %d sandboxes got addresses", r.Steps, r.Served)
	if r.Broken != "" {
		t.Error(r.Broken)
	}
}

// schedule runs a schedule: of a world and a seed, or of a scope and its deviations.
func schedule(t *testing.T, text string, trace bool, off ...simulate.Protection) simulate.Result {
	t.Helper()
	name, which, _ := strings.Cut(text, ":")
	if s, ok := worlds[name]; ok {
		s.Trace, s.Without = trace, off
		return simulate.Random(seed(t, which), s)
	}
	s, ok := scopes()[name]
	deviations, err := simulate.Deviations(which)
	if err != nil || !ok {
		t.Fatalf("%s: no such scope, or %v", text, err)
	}
	s.Trace, s.Without = trace, off
	r, _ := s.Run(deviations...)
	return r
}

// scopes are those of simulate.Scopes and of the controls, by their names.
func scopes() map[string]simulate.Scope {
	out := map[string]simulate.Scope{}
	for _, s := range simulate.Scopes() {
		out[s.Name] = s
	}
	for _, c := range simulate.Controls() {
		out[dashed(c.Without.String())] = c.Scope
	}
	return out
}

func dashed(text string) string { return strings.ReplaceAll(text, " ", "-") }

func seed(t *testing.T, text string) (n uint64) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%s: want a seed: %v", text, err)
	}
	return n
}

// search runs schedules on all processors until one breaks an invariant. It returns that one,
// and how many it ran and what they served.
func search(s simulate.Settings, from, n uint64) (seed uint64, broken string, ran, served uint64) {
	var next, count, got atomic.Uint64
	var mu sync.Mutex
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for {
				i := next.Add(1) - 1
				mu.Lock()
				stop := broken != ""
				mu.Unlock()
				if stop || i >= n {
					return
				}
				r := simulate.Random(from+i, s)
				count.Add(1)
				got.Add(uint64(r.Served))
				if r.Broken != "" {
					mu.Lock()
					if broken == "" {
						seed, broken = from+i, r.Broken
					}
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	return seed, broken, count.Load(), got.Load()
}

// TestSchedules runs random schedules of each world: no two pods have one address, nothing is lost,
// nothing is left, and applications' pools have their sizes.
func TestSchedules(t *testing.T) {
	for world, n := range map[string]uint64{
		"small": *schedules * 70 / 100, "middle": *schedules * 25 / 100, "large": *schedules * 5 / 100,
		"sharing": *owning * 70 / 100, "owning": *owning * 30 / 100,
	} {
		seed, broken, ran, served := search(worlds[world], *first, n)
		t.Logf("%s: %d schedules, %d sandboxes got addresses", world, ran, served)
		if broken != "" {
			t.Errorf("%s: %s: go test ./simulate -run TestOne -v -one %s:%d", world, broken, world, seed)
		}
		if served == 0 {
			t.Errorf("%s: no sandbox got an address", world)
		}
	}
}

// TestSeeds runs schedules that broke an invariant once. The worlds have further faults since, so
// today those of the seeds are other ones.
func TestSeeds(t *testing.T) {
	for _, text := range []string{
		"small:113", "small:303", "small:432", "small:569", "small:891", "small:1231", "middle:0", "middle:1001050",
		"owning:2504", "owning:10126", "sharing:10276", "sharing:50856", "sharing:1000603",
		"small:182", "small:215", "small:586", "small:899", "middle:24", "middle:218", "sharing:23", "owning:1000270", "owning:1000503", "owning:16004523",
		"set-rises-any:16/3", "set-rises-any:181/3", "vm-moves-any:171/3", "vm-moves-any:174/3",
	} {
		if r := schedule(t, text, false); r.Broken != "" {
			t.Errorf("%s: %s", text, r.Broken)
		}
	}
}

// TestRepeats: a seed gives the same schedule again.
func TestRepeats(t *testing.T) {
	s := worlds["middle"]
	s.Trace = true
	for seed := range uint64(8) {
		a, b := simulate.Random(seed, s), simulate.Random(seed, s)
		if x, y := strings.Join(a.Trace, "\n"), strings.Join(b.Trace, "\n"); x != y {
			t.Errorf("two runs of seed %d differ", seed)
		}
	}
}

// TestScopes runs all schedules of two pods, one address and two nodes, or of an application, to some depth: one
// deviation wherever there can be one, and two before writes. Without -all, it is one
// before a write.
func TestScopes(t *testing.T) {
	for _, s := range simulate.Scopes() {
		depth := 1
		switch everywhere := strings.HasSuffix(s.Name, "-any"); {
		case everywhere && !*all:
			continue
		case !everywhere && *all:
			depth = 2
		}
		t.Run(s.Name, func(t *testing.T) {
			found, ran := s.Explore(depth, runtime.GOMAXPROCS(0))
			t.Logf("%d schedules with up to %d deviations", ran, depth)
			if found != nil {
				t.Errorf("%s: go test ./simulate -run TestOne -v -one %s:%s", found.Broken, s.Name, found)
			}
		})
	}
}

// TestControls: without one of the protections, two pods have one address, or a pool has a wrong size.
// With -all, no schedule of the same scope does that with it.
func TestControls(t *testing.T) {
	for _, c := range simulate.Controls() {
		name := dashed(c.Without.String())
		t.Run(name, func(t *testing.T) {
			if *all {
				found, ran := c.Explore(c.Depth, runtime.GOMAXPROCS(0))
				t.Logf("with it: %d schedules", ran)
				if found != nil {
					t.Errorf("with it: %s: go test ./simulate -run TestOne -v -one %s:%s", found.Broken, name, found)
				}
			}
			c.Scope.Without = []simulate.Protection{c.Without}
			found, ran := c.Explore(c.Depth, runtime.GOMAXPROCS(0))
			if found == nil {
				t.Fatalf("%d schedules without it, and nothing breaks", ran)
			}
			t.Logf("after %d schedules, -one %s:%s -without %s: %s", ran, name, found, name, found.Broken)
		})
	}
}
