// SPDX-License-Identifier: Apache-2.0

// Package plantest is what the plans of plugins are tested with: cases in
// testdata/*.txtar, each held to the engine's properties, and the pages of
// documentation that quote them.
package plantest

import (
	"encoding/json"
	"errors"
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

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

var update = flag.Bool("update", false, "rewrite the goldens, and what pages quote of them")

// Suite is the cases of a plugin. The first of its names reads the configuration
// of a case that doesn't say which.
type Suite struct {
	Names []Name
	// Remove is what DEL does.
	Remove func(*plugin.View) []netstate.Op
}

// Name is a plugin's name with what reads its configuration.
type Name struct {
	Name string
	Load plugin.Load
}

// Case is one of them: an attachment, its configuration and the state that is
// found.
type Case struct {
	View plugin.View

	others  []records.Record // of the attachments that are given
	suite   Suite
	archive *txtar.Archive
	load    plugin.Load
	config  []byte
	golden  string // what ADD does, op by op, or its error, and then what DEL does
}

// Plans goes through testdata/*.txtar. Each holds a configuration, an
// attachment, what its prevResult says, the node's addresses, the link of the
// node that the NIC sits on, what an earlier ADD noted, and the state that is found;
// and then what ADD does about it, op by op, or its error, and what DEL does
// afterwards. With "given", the state is what the cases named there lead to, one upon
// the other, and then what "state" adds.
func (s Suite) Plans(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			c := s.Case(t, name)
			add, del := c.run(t)
			if *update {
				c.write(t, file, add, del)
			} else if d := cmp.Diff(c.golden, add+del); d != "" {
				t.Errorf("ops (-golden +got), `go test -update` rewrites them:\n%s", d)
			}
		})
	}
}

// Fuzz plans for any configuration that is accepted, in these cases: the plan is one that
// the kernel takes, as far as the simulator knows it, and leaves nothing to be done
// again. Errors are those of the plan, or of what is in the way.
func (s Suite) Fuzz(f *testing.F, cases ...string) {
	f.Helper()
	f.Fuzz(func(t *testing.T, conf string) {
		raw, err := config.Object([]byte(conf))
		if err != nil {
			return
		}
		for _, n := range s.Names {
			conf, err := n.Load(raw)
			if err != nil || conf == nil {
				continue
			}
			for _, name := range cases {
				c := s.Case(t, name)
				plan, err := conf.Plan(&c.View)
				if err != nil {
					continue
				}
				ops, err := netstate.Diff(plan, c.View.Snapshot)
				if errors.As(err, new(*netstate.Conflict)) {
					continue
				}
				if err != nil {
					t.Fatalf("%s, %s: %v", conf, name, err)
				}
				apply(t, c.View.Snapshot, ops)
				if plan, err = conf.Plan(&c.View); err != nil {
					t.Fatalf("%s, %s: again: %v", conf, name, err)
				}
				if ops, err := netstate.Diff(plan, c.View.Snapshot); err != nil || len(ops) > 0 {
					t.Fatalf("%s, %s: again: %v, %v", conf, name, ops, err)
				}
			}
		}
	})
}

// Case reads testdata/NAME.txtar.
func (s Suite) Case(t *testing.T, name string) *Case {
	t.Helper()
	a, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	c := &Case{suite: s, archive: a, load: s.Names[0].Load, View: plugin.View{
		Attachment: attachment.Attachment{Network: "net", ContainerID: "pod-a", IfName: "eth0"},
		Netns:      "/run/netns/pod-a",
		Prev:       &current.Result{},
		Snapshot:   netstate.NewSnapshot(),
	}}
	for _, f := range a.Files {
		c.read(t, f)
	}
	return c
}

func (c *Case) read(t *testing.T, f txtar.File) {
	t.Helper()
	data := strings.TrimSpace(string(f.Data))
	switch f.Name {
	case "given":
		for _, name := range strings.Fields(data) {
			c.given(t, name)
		}
	case "config":
		c.config = f.Data
	case "plugin":
		for _, n := range c.suite.Names {
			if n.Name == data {
				c.load = n.Load
			}
		}
	case "ifname":
		c.View.IfName = data
	case "prevResult":
		if err := json.Unmarshal(f.Data, c.View.Prev); err != nil {
			t.Fatal(err)
		}
	case "own":
		c.View.Own = new(records.Record)
		if err := json.Unmarshal(f.Data, c.View.Own); err != nil {
			t.Fatal(err)
		}
	case "parent":
		c.View.Parent = data
	case "node":
		for _, addr := range strings.Fields(data) {
			c.View.Node = append(c.View.Node, netip.MustParseAddr(addr))
		}
	case "state":
		c.put(t, strings.Split(data, "\n"))
	case "ops", "del":
		c.golden += string(f.Data)
	default:
		t.Fatalf("what is %q?", f.Name)
	}
}

// given puts the state that another case leads to into this one's.
func (c *Case) given(t *testing.T, name string) {
	t.Helper()
	before := c.suite.Case(t, name)
	before.Add(t)
	c.put(t, before.View.Snapshot.Lines())
	if before.View.IfName == c.View.IfName {
		c.View.Own = before.View.Own
	} else if before.View.Own != nil {
		c.others = append(c.others, *before.View.Own)
	}
	c.others = append(c.others, before.others...)
}

func (c *Case) put(t *testing.T, lines []string) {
	t.Helper()
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		ns, o, err := netstate.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		c.View.Snapshot.Put(ns, o)
	}
}

// Add does to the case's state what ADD does, and notes what it would.
func (c *Case) Add(t *testing.T) {
	t.Helper()
	ops, record, err := c.plan()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c.View.Snapshot, ops)
	c.View.Own = record
}

// Ops is what ADD does between observing and applying.
func (c *Case) Ops() ([]netstate.Op, error) {
	ops, _, err := c.plan()
	return ops, err
}

// plan is what ADD does, and what it notes of the attachment.
func (c *Case) plan() ([]netstate.Op, *records.Record, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(c.config, &raw); err != nil {
		return nil, nil, err
	}
	conf, err := c.load(raw)
	if err != nil || conf == nil {
		return nil, nil, err
	}
	plan, err := conf.Plan(&c.View)
	if err != nil {
		return nil, nil, err
	}
	record := conf.Record(&c.View, plan)
	if record != nil {
		record.Network, record.ContainerID, record.IfName = c.View.Network, c.View.ContainerID, c.View.IfName
	}
	ops, err := netstate.Diff(plan, c.View.Snapshot)
	return ops, record, err
}

// run plans, and holds the result to the engine's properties: a second ADD does
// nothing, undone all is as it was, and DEL leaves nothing of ADD's and takes nothing
// of anybody else's.
func (c *Case) run(t *testing.T) (add, del string) {
	t.Helper()
	ops, record, err := c.plan()
	if err != nil {
		return "error: " + err.Error() + "\n", ""
	}
	after := *c
	after.View.Snapshot = c.View.Snapshot.Clone()
	add = apply(t, after.View.Snapshot, ops)
	if more, err := after.Ops(); err != nil || len(more) > 0 {
		t.Errorf("not a fixpoint: a second ADD does %v, %v", more, err)
	}
	undone := after.View.Snapshot.Clone()
	apply(t, undone, netstate.Reverse(ops))
	if d := cmp.Diff(c.View.Snapshot.Lines(), undone.Lines()); d != "" {
		t.Errorf("undone (-before +after):\n%s", d)
	}
	added := after.View.Snapshot.Clone()
	after.View.Own, after.View.Others = record, c.others
	del = remove(t, after.View.Snapshot, c.suite.Remove(&after.View))
	if !c.isAgain() {
		c.compare(t, added, after.View.Snapshot)
	}
	return add, del
}

// remove does operations as far as that can be done, as the kernel would, and returns
// what it did as lines.
func remove(t *testing.T, s *netstate.Snapshot, ops []netstate.Op) string {
	t.Helper()
	var b strings.Builder
	for _, op := range ops {
		if op.Before != nil {
			have := found(s, op.NS, op.Before)
			if have == nil {
				continue
			}
			op.Before = have
		}
		err := s.Apply(op)
		if errors.Is(err, netstate.ErrExists) {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

// found is what the kernel takes an object that is to be deleted for, nil if there is
// none: a route must have the protocol that is said, and the next hop if one is
// (fib_table_delete, ip6_route_del).
func found(s *netstate.Snapshot, ns netstate.NS, o netstate.Object) netstate.Object {
	r, isRoute := o.(netstate.Route)
	if !isRoute {
		have, _ := netstate.Get(s, ns, o)
		return have
	}
	for _, have := range netstate.All[netstate.Route](s, ns) {
		like := netstate.Route{Table: have.Table, Dst: have.Dst, Metric: have.Metric, Via: r.Via, Dev: have.Dev}
		if like == r.Key() && have.Proto == r.Proto && (have.Via == r.Via || !r.Via.IsValid()) {
			return have
		}
	}
	return nil
}

// compare compares what DEL left with what was there before ADD, as far as it has an
// owner, but for what pods share, for defaults that stand in for one that is gone, and
// for what ADD took from the node.
func (c *Case) compare(t *testing.T, added, left *netstate.Snapshot) {
	t.Helper()
	for _, o := range objects(left) {
		_, was := netstate.Get(c.View.Snapshot, o.ns, o.Object)
		r, isRoute := o.Object.(netstate.Route)
		if !was && (!isRoute || r.Table != netstate.TableMain || r.Dst.Bits() > 0) && !isShared(o) {
			t.Errorf("DEL leaves %s", netstate.Line(o.ns, o.Object))
		}
	}
	for _, o := range objects(c.View.Snapshot) {
		_, is := netstate.Get(left, o.ns, o.Object)
		_, stayed := netstate.Get(added, o.ns, o.Object)
		if !is && !o.Owned() && (stayed || o.ns == netstate.Pod) && !goes(left, o, c.View.IfName) {
			t.Errorf("DEL takes %s", netstate.Line(o.ns, o.Object))
		}
	}
}

// goes reports whether an object goes anyway: with its link, or as a default with the
// attachment's NIC.
func goes(left *netstate.Snapshot, o object, nic string) bool {
	if _, there := netstate.Get[netstate.Object](left, o.ns, netstate.Link{Name: o.Device()}); !there && o.Device() != "" {
		return true
	}
	if l, ok := o.Object.(netstate.Link); ok && l.Peer.Name != "" {
		_, there := netstate.Get(left, l.Peer.NS, netstate.Link{Name: l.Peer.Name})
		return !there
	}
	r, ok := o.Object.(netstate.Route)
	return ok && r.Dev == nic && r.Dst.Bits() == 0
}

// isAgain reports whether the attachment has been added before: its NIC has tables.
func (c *Case) isAgain() bool {
	for _, r := range netstate.All[netstate.Route](c.View.Snapshot, netstate.Pod) {
		if r.Table != netstate.TableMain && r.Dev == c.View.IfName {
			return true
		}
	}
	return false
}

// object is one in its namespace.
type object struct {
	netstate.Object
	ns netstate.NS
}

// objects are the links, routes and rules of a snapshot.
func objects(s *netstate.Snapshot) []object {
	var out []object
	for _, ns := range []netstate.NS{netstate.Host, netstate.Pod} {
		for _, o := range netstate.All[netstate.Link](s, ns) {
			out = append(out, object{o, ns})
		}
		for _, o := range netstate.All[netstate.Route](s, ns) {
			out = append(out, object{o, ns})
		}
		for _, o := range netstate.All[netstate.Rule](s, ns) {
			out = append(out, object{o, ns})
		}
	}
	return out
}

// isShared reports whether an object is one that DEL leaves for other pods.
func isShared(o object) bool {
	l, isLink := o.Object.(netstate.Link)
	r, isRule := o.Object.(netstate.Rule)
	return o.ns == netstate.Host && (isLink && l.Type != "veth" || isRule && !r.From.IsValid())
}

// apply does operations to a snapshot, and returns them as lines.
func apply(t *testing.T, s *netstate.Snapshot, ops []netstate.Op) string {
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

func (c *Case) write(t *testing.T, file, add, del string) {
	t.Helper()
	var files []txtar.File
	for _, f := range c.archive.Files {
		if f.Name != "ops" && f.Name != "del" {
			files = append(files, f)
		}
	}
	files = append(files, txtar.File{Name: "ops", Data: []byte(add)})
	if del != "" {
		files = append(files, txtar.File{Name: "del", Data: []byte(del)})
	}
	if err := os.WriteFile(file, txtar.Format(&txtar.Archive{Comment: c.archive.Comment, Files: files}), 0o644); err != nil {
		t.Fatal(err)
	}
}
