// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	controller "github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/owners"
	"github.com/multihome/multihome/pkg/ipam"
)

// user is whoever changes objects: people, workload controllers, the node lifecycle.
type user struct {
	late []lateRequest
}

// nicsOf returns the NICs of a simulated pod, each with its pools: its network has the IPv4 pool's
// name, and in a world with two families the IPv6 pool beside it.
func (w *world) nicsOf(p *corev1.Pod) []v2beta1.EndpointNIC {
	var out []v2beta1.EndpointNIC
	for i, pool := range strings.Split(p.Annotations[networks], ",") {
		n := v2beta1.EndpointNIC{Interface: fmt.Sprintf("net%d", i+1), IPv4Pools: []string{pool}}
		if w.dual {
			n.IPv6Pools = []string{pool + second}
		}
		out = append(out, n)
	}
	return out
}

// second is what the name of the IPv6 pool beside an IPv4 pool ends with.
const second = "-v6"

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

// newWorld returns a world in which nothing is yet.
func newWorld(s Settings, pick chooser) *world {
	w := &world{
		Settings: s, pick: pick, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		wished: map[string]wish{}, said: map[string]bool{}, first: map[string]string{},
	}
	w.api = newServer(w)
	return w
}

// end ends all tasks.
func (w *world) end() {
	for _, m := range w.machines {
		if m.up {
			m.off()
		}
	}
	for _, p := range w.ctrls {
		p.crash()
	}
}

// build makes the cluster as it is at first.
func (w *world) build() {
	must(w.api.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test"}}))
	pool := func(name string, of netip.Prefix) {
		must(w.api.create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: w.policies()}, Spec: ipam.PoolSpec{
			SubnetSpec: ipam.SubnetSpec{Subnet: of.String(), IPs: []string{nth(of, 1).String() + "-" + nth(of, w.Addresses).String()}},
		}}))
	}
	for i := range w.Pools {
		name := fmt.Sprintf("p%d", i)
		more := ""
		if w.dual {
			more = fmt.Sprintf(`,"default_ipv6_ippool":[%q]`, name+second)
			pool(name+second, lan(i, true))
		}
		must(w.api.create(&nad.NetworkAttachmentDefinition{
			ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
			Spec:       nad.Spec{Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lan","type":"macvlan","ipam":{"type":"multihome-ipam","default_ipv4_ippool":[%q]%s}}`, name, more)},
		}))
		pool(name, lan(i, false))
	}
	for i := range w.Subnets {
		must(w.api.create(&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i), Annotations: w.policies()}, Spec: ipam.SubnetSpec{
			Subnet: fmt.Sprintf("10.%d.0.0/16", 100+i), IPs: []string{fmt.Sprintf("10.%d.0.1-10.%d.0.%d", 100+i, 100+i, w.Addresses)},
		}}))
	}
	for i := range w.Machines {
		w.newMachine(fmt.Sprintf("node%d", i))
	}
	for i := range w.Controllers {
		p := w.newProcess(fmt.Sprintf("controller %d", i), 3)
		p.leads = func() bool { return w.leader == i || w.twoLead }
		w.ctrls = append(w.ctrls, p)
		w.startController(p)
	}
}

// lan returns the subnet of a pool.
func lan(pool int, ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", pool))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", pool))
}

// nth returns an address of a subnet, the first of which is that of the network.
func nth(of netip.Prefix, n int) netip.Addr {
	a := of.Addr()
	for range n {
		a = a.Next()
	}
	return a
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// newMachine makes a machine and its Node.
func (w *world) newMachine(node string) {
	w.names++
	m := &machine{w: w, node: node, id: fmt.Sprintf("m%d", w.names)}
	w.machines = append(w.machines, m)
	m.register()
	m.power()
	m.startAgent()
}

// register makes the Node of a machine.
func (m *machine) register() {
	must(m.w.api.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.node},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{MachineID: m.id}},
	}))
}

// collector is what a controller does now and then, beside its events.
const collector = "the collector"

// startController starts a controller that knows nothing yet.
func (w *world) startController(p *process) {
	w.names++
	p.up = true
	p.die = p.crash
	p.view = newView(w.api, func(k kind) int {
		switch {
		case w.calm, !w.Lists, k >= deployments && !w.hasWorkloads(),
			!w.may(func(who string) bool { return who == "list of "+k.resource().Resource }):
			return 0
		}
		return w.pick.choose([]int{17, 2, 1, 1})
	})
	cache, current, writer := p.clients()
	c := &controller.Controller{
		Cache: cache, Live: current, Writer: writer,
		Now: func() time.Time { return w.now },
		Each: func(n int, f func(int) error) error {
			var errs []error
			for i := range n {
				errs = append(errs, f(i))
			}
			return errors.Join(errs...)
		},
		Until: func(is func() bool) bool {
			if w.protects(CaughtUp) {
				w.until(is)
			}
			return true
		},
		Wake:     func(key types.NamespacedName) { p.add(key.String()) },
		Identity: fmt.Sprint(w.names),
		Owners:   owners.Finder{Cache: cache, Live: current},
	}
	var besides *owning
	if w.hasWorkloads() {
		besides = newOwning(p, c)
	}
	p.handle = func(what string) {
		if besides != nil {
			if mine, again := besides.handle(what); mine {
				if again {
					p.later = append(p.later, what)
				}
				return
			}
		}
		ns, pod, isPod := strings.Cut(what, "/")
		if what == collector {
			_ = c.Collect(context.Background())
			return
		}
		if !isPod {
			if c.ReconcileNode(context.Background(), what) != nil {
				p.later = append(p.later, what)
			}
			return
		}
		if wait, err := c.Reconcile(context.Background(), types.NamespacedName{Namespace: ns, Name: pod}); err != nil || wait > 0 {
			p.later = append(p.later, what)
		}
	}
	p.events = func(k kind, e event) {
		if besides != nil {
			defer besides.on(k, e)
		}
		switch k {
		case pods, claims:
			p.add(e.key.String())
			if k == claims {
				former, _ := e.former.(*v2beta1.SpiderEndpoint)
				now, _ := e.now.(*v2beta1.SpiderEndpoint)
				c.OnClaim(former, now)
			}
		case addresses:
			former, _ := e.former.(*v1alpha1.IPAddress)
			now, _ := e.now.(*v1alpha1.IPAddress)
			c.OnAddress(former, now)
			for _, a := range []*v1alpha1.IPAddress{former, now} {
				if a == nil {
					continue
				}
				for _, h := range a.Spec.Holders {
					p.add(h.Namespace + "/" + h.Pod)
				}
			}
		case nodes:
			former, _ := e.former.(*corev1.Node)
			now, _ := e.now.(*corev1.Node)
			c.OnNode(former, now)
		case pools, subnets, reserved:
			must(c.OnPools(context.Background()))
		case spools:
			former, _ := e.former.(*v1alpha1.NodeSpool)
			now, _ := e.now.(*v1alpha1.NodeSpool)
			c.OnSpool(former, now)
			p.add(e.key.Name)
			for _, n := range []*v1alpha1.NodeSpool{former, now} {
				if n != nil {
					for _, s := range n.Status.Sandboxes {
						p.add(s.Namespace + "/" + s.Pod)
					}
				}
			}
		}
	}
	for k := range kinds {
		for _, key := range sortedKeys(p.view.objects[k]) {
			p.events(k, event{key, nil, p.view.objects[k][key]})
		}
	}
	w.note("%s: starts", p.name)
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

// while returns the act until which something takes that is slow.
func (w *world) while() int { return w.acts + []int{50, 300, 1200}[w.pick.choose(make1(3))] }

// stall keeps a task from going on for a while: a process that the kernel doesn't run, a
// garbage collection, a slow disk. What it has decided on gets old.
func (w *world) stall(t *task) {
	t.stalled = w.while()
	w.note("%s: stalls", t.name)
}

// pause stops all of a process for a while.
func (w *world) pause() {
	all := slices.Collect(w.all())
	if len(all) == 0 {
		return
	}
	p := all[w.pick.choose(make1(len(all)))]
	p.paused = w.while()
	w.note("%s: pauses", p.name)
}

// deafen has a watch of a process tell nothing for a while.
func (w *world) deafen() {
	of := []kind{pods, nodes, claims, addresses, spools}
	if w.hasWorkloads() {
		of = append(of, pools, subnets, deployments, replicaSets, statefulSets)
	}
	k := of[w.pick.choose(make1(len(of)))]
	p := w.ctrls[w.pick.choose(make1(len(w.ctrls)))]
	p.deaf[k] = w.while()
	w.note("%s: the watch of %s tells nothing", p.name, k.resource().Resource)
}

// killPlugin kills a process of a plugin, as a runtime does that is stopped.
func (w *world) killPlugin() {
	var all []*task
	for _, m := range w.machines {
		for _, t := range m.calls {
			if !t.done {
				all = append(all, t)
			}
		}
	}
	if len(all) > 0 {
		t := all[w.pick.choose(make1(len(all)))]
		t.kill()
		w.note("%s: killed", t.name)
	}
}

// stallOne stalls a task.
func (w *world) stallOne() {
	var all []*task
	for p := range w.all() {
		all = append(all, p.tasks...)
	}
	for _, m := range w.machines {
		all = append(all, m.calls...)
	}
	if len(all) > 0 {
		w.stall(all[w.pick.choose(make1(len(all)))])
	}
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

// check checks, when a sandbox has got an address, that no other one has it.
func (w *world) check(s *sandbox) {
	w.served++
	for _, m := range w.machines {
		for _, other := range m.sandboxes {
			if other.uid == s.uid || s.instance != "" && s.instance == other.instance && w.shares(s) == 2 {
				continue
			}
			for _, list := range s.addresses {
				for _, k := range list {
					if other.has(k) {
						w.breaks("%s is in sandbox %s of pod %s (%s) and in %s of %s (%s)", k, s.id, s.pod, s.uid, other.id, other.pod, other.uid)
					}
				}
			}
		}
	}
}

// shares returns in how many pods' sandboxes the address of a virtual machine's instance is.
func (w *world) shares(s *sandbox) int {
	uids := map[string]bool{}
	for _, m := range w.machines {
		for _, other := range m.sandboxes {
			for _, list := range s.addresses {
				if slices.ContainsFunc(list, other.has) {
					uids[other.uid] = true
				}
			}
		}
	}
	return len(uids)
}

// faults returns what users do, and what goes wrong.
func (w *world) faults() []action {
	var out []action
	podKeys := sortedKeys(w.api.objects[pods])
	if len(podKeys) < w.Pods {
		out = append(out, action{8, w.createPod})
	}
	if len(podKeys) > 0 {
		out = append(out,
			action{6, func() { w.deletePod(w.one(podKeys)) }},
			action{1, func() { w.forceDelete(w.one(podKeys)) }},
			action{1, func() { w.finish(w.one(podKeys)) }})
	}
	if len(w.user.late) > 0 {
		out = append(out, action{4, func() {
			l := w.user.late[0]
			w.user.late = w.user.late[1:]
			w.note("late: %s: %v", l.what, l.do())
		}})
	}
	out = append(out, w.applicationFaults()...)
	out = append(out, w.strangers()...)
	out = append(out,
		action{8, w.stallOne},
		action{2, w.pause},
		action{4, w.deafen},
		action{2, w.killPlugin},
		action{2, func() {
			w.leader = w.pick.choose(make1(w.Controllers))
			w.note("controller %d leads", w.leader)
		}},
		action{1, func() {
			w.twoLead = !w.twoLead
			w.note("all controllers believe that they lead: %v", w.twoLead)
		}})
	for _, p := range w.ctrls {
		if p.up {
			out = append(out, action{1, p.crash}, action{1, func() { p.add(collector) }})
		} else {
			out = append(out, action{6, func() { w.startController(p) }})
		}
	}
	out = append(out, action{2, func() { w.now = w.now.Add(time.Duration(1+w.pick.choose([]int{1, 1, 1, 1})*5) * time.Second) }})
	for i, m := range w.machines {
		if len(m.failed) > 0 {
			out = append(out, action{6, func() { m.failed = map[string]bool{} }})
		}
		out = append(out, w.machineFaults(m, i == w.last(m.node))...)
	}
	// Users delete claims (with their namespaces) or IPAddresses, in one world not both: of an
	// address whose two records are deleted while nobody leads nothing is known until its node
	// says so.
	for _, k := range []kind{w.deleted, spools} {
		if keys := sortedKeys(w.api.objects[k]); len(keys) > 0 && w.UserDeletes {
			out = append(out, action{1, func() {
				key := w.one(keys)
				w.note("user: deletes %s %s", k.resource().Resource, key)
				_ = w.api.remove(k, key, nil)
			}})
		}
	}
	if keys := w.owned(); len(keys) > 0 && w.UserDeletes {
		out = append(out, action{1, func() {
			key := w.one(keys)
			w.note("user: deletes pool %s", key.Name)
			_ = w.api.remove(pools, key, nil)
		}})
	}
	return out
}

// strangers returns what other machines of the LAN do, and what makes a quarantine end.
func (w *world) strangers() []action {
	var out []action
	if len(w.strange) < w.Strangers {
		out = append(out, action{2, func() {
			net := w.pick.choose(make1(w.Pools + w.Subnets))
			if net >= w.Pools {
				net += 100 - w.Pools
			}
			a := nth(lan(net, w.dual && w.chance(2)), 1+w.pick.choose(make1(w.Addresses)))
			w.strange = append(w.strange, a)
			w.note("another machine has %s", a)
		}})
	}
	if len(w.strange) > 0 {
		out = append(out, action{1, func() { w.note("no other machine has %s any more", w.strange[0]); w.strange = w.strange[1:] }})
	}
	if w.quarantines() {
		out = append(out, action{1, func() { w.note("an hour passes"); w.now = w.now.Add(time.Hour) }})
	}
	return out
}

// quarantines reports whether an address is in quarantine.
func (w *world) quarantines() bool {
	for _, o := range w.api.objects[addresses] {
		if quarantined(o.(*v1alpha1.IPAddress)) {
			return true
		}
	}
	return false
}

// again has the process look again at what it left for later.
func (p *process) again() {
	for _, what := range p.later {
		p.add(what)
	}
	p.later = nil
}

func (w *world) one(keys []types.NamespacedName) types.NamespacedName {
	return keys[w.pick.choose(make1(len(keys)))]
}

// last returns the index of the newest machine of a name.
func (w *world) last(node string) int {
	at := -1
	for i, m := range w.machines {
		if m.node == node {
			at = i
		}
	}
	return at
}

func (w *world) createPod() {
	ready := w.readyNodes()
	if len(ready) == 0 {
		return
	}
	pool := func() string { return fmt.Sprintf("p%d", w.pick.choose(make1(w.Pools))) }
	// Few names: most pods have the name of one that was there before.
	name := fmt.Sprintf("pod%d", w.pick.choose(make1(w.Pods+w.Pods/4+1)))
	node, wanted := ready[w.pick.choose(make1(len(ready)))], pool()
	if w.Pools > 1 && w.chance(3) {
		wanted += "," + pool()
	}
	annotations := map[string]string{networks: wanted}
	if w.Subnets > 0 && w.chance(4) { // straight from a subnet
		annotations[ipam.SubnetAnnotation] = fmt.Sprintf(`{"ipv4": ["s%d"]}`, w.pick.choose(make1(w.Subnets)))
	}
	w.makePod(name, node, annotations)
}

// makePod makes a pod on a node.
func (w *world) makePod(name, node string, annotations map[string]string) {
	w.now = w.now.Add(time.Second)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: node},
	}
	if err := w.api.create(p); err == nil {
		w.note("user: makes pod %s (%s) on %s: %s", p.Name, p.UID, p.Spec.NodeName, slices.Sorted(maps.Values(annotations)))
	}
}

// make1 returns n equal weights.
func make1(n int) []int {
	if n > len(ones) {
		return slices.Repeat(ones[:1], n)
	}
	return ones[:n]
}

var ones = slices.Repeat([]int{1}, 64)

// deletePod deletes a pod as a user does: its kubelet ends it.
func (w *world) deletePod(key types.NamespacedName) {
	p := deepCopy(w.api.objects[pods][key]).(*corev1.Pod)
	if p.DeletionTimestamp != nil {
		return
	}
	now := metav1.NewTime(w.now)
	p.DeletionTimestamp = &now
	w.note("user: deletes pod %s (%s)", p.Name, p.UID)
	w.api.put(pods, key, p)
}

func (w *world) forceDelete(key types.NamespacedName) {
	w.note("user: deletes pod %s (%s) by force", key.Name, w.api.objects[pods][key].GetUID())
	_ = w.api.remove(pods, key, nil)
}

func (w *world) finish(key types.NamespacedName) {
	p := deepCopy(w.api.objects[pods][key]).(*corev1.Pod)
	p.Status.Phase = corev1.PodSucceeded
	w.note("pod %s (%s) has finished", p.Name, p.UID)
	w.api.put(pods, key, p)
}

// machineFaults returns what can happen to a machine. Only the newest one of a name has the Node.
func (w *world) machineFaults(m *machine, newest bool) []action {
	var out []action
	key := types.NamespacedName{Name: m.node}
	node, _ := w.api.objects[nodes][key].(*corev1.Node)
	has := newest && node != nil && node.Status.NodeInfo.MachineID == m.id
	if m.up {
		for _, s := range m.sandboxes {
			if !s.overdue && !s.ready {
				out = append(out, action{1, func() { s.overdue = true; w.note("%s: the runtime waits no longer for %s", m.node, s.id) }})
			}
		}
		if m.agent.up {
			out = append(out, action{1, m.agent.crash})
		} else {
			out = append(out, action{6, m.startAgent})
		}
		if m.cut {
			out = append(out, action{2, func() { m.cut = false; w.note("%s: is connected again", m.node) }})
		}
	}
	if m.up && has && len(node.Spec.Taints) > 0 {
		out = append(out, action{2, func() { w.untaint(m) }})
	}
	// These are rare, and of one machine at a time.
	if !w.chance(20 * len(w.machines)) {
		return out
	}
	switch {
	case m.up && has:
		out = append(out,
			action{5, func() { m.cut = true; w.note("%s: is cut off", m.node) }},
			action{5, m.off},
			action{2, m.restartKubelet},
			action{3, func() { // a sandbox dies
				for _, s := range m.sandboxes {
					if s.ready && !s.dead {
						w.note("%s: sandbox %s of %s dies", m.node, s.id, s.pod)
						s.dead = true
						break
					}
				}
			}})
		if w.UserDeletes {
			out = append(out, action{1, func() {
				w.note("user: deletes the spool of %s", m.node)
				m.files.contents = map[string][]byte{}
				m.files.version++
			}})
		}
	case !m.up && has:
		out = append(out, action{10, func() { m.power(); m.startAgent() }}, action{5, func() { w.deleteNode(m) }},
			action{5, func() { w.taint(m) }})
	case newest && node == nil:
		out = append(out, action{10, func() { w.newMachine(m.node) }}, action{5, func() {
			m.cut = false
			m.register()
			m.power()
			m.startAgent()
		}})
	}
	if !w.protects(StoppedNodes) && m.up && has {
		out = append(out, action{5, func() { w.deleteNode(m) }})
	}
	return out
}

// taint marks a Node as out of service, and deletes its pods.
func (w *world) taint(m *machine) {
	w.note("user: marks %s out of service", m.node)
	w.mark(m, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
	w.fenced(m)
}

// untaint takes the mark away.
func (w *world) untaint(m *machine) {
	w.note("user: takes the mark from %s", m.node)
	w.mark(m)
}

func (w *world) mark(m *machine, taints ...corev1.Taint) {
	key := types.NamespacedName{Name: m.node}
	n := w.api.objects[nodes][key].(*corev1.Node).DeepCopy()
	n.Spec.Taints = taints
	w.api.put(nodes, key, n)
}

// deleteNode deletes a Node, and its pods, as the pod garbage collector does.
func (w *world) deleteNode(m *machine) {
	w.note("user: deletes Node %s", m.node)
	_ = w.api.remove(nodes, types.NamespacedName{Name: m.node}, nil)
	w.fenced(m)
}

// fenced deletes the pods of a node by force.
func (w *world) fenced(m *machine) {
	for _, key := range sortedKeys(w.api.objects[pods]) {
		if w.api.objects[pods][key].(*corev1.Pod).Spec.NodeName == m.node {
			w.forceDelete(key)
		}
	}
}

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

// complete checks that every pod that can have its addresses has them, and that no more are
// out than pods have.
func (w *world) complete() {
	out := map[string]bool{}
	for _, key := range sortedKeys(w.api.objects[pods]) {
		p := w.api.objects[pods][key].(*corev1.Pod)
		if p.Status.Phase == corev1.PodSucceeded || w.off(p.Spec.NodeName) {
			continue
		}
		c, _ := w.api.objects[claims][key].(*v2beta1.SpiderEndpoint)
		if c == nil || c.Spec.PodUID != w.uidOf(p.Name, string(p.UID)) {
			w.breaks("pod %s (%s) has no claim", key, p.UID)
			return
		}
		for name := range controller.Named(c) {
			out[name] = true
		}
		if c.Status.Phase != v2beta1.Allocated && w.room(p) && !w.afterOthers(p) {
			w.breaks("pod %s (%s) has no addresses, and its pools have some", key, p.UID)
			return
		}
	}
	for _, m := range w.machines { // what a sandbox has isn't lost, whatever its claim says
		for _, s := range m.sandboxes {
			for _, keys := range s.addresses {
				for _, k := range keys {
					out[k.String()] = true
				}
			}
		}
	}
	for _, key := range sortedKeys(w.api.objects[addresses]) {
		if a := w.api.objects[addresses][key].(*v1alpha1.IPAddress); !out[key.Name] {
			w.holds(a)
		}
	}
	for name := range out {
		if w.api.objects[addresses][types.NamespacedName{Name: name}] == nil {
			w.breaks("address %s is named by a claim and has no IPAddress", name)
			return
		}
	}
}

// room reports whether the pools of a pod have addresses for all of its NICs.
func (w *world) room(p *corev1.Pod) bool {
	members, taken := w.byPool(), map[string]int{}
	for _, n := range w.nicsOf(p) {
		for _, s := range w.stocksOf(p, n, members) {
			if taken[s.pool]++; taken[s.pool] > s.n {
				return false
			}
		}
	}
	return true
}

// afterOthers reports whether an older pod has waited so long for a pool that it comes first there.
func (w *world) afterOthers(p *corev1.Pod) bool {
	for key, o := range w.api.objects[pods] {
		other := o.(*corev1.Pod)
		c, _ := w.api.objects[claims][key].(*v2beta1.SpiderEndpoint)
		waits := c != nil && c.Status.Phase != v2beta1.Allocated && w.now.Sub(other.CreationTimestamp.Time) > ipam.Patience && !w.room(other)
		if waits && other.CreationTimestamp.Time.Before(p.CreationTimestamp.Time) && slices.ContainsFunc(w.nicsOf(other), func(n v2beta1.EndpointNIC) bool {
			return slices.ContainsFunc(w.nicsOf(p), func(own v2beta1.EndpointNIC) bool { return own.IPv4Pools[0] == n.IPv4Pools[0] })
		}) {
			return true
		}
	}
	return false
}

// empty checks that nothing is left of pods that are gone.
func (w *world) empty() {
	for _, key := range sortedKeys(w.api.objects[claims]) {
		w.breaks("claim %s is left, and all pods are gone", key)
	}
	for _, key := range sortedKeys(w.api.objects[addresses]) {
		a := w.api.objects[addresses][key].(*v1alpha1.IPAddress)
		if w.holds(a); len(a.Spec.Holders) > 0 {
			w.breaks("address %s is left, and all pods are gone", key)
		}
	}
	for _, key := range sortedKeys(w.api.objects[spools]) {
		if n := w.api.objects[spools][key].(*v1alpha1.NodeSpool); len(n.Spec.Ask) > 0 && !w.off(key.Name) {
			w.breaks("NodeSpool %s still asks for %v", key.Name, n.Spec.Ask)
			return
		}
	}
}
