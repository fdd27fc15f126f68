// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// TestPlans goes through testdata/*.txtar. Each holds a configuration, an
// attachment, what its prevResult says, the node's addresses and the state that
// is found, and then what ADD does about it, op by op, or its error. With
// "given", the state is what the cases named there lead to, one upon the other,
// and then what "state" adds.
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
			g := readGolden(t, golden)
			got := g.run(t)
			if *update {
				g.write(t, file, golden, got)
				return
			}
			if d := cmp.Diff(g.ops, got); d != "" {
				t.Errorf("ops (-golden +got), `go test ./pkg/coordinator -update` rewrites them:\n%s", d)
			}
		})
	}
}

// golden is a case of TestPlans.
type golden struct {
	load   plugin.Load
	config json.RawMessage
	task   plugin.Task
	ops    string
}

func readGolden(t *testing.T, a *txtar.Archive) golden {
	t.Helper()
	g := golden{load: Load, task: plugin.Task{
		Attachment: plugin.Attachment{Network: "net", ContainerID: "pod-a", IfName: "eth0"},
		Netns:      "/run/netns/pod-a",
		Prev:       &current.Result{},
		Snapshot:   netstate.NewSnapshot(),
	}}
	for _, f := range a.Files {
		data := strings.TrimSpace(string(f.Data))
		switch f.Name {
		case "given":
			for _, name := range strings.Fields(data) {
				g.given(t, name)
			}
		case "config":
			g.config = json.RawMessage(data)
		case "plugin":
			g.load = map[string]plugin.Load{"coordinator": Load, "veth": LoadOlder}[data]
		case "ifname":
			g.task.IfName = data
		case "prevResult":
			if err := json.Unmarshal(f.Data, g.task.Prev); err != nil {
				t.Fatal(err)
			}
		case "parent":
			g.task.Parent = data
		case "node":
			for _, s := range strings.Fields(data) {
				g.task.Node = append(g.task.Node, netip.MustParseAddr(s))
			}
		case "state":
			for line := range strings.Lines(data) {
				ns, o, err := netstate.Parse(strings.TrimSpace(line))
				if err != nil {
					t.Fatal(err)
				}
				g.task.Snapshot.Put(ns, o)
			}
		case "ops":
			g.ops = string(f.Data)
		default:
			t.Fatalf("what is %q?", f.Name)
		}
	}
	return g
}

// given puts the state that another case leads to into this one's.
func (g golden) given(t *testing.T, name string) {
	t.Helper()
	a, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	before := readGolden(t, a)
	ops, err := planOps(before.load, before.config, &before.task)
	if err != nil {
		t.Fatal(err)
	}
	after := before.task.Snapshot
	for _, op := range ops {
		if err := after.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range after.Lines() {
		ns, o, err := netstate.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		g.task.Snapshot.Put(ns, o)
	}
}

// run plans, and holds the result to the engine's properties.
func (g golden) run(t *testing.T) string {
	t.Helper()
	ops, err := planOps(g.load, g.config, &g.task)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	after := g.task.Snapshot.Clone()
	for _, op := range ops {
		fmt.Fprintln(&b, op)
		if err := after.Apply(op); err != nil {
			t.Error(err)
		}
	}
	again := g.task
	again.Snapshot = after
	if more, err := planOps(g.load, g.config, &again); err != nil || len(more) > 0 {
		t.Errorf("not a fixpoint: a second ADD does %v, %v", more, err)
	}
	for _, op := range netstate.Reverse(ops) {
		if err := after.Apply(op); err != nil {
			t.Error(err)
		}
	}
	if d := cmp.Diff(g.task.Snapshot.Lines(), after.Lines()); d != "" {
		t.Errorf("undone (-before +after):\n%s", d)
	}
	return b.String()
}

// TestCheckIgnoresLateAddresses: a router advertisement that came after ADD is
// no reason for CHECK to fail, and one for a repeated ADD to do something.
func TestCheckIgnoresLateAddresses(t *testing.T) {
	a, err := txtar.ParseFile("testdata/underlay-dual.txtar")
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t, a)
	ops, err := planOps(g.load, g.config, &g.task)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if err := g.task.Snapshot.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	_, late, err := netstate.Parse("pod: addr 2001:db8::172/64 dev eth0 dynamic")
	if err != nil {
		t.Fatal(err)
	}
	g.task.Snapshot.Put(netstate.Pod, late)
	if ops, err := planOps(g.load, g.config, &g.task); err != nil || len(ops) == 0 {
		t.Errorf("ADD does %v, %v for the new address", ops, err)
	}
	g.task.Checking = true
	if ops, err := planOps(g.load, g.config, &g.task); err != nil || len(ops) != 0 {
		t.Errorf("CHECK asks for %v, %v", ops, err)
	}
}

// planOps is what ADD does between observing and applying.
func planOps(load plugin.Load, config json.RawMessage, t *plugin.Task) ([]netstate.Op, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, err
	}
	conf, err := load(raw)
	if err != nil || conf == nil {
		return nil, err
	}
	plan, err := conf.Plan(t)
	if err != nil {
		return nil, err
	}
	return netstate.Diff(plan, t.Snapshot)
}

func (g golden) write(t *testing.T, file string, a *txtar.Archive, ops string) {
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
