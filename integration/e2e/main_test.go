// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests the plugins in a Kubernetes cluster: pods that a kubelet makes
// by containerd and Multus, Services by kube-proxy. `make e2e` builds the clusters,
// and run.sh runs these tests in one after the other, on its control plane's machine.
package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// testCase is one line of the table at the end. Names like C00001 are those of the
// cases of spiderpool, the system that coordinator and ifacer come from.
type testCase struct {
	name, what string
	run        func(*testing.T)
	sound      bool   // in the end, doctor must find no problem and repair nothing to do
	notCovered string // why the case isn't run
	cluster    string // the kind of cluster that it needs; "" is bridge
}

// kind returns the kind of cluster that the case runs in, as cluster.sh calls it.
func (c testCase) kind() string { return cmp.Or(c.cluster, "bridge") }

// These are for run.sh, which runs this program once in each kind of cluster.
var (
	kindsOf = flag.String("kinds", "", "print the kinds of cluster that the cases matching this pattern need, and run none")
	table   = flag.Bool("table", false, "print the results of all kinds of cluster, and run no case")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := 0
	var err error
	switch {
	case *kindsOf != "":
		err = printKinds(*kindsOf)
	case *table:
		err = printTable()
	default:
		if err = setUp(); err == nil {
			code = m.Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// TestCases runs every case of this kind of cluster.
func TestCases(t *testing.T) {
	needWeb(t)
	for _, c := range cases() {
		if c.run == nil || c.kind() != os.Getenv("E2E_CLUSTER") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			began, result := time.Now(), "failed"
			record(t, c.name, result) // stays if the case ends early
			defer func() {
				record(t, c.name, result)
				fmt.Printf("%s %s, %.0f s\n", c.name, result, time.Since(began).Seconds())
			}()
			c.run(t)
			if c.sound {
				within(t, 30*time.Second, func() error { return sound(t) })
			}
			if !t.Failed() {
				result = "passed"
			}
		})
	}
}

// record adds a line to the file of the results, where the last line about a case counts.
func record(t *testing.T, name, result string) {
	path := os.Getenv("E2E_RESULTS")
	if path == "" {
		return // without run.sh there is no table
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(f, name, result)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// printKinds prints the kinds of cluster that the cases need whose names match.
func printKinds(pattern string) error {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	var kinds []string
	for _, c := range cases() {
		if c.run != nil && match.MatchString(c.name) && !slices.Contains(kinds, c.kind()) {
			kinds = append(kinds, c.kind())
			fmt.Println(c.kind())
		}
	}
	if kinds == nil {
		return fmt.Errorf("no case matches %s", pattern)
	}
	return nil
}

// printTable prints the result of each case.
func printTable() error {
	results := map[string]string{}
	b, err := os.ReadFile(os.Getenv("E2E_RESULTS"))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // no cluster may have come up
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		results[name] = result
	}
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.name, c.kind(), result, c.what+c.notCovered)
	}
	w.Flush() //nolint:errcheck // standard output
	fmt.Printf("\ne2e: %d passed, %d failed, %d not covered, %d not run\n",
		counts["passed"], counts["failed"], counts["not covered"], counts["not run"])
	return nil
}

func cases() []testCase {
	var all []testCase
	for _, some := range [][]testCase{coordinatorCases, otherPluginCases, serviceCases(), manifestCases, networkCases, addressCases, disasterCases, guideCases, mendingCases, downCases, exampleCases, nodeCases, overlayCases(), thickCases, notCoveredCases} {
		all = append(all, some...)
	}
	return all
}

// notCoveredCases are the cases of spiderpool's list without a test here, and known
// limits.
var notCoveredCases = []testCase{
	{name: "N00001", notCovered: "a VLAN is made: needs 8021q; on another kernel in integration/uml"},
	{name: "N00002", notCovered: "a VLAN that exists is taken: needs 8021q; on another kernel in integration/uml"},
	{name: "N00003", notCovered: "a VLAN that is down is set up: needs 8021q; on another kernel in integration/uml"},
	{name: "N00004", notCovered: "one VLAN ID on two parents: needs 8021q; on another kernel in integration/uml"},
	{name: "N00005", notCovered: "a parent that is down is set up: needs 8021q; on another kernel in integration/uml"},
	{name: "N00006", notCovered: "VLAN and bond come back after the node restarted: needs 8021q and bonding; on another kernel in integration/uml"},
}
