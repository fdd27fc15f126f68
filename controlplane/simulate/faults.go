// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// user is whoever changes objects: people, workload controllers, the node lifecycle.
type user struct {
	late []lateRequest
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
	out = append(out, action{1, w.reserve}, action{1, func() { w.disable(w.pick.choose(make1(w.Pools))) }})
	out = append(out,
		action{8, w.stallOne},
		action{2, w.pause},
		action{4, w.deafen},
		action{2, w.killPlugin},
		action{2, func() {
			w.leader = w.pick.choose(make1(w.Controllers))
			w.now = w.now.Add(lease)
			w.note("controller %d leads", w.leader)
		}})
	if w.deleted != addresses { // see where users delete them, below
		out = append(out, action{1, func() {
			w.twoLead = !w.twoLead
			w.note("all controllers believe that they lead: %v", w.twoLead)
		}})
	}
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
	// says so. Where they delete IPAddresses, which a policy forbids, one controller leads at a time, as
	// the lease has it. What the former one was about to do comes at any time.
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

// reserve has users reserve an address of a pool, or take that back.
func (w *world) reserve() {
	key := types.NamespacedName{Name: "r"}
	if w.api.objects[reserved][key] != nil {
		w.note("user: takes the reserved address back")
		must(w.api.remove(reserved, key, nil))
		return
	}
	a := nth(lan(w.pick.choose(make1(w.Pools)), false), 1+w.pick.choose(make1(w.Addresses))).String()
	w.note("user: reserves %s", a)
	must(w.api.create(&v2beta1.SpiderReservedIP{ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: ipam.ReservedSpec{IPs: []string{a}}}))
}

// disable has users disable a pool, or enable it again.
func (w *world) disable(pool int) {
	key := types.NamespacedName{Name: fmt.Sprintf("p%d", pool)}
	p := deepCopy(w.api.objects[pools][key]).(*v2beta1.SpiderIPPool)
	p.Spec.Disable = ptr.To(!ptr.Deref(p.Spec.Disable, false))
	w.note("user: pool %s is disabled: %t", p.Name, *p.Spec.Disable)
	w.api.put(pools, key, p)
}

// strangers returns what other machines of the LAN do, and what makes a quarantine end.
func (w *world) strangers() []action {
	var out []action
	if len(w.strange) < w.Strangers {
		out = append(out, action{2, func() {
			nets := []int{staticLAN}
			for i := range w.Pools {
				nets = append(nets, i)
			}
			for i := range w.Subnets {
				nets = append(nets, subnetLAN+i)
			}
			net := nets[w.pick.choose(make1(len(nets)))]
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
	if w.Static > 0 && w.chance(4) {
		w.makePod(name, ready[w.pick.choose(make1(len(ready)))], map[string]string{
			networks: static, ipam.VLANAnnotation: static, ipam.StaticIPAnnotation: w.anyStatic(),
		})
		return
	}
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

// anyStatic returns an address, a list or auto.
func (w *world) anyStatic() string {
	one := func() string { return nth(lan(staticLAN, false), 1+w.pick.choose(make1(w.Static))).String() }
	a, b := one(), one()
	switch w.pick.choose([]int{2, 1, 1}) {
	case 0:
		return a
	case 1:
		return "auto"
	}
	if a == b {
		return a
	}
	return a + "-" + b
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
			out = append(out, action{1, m.deleteSpool})
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

// deleteSpool has users delete the spool.
func (m *machine) deleteSpool() {
	m.w.note("user: deletes the spool of %s", m.node)
	m.files.contents = map[string][]byte{}
	m.files.version++
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
