// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// memory is a spool in memory.
type memory map[string]string

func (m memory) Read(name string) ([]byte, error) {
	contents, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(contents), nil
}

func (m memory) Write(name string, contents []byte) error {
	m[name] = string(contents)
	return nil
}

func (m memory) Remove(name string) error {
	delete(m, name)
	return nil
}

func (m memory) List(dir string) ([]string, error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	return names, nil
}

// stepped is a spool that calls step before each operation, and done after it.
type stepped struct {
	Files
	step func(op, name string) error
	done func(string)
}

func (s stepped) Read(name string) ([]byte, error) {
	if err := s.step("read", name); err != nil {
		return nil, err
	}
	contents, err := s.Files.Read(name)
	s.done(fmt.Sprintf("%s %s: %s %v", "read", name, contents, err))
	return contents, err
}

func (s stepped) Write(name string, contents []byte) error {
	if err := s.step("write", name); err != nil {
		return err
	}
	err := s.Files.Write(name, contents)
	s.done(fmt.Sprintf("write %s: %v", name, err))
	return err
}

func (s stepped) Remove(name string) error {
	if err := s.step("remove", name); err != nil {
		return err
	}
	err := s.Files.Remove(name)
	s.done(fmt.Sprintf("remove %s: %v", name, err))
	return err
}

func (s stepped) List(dir string) ([]string, error) {
	if err := s.step("list", dir); err != nil {
		return nil, err
	}
	names, err := s.Files.List(dir)
	s.done(fmt.Sprintf("list %s: %v %v", dir, names, err))
	return names, err
}

// actor is a process that works on the spool.
type actor struct {
	name string
	run  func(f Files, a *actor)

	next            func() (struct{}, bool)
	stop            func()
	history         []string
	started, ended  bool
	killed, answers bool
	atStart         []string // files of the spool before its first operation
	afterDEL        bool     // it ended when DEL was over
	err             error
}

// world is a spool with its actors.
type world struct {
	memory
	actors []*actor
}

// start lets an actor run to its first operation.
func (w *world) start(a *actor) {
	a.next, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		dead := errors.New("killed")
		a.run(stepped{
			Files: w.memory,
			step: func(string, string) error {
				if a.killed || !yield(struct{}{}) {
					a.killed = true
					return dead // and so at each further operation
				}
				return nil
			},
			done: func(what string) { a.history = append(a.history, what) },
		}, a)
	})
	if _, more := a.next(); !more {
		a.ended = true
	}
}

// state identifies all that matters for what can happen from now on. An actor's own state
// follows from what it has read.
func (w *world) state() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.memory)) {
		fmt.Fprintln(&b, name, w.memory[name])
	}
	for _, a := range w.actors {
		fmt.Fprintln(&b, a.killed, a.ended, a.afterDEL, a.atStart, strings.Join(a.history, "\n"))
	}
	return b.String()
}

// schedules runs all schedules of a world: at each step one of the actors does an operation,
// or, if it may be killed, dies. It returns the number of states, and what check says about the
// first end that it doesn't accept.
func schedules(newWorld func() *world, kill bool, check func(*world) string) (states int, found string) {
	seen := map[string]bool{}
	var explore func(prefix []int) string
	explore = func(prefix []int) string {
		w := newWorld()
		for _, a := range w.actors {
			w.start(a)
			defer a.stop()
		}
		var log []string
		for _, choice := range prefix {
			a := w.actors[choice/2]
			if choice%2 == 1 {
				a.killed = true
				a.stop()
				log = append(log, a.name+" is killed")
				continue
			}
			if !a.started {
				a.started = true
				a.atStart = slices.Sorted(maps.Keys(w.memory))
			}
			if _, more := a.next(); !more {
				a.ended = true
				a.afterDEL = slices.ContainsFunc(w.actors, func(o *actor) bool { return o.name == "DEL" && o.ended })
			}
			log = append(log, a.name+": "+a.history[len(a.history)-1])
		}
		state := w.state()
		if seen[state] {
			return ""
		}
		seen[state] = true
		over := true
		for i, a := range w.actors {
			if a.ended || a.killed {
				continue
			}
			over = false
			for _, choice := range []int{2 * i, 2*i + 1} {
				if choice%2 == 1 && (!kill || !a.started) {
					continue
				}
				if found := explore(append(slices.Clone(prefix), choice)); found != "" {
					return found
				}
			}
		}
		if over {
			if wrong := check(w); wrong != "" {
				return wrong + ":\n" + strings.Join(log, "\n")
			}
		}
		return ""
	}
	found = explore(nil)
	return len(seen), found
}

// How the actors can be without a protection.
const (
	noSecondLook  = "ADD does not look again at pods/"
	noLookAtGone  = "ADD does not look into gone/"
	noLookAtWants = "ADD does not look whether its want is there"
	lateGone      = "DEL writes gone/ after it has removed from sandboxes/"
	lateWants     = "DEL removes from wants/ last"
	lateSandboxes = "the agent lists gone/ before sandboxes/"
	lateRemoval   = "the agent lists sandboxes/ before it removes from pods/"
	oneNameForAll = "all ADDs of a NIC have one name"
	otherNetworks = "ADD takes a NIC of another network"
)

// adding is an actor that calls ADD. It waits once at most.
func adding(c Call, without string) *actor {
	return &actor{name: "ADD " + c.Call, run: func(f Files, a *actor) {
		var pods []byte
		w := without
		if w == oneNameForAll {
			c.Call = "a"
		}
		f = changed{Files: f, read: func(f Files, name string) ([]byte, error) {
			switch {
			case w == noSecondLook && strings.HasPrefix(name, podsDir) && pods != nil:
				return pods, nil
			case w == noLookAtGone && strings.HasPrefix(name, goneDir):
				return nil, fs.ErrNotExist
			case w == noLookAtWants && strings.HasPrefix(name, wantsDir):
				return []byte("{}"), nil
			case name == readyFile:
				return []byte(`{"Boot": "` + boot + `"}`), nil // it makes no difference when
			}
			contents, err := f.Read(name)
			if strings.HasPrefix(name, podsDir) && err == nil && strings.Contains(string(contents), `"eth0"`) {
				pods = contents
			}
			if w == otherNetworks {
				contents = []byte(strings.ReplaceAll(string(contents), `"former"`, `"lan"`))
			}
			return contents, err
		}}
		waits := 0
		_, a.err = Add(f, c, func() error {
			if waits++; waits > 1 {
				return errOver
			}
			return nil
		})
		a.answers = a.err == nil
	}}
}

// changed is a spool of which an operation is another one.
type changed struct {
	Files
	read   func(f Files, name string) ([]byte, error)
	write  func(f Files, name string, contents []byte) error
	remove func(f Files, name string) error
	list   func(f Files, dir string) ([]string, error)
}

func (c changed) Read(name string) ([]byte, error) {
	if c.read != nil {
		return c.read(c.Files, name)
	}
	return c.Files.Read(name)
}

func (c changed) Write(name string, contents []byte) error {
	if c.write != nil {
		return c.write(c.Files, name, contents)
	}
	return c.Files.Write(name, contents)
}

func (c changed) Remove(name string) error {
	if c.remove != nil {
		return c.remove(c.Files, name)
	}
	return c.Files.Remove(name)
}

func (c changed) List(dir string) ([]string, error) {
	if c.list != nil {
		return c.list(c.Files, dir)
	}
	return c.Files.List(dir)
}

// deleting is an actor that calls DEL.
func deleting(without string) *actor {
	return &actor{name: "DEL", run: func(f Files, a *actor) {
		var name string
		var late []byte
		var wants []string
		c := changed{Files: f}
		if without == lateGone {
			c.write = func(_ Files, n string, contents []byte) error {
				name, late = n, contents
				return nil
			}
			c.remove = func(f Files, n string) error {
				if err := f.Remove(n); err != nil || late == nil {
					return err
				}
				return f.Write(name, late)
			}
		}
		if without == lateWants {
			c.list = func(f Files, dir string) ([]string, error) {
				names, err := f.List(dir)
				if dir == wantsDir {
					wants = names
					return nil, err
				}
				return names, err
			}
		}
		a.err = Del(c, "c1", "eth0")
		for _, w := range wants {
			_ = f.Remove(path.Join(wantsDir, w))
		}
	}}
}

// withdrawing is the agent that withdraws the pod. It answers if nothing holds the pod's
// addresses. No sandbox is released: the namespaces have the addresses until the end.
func withdrawing(without string) *actor {
	return &actor{name: "agent", run: func(f Files, a *actor) {
		var early []string
		if without == lateRemoval {
			early, _ = f.List(sandboxesDir)
		}
		if without == lateSandboxes {
			early, _ = f.List(goneDir)
		}
		if a.err = f.Remove(PodFile("u1")); a.err != nil {
			return
		}
		c := changed{Files: f, list: func(f Files, dir string) ([]string, error) {
			if without == lateRemoval && dir == sandboxesDir || without == lateSandboxes && dir == goneDir {
				return early, nil
			}
			return f.List(dir)
		}}
		var all []Sandbox
		all, a.err = Sandboxes(c)
		a.answers = a.err == nil && len(all) == 0
	}}
}

// serving is the agent that brings the pod's addresses.
func serving(p Pod) *actor {
	return &actor{name: "agent, serving", run: func(f Files, a *actor) { a.err = PutPod(f, p) }}
}

// wrongEnd returns what is wrong when all actors have ended or were killed.
func wrongEnd(w *world) string {
	var withdrawn bool
	var del *actor
	for _, a := range w.actors {
		switch a.name {
		case "DEL":
			del = a
		case "agent":
			withdrawn = a.answers && !a.killed
		}
	}
	for _, a := range w.actors {
		id, adds := strings.CutPrefix(a.name, "ADD ")
		if !adds {
			continue
		}
		name := ownName("c1", "eth0", id)
		_, there := w.memory["sandboxes/"+name]
		_, gone := w.memory["gone/"+name]
		_, wanted := w.memory["wants/"+name]
		switch {
		case a.answers && withdrawn:
			return a.name + " has answered, and the agent has withdrawn the pod"
		case a.answers && there && !strings.Contains(w.memory["sandboxes/"+name], "10.6.0.5"):
			return a.name + " has answered with an address of another network"
		case a.answers && a.afterDEL && gone:
			return a.name + " has answered after DEL was over"
		case a.answers && !there && !gone:
			return a.name + " has answered, and nothing says so"
		case !a.answers && !a.killed && (there || wanted):
			return fmt.Sprintf("%s has ended with %q, and a file is left", a.name, a.err)
		case !a.answers && !a.killed && !errors.As(a.err, new(Later)):
			return fmt.Sprintf("%s has ended with %q", a.name, a.err)
		case del == nil || del.killed || a.killed:
			continue
		}
		for _, dir := range []string{"sandboxes/", "wants/"} {
			if slices.Contains(del.atStart, dir+name) && (there || a.answers && dir == "wants/" && !gone) {
				return "DEL is over, and " + a.name + ", whose file was there before, goes on"
			}
		}
	}
	return ""
}

// TestSchedules runs all schedules of ADDs and DEL of a container and of the agent, at the
// granularity of operations on files, with processes that are killed at any of them. Each
// scenario is also run without each of the protections: they are needed.
func TestSchedules(t *testing.T) {
	lan := web(nic("eth0", "lan", "10.6.0.5/16"))
	former := web(nic("eth0", "former", "10.9.0.9/16"))
	first, second := call("c1", "a"), call("c1", "b")
	scenarios := []struct {
		name    string
		before  *Pod
		kill    bool
		actors  func(without string) []*actor
		needs   []string
		minimum int // of states: it does run many
	}{
		{
			name: "ADD, DEL, the pod is withdrawn", before: &lan, kill: true, minimum: 500,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), deleting(without), withdrawing(without)}
			},
			needs: []string{noSecondLook, noLookAtGone, lateGone, lateSandboxes, lateRemoval},
		},
		{
			name: "two ADDs of one container, the pod is withdrawn", before: &lan, kill: true, minimum: 500,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), adding(second, without), withdrawing(without)}
			},
			needs: []string{noSecondLook, oneNameForAll, lateRemoval},
		},
		{
			name: "two ADDs of one container, DEL", before: &lan, minimum: 500,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), adding(second, without), deleting(without)}
			},
			needs: []string{oneNameForAll, noLookAtGone},
		},
		{
			name: "an ADD that waits, DEL, the agent brings the addresses", kill: true, minimum: 100,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), deleting(without), serving(lan)}
			},
			needs: []string{noLookAtWants, lateWants},
		},
		{
			name: "the pod has the NIC in another network", before: &former, kill: true, minimum: 50,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), serving(lan)}
			},
			needs: []string{otherNetworks},
		},
		{
			name: "two ADDs of one container that wait, the agent brings the addresses", minimum: 100,
			actors: func(without string) []*actor {
				return []*actor{adding(first, without), adding(second, without), serving(lan)}
			},
			needs: []string{oneNameForAll},
		},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			with := func(without string) func() *world {
				return func() *world {
					w := &world{memory: memory{}, actors: s.actors(without)}
					if s.before != nil {
						put1(t, w.memory, *s.before)
					}
					return w
				}
			}
			states, found := schedules(with(""), s.kill, wrongEnd)
			if found != "" {
				t.Error(found)
			}
			if states < s.minimum {
				t.Errorf("%d states, want %d at least", states, s.minimum)
			}
			for _, without := range s.needs {
				if _, found := schedules(with(without), false, wrongEnd); found == "" {
					t.Errorf("%s: that isn't found", without)
				}
			}
		})
	}
}
