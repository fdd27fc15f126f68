// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// faulty runs ADD with something injected into one of its requests, by strace(1),
// and reports whether there was such a request.
func (n *node) faulty(c call, fault string, request int) (out outcome, injected bool, err error) {
	n.under = []string{
		"strace", "-f", "-qq", "-o", "/run/strace", "-e", "trace=sendto",
		"-e", fmt.Sprintf("inject=sendto:%s:when=%d", fault, request),
	}
	out, err = n.start(c)
	n.under = nil
	trace := n.sh("cat /run/strace; rm /run/strace")
	return out, strings.Contains(trace, "(INJECTED)") || strings.Contains(trace, "killed by SIGKILL"), err
}

// TestUndoFaults: each of ADD's requests fails in turn, after what came before it
// has been done, and each time all of it is undone.
func TestUndoFaults(t *testing.T) {
	n := two(t)
	n.sh(uplink + "; ip link set ens224 down")
	before := n.state()
	conf := strings.Replace(forced, "{", `{"vlanID": 5, `, 1)
	for i := 1; ; i++ {
		out, injected, err := n.faulty(call{verb: "ADD", id: "a", conf: conf}, "error=ENOMEM", i)
		if err != nil {
			t.Fatal(err)
		}
		if !injected {
			if out.err != nil || i < 10 {
				t.Errorf("ADD with %d requests: %v", i-1, out.err)
			}
			return
		}
		if out.err == nil {
			t.Fatalf("ADD succeeds although request %d failed", i)
		}
		n.same(fmt.Sprintf("request %d failed: %v", i, out.err), before)
	}
}

// TestKilled: ADD is killed at each of its requests in turn, and the next ADD
// makes everything good.
func TestKilled(t *testing.T) {
	for i := 1; ; i++ {
		n := two(t)
		_, injected, err := n.faulty(call{verb: "ADD", id: "a", conf: bond200}, "signal=KILL", i)
		if err != nil && !errors.Is(err, errNoAnswer) {
			t.Fatal(err)
		}
		n.add(bond200)
		n.check(bond200)
		n.shows("ip link show type vlan", `bond0\.200@bond0`)
		if !injected {
			if i < 10 {
				t.Errorf("ADD has only %d requests", i-1)
			}
			return
		}
	}
}

// TestSomebodyWasFirst: a link that appears between looking and making is looked
// at again. The kernel's answer is made up, so that it comes each time.
func TestSomebodyWasFirst(t *testing.T) {
	again := 0
	for i := 1; ; i++ {
		n := two(t)
		before := n.state()
		out, injected, err := n.faulty(call{verb: "ADD", id: "a", conf: vlan100}, "error=EEXIST", i)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !injected:
			if again == 0 {
				t.Error("ADD never looked again")
			}
			return
		case out.err == nil:
			again++
			n.check(vlan100)
		default: // a request that only looks
			n.same(fmt.Sprintf("request %d: %v", i, out.err), before)
		}
	}
}
