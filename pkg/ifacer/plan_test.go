// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// TestPlans goes through testdata/*.txtar. Each holds a configuration and the
// state that is found, and then what ADD does about it, op by op, or its error.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			golden, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range golden.Files {
				files[f.Name] = string(f.Data)
			}
			got := planned(t, json.RawMessage(files["config"]), state(t, files["state"]))
			if *update {
				write(t, file, golden, got)
			} else if d := cmp.Diff(files["ops"], got); d != "" {
				t.Errorf("ops (-golden +got), `go test ./pkg/ifacer -update` rewrites them:\n%s", d)
			}
		})
	}
}

func state(t *testing.T, lines string) *netstate.Snapshot {
	t.Helper()
	snap := netstate.NewSnapshot()
	for line := range strings.Lines(lines) {
		ns, o, err := netstate.Parse(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		snap.Put(ns, o)
	}
	return snap
}

// planned is what ADD does on that state, which is held to the engine's
// properties: a second ADD does nothing, and undone it is as it was.
func planned(t *testing.T, config json.RawMessage, before *netstate.Snapshot) string {
	t.Helper()
	ops, err := planOps(config, before)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	after := before.Clone()
	for _, op := range ops {
		fmt.Fprintln(&b, op)
		if err := after.Apply(op); err != nil {
			t.Error(err)
		}
	}
	if more, err := planOps(config, after); err != nil || len(more) > 0 {
		t.Errorf("not a fixpoint: a second ADD does %v, %v", more, err)
	}
	for _, op := range netstate.Reverse(ops) {
		if err := after.Apply(op); err != nil {
			t.Error(err)
		}
	}
	if d := cmp.Diff(before.Lines(), after.Lines()); d != "" {
		t.Errorf("undone (-before +after):\n%s", d)
	}
	return b.String()
}

// planOps is what ADD does between observing and applying.
func planOps(config json.RawMessage, snap *netstate.Snapshot) ([]netstate.Op, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, err
	}
	conf, err := Load(raw)
	if err != nil {
		return nil, err
	}
	plan, err := conf.Plan(&plugin.Task{Snapshot: snap})
	if err != nil {
		return nil, err
	}
	return netstate.Diff(plan, snap)
}

func write(t *testing.T, file string, a *txtar.Archive, ops string) {
	t.Helper()
	var files []txtar.File
	for _, f := range a.Files {
		if f.Name != "ops" {
			files = append(files, f)
		}
	}
	a.Files = append(files, txtar.File{Name: "ops", Data: []byte(ops)})
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
