// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// sets are the records of plugins, as a golden calls them.
var sets = map[string]records.Set{"coordinator": records.NodeRoutes, "route": records.BridgeRoutes}

// TestStale goes through testdata/*.txtar. Each holds a plan for every attachment that
// has one ("plan NIC PLUGIN"), what is noted ("noted"), what the pod has ("state"), and
// what is stale ("stale"). With a file "vague", the caches don't tell all.
func TestStale(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			k, golden := read(t, a)
			got := stale(t, k)
			if *update {
				write(t, file, a, got)
			} else if d := cmp.Diff(golden, got); d != "" {
				t.Errorf("stale (-golden +got), `go test -update` rewrites them:\n%s", d)
			}
			// When that is gone, there is no more of it.
			for _, op := range k.stale() {
				if err := k.pod.Apply(op); err != nil {
					t.Error(err)
				}
			}
			if more := stale(t, k); more != "" {
				t.Errorf("not a fixpoint: a second repair removes\n%s", more)
			}
		})
	}
}

// TestStaleNeedsEveryPlan takes what is known of an attachment out of each golden, one
// after the other: what the others want never is stale, and nothing is that only the
// missing one could ask for, if it is noted.
func TestStaleNeedsEveryPlan(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := read(t, a)
		for i, missing := range k.plans {
			less := k
			less.plans = append(append([]planned{}, k.plans[:i]...), k.plans[i+1:]...)
			less.noted = append(append([]note{}, k.noted...), note{Attachment: missing.Attachment, by: missing.by})
			if got := stale(t, less); got != "" {
				t.Errorf("%s: without the plan of %s: %s", file, missing.IfName, got)
			}
			less = k
			less.vague = true
			if got := stale(t, less); got != "" {
				t.Errorf("%s: when not all is told: %s", file, got)
			}
		}
	}
}

func stale(t *testing.T, k known) string {
	t.Helper()
	var b strings.Builder
	for _, op := range k.stale() {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

func webBy(ifname string) attachment.Attachment {
	return attachment.Attachment{Network: "lan-of-" + ifname, ContainerID: "web", IfName: ifname}
}

func read(t *testing.T, a *txtar.Archive) (k known, golden string) {
	t.Helper()
	k.pod = netstate.NewSnapshot()
	for _, f := range a.Files {
		word := strings.Fields(f.Name)
		switch word[0] {
		case "plan":
			p := planned{Attachment: webBy(word[1]), by: sets[word[2]]}
			objects(t, f.Data, func(ns netstate.NS, o netstate.Object) { p.plan.Want(ns, "golden", o) })
			k.plans = append(k.plans, p)
		case "noted":
			for line := range strings.Lines(string(f.Data)) {
				w := strings.Fields(line)
				k.noted = append(k.noted, note{Attachment: webBy(w[0]), by: sets[w[1]]})
			}
		case "vague":
			k.vague = true
		case "state":
			objects(t, f.Data, k.pod.Put)
		case "stale":
			golden = string(f.Data)
		default:
			t.Fatalf("what is %q?", f.Name)
		}
	}
	return k, golden
}

func objects(t *testing.T, data []byte, put func(netstate.NS, netstate.Object)) {
	t.Helper()
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		ns, o, err := netstate.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		put(ns, o)
	}
}

func write(t *testing.T, file string, a *txtar.Archive, got string) {
	t.Helper()
	var files []txtar.File
	for _, f := range a.Files {
		if f.Name != "stale" {
			files = append(files, f)
		}
	}
	files = append(files, txtar.File{Name: "stale", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: a.Comment, Files: files}), 0o644); err != nil {
		t.Fatal(err)
	}
}
