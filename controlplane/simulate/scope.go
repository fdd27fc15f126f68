// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/multihome/multihome/controlplane/identities"
)

// Scope is a world in which users do what a script says: each event comes when everything has
// come to rest. In its base schedule nothing goes wrong, and each task runs until it waits. All
// other schedules deviate from the base in some points. [Explore] runs them all.
type Scope struct {
	Name string
	Settings
	Script  []Event
	TwoLead bool // both controllers believe that they lead
	// Stalls is for how many events a task may stand still, or a watch tell nothing: up to
	// Stalls-1, where 0 is until all others rest; none if it is 0.
	Stalls int
	// Who may stand still or be killed in the first deviation, in the second, and so on; the last
	// entry is for all further ones. It is how a task's name begins: "controller", "agent",
	// "kubelet" or "plugin", perhaps with the step before which it stands, after a colon.
	// "watch of nodes" is a controller's, and "list of nodes" that of one that starts. nil: everything.
	Who   [][]string
	Kills bool // processes are killed, and plugins given up
	Early bool // an event of the script comes before everything rests
	goesWrong
}

// goesWrong is what goes wrong in a world.
type goesWrong struct {
	Requests bool // fail, or are late
	Lists    bool // of a new controller are old
	Looks    bool // into a namespace don't find it
	Runtimes bool // skip DEL, don't wait for it, or remove the namespace first; an ADD's time is over
	Files    bool // and namespaces can't be read, written or looked into, once
}

// Event is something that users do.
type Event struct {
	Name string
	do   func(*world)
}

// Deviation is where a schedule leaves its base: at a point it takes another option than the
// base, which takes 0.
type Deviation struct{ Point, Option int }

func (d Deviation) String() string { return fmt.Sprintf("%d/%d", d.Point, d.Option) }

// Deviations returns what a text such as "17/2,40/1" says.
func Deviations(text string) ([]Deviation, error) {
	var out []Deviation
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		var d Deviation
		if _, err := fmt.Sscanf(part, "%d/%d", &d.Point, &d.Option); err != nil {
			return nil, fmt.Errorf("%q: want deviations, as in 17/2,40/1", text)
		}
		out = append(out, d)
	}
	return out, nil
}

// Run runs the schedule with some deviations, in the order of their points. options are, for
// each point that was passed, how many options there were.
func (s Scope) Run(deviations ...Deviation) (r Result, options []int) {
	b := &bounded{plan: deviations}
	w := newWorld(s.Settings, b)
	w.scope = &scoped{Scope: s}
	w.faultRate, w.twoLead = 4, s.TwoLead
	w.goesWrong = s.goesWrong
	w.policy = identities.Policy{RetainScaled: s.Retain, RetainDeleted: s.Retain && !s.Frees}
	w.build()
	defer w.end()
	for w.rest(); w.broken == "" && w.scope.past < len(s.Script); w.rest() {
		w.event()
	}
	options = b.options
	if w.broken == "" {
		for _, h := range w.scope.held {
			h.release()
		}
		w.calmDown()
	}
	return Result{Broken: w.broken, Trace: w.trace, Steps: w.acts, Served: w.served}, options
}

// bounded chooses what has the most weight, and something else only where a plan says so.
type bounded struct {
	plan    []Deviation
	options []int
	taken   int // deviations
}

func (b *bounded) choose(weights []int) int {
	most := 0
	for i, w := range weights {
		if w > weights[most] {
			most = i
		}
	}
	point := len(b.options)
	b.options = append(b.options, len(weights))
	if len(b.plan) == 0 || b.plan[0].Point != point {
		return most
	}
	option := b.plan[0].Option
	b.plan = b.plan[1:]
	b.taken++
	if option <= most { // option 0 is what the base takes
		option--
	}
	return option
}

// scoped is what the world of a scope knows besides.
type scoped struct {
	Scope
	past int    // events that came
	held []held // what stands still, the longest first
	last *task  // that went on
}

// held is something that stands still until some events have come.
type held struct {
	past    int
	release func()
}

// What goes on for so many steps, or while so many rounds pass, may come to rest only when what
// stands still goes on.
const (
	endless = 3000
	unrest  = 20
)

// hold keeps something back until nothing else goes on after n more events.
func (w *world) hold(n int, release func()) {
	w.scope.held = append(w.scope.held, held{w.scope.past + n, release})
}

// event lets the next event of the script come.
func (w *world) event() {
	e := w.scope.Script[w.scope.past]
	w.scope.past++
	w.note("EVENT: %s", e.Name)
	e.do(w)
}

// release lets what has stood still the longest go on, if it is to by now.
func (w *world) release() bool {
	i := slices.IndexFunc(w.scope.held, func(h held) bool { return h.past <= w.scope.past })
	if i < 0 {
		return false
	}
	h := w.scope.held[i]
	w.scope.held = slices.Delete(w.scope.held, i, i+1)
	h.release()
	return true
}

// revive starts the processes that were killed.
func (w *world) revive() {
	for _, p := range w.ctrls {
		if !p.up {
			w.startController(p)
		}
	}
	for _, m := range w.machines {
		if m.up && !m.agent.up {
			m.startAgent()
		}
	}
}

// next does what comes next in the base schedule, or deviates. It reports whether there was
// something to do.
func (w *world) next() bool {
	all := slices.Collect(w.all())
	for _, p := range all {
		if p.cutOff != nil && p.cutOff() {
			continue
		}
		for k := range kinds {
			if p.view.at[k] < len(w.api.log[k]) && p.deaf[k] == 0 {
				w.tell(p, k)
				return true
			}
		}
	}
	if t := w.scope.last; t != nil && !t.done && w.ready(t) {
		w.goOn(t)
		return true
	}
	for _, m := range w.machines {
		for _, t := range m.calls {
			if m.up && !t.done && w.ready(t) {
				w.goOn(t)
				return true
			}
		}
	}
	for _, p := range all {
		for _, t := range p.tasks {
			if !t.done && w.ready(t) {
				w.goOn(t)
				return true
			}
		}
		if p.tasks = slices.DeleteFunc(p.tasks, func(t *task) bool { return t.done }); len(p.tasks) < p.most && len(p.queue) > 0 && (p.leads == nil || p.leads()) {
			p.begin(p.queue[0])
			return true
		}
	}
	for _, m := range w.machines {
		if m.up && m.wakes() {
			return true
		}
	}
	if can := w.controllers(); len(can) > 0 {
		can[0]()
		return true
	}
	return !w.calm && w.release()
}

// wakes has kubelet and agent begin what they want to do.
func (m *machine) wakes() bool {
	if uids := m.todo(); len(uids) > 0 {
		m.kubelet.add(uids[0])
		return true
	}
	if m.agentIdle() && m.looked() != m.seen {
		m.look()
		return true
	}
	return false
}

// tell takes in the events of a kind, or has its watch stand still.
func (w *world) tell(p *process, k kind) {
	n := 1
	if !w.calm && k <= spools && strings.HasPrefix(p.name, "controller") &&
		w.may(func(who string) bool { return who == "watch of "+k.resource().Resource }) {
		n += w.scope.Stalls
	}
	if o := w.deviates(n); o > 0 {
		w.note("%s: the watch of %s tells nothing", p.name, k.resource().Resource)
		p.deaf[k] = math.MaxInt
		w.hold(o-1, func() { p.deaf[k] = 0 })
		return
	}
	for p.view.at[k] < len(w.api.log[k]) {
		p.follow(k)
	}
}

// deviates returns which of n options is taken; the base takes 0.
func (w *world) deviates(n int) int {
	if n == 1 || w.calm {
		return 0
	}
	return w.pick.choose(base[:n])
}

// base are the weights of options of which the base schedule takes the first.
var base = [16]int{2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}

// goOn lets a task go on for a step, or has it stand still, or kills it, or lets something
// else come before that.
func (w *world) goOn(t *task) {
	w.acts++
	w.scope.last = t
	s := w.scope
	n := 1
	may := w.may(t.is)
	stall, kill, giveUp, early := n, 0, 0, 0
	if may {
		n += s.Stalls
	}
	if may && s.Kills {
		kill = n
		n++
		if t.giveUp != nil {
			giveUp = n
			n += s.Stalls
		}
	}
	if may && s.Early && s.past < len(s.Script) {
		early = n
		n++
	}
	switch o := w.deviates(n); {
	case o == 0:
		w.resume(t)
	case early != 0 && o == early:
		w.event()
	case giveUp != 0 && o >= giveUp:
		t.giveUp()
		w.keep(t, o-giveUp)
	case kill != 0 && o == kill:
		w.note("%s: killed", t.name)
		t.die()
	default:
		w.keep(t, o-stall)
	}
}

// may reports whether a task may be what the next deviation is about.
func (w *world) may(is func(who string) bool) bool {
	s := w.scope
	return s == nil || s.Who == nil || slices.ContainsFunc(s.Who[min(w.pick.(*bounded).taken, len(s.Who)-1)], is)
}

// keep has a task stand still for some events.
func (w *world) keep(t *task, n int) {
	w.note("%s: stands still until nothing else goes on after %d more events", t.name, n)
	t.stalled = math.MaxInt
	w.hold(n, func() {
		if !t.done {
			w.note("%s: goes on", t.name)
			t.stalled, w.scope.last = 0, t
		}
	})
}

// What users do in scripts.

func createOn(pod, node, nad string) Event {
	return Event{"create " + pod + " on " + node, func(w *world) { w.makePod(pod, node, map[string]string{networks: nad}) }}
}

func ofPod(what, pod string, do func(*world, types.NamespacedName)) Event {
	return Event{what + " " + pod, func(w *world) {
		if key := (types.NamespacedName{Namespace: "test", Name: pod}); w.api.objects[pods][key] != nil {
			do(w, key)
		}
	}}
}

func remove(pod string) Event { return ofPod("delete", pod, (*world).deletePod) }

// force deletes pod a by force.
func force() Event { return ofPod("delete by force", "a", (*world).forceDelete) }

// die has the sandbox of a pod die. The kubelet makes another one.
func die(pod string) Event {
	return ofPod("a sandbox dies, of", pod, func(w *world, key types.NamespacedName) {
		for _, m := range w.machines {
			if s := m.sandboxOf(string(w.api.objects[pods][key].GetUID())); s != nil {
				s.dead = true
			}
		}
	})
}

func finish(pod string) Event { return ofPod("finish", pod, (*world).finish) }

func ofNode(what, node string, do func(*world, *machine)) Event {
	return Event{what + " " + node, func(w *world) { do(w, w.machines[w.last(node)]) }}
}

func off(node string) Event {
	return ofNode("switch off", node, func(_ *world, m *machine) { m.off() })
}
func cut(node string) Event {
	return ofNode("cut off", node, func(_ *world, m *machine) { m.cut = true })
}
func taint(node string) Event   { return ofNode("mark out of service", node, (*world).taint) }
func untaint(node string) Event { return ofNode("unmark", node, (*world).untaint) }

// unspool has users delete the spool of a node.
func unspool(node string) Event {
	return ofNode("delete the spool of", node, func(_ *world, m *machine) { m.deleteSpool() })
}

// unnode deletes a Node, which needs its machine to be off.
func unnode(node string) Event {
	return ofNode("delete Node", node, func(w *world, m *machine) {
		if m.up && w.protects(StoppedNodes) {
			m.off()
		}
		w.deleteNode(m)
	})
}

func power(node string) Event {
	return ofNode("switch on", node, func(_ *world, m *machine) { m.power(); m.startAgent() })
}

// start starts a controller that believes that it leads, as the former one still does.
func start(i int) Event {
	return Event{fmt.Sprintf("controller %d starts and leads", i), func(w *world) {
		w.ctrls[i].crash()
		w.startController(w.ctrls[i])
		w.twoLead = true
	}}
}

// unrecord has users delete an IPAddress.
func unrecord(name string) Event {
	return Event{"delete IPAddress " + name, func(w *world) { _ = w.api.remove(addresses, types.NamespacedName{Name: name}, nil) }}
}

func pass() Event { return Event{"time passes", func(*world) {}} }

// app has users want a Deployment of so many replicas, with a pool of s0.
func app(name string, replicas int32, number string) Event {
	return Event{fmt.Sprintf("%s: %d replicas", name, replicas), func(w *world) {
		w.deploy(name, wish{replicas: replicas, number: number, subnet: "s0", reclaim: true, nics: 1})
	}}
}

// set has users want StatefulSet set0 of so many replicas, with a pool of s0.
func set(replicas int32, number string) Event {
	return Event{fmt.Sprintf("set0: %d replicas", replicas), func(w *world) {
		w.set("set0", wish{replicas: replicas, number: number, subnet: "s0", reclaim: true, nics: 1})
	}}
}

// unwant has users delete a Deployment or a StatefulSet.
func unwant(name string) Event {
	return Event{"delete " + name, func(w *world) {
		for _, k := range []kind{deployments, statefulSets} {
			w.unwant(k, types.NamespacedName{Namespace: "test", Name: name})
		}
	}}
}

// orphan has users delete a StatefulSet without its pods.
func orphan(name string) Event {
	return Event{"orphan the pods of " + name, func(w *world) { w.orphan(types.NamespacedName{Namespace: "test", Name: name}) }}
}

// migrate has a virtual machine move.
func migrate(name string) Event {
	return Event{name + " migrates", func(w *world) {
		if key := (types.NamespacedName{Namespace: "test", Name: name}); w.api.objects[instances][key] != nil {
			w.migrate(key, "another node")
		}
	}}
}

// vm has users want a virtual machine.
func vm(name string) Event {
	return Event{"make " + name, func(w *world) { w.wants(virtualMachines, machineOf(identities.VirtualMachine, name, nil)) }}
}

// restart has a virtual machine start anew.
func restart(name string) Event {
	return Event{"restart " + name, func(w *world) { w.unwant(instances, types.NamespacedName{Namespace: "test", Name: name}) }}
}

// together is some events at the same time.
func together(events ...Event) Event {
	var names []string
	for _, e := range events {
		names = append(names, e.Name)
	}
	return Event{strings.Join(names, ", "), func(w *world) {
		for _, e := range events {
			e.do(w)
		}
	}}
}

// Found is a schedule of a scope that breaks an invariant.
type Found struct {
	Deviations []Deviation
	Broken     string
}

// String returns the deviations as [Deviations] reads them.
func (f *Found) String() string {
	var out []string
	for _, d := range f.Deviations {
		out = append(out, d.String())
	}
	return strings.Join(out, ",")
}

// Explore runs all schedules of a scope with up to depth deviations, those with fewer first, on
// some processors, until one breaks an invariant. It returns that one, nil if there is none,
// and how many it ran.
func (s Scope) Explore(depth, processors int) (found *Found, ran uint64) {
	var mu sync.Mutex
	over := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return found != nil
	}
	// try runs the schedule of a plan, and then those with more deviations, up to n.
	var try func(plan []Deviation, n int)
	try = func(plan []Deviation, n int) {
		if over() {
			return
		}
		r, options := s.Run(plan...)
		if len(plan) == n {
			mu.Lock()
			defer mu.Unlock()
			if ran++; r.Broken != "" && found == nil {
				found = &Found{plan, r.Broken}
			}
			return
		}
		for _, d := range further(plan, options) {
			try(append(slices.Clone(plan), d), n)
		}
	}
	_, options := s.Run()
	for n := range depth + 1 {
		if n == 0 {
			try(nil, 0)
			continue
		}
		work := make(chan Deviation)
		var running sync.WaitGroup
		for range processors {
			running.Go(func() {
				for d := range work {
					try([]Deviation{d}, n)
				}
			})
		}
		for _, d := range further(nil, options) {
			work <- d
		}
		close(work)
		running.Wait()
	}
	return found, ran
}

// further returns the deviations that can follow those of a plan.
func further(plan []Deviation, options []int) []Deviation {
	at := 0
	if len(plan) > 0 {
		at = plan[len(plan)-1].Point + 1
	}
	var out []Deviation
	for ; at < len(options); at++ {
		for o := 1; o < options[at]; o++ {
			out = append(out, Deviation{at, o})
		}
	}
	return out
}
