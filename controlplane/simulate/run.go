// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
)

// Result is how a schedule ended.
type Result struct {
	Broken string // the invariant that doesn't hold, "" if all do
	Trace  []string
	Steps  int
	Served int // pods that ran with addresses
}

// Random runs one schedule at random. The same seed gives the same schedule.
func Random(seed uint64, s Settings) Result {
	return run(random{rand.New(rand.NewPCG(seed, 1))}, s)
}

func run(pick chooser, s Settings) Result {
	w := newWorld(s, pick)
	w.goesWrong = goesWrong{true, true, true, true, true}
	// Worlds differ in how slow their caches are, how often requests fail, how much happens.
	w.follow = []int{40, 10, 3}[pick.choose(make1(3))]
	w.faultRate = []int{8, 25, 80}[pick.choose(make1(3))]
	w.disturbance = []int{15, 40, 100}[pick.choose(make1(3))]
	w.twoLead = w.chance(2)
	w.dual = s.Dual && w.chance(2)
	w.deleted = []kind{claims, addresses}[pick.choose(make1(2))]
	w.twoLead = w.twoLead && w.deleted != addresses
	if w.hasWorkloads() {
		w.policy = identities.Policy{RetainScaled: w.chance(2), RetainDeleted: w.chance(2)}
	}
	w.build()
	defer w.end()
	steps := 0
	for ; steps < s.Steps && w.broken == ""; steps++ {
		w.act()
	}
	if w.broken == "" {
		w.calmDown()
	}
	return Result{Broken: w.broken, Trace: w.trace, Steps: steps, Served: w.served}
}

func sortedKeys(o objects) []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b types.NamespacedName) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// action is something that can happen next.
type action struct {
	weight int
	do     func()
}

// act lets one thing happen.
func (w *world) act() {
	w.acts++
	var actions []action
	if !w.chance(w.disturbance) {
		actions = w.processes()
	}
	if len(actions) == 0 {
		actions = w.faults()
	}
	w.weights = w.weights[:0]
	for _, a := range actions {
		w.weights = append(w.weights, a.weight)
	}
	actions[w.pick.choose(w.weights)].do()
}

// all yields the processes that are up.
func (w *world) all() iter.Seq[*process] {
	return func(yield func(*process) bool) {
		for _, p := range w.ctrls {
			if p.up && !yield(p) {
				return
			}
		}
		for _, m := range w.machines {
			if m.up && (!yield(m.kubelet) || m.agent.up && !yield(m.agent)) {
				return
			}
		}
	}
}

// processes returns what the processes can do next.
func (w *world) processes() []action {
	out := w.actions[:0]
	for p := range w.all() {
		if p.paused > w.acts && !w.calm {
			continue
		}
		p.tasks = slices.DeleteFunc(p.tasks, func(t *task) bool { return t.done })
		for _, t := range p.tasks {
			if w.ready(t) {
				out = append(out, action{40, t.goOn})
			}
		}
		if len(p.queue) > 0 && len(p.tasks) < p.most && (p.leads == nil || p.leads()) {
			out = append(out, action{40, p.next})
		}
		if p.cutOff == nil || !p.cutOff() {
			for k := range kinds {
				if p.view.at[k] < len(w.api.log[k]) && (p.deaf[k] <= w.acts || w.calm) {
					out = append(out, action{w.follow, p.hear[k]})
				}
			}
		}
	}
	for _, p := range w.ctrls {
		if p.up && p.paused <= w.acts && len(p.later) > 0 && !w.calm {
			out = append(out, action{2, p.again})
		}
	}
	for _, do := range w.controllers() {
		out = append(out, action{20, do})
	}
	for _, m := range w.machines {
		if !m.up {
			continue
		}
		m.calls = slices.DeleteFunc(m.calls, func(t *task) bool { return t.done })
		for _, t := range m.calls {
			if w.ready(t) {
				out = append(out, action{40, t.goOn})
			}
		}
		for _, uid := range m.todo() {
			out = append(out, action{20, func() { m.kubelet.add(uid) }})
		}
		if m.agentIdle() && !w.calm {
			// An event makes it look; else it does so now and then.
			weight := 1
			if m.looked() != m.seen {
				weight = 20
			}
			out = append(out, action{weight, m.look})
		}
	}
	w.actions = out
	return out
}

// ready reports whether a task can go on.
func (w *world) ready(t *task) bool {
	return (t.blocked == nil || !t.blocked()) && (t.stalled <= w.acts || w.calm)
}

// isAt reports whether a task for something is running.
func (p *process) isAt(what string) bool {
	return slices.ContainsFunc(p.tasks, func(t *task) bool { return t.what == what && !t.done })
}

// begin starts a task for something in the queue, unless one for it is running.
func (p *process) begin(what string) {
	p.queue = slices.DeleteFunc(p.queue, func(q string) bool { return q == what })
	if p.isAt(what) {
		p.later = append(p.later, what)
		return
	}
	t := p.w.start(p.name+" "+what, func() { p.handle(what) })
	t.what, t.die = what, p.die
	p.tasks = append(p.tasks, t)
}

// follow takes in the next event of a kind.
func (p *process) follow(k kind) {
	if e, ok := p.view.next(p.w.api, k); ok && p.events != nil {
		p.events(k, e)
	}
}

// again has the process look again at what it left for later.
func (p *process) again() {
	for _, what := range p.later {
		p.add(what)
	}
	p.later = nil
}

// make1 returns n equal weights.
func make1(n int) []int {
	if n > len(ones) {
		return slices.Repeat(ones[:1], n)
	}
	return ones[:n]
}

var ones = slices.Repeat([]int{1}, 64)

// calmDown lets everything come to rest without faults, and looks whether something is lost;
// then deletes all pods, and looks whether something is left.
func (w *world) calmDown() {
	w.note("no more faults")
	w.calm, w.leader = true, 0
	for _, l := range w.user.late {
		w.note("late: %s: %v", l.what, l.do())
	}
	for i, m := range w.machines {
		if i != w.last(m.node) {
			continue
		}
		m.cut = false
		node, _ := w.api.objects[nodes][types.NamespacedName{Name: m.node}].(*corev1.Node)
		switch {
		case m.up && !m.agent.up:
			m.startAgent()
		case !m.up && node != nil && len(node.Spec.Taints) == 0:
			m.power()
			m.startAgent()
		}
	}
	for i, p := range w.ctrls { // at last one leads
		switch {
		case i > 0 && p.up:
			p.crash()
		case i == 0 && !p.up:
			w.startController(p)
		}
	}
	w.strange = nil
	if len(w.api.objects[reserved]) > 0 {
		w.reserve()
	}
	for i := range w.Pools {
		if ptr.Deref(w.api.objects[pools][types.NamespacedName{Name: fmt.Sprintf("p%d", i)}].(*v2beta1.SpiderIPPool).Spec.Disable, false) {
			w.disable(i)
		}
	}
	if w.rest(); w.quarantines() && w.broken == "" {
		w.now = w.now.Add(2 * time.Hour)
		w.rest()
	}
	if w.broken == "" {
		w.complete()
		w.sizes()
	}
	for _, k := range []kind{deployments, statefulSets, virtualMachines} {
		for _, key := range sortedKeys(w.api.objects[k]) {
			w.unwant(k, key)
		}
	}
	for _, key := range sortedKeys(w.api.objects[pods]) {
		w.deletePod(key)
		if node := w.api.objects[pods][key].(*corev1.Pod).Spec.NodeName; w.off(node) {
			w.forceDelete(key)
		}
	}
	if w.rest(); w.broken == "" {
		w.empty()
		w.sizes()
	}
}

// off reports whether no machine is up as a node.
func (w *world) off(node string) bool {
	m := w.machines[w.last(node)]
	return !m.up
}

// rest lets everything run until nothing changes any more.
func (w *world) rest() {
	quiet := 0
	for round := range 400 {
		before := w.state()
		for n := 0; w.goes(); n++ {
			if n == endless && w.scope != nil && !w.calm { // as long as something stands still
				break
			}
			if n == 20000 {
				w.broken = "it doesn't come to rest: something goes on and on"
			}
			if w.broken != "" {
				return
			}
		}
		if w.state() == before {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 4 || quiet == 2 && w.scope != nil {
			return
		}
		if w.scope != nil && !w.calm {
			if w.wait(); round == unrest { // two controllers that lead may say different things for ever
				return
			}
			continue
		}
		w.now = w.now.Add(30 * time.Second)
		for _, p := range w.ctrls[:1] {
			p.again()
			p.add(collector)
			for _, key := range sortedKeys(p.view.objects[spools]) {
				p.add(key.Name)
			}
		}
		for _, m := range w.machines {
			if !m.up {
				continue
			}
			m.agent.add("all")
			m.failed = map[string]bool{}
			for _, s := range m.sandboxes { // a pod that isn't to run any more: its ADD is over by now
				if !m.runs(m.pod(s.uid)) {
					s.overdue = true
				}
			}
		}
	}
	w.broken = "it doesn't come to rest"
}

// goes lets something go on, and reports whether there was something.
func (w *world) goes() bool {
	if w.scope != nil {
		return w.next()
	}
	actions := w.processes()
	if len(actions) > 0 {
		actions[w.pick.choose(make1(len(actions)))].do()
	}
	return len(actions) > 0
}

// wait lets time pass: who waits for something looks again, and what was killed starts.
func (w *world) wait() {
	w.now = w.now.Add(15 * time.Second)
	w.revive()
	for _, p := range w.ctrls {
		p.again()
	}
	for _, m := range w.machines {
		if m.up {
			m.look()
			m.failed = map[string]bool{}
		}
	}
}

// state is what changes until there is rest.
func (w *world) state() string {
	s := fmt.Sprint(w.api.rv)
	for k := range kinds {
		s += fmt.Sprint(" ", len(w.api.log[k]))
	}
	for _, m := range w.machines {
		if m.up {
			s += fmt.Sprint(" ", m.files.version, len(m.sandboxes))
		}
	}
	return s
}
