// SPDX-License-Identifier: Apache-2.0

package route

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

// TestPlans goes through testdata/*.txtar. Each holds a configuration, what
// prevResult says of eth0, the node's addresses, the link of the node that the
// NIC sits on and the state that is found, and then what ADD does about it, op by
// op, or its error, and what DEL does in the pod afterwards.
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
			add, del := planned(t, files["config"], task(t, files))
			if *update {
				write(t, file, golden, add, del)
			} else if d := cmp.Diff(files["ops"]+files["del"], add+del); d != "" {
				t.Errorf("ops (-golden +got), `go test ./pkg/route -update` rewrites them:\n%s", d)
			}
		})
	}
}

func task(t *testing.T, files map[string]string) plugin.Task {
	t.Helper()
	out := plugin.Task{
		Attachment: plugin.Attachment{Network: "net", ContainerID: "pod-a", IfName: "eth0"},
		Netns:      "/run/netns/pod-a",
		Prev:       &current.Result{},
		Parent:     strings.TrimSpace(files["parent"]),
		Snapshot:   netstate.NewSnapshot(),
	}
	if err := json.Unmarshal([]byte(files["prevResult"]), out.Prev); err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Fields(files["node"]) {
		out.Node = append(out.Node, netip.MustParseAddr(s))
	}
	for line := range strings.Lines(files["state"]) {
		ns, o, err := netstate.Parse(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		out.Snapshot.Put(ns, o)
	}
	return out
}

// planned is what ADD does, which is held to the engine's properties: a second
// ADD does nothing, and undone it is as it was; and what DEL does then.
func planned(t *testing.T, config string, task plugin.Task) (add, del string) {
	t.Helper()
	ops, err := planOps(config, task)
	if err != nil {
		return "error: " + err.Error() + "\n", ""
	}
	after := task
	after.Snapshot = task.Snapshot.Clone()
	add = applied(t, after.Snapshot, ops)
	if more, err := planOps(config, after); err != nil || len(more) > 0 {
		t.Errorf("not a fixpoint: a second ADD does %v, %v", more, err)
	}
	undone := after.Snapshot.Clone()
	applied(t, undone, netstate.Reverse(ops))
	if d := cmp.Diff(task.Snapshot.Lines(), undone.Lines()); d != "" {
		t.Errorf("undone (-before +after):\n%s", d)
	}
	r := remover{t: &after}
	r.sources()
	return add, applied(t, after.Snapshot, r.ops)
}

func applied(t *testing.T, s *netstate.Snapshot, ops []netstate.Op) string {
	t.Helper()
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintln(&b, op)
		if err := s.Apply(op); err != nil {
			t.Error(err)
		}
	}
	return b.String()
}

// planOps is what ADD does between observing and applying.
func planOps(config string, t plugin.Task) ([]netstate.Op, error) {
	conf, err := loaded(config)
	if err == nil {
		err = readable(&t)
	}
	if err != nil {
		return nil, err
	}
	plan, err := conf.Plan(&t)
	if err != nil {
		return nil, err
	}
	return netstate.Diff(plan, t.Snapshot)
}

func loaded(config string) (*Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(config), &raw); err != nil {
		return nil, err
	}
	c, err := Load(raw)
	if err != nil {
		return nil, err
	}
	return c.(*Config), nil
}

func write(t *testing.T, file string, a *txtar.Archive, add, del string) {
	t.Helper()
	var files []txtar.File
	for _, f := range a.Files {
		if f.Name != "ops" && f.Name != "del" {
			files = append(files, f)
		}
	}
	files = append(files, txtar.File{Name: "ops", Data: []byte(add)})
	if del != "" {
		files = append(files, txtar.File{Name: "del", Data: []byte(del)})
	}
	a.Files = files
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
