// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
)

// fault is what strace does to the n-th system call of one kind; strace counts
// for each thread, and coordinator stays on one.
type fault struct{ syscall, inject string }

// struck returns the call with the fault in it, and whether the call got as far
// as the fault.
func (f fault) struck(t *testing.T, c call, n int) (outcome, bool) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	c.under = []string{
		"strace", "-f", "-qq", "-o", log, "-e", "trace=" + f.syscall,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", f.syscall, f.inject, n),
	}
	out := c.run(t)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return out, strings.Contains(string(b), "(INJECTED)") || !out.state.Exited()
}

// eachCall strikes one system call after the other, until there are no more.
func (f fault) eachCall(t *testing.T, strike func(n int) bool) {
	t.Helper()
	const most = 1000
	for n := 1; n < most; n++ {
		if strike(n) {
			continue
		}
		if n == 1 {
			t.Errorf("no call of %s", f.syscall)
		}
		return
	}
	t.Errorf("more than %d calls of %s", most, f.syscall)
}

// TestFailingAddLeavesNothing lets each request of an ADD fail, before the
// kernel saw it (sendto) and after it did as asked (recvfrom). Node and pod must
// be as they were.
func TestFailingAddLeavesNothing(t *testing.T) {
	for _, f := range []fault{
		{"sendto", "error=ENOMEM"}, {"recvfrom", "error=ENOMEM"},
		{"openat", "error=EMFILE"}, // DEFECT
	} {
		t.Run(f.syscall, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			restrict(t, s)
			before := s.state(t)
			f.eachCall(t, func(n int) bool {
				out, struck := f.struck(t, s.web.call("ADD"), n)
				if !struck {
					return false
				}
				if out.state.Success() { // what failed was not needed
					s.web.check(t)
					s.web.del(t)
					removeShared(t, s)
					restrict(t, s)
				} else if _, err := out.asError(); err != nil {
					t.Errorf("%s %d: %v", f.syscall, n, err)
				}
				same(t, fmt.Sprintf("%s %d, after ADD that ended with %s", f.syscall, n, out.stdout), before.unnumbered(), s.state(t).unnumbered())
				return !t.Failed()
			})
			s.app.add(t)
			s.web.add(t)
			holds(t, s.Scene)
		})
	}
}

// restrict sets what ADD will change in the pod, so that there is something to
// put back.
func restrict(t *testing.T, s *stage) {
	t.Helper()
	for _, link := range []string{"all", lab.NIC} {
		if err := s.Web.SetSysctl("ipv4/conf/"+link+"/rp_filter", "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// removeShared takes away what DEL rightly leaves, for pods share it.
func removeShared(t *testing.T, s *stage) {
	t.Helper()
	sh(t, s.Node.Netns, "ip rule del priority 1000; ip -6 rule del priority 1000; nft delete table inet multihome-sources")
}

// TestResultCannotBePrinted: an ADD whose result nobody gets has failed.
func TestResultCannotBePrinted(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	restrict(t, s)
	before := s.state(t)
	c := s.web.call("ADD")
	c.full = true
	if out := c.run(t); out.state.Success() {
		t.Errorf("ADD succeeds without a word: %v", out.state)
	}
	same(t, "ADD into a full device", before, s.state(t))
}

// TestAddAfterKilledAdd kills ADD at each request, before the kernel saw it and
// after it did as asked. ADD again must make everything whole, and DEL must
// leave nothing.
func TestAddAfterKilledAdd(t *testing.T) {
	for _, syscall := range []string{"sendto", "recvfrom"} {
		t.Run(syscall, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			s.app.add(t)
			before := s.state(t)
			s.web.add(t)
			whole := s.state(t)
			s.web.del(t)
			same(t, "DEL", before.unnumbered(), s.state(t).unnumbered())

			f := fault{syscall, "signal=KILL"}
			f.eachCall(t, func(n int) bool {
				_, killed := f.struck(t, s.web.call("ADD"), n)
				s.web.add(t)
				s.web.check(t)
				same(t, fmt.Sprintf("ADD after one that was killed at %s %d", syscall, n), whole.unnumbered(), s.state(t).unnumbered())
				if killed {
					holds(t, s.Scene)
				}
				s.web.del(t)
				same(t, fmt.Sprintf("DEL after ADD that was killed at %s %d", syscall, n), before.unnumbered(), s.state(t).unnumbered())
				return killed && !t.Failed()
			})
		})
	}
}

// TestDelAfterKilledAdd is DEL without a second ADD between.
func TestDelAfterKilledAdd(t *testing.T) {
	for _, syscall := range []string{"sendto", "recvfrom"} {
		t.Run(syscall, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			s.app.add(t)
			before := s.state(t)
			f := fault{syscall, "signal=KILL"}
			f.eachCall(t, func(n int) bool {
				_, killed := f.struck(t, s.web.call("ADD"), n)
				s.web.del(t)
				same(t, fmt.Sprintf("DEL after ADD that was killed at %s %d", syscall, n), before.unnumbered(), s.state(t).unnumbered())
				return killed && !t.Failed()
			})
		})
	}
}

// TestHostRuleMadeInBetween holds up a pod's ADD before it makes the host rule,
// until another pod's ADD has made it: both need it and neither is wrong.
func TestHostRuleMadeInBetween(t *testing.T) {
	t.Parallel()
	s := newStage(t, only(0))
	request := requestForHostRule(t, s)

	held := make(chan outcome)
	go func() {
		f := fault{"sendto", "delay_enter=2s"}
		out, _ := f.struck(t, s.web.call("ADD"), request)
		held <- out
	}()
	const podRule = "32763:" // is made right before it
	for !strings.Contains(sh(t, s.Web.Netns, "ip rule"), podRule) {
		select {
		case out := <-held:
			t.Fatalf("ADD never made the pod's rule: %s", out.stdout)
		default:
		}
	}
	s.app.add(t)
	if out := <-held; !out.state.Success() {
		t.Errorf("ADD that was held up: %s", out.stdout)
	}
	s.app.check(t)
	s.web.check(t)
	if rules := sh(t, s.Node.Netns, "ip rule"); strings.Count(rules, "1000:") != 1 {
		t.Errorf("want one host rule:\n%s", rules)
	}
}

// requestForHostRule counts the requests of an ADD up to the one that makes the
// host rule.
func requestForHostRule(t *testing.T, s *stage) int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	c := s.web.call("ADD")
	c.under = []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=sendto", "-e", "signal=none"}
	c.fine(t)
	s.web.del(t)
	sh(t, s.Node.Netns, "ip rule del priority 1000")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, "RTM_NEWRULE") && strings.Contains(line, "FRA_PRIORITY}, 1000]") {
			return i + 1
		}
	}
	t.Fatalf("ADD makes no host rule:\n%s", b)
	return 0
}
