// SPDX-License-Identifier: Apache-2.0

// Package plantest tests the plans of plugins. It runs the cases in testdata/*.txtar, checks
// each for the properties of the engine, and compares pages of documentation with the cases
// that they quote.
//
//	var suite = plantest.Suite{Names: []plantest.Name{{Name: "route", Load: Load}}, Remove: remove}
//
//	func TestPlans(t *testing.T) { suite.Plans(t) }
//	func TestPage(t *testing.T)  { suite.Page(t, "../../docs/route.md") }
//
// Beware: `go test -update` rewrites the goldens and the pages. Read the difference before you
// commit it. A plan is tested on the simulator of pkg/netstate; only the tests in integration
// show that a kernel takes it.
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

// Suite describes how to run the cases of a plugin. A case without a file "plugin" uses the
// first name.
type Suite struct {
	Names []Name
	// Remove returns the operations of DEL.
	Remove func(*plugin.View) []netstate.Op
}

// Name is a name of a plugin, with the function that reads its configuration.
type Name struct {
	Name string
	Load plugin.Load
}

// Case is one case: an attachment, its configuration, and the state of pod and node before
// ADD.
type Case struct {
	View plugin.View

	others  []records.Record // of the attachments in "given"
	suite   Suite
	archive *txtar.Archive
	load    plugin.Load
	config  []byte
	golden  string // the operations or the error of ADD, and then the operations of DEL
}

// Plans runs all cases in testdata/*.txtar, and compares the operations with the goldens. The
// files of a case are:
//
//	config      the configuration of the plugin
//	plugin      the name of the plugin, if not the first one
//	ifname      the NIC's name, if not eth0
//	prevResult  the result of the plugins before
//	node        the node's addresses
//	parent      the link of the node that the NIC sits on
//	own         the record of an earlier ADD
//	given       names of cases whose ADD comes before, in this order
//	state       objects that exist in addition
//	ops         golden: the operations of ADD, or its error
//	del         golden: the operations of DEL after it
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

// Fuzz plans the cases with any configuration that the plugin accepts. It checks that the
// simulator applies the plan without an error, and that a second plan has no operations. The
// plan may return an error, or conflict with the existing state.
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

// read reads a file of the case.
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
		t.Fatalf("unknown file %q: see Suite.Plans", f.Name)
	}
}

// given adds the state after another case's ADD to this case's state.
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

// put adds objects to the case's state, one from each line.
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

// Add applies the operations of ADD to the case's state, and keeps its record.
func (c *Case) Add(t *testing.T) {
	t.Helper()
	ops, record, err := c.plan()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c.View.Snapshot, ops)
	c.View.Own = record
}

// Ops returns the operations of ADD.
func (c *Case) Ops() ([]netstate.Op, error) {
	ops, _, err := c.plan()
	return ops, err
}

// plan returns the operations of ADD, and its record of the attachment.
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

// run returns the operations of ADD and DEL, and checks the properties of the engine: a second
// ADD does nothing, the reverse of ADD restores the state, and DEL removes all objects of ADD
// and no others.
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

// remove applies operations of DEL as the kernel does: it skips objects that don't exist. It
// returns the applied operations as lines.
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

// found returns the object that the kernel deletes for a request to delete o, nil if there is
// none. A route must have the protocol of the request, and its next hop if it has one
// (fib_table_delete in net/ipv4/fib_trie.c, ip6_route_del in net/ipv6/route.c).
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

// compare reports objects of ADD that DEL left, and objects of others that it took. It
// accepts objects that pods share, default routes in main that replace a removed one, and
// objects that ADD took from the node.
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

// goes reports whether an object vanishes without DEL: with its link, or, as a default route,
// with the attachment's NIC.
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

// isAgain reports whether the attachment was added before: its NIC has routes in tables other
// than main.
func (c *Case) isAgain() bool {
	for _, r := range netstate.All[netstate.Route](c.View.Snapshot, netstate.Pod) {
		if r.Table != netstate.TableMain && r.Dev == c.View.IfName {
			return true
		}
	}
	return false
}

// object is an object with its namespace.
type object struct {
	netstate.Object
	ns netstate.NS
}

// objects returns the links, routes and rules of a snapshot.
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

// isShared reports whether DEL leaves an object for other pods.
func isShared(o object) bool {
	l, isLink := o.Object.(netstate.Link)
	r, isRule := o.Object.(netstate.Rule)
	return o.ns == netstate.Host && (isLink && l.Type != "veth" || isRule && !r.From.IsValid())
}

// apply applies operations to a snapshot, and returns them as lines.
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

// write writes the case with new goldens.
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
