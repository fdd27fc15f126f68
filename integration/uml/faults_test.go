// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fault"
)

// faulty runs ADD, injects a fault into one of its requests with strace(1), and reports
// whether there was such a request.
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

// struck are the configurations of ifacer on which a matrix runs.
var struck = map[string]string{
	"ifacer, VLAN":           vlan100,
	"ifacer, bond":           forced,
	"ifacer, VLAN of a bond": strings.Replace(forced, "{", `{"vlanID": 5, `, 1),
}

// TestFaults makes ifacer fail and die at each of its system calls in turn. The bond
// takes a NIC that carries the node's traffic, and a NIC that is down.
func TestFaults(t *testing.T) {
	inject, err := filepath.Abs("../../bin/test/inject")
	if err != nil {
		t.Fatal(err)
	}
	for name, conf := range struck {
		t.Run(name, func(t *testing.T) {
			n := two(t)
			n.sh(uplink + "; ip link set ens224 down")
			fault.Matrix(t, inject, fault.Subject{
				Run: func(verb string, by ...string) (*types.Error, error) {
					c := call{verb: verb, id: "a", conf: unused(conf)}
					switch verb {
					case "CHECK":
						c.more = prev
					case "GC":
						c.id, c.more = "", `"cni.dev/valid-attachments": []`
					}
					n.under = by
					defer func() { n.under = nil }()
					out, err := n.start(c)
					if err != nil && out.code == fault.KilledStatus {
						return nil, fault.ErrKilled
					}
					return out.err, err
				},
				State: func() []string {
					lines := n.state()
					for i := range lines {
						lines[i] = "node: " + lines[i]
					}
					return lines
				},
				Tidy: func(verb string) {
					if verb != "ADD" { // only a failing ADD gives a member back what it lost
						n.sh(strings.ReplaceAll(uplink, " add ", " replace "))
					}
				},
			})
		})
	}
}

// TestSomebodyWasFirst checks that ifacer looks again if a link appears between its
// look and its request. strace forges the kernel's answer, so that this happens each
// time.
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
		default: // a request that only reads
			n.same(fmt.Sprintf("request %d: %v", i, out.err), before)
		}
	}
}
