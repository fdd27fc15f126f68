// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/identities"
)

// chooser decides what happens next.
type chooser interface {
	// choose returns one of n, by their weights.
	choose(weights []int) int
}

// random chooses at random, the same for the same seed.
type random struct{ *rand.Rand }

func (r random) choose(weights []int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	at := r.IntN(total)
	for i, w := range weights {
		if at -= w; at < 0 {
			return i
		}
	}
	panic("unreachable")
}

// lease is how long a controller leads at least before another one can.
const lease = 8 * time.Second

// world is a cluster with everything that moves in it. One thing moves at a time.
type world struct {
	Settings
	pick     chooser
	now      time.Time
	api      *server
	machines []*machine // also those that are gone
	ctrls    []*process
	current  *task
	leader   int  // the controller that leads
	twoLead  bool // all controllers believe that they lead
	calm     bool // no more faults: everything is to come to rest
	trace    []string
	broken   string // the invariant that doesn't hold
	inodes   uint64
	names    int
	acts     int  // that were done
	deleted  kind // what users delete
	follow   int  // the weight of an event that reaches a cache; that of a step of a task is 40
	// How many requests there are for one that goes wrong, and how many steps for one thing
	// that users do or that goes wrong.
	faultRate, disturbance int
	served                 int // sandboxes that got an address
	goesWrong
	scope   *scoped // nil in a world at random
	user    user
	wished  map[string]wish // applications, by name
	said    map[string]bool // events about applications, by their UIDs and reasons
	policy  identities.Policy
	first   map[string]string // the first address of each identity
	managed workloads
	dual    bool         // the pools are of two families
	strange []netip.Addr // addresses that other machines of the LAN have

	// Of these each act makes use, and no other one afterwards.
	actions []action
	weights []int
	coin    [2]int
}

// chance reports whether something happens that does so one time in n.
func (w *world) chance(n int) bool {
	w.coin = [2]int{1, n - 1}
	return w.pick.choose(w.coin[:]) == 0
}

// note remembers what happened.
func (w *world) note(format string, a ...any) {
	if !w.Trace {
		return
	}
	if len(w.trace) >= keptTrace {
		w.trace = slices.Delete(w.trace, 0, keptTrace/2)
	}
	w.trace = append(w.trace, fmt.Sprintf(format, a...))
}

const keptTrace = 40000

// killed ends a task in the middle.
type killed struct{}

// thread runs tasks, one after the other: a new stack for each one would cost much of the time.
type thread struct {
	next   func() (struct{}, bool) // goes on until the task halts, or is done
	halt   func(struct{}) bool
	do     func()
	killed bool
	done   bool
}

var threads struct {
	sync.Mutex
	idle []*thread
}

// newThread returns a thread that is to run a task.
func newThread(do func()) *thread {
	threads.Lock()
	defer threads.Unlock()
	t := &thread{}
	if n := len(threads.idle); n > 0 {
		t, threads.idle = threads.idle[n-1], threads.idle[:n-1]
	} else {
		t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
			for t.halt = yield; ; yield(struct{}{}) {
				t.once()
			}
		})
	}
	t.do, t.killed, t.done = do, false, false
	return t
}

func (t *thread) once() {
	defer func() {
		t.done = true
		if r := recover(); r != nil && r != any(killed{}) {
			panic(r)
		}
	}()
	t.do()
}

// resume lets the thread go on, and reports whether its task is done.
func (t *thread) resume() bool {
	t.next()
	if t.done {
		threads.Lock()
		defer threads.Unlock()
		threads.idle = append(threads.idle, t)
	}
	return t.done
}

// stop halts the task until it is to go on.
func (t *thread) stop() {
	if t.halt(struct{}{}); t.killed {
		panic(killed{})
	}
}

// task is something that runs: a reconciliation, a call of a plugin. It stops before each
// request and each operation on a file, and goes on when it is chosen.
type task struct {
	name string
	what string // that it is about, of a process's queue
	do   func()
	runs *thread // nil if nothing of it has run yet
	done bool
	// stalled is the act before which it doesn't go on.
	stalled int
	// blocked, if set, says that the task can't go on yet.
	blocked func() bool
	// format and args say what the next step is.
	format string
	args   []any
	// goOn lets it go on for some steps.
	goOn func()
	// die kills the task with the process that it is of.
	die func()
	// giveUp, if set, has its caller wait no longer.
	giveUp func()
}

// start starts a task. Nothing of it runs before it is chosen.
func (w *world) start(name string, f func()) *task {
	t := &task{name: name, do: f}
	t.goOn = func() { w.run(t) }
	return t
}

// is reports whether a task is of someone, such as "plugin" or "controller 0", and before a
// step, if one is named after a colon: "plugin: set".
func (t *task) is(who string) bool {
	who, step, _ := strings.Cut(who, ": ")
	if !strings.HasPrefix(t.name, who) && (who != "plugin" || !strings.Contains(t.name, " ADD ") && !strings.Contains(t.name, " DEL ")) {
		return false
	}
	return step == "" || strings.HasPrefix(fmt.Sprintf(t.format, t.args...), step)
}

// run lets a task go on for some steps.
func (w *world) run(t *task) {
	for range []int{1, 3, 12}[w.pick.choose([]int{2, 1, 1})] {
		if w.resume(t); t.done || w.broken != "" || !w.ready(t) {
			break
		}
	}
}

// resume lets a task go on for a step.
func (w *world) resume(t *task) {
	former := w.current
	w.current = t
	if t.runs == nil {
		t.runs = newThread(t.do)
	}
	t.done = t.runs.resume()
	w.current = former
}

// kill ends a task where it stands.
func (t *task) kill() {
	if t.runs != nil && !t.done {
		t.runs.killed = true
		t.runs.resume()
	}
	t.done = true
}

// step stops the current task before something.
func (w *world) step(format string, a ...any) {
	t := w.current
	t.format, t.args = format, a
	t.runs.stop()
	if w.Trace {
		w.note("%s: %s", t.name, fmt.Sprintf(format, a...))
	}
}

// until stops the current task until something is so.
func (w *world) until(is func() bool) {
	t := w.current
	for !is() {
		t.blocked = func() bool { return !is() }
		t.runs.stop()
		t.blocked = nil
	}
}

// process is a controller or an agent: a view of the API server, and tasks.
type process struct {
	w      *world
	name   string
	view   *view
	queue  []string // what it is to look at, each once
	later  []string // what it is to look at after a while
	tasks  []*task
	cutOff func() bool // from the API server
	events func(k kind, e event)
	handle func(what string)
	most   int           // tasks at a time
	next   func()        // begins what is next in the queue
	hear   [kinds]func() // takes in the next event
	leads  func() bool
	die    func() // kills it
	up     bool
	paused int        // the act before which nothing of it goes on
	deaf   [kinds]int // the acts before which its watches tell nothing
}

// newProcess returns a process that does up to so many tasks at a time.
func (w *world) newProcess(name string, most int) *process {
	p := &process{w: w, name: name, most: most, up: true}
	p.next = func() { p.begin(p.queue[0]) }
	for k := range kinds {
		p.hear[k] = func() { p.follow(k) }
	}
	return p
}

// add puts something into the queue.
func (p *process) add(what string) {
	if !slices.Contains(p.queue, what) {
		p.queue = append(p.queue, what)
	}
}

// crash ends a process: what it was about to do, and what it remembers.
func (p *process) crash() {
	for _, t := range p.tasks {
		t.kill()
	}
	p.tasks, p.queue, p.later, p.up = nil, nil, nil, false
	p.w.note("%s: killed", p.name)
}

// request is a request to the API server. It may be refused, or fail before or after it is
// done; one that failed may still be done later.
func (p *process) request(what string, do func() error) error {
	p.w.step("%s", what)
	if p.cutOff != nil && p.cutOff() {
		return timeout(what)
	}
	way, later := 0, 0
	if !p.w.calm && p.w.Requests && p.w.may(p.w.current.is) {
		weights := []int{6 * (p.w.faultRate - 1), 2, 3, 1}
		if s := p.w.scope; s != nil {
			weights = base[:3+max(s.Stalls, 1)]
		}
		way = p.w.pick.choose(weights)
		way, later = min(way, 3), max(way-3, 0)
	}
	switch way {
	case 0:
		err := do()
		if err != nil {
			p.w.note("  %v", err)
		}
		return err
	case 1:
		p.w.note("  lost before it was done")
	case 2:
		err := do()
		p.w.note("  done (%v), but the answer is lost", err)
	case 3:
		p.w.note("  is late")
		p.w.late(what, later, do)
	}
	return timeout(what)
}

// late has a request done later. What it changes in the caller's objects is no harm: the
// caller took its answer for lost. In a scope it is done after some events.
func (w *world) late(what string, events int, do func() error) {
	if w.scope != nil {
		w.hold(events, func() { w.note("late: %s: %v", what, do()) })
		return
	}
	w.user.late = append(w.user.late, lateRequest{what, do})
}

type lateRequest struct {
	what string
	do   func() error
}

// newClients returns how a process reads and writes.
func (p *process) clients() (cache, current client.Reader, writer client.Client) {
	return cached{p}, live{p}, writes{p: p}
}
