// SPDX-License-Identifier: Apache-2.0

package mend

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
	"github.com/multihome/multihome/pkg/watch"
)

var update = flag.Bool("update", false, "rewrite the goldens")

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is what a State looks at, with a clock of its own.
type world struct {
	*State
	now    time.Time
	steps  []step
	broken map[string][]netstate.Op // what a look at a pod would mend
	fights map[string]time.Duration // objects that a program deletes again, that long after they are back
	ends   map[string][]Outcome     // of the next looks at a pod; then Fine
	lines  []string
	looks  int
}

// step is something that happens.
type step struct {
	at time.Time
	do func()
}

func newWorld() *world {
	return &world{State: NewState(), now: begin, broken: map[string][]netstate.Op{}, fights: map[string]time.Duration{}, ends: map[string][]Outcome{}}
}

func (w *world) after(d time.Duration, do func()) {
	w.steps = append(w.steps, step{w.now.Add(d), do})
	slices.SortStableFunc(w.steps, func(a, b step) int { return a.at.Compare(b.at) })
}

func (w *world) say(format string, a ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%v ", w.now.Sub(begin))+fmt.Sprintf(format, a...))
}

// run lets time pass.
func (w *world) run(until time.Time) {
	for {
		looks, when, _ := w.Next(w.now)
		for _, l := range looks {
			w.look(l)
		}
		if len(looks) > 0 {
			continue
		}
		if len(w.steps) > 0 && (when.IsZero() || !w.steps[0].at.After(when)) {
			when = w.steps[0].at
		}
		if when.IsZero() || when.After(until) {
			w.now = until
			return
		}
		w.now = when
		for len(w.steps) > 0 && !w.steps[0].at.After(w.now) {
			do := w.steps[0].do
			w.steps = w.steps[1:]
			do()
		}
	}
}

// look looks at a pod: it mends what is broken, unless that is to be left.
func (w *world) look(l Look) {
	w.looks++
	out := Fine
	if next := w.ends[l.Pod]; len(next) > 0 {
		out, w.ends[l.Pod] = next[0], next[1:]
	}
	if out == Bare && l.Revive {
		out = Fine
	}
	var done, left []netstate.Op
	for _, op := range w.broken[l.Pod] {
		if out != Fine || w.Leave(w.now, l.Pod, op, done) {
			left = append(left, op)
			continue
		}
		done = append(done, op)
	}
	w.broken[l.Pod] = left
	words := ""
	for _, op := range done {
		for id := range w.broken { // pods share what is the node's
			if op.NS == netstate.Host {
				w.broken[id] = slices.DeleteFunc(w.broken[id], func(o netstate.Op) bool { return o.String() == op.String() })
			}
		}
		words += ", " + op.String()
		if d, ok := w.fights[op.String()]; ok {
			w.after(d, func() { w.breaks(l.Pod, op) })
		}
	}
	if l.Revive {
		words += ", may be made anew"
	}
	if len(left) > 0 {
		words += fmt.Sprintf(", %d left", len(left))
	}
	w.say("look at %s: %s%s", l.Pod, [...]string{"fine", "failed", "busy", "bare"}[out], words)
	fought, say := w.Looked(w.now, l.Pod, out, done)
	for _, op := range fought {
		w.say("a fight: %s", netstate.Words(op.Object()))
	}
	if say {
		w.say("said that %s failed", l.Pod)
	}
}

// breaks takes an object away, and tells the event.
func (w *world) breaks(id string, op netstate.Op) {
	if !slices.ContainsFunc(w.broken[id], func(o netstate.Op) bool { return o.String() == op.String() }) {
		w.broken[id] = append(w.broken[id], op)
	}
	e := watch.Event{Netns: watch.Node, Removed: true, Proto: netstate.ProtoCoordinator}
	if p := w.pods[id]; p != nil && op.NS == netstate.Pod {
		e.Netns = p.netns
	}
	switch o := op.Object().(type) {
	case netstate.Rule:
		e.Kind = watch.Rule
	case netstate.Route:
		e.Kind, e.Dst = watch.Route, o.Dst
	case netstate.Neigh:
		e.Kind, e.Dst = watch.Neigh, netstate.Single(o.Dst)
	}
	w.Event(w.now, e)
}

// do does a line of a script: the time since the last line, and what happens then.
func (w *world) do(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	d, err := time.ParseDuration(f[0])
	if err != nil {
		t.Fatal(err)
	}
	w.run(w.now.Add(d))
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch f[1] {
	case "pod": // POD NETNS WANTED-ADDRESS…
		w.Put(w.now, f[2], number(f[3]))
		var p netstate.Plan
		for _, a := range f[4:] {
			p.Want(netstate.Host, "it is wanted", netstate.Route{Dst: netip.MustParsePrefix(a), Dev: "veth" + f[2]})
		}
		p.Want(netstate.Pod, "it is wanted", netstate.Neigh{Dst: netip.MustParseAddr("10.6.0.9"), Dev: "veth0"})
		w.Wants(f[2], p)
	case "gone":
		w.Delete(f[2])
	case "all":
		w.All(w.now)
	case "breaks": // POD OBJECT
		ns, o, err := netstate.Parse(strings.Join(f[3:], " "))
		if err != nil {
			t.Fatal(err)
		}
		w.breaks(f[2], netstate.Op{NS: ns, After: o})
	case "fight": // DELAY OBJECT
		delay, err := time.ParseDuration(f[2])
		if err != nil {
			t.Fatal(err)
		}
		ns, o, err := netstate.Parse(strings.Join(f[3:], " "))
		if err != nil {
			t.Fatal(err)
		}
		w.fights[netstate.Op{NS: ns, After: o}.String()] = delay
	case "ends": // POD OUTCOME…
		for _, o := range f[3:] {
			w.ends[f[2]] = append(w.ends[f[2]], map[string]Outcome{"fine": Fine, "failed": Failed, "busy": Busy, "bare": Bare}[o])
		}
	case "event": // NETNS KIND WHAT
		e := event(t, number(f[2]), f[3:])
		if !w.Event(w.now, e) {
			w.say("nobody cares: %s", line)
		}
	case "end":
	default:
		t.Fatalf("what is %q?", line)
	}
}

// event returns the event of words: link NAME, addr NAME ADDRESS, route DST PROTO, rule PROTO,
// neigh DST, table NAME, lost; "gone" at the end.
func event(t *testing.T, netns int, f []string) watch.Event {
	t.Helper()
	e := watch.Event{Netns: netns, Kind: watch.Kind(f[0])}
	if f[len(f)-1] == "gone" {
		e.Removed, f = true, f[:len(f)-1]
	}
	proto := map[string]netstate.Protocol{"ours": netstate.ProtoCoordinator, "other": 4}
	switch e.Kind {
	case watch.Link, watch.Addr:
		e.Link, e.Index = netstate.Link{Name: f[1]}, len(f[1])
		if e.Kind == watch.Addr {
			e.Addr = rtnetlink.Addr{Addr: netstate.Addr{Prefix: netip.MustParsePrefix(f[2])}}
		}
	case watch.Route:
		e.Dst, e.Proto = netip.MustParsePrefix(f[1]), proto[f[2]]
	case watch.Rule:
		e.Proto = proto[f[1]]
	case watch.Neigh:
		e.Dst = netip.MustParsePrefix(f[1])
	case watch.Table:
		e.Name = f[1]
	}
	return e
}

// TestState goes through testdata/*.txtar: a script, and what State does in it.
func TestState(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			lines := bufio.NewScanner(strings.NewReader(string(a.Files[0].Data)))
			for lines.Scan() {
				w.do(t, lines.Text())
			}
			got := strings.Join(w.lines, "\n") + "\n"
			if *update {
				a.Files = append(a.Files[:1], txtar.File{Name: "does", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(a.Files[1].Data), got); d != "" {
				t.Errorf("it does (-golden +got), `go test -update` rewrites them:\n%s", d)
			}
		})
	}
}

// FuzzState lets anything happen, at any time. What is broken is mended in the end, unless it
// is fought about; a pod is looked at no more than once a second; and what was mended three
// times within a minute isn't touched for a minute.
func FuzzState(f *testing.F) {
	for seed := range int64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		r := rand.New(rand.NewSource(seed)) //nolint:gosec // repeatable
		w := newWorld()
		ids := []string{"a", "b", "c", "d"}
		for i, id := range ids {
			w.do(t, fmt.Sprintf("0s pod %s %d 10.6.0.%d/32", id, i, i))
		}
		objects := []string{
			"pod: rule pref 32763 fwmark 0x1/0x1 lookup 100 proto multihome", "host: rule pref 1000 from all lookup 500 proto multihome",
			"host: route 10.6.0.1/32 dev vethb table 500 scope link proto multihome", "pod: neigh 10.6.0.9 dev veth0 lladdr 02:00:00:00:00:01 nud permanent",
		}
		events := []string{
			"lost", "link vetha", "link ens192 gone", "addr ens192 10.6.0.9/16", "addr ens192 10.6.0.9/16 gone", "addr kube-ipvs0 10.96.0.1/32",
			"route 10.6.0.1/32 ours gone", "route 0.0.0.0/0 other", "route 10.9.0.0/16 other", "rule ours gone", "rule other", "neigh 10.6.0.2/32 gone", "table multihome gone", "table x",
		}
		for range 200 {
			after := time.Duration(r.Int63n(int64(5 * time.Second)))
			if r.Intn(2) == 0 {
				after = 0
			}
			id := ids[r.Intn(len(ids))]
			switch r.Intn(8) {
			case 0, 1:
				w.do(t, fmt.Sprintf("%v breaks %s %s", after, id, objects[r.Intn(len(objects))]))
			case 2:
				w.do(t, fmt.Sprintf("%v ends %s %s", after, id, []string{"failed", "busy", "bare", "bare bare"}[r.Intn(4)]))
			case 3:
				if r.Intn(10) == 0 {
					w.do(t, fmt.Sprintf("%v all", after))
				}
			default:
				w.do(t, fmt.Sprintf("%v event %d %s", after, r.Intn(6)-1, events[r.Intn(len(events))]))
			}
		}
		w.do(t, "3h end")
		for id, left := range w.broken {
			if len(left) > 0 {
				t.Errorf("%s: never mended: %v", id, left)
			}
		}
		last, mended := map[string]time.Duration{}, map[string][]time.Duration{}
		for _, line := range w.lines {
			at, what, _ := strings.Cut(line, " look at ")
			d, err := time.ParseDuration(at)
			if err != nil {
				continue
			}
			id, _, _ := strings.Cut(what, ":")
			if before, ok := last[id]; ok && d-before < apart {
				t.Errorf("%s: looked at %v and %v", id, before, d)
			}
			last[id] = d
			for _, o := range strings.Split(what, ", ")[1:] {
				if !strings.Contains(o, ": ip ") {
					continue
				}
				if strings.HasPrefix(o, "pod") {
					o = id + o
				}
				times := append(mended[o], d)
				if n := len(times); n > fights && times[n-1]-times[n-1-fights] < fightIn {
					t.Errorf("%s: mended at %v", o, times[n-1-fights:])
				}
				mended[o] = times
			}
		}
	})
}

// TestFlood has 100,000 foreign routes come and go: nobody looks more than that there was
// something lost, and ever more rarely.
func TestFlood(t *testing.T) {
	w := newWorld()
	w.do(t, "0s pod a 1 10.6.0.1/32")
	w.do(t, "1m end")
	before := w.looks
	for range 600 { // ten minutes in which the kernel loses events each second
		w.do(t, "1s event -1 lost")
	}
	if n := w.looks - before; n > 20 {
		t.Errorf("%d looks", n)
	}
	// Something that concerns the pod doesn't wait because of it.
	w.lines = nil
	w.do(t, "0s breaks a host: route 10.6.0.1/32 dev vetha table 500 scope link proto multihome")
	w.do(t, "2s end")
	if len(w.lines) == 0 || len(w.broken["a"]) > 0 {
		t.Errorf("it waits: %q", w.lines)
	}
}
