// SPDX-License-Identifier: Apache-2.0

package mending

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

var strikes = flag.Int("strikes", 3, "how many system calls of the mender TestFaults strikes in each mode, drawn at random; 0 for all")

// flushed is what happens to a node and a pod. The rule for table default is the kernel's.
var flushed = []string{"ip rule flush on the node", "ip route flush table 500", "ip rule flush in the pod", "nft flush ruleset in the pod",
	"tables in the pod are flushed", "neighbours of the veth are deleted"}

const defaultRule = "ip rule add pref 32767 lookup default proto kernel;"

// TestFaults has a node and a pod flushed, and the mender killed before each of its system calls,
// or the call fails. The same mender, or the next one if it has ended, makes all as it was.
func TestFaults(t *testing.T) {
	for mode, chain := range map[string]string{"veth": fixture.Chained, "macvlan": strings.Replace(fixture.Chained, "{", `{"hostLink": "macvlan", `, 1)} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, fixture.TwoLANs["dual"], chain)
			state := func() fixture.State {
				out := s.State(t).Unlike(fixture.Passing).Unnumbered()
				slices.Sort(out)
				return out
			}
			list := filepath.Join(t.TempDir(), "calls")
			// strike has a mender mend by inject, until the calls are done or it has ended.
			strike := func(flags ...string) *mender {
				for _, what := range flushed {
					if d := damages[what]; d.onNode != "" {
						fixture.Sh(t, s.Node.Netns, d.onNode)
					} else if mode == "veth" || !strings.Contains(d.inPod, "veth0") {
						fixture.Sh(t, s.Web.Netns, d.inPod)
					}
				}
				fixture.Sh(t, s.Node.Netns, defaultRule)
				fixture.Sh(t, s.Web.Netns, defaultRule)
				if !drifts(t, s) {
					t.Fatal("the control: nothing is to be mended")
				}
				m := launch(t, s.Lab, append([]string{fixture.Inject(), "-list", list}, flags...)...)
				m.eventually("the end of the first look", func() bool { return m.hasEnded() || len(m.said("behind 0")) > 0 })
				return m
			}
			// listed returns the calls of the mender, and how many of them had a fault.
			listed := func() (calls, hit int) {
				text, err := os.ReadFile(list)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(text)) {
					calls++
					if _, fault, _ := strings.Cut(strings.TrimSpace(line), ": "); fault != "" {
						hit++
					}
				}
				return calls, hit
			}
			m := strike()
			m.eventually("a node without drift", func() bool { return !drifts(t, s) })
			m.kill()
			s.Check(t)
			whole := state()
			calls, hit := listed()
			if hit > 0 {
				t.Error("the control: a fault without a strike")
			}
			order := rand.Perm(calls)
			if *strikes > 0 {
				order = order[:*strikes]
			}
			killed, failed := 0, 0
			for _, n := range order {
				call := strconv.Itoa(n + 1)
				for _, flags := range [][]string{{"-kill", call}, {"-fail", call + "=ENOBUFS"}} {
					what := fmt.Sprintf("%s of %d calls", strings.Join(flags, " "), calls)
					m := strike(flags...)
					m.eventually("a node without drift after "+what, func() bool {
						if m.hasEnded() { // perhaps long after the first look
							m.kill()
							m = launch(t, s.Lab)
						}
						return !drifts(t, s)
					})
					m.kill()
					if _, hit := listed(); flags[0] == "-kill" {
						killed += hit
					} else {
						failed += hit
					}
					start(t, s.Lab).finish() // the other may have been killed in a later look, which had nothing to mend
					fixture.Same(t, what, whole, state())
				}
			}
			t.Logf("faults: mending, %s: %d calls, %d faults injected, %d kills survived", mode, calls, failed, killed)
			if killed+failed == 0 { // the last calls may not come in each run
				t.Error("the control: no strike has hit")
			}
		})
	}
}

// TestUnreadOnce: what the runtime keeps of a pod can't be opened once. The mender opens it again,
// and mends the pod.
func TestUnreadOnce(t *testing.T) {
	for name, what := range map[string]struct {
		nth  int
		file func(s *fixture.Site) string
	}{
		"the only result of a pod, at first":        {0, func(s *fixture.Site) string { return "macvlan-ens192-" + s.App.ContainerID + "-eth0" }},
		"the only result of a pod, to look at it":   {1, func(s *fixture.Site) string { return "macvlan-ens192-" + s.App.ContainerID + "-eth0" }},
		"the directory of results, at first":        {0, func(*fixture.Site) string { return "" }},
		"the directory of results, to look at pods": {1, func(*fixture.Site) string { return "" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
			list := filepath.Join(t.TempDir(), "calls")
			file := filepath.Join("/var/lib/cni/results", what.file(s))
			// opens returns the number of the call that opens it, and its fault.
			opens := func() (call, fault string) {
				text, err := os.ReadFile(list)
				if err != nil {
					t.Fatal(err)
				}
				left := what.nth
				for line := range strings.Lines(string(text)) {
					line, fault, _ := strings.Cut(strings.TrimSpace(line), ": ")
					if call, opened, _ := strings.Cut(line, " openat "); opened == file {
						if left == 0 {
							return call, fault
						}
						left--
					}
				}
				t.Fatalf("no such call opens %s: %s", file, text)
				return "", ""
			}
			run := func(flags ...string) *mender {
				m := launch(t, s.Lab, append([]string{fixture.Inject(), "-list", list}, flags...)...)
				m.eventually("the end of the first look", func() bool { return m.hasEnded() || len(m.said("behind 0")) > 0 })
				return m
			}
			run().kill()
			call, _ := opens()
			fixture.Sh(t, s.App.Netns, damages["ip rule flush in the pod"].inPod+"; "+defaultRule)
			m := run("-fail", call+"=EIO")
			if _, fault := opens(); fault != "EIO" {
				t.Errorf("the control: call %s has fault %q", call, fault)
			}
			m.eventually("a node without drift", func() bool { return !drifts(t, s) })
			if m.hasEnded() {
				t.Error("the mender has ended")
			}
			m.kill()
		})
	}
}
