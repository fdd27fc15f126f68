// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests the plugins in a Kubernetes cluster: pods that a kubelet makes
// by containerd and Multus, Services by kube-proxy. `make e2e` builds the cluster,
// and cluster.sh runs these tests on its control plane's machine.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// testCase is one line of the table at the end. Names like C00001 are those of the
// cases of spiderpool, the system that coordinator and ifacer come from.
type testCase struct {
	name, what string
	run        func(*testing.T)
	notCovered string // why the case isn't run
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	} else {
		code = m.Run()
		printTable()
	}
	os.Exit(code)
}

// results are the results of the cases that ran, by their names.
var results = map[string]string{}

// TestCases runs every case.
func TestCases(t *testing.T) {
	needWeb(t)
	for _, c := range cases() {
		if c.run == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			results[c.name] = "failed" // stays if the case ends early
			defer func() {
				fmt.Printf("%s %s, %.0f s\n", c.name, results[c.name], time.Since(began).Seconds())
			}()
			c.run(t)
			if !t.Failed() {
				results[c.name] = "passed"
			}
		})
	}
}

// printTable prints the result of each case.
func printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	counts := map[string]int{}
	fmt.Println()
	for _, c := range cases() {
		result, ran := results[c.name]
		switch {
		case c.run == nil:
			result = "not covered"
		case !ran:
			result = "not run"
		}
		counts[result]++
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.name, result, c.what+c.notCovered)
	}
	w.Flush() //nolint:errcheck // standard output
	fmt.Printf("\ne2e: %d passed, %d failed, %d not covered, %d not run\n",
		counts["passed"], counts["failed"], counts["not covered"], counts["not run"])
}

func cases() []testCase {
	var all []testCase
	for _, some := range [][]testCase{coordinatorCases, otherPluginCases, serviceCases(), manifestCases, networkCases, addressCases, guideCases, mendingCases, exampleCases, nodeCases, notCoveredCases} {
		all = append(all, some...)
	}
	return all
}

// notCoveredCases are the cases of spiderpool's list without a test here, and known
// limits.
var notCoveredCases = []testCase{
	{name: "C00019", notCovered: "conflicting addresses of a StatefulSet's pod are kept: on the API server in controlplane/addresses, TestConflictFixed"},
	{name: "N00001", notCovered: "a VLAN is made: needs 8021q; on another kernel in integration/uml"},
	{name: "N00002", notCovered: "a VLAN that exists is taken: needs 8021q; on another kernel in integration/uml"},
	{name: "N00003", notCovered: "a VLAN that is down is set up: needs 8021q; on another kernel in integration/uml"},
	{name: "N00004", notCovered: "one VLAN ID on two parents: needs 8021q; on another kernel in integration/uml"},
	{name: "N00005", notCovered: "a parent that is down is set up: needs 8021q; on another kernel in integration/uml"},
	{name: "N00006", notCovered: "VLAN and bond come back after the node restarted: needs 8021q and bonding; on another kernel in integration/uml"},
}
