// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

const (
	networks = ipam.NetworksAnnotation
	instance = "VirtualMachineInstance"
	// revision is a label of a template, and of its pods.
	revision = "revision"
	// migrates is an annotation of a virtual machine's instance: it is to move to another node.
	migrates = "migrates"
)

// wish is what a user wants an application to be.
type wish struct {
	replicas int32
	revision int
	number   string // of addresses
	subnet   string // "": its pods name a pool
	pool     string
	reclaim  bool
	nics     int
}

// template returns what a wish makes of an application's pods.
func (x wish) template() corev1.PodTemplateSpec {
	nad := x.pool
	if nad == "" {
		nad = "p0"
	}
	annotations := map[string]string{networks: nad}
	if x.nics > 1 {
		annotations[networks] += "," + nad
	}
	if x.subnet != "" {
		annotations[ipam.SubnetAnnotation] = fmt.Sprintf(`{"ipv4": [%q]}`, x.subnet)
		annotations[ipam.IPNumberAnnotation] = x.number
		annotations[ipam.ReclaimAnnotation] = strconv.FormatBool(x.reclaim)
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{revision: strconv.Itoa(x.revision)}, Annotations: annotations}}
}

// deploy makes a Deployment, or changes it.
func (w *world) deploy(name string, x wish) {
	w.wished[name] = x
	w.wants(deployments, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &x.replicas, Template: x.template(), Strategy: appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(1))},
		}},
	})
}

// set makes a StatefulSet, or changes it.
func (w *world) set(name string, x wish) {
	w.wished[name] = x
	w.wants(statefulSets, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
		Spec:       appsv1.StatefulSetSpec{Replicas: &x.replicas, Template: x.template()},
	})
}

// wants makes an object of a user, or changes it.
func (w *world) wants(k kind, o client.Object) {
	w.now = w.now.Add(time.Second)
	if former := w.api.objects[k][client.ObjectKeyFromObject(o)]; former != nil {
		o.SetUID(former.GetUID())
		o.SetCreationTimestamp(former.GetCreationTimestamp())
		o.SetGeneration(former.GetGeneration() + 1)
		w.api.put(k, client.ObjectKeyFromObject(o), o)
	} else {
		must(w.api.create(o))
	}
	w.note("user: wants %s (%s): %s", name(o), w.api.objects[k][client.ObjectKeyFromObject(o)].GetUID(), w.described(o))
}

// templateOf returns the template of a workload's pods.
func templateOf(o client.Object) corev1.PodTemplateSpec {
	if d, is := o.(*appsv1.Deployment); is {
		return d.Spec.Template
	}
	return o.(*appsv1.StatefulSet).Spec.Template
}

// replicasOf returns how many pods a workload is to have.
func replicasOf(o client.Object) int {
	if d, is := o.(*appsv1.Deployment); is {
		return int(*d.Spec.Replicas)
	}
	return int(*o.(*appsv1.StatefulSet).Spec.Replicas)
}

// described says what a user wants of an application.
func (w *world) described(o client.Object) string {
	if _, is := o.(*metav1.PartialObjectMetadata); is {
		return "it runs"
	}
	return fmt.Sprintf("%d replicas, %v, %v", replicasOf(o), templateOf(o).Labels, templateOf(o).Annotations)
}

// machineOf returns an object of KubeVirt.
func machineOf(kind, name string, owner client.Object) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name}}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: kind})
	if owner != nil {
		o.OwnerReferences = []metav1.OwnerReference{controlledBy(owner)}
	}
	return o
}

func controlledBy(o client.Object) metav1.OwnerReference {
	ref := metav1.OwnerReference{APIVersion: "apps/v1", Name: o.GetName(), UID: o.GetUID(), Controller: ptr.To(true)}
	switch o := o.(type) {
	case *appsv1.Deployment:
		ref.Kind = "Deployment"
	case *appsv1.ReplicaSet:
		ref.Kind = "ReplicaSet"
	case *appsv1.StatefulSet:
		ref.Kind = "StatefulSet"
	case *metav1.PartialObjectMetadata:
		ref.APIVersion, ref.Kind = o.APIVersion, o.Kind
	}
	return ref
}

// unwant deletes an application, as a user does. What belongs to it is collected later.
func (w *world) unwant(k kind, key types.NamespacedName) {
	if o := w.api.objects[k][key]; o != nil {
		w.note("user: deletes %s (%s)", name(o), o.GetUID())
		must(w.api.remove(k, key, nil))
	}
}

// orphan deletes a StatefulSet and leaves its pods, as a user does with --cascade=orphan.
func (w *world) orphan(key types.NamespacedName) {
	s := w.api.objects[statefulSets][key]
	for _, key := range sortedKeys(w.api.objects[pods]) {
		if p := w.api.objects[pods][key]; s != nil && metav1.IsControlledBy(p, s) {
			w.control(p, nil)
		}
	}
	w.unwant(statefulSets, key)
}

// control gives a pod another controller, or none.
func (w *world) control(p client.Object, by client.Object) {
	next := deepCopy(p)
	next.SetOwnerReferences(nil)
	if by != nil {
		next.SetOwnerReferences([]metav1.OwnerReference{controlledBy(by)})
	}
	w.note("pod %s (%s) has the controllers %v", p.GetName(), p.GetUID(), next.GetOwnerReferences())
	w.api.put(pods, client.ObjectKeyFromObject(p), next)
}

// members are the pods of a controller that aren't over.
type members struct {
	live []*corev1.Pod // those that aren't being deleted
	all  int
}

// workloads is what the controllers of workloads can do next, as long as nothing of theirs changes.
type workloads struct {
	version int
	can     []func()
}

// controllers returns what the controllers of workloads can do next, each a write: those of
// Deployments, ReplicaSets and StatefulSets, KubeVirt, and the garbage collector. They see
// everything at once, and make no faults.
func (w *world) controllers() []func() {
	if !w.hasWorkloads() {
		return nil
	}
	version := len(w.api.log[pods]) + len(w.api.log[nodes])
	for k := deployments; k < kinds; k++ {
		version += len(w.api.log[k])
	}
	if version != w.managed.version {
		w.managed = workloads{version, w.manage()}
	}
	return w.managed.can
}

// manage finds what the controllers of workloads can do.
func (w *world) manage() []func() {
	var out []func()
	can := func(do func()) { out = append(out, do) }
	there := map[types.UID]bool{}
	for k := deployments; k < kinds; k++ {
		for _, o := range w.api.objects[k] {
			there[o.GetUID()] = true
		}
	}
	of := map[types.UID]*members{}
	for _, key := range sortedKeys(w.api.objects[pods]) {
		p := w.api.objects[pods][key].(*corev1.Pod)
		owner := metav1.GetControllerOfNoCopy(p)
		if owner == nil {
			continue
		}
		m := of[owner.UID]
		if m == nil {
			m = &members{}
			of[owner.UID] = m
		}
		m.all++
		switch {
		case p.DeletionTimestamp != nil:
		case !there[owner.UID] || p.Status.Phase == corev1.PodSucceeded:
			can(func() { w.deletePod(key) })
		default:
			m.live = append(m.live, p)
		}
	}
	for _, k := range []kind{replicaSets, instances} {
		for _, key := range sortedKeys(w.api.objects[k]) {
			o := w.api.objects[k][key]
			if owner := metav1.GetControllerOf(o); !there[owner.UID] {
				can(func() { w.unwant(k, key) })
			}
		}
	}
	if len(w.readyNodes()) == 0 {
		return out
	}
	get := func(uid types.UID) members {
		if m := of[uid]; m != nil {
			return *m
		}
		return members{}
	}
	for _, key := range sortedKeys(w.api.objects[deployments]) {
		w.deployment(w.api.objects[deployments][key].(*appsv1.Deployment), get, can)
	}
	for _, key := range sortedKeys(w.api.objects[statefulSets]) {
		w.statefulSet(w.api.objects[statefulSets][key].(*appsv1.StatefulSet), get, can)
	}
	for _, key := range sortedKeys(w.api.objects[virtualMachines]) {
		w.virtualMachine(w.api.objects[virtualMachines][key], get, can)
	}
	return out
}

func (w *world) hasWorkloads() bool { return w.Deployments+w.StatefulSets+w.VirtualMachines > 0 }

func runs(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

// count returns of how many it is so.
func count(list []*corev1.Pod, is func(*corev1.Pod) bool) int {
	n := 0
	for _, p := range list {
		if is(p) {
			n++
		}
	}
	return n
}

// deployment is what can be done for a Deployment, with maxSurge 1 and maxUnavailable 0.
func (w *world) deployment(d *appsv1.Deployment, get func(types.UID) members, can func(func())) {
	name := d.Name + "-" + d.Spec.Template.Labels[revision]
	key := types.NamespacedName{Namespace: d.Namespace, Name: name}
	if w.api.objects[replicaSets][key] == nil {
		can(func() {
			must(w.api.create(&appsv1.ReplicaSet{
				ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name, OwnerReferences: []metav1.OwnerReference{controlledBy(d)}},
				Spec:       appsv1.ReplicaSetSpec{Template: d.Spec.Template},
			}))
		})
	}
	var old []*corev1.Pod
	var now members
	total, available := 0, 0
	for _, k := range sortedKeys(w.api.objects[replicaSets]) {
		r := w.api.objects[replicaSets][k]
		if metav1.GetControllerOf(r).UID != d.UID {
			continue
		}
		m := get(r.GetUID())
		total += len(m.live)
		available += count(m.live, runs)
		switch {
		case k == key:
			now = m
		case m.all == 0:
			can(func() { _ = w.api.remove(replicaSets, k, nil) })
		default:
			old = append(old, m.live...)
		}
	}
	replicas := int(*d.Spec.Replicas)
	surge := 0
	if len(old) > 0 {
		surge = 1
	}
	if r := w.api.objects[replicaSets][key]; r != nil && metav1.GetControllerOf(r).UID == d.UID && len(now.live) < replicas && total < replicas+surge {
		can(func() {
			w.names++
			w.podOf(r, fmt.Sprintf("%s-%d", name, w.names), d.Spec.Template, w.names)
		})
	}
	if len(now.live) > replicas {
		can(func() { w.deletePod(client.ObjectKeyFromObject(now.live[len(now.live)-1])) })
	}
	for _, p := range old {
		if !runs(p) || available > replicas {
			can(func() { w.deletePod(client.ObjectKeyFromObject(p)) })
			break
		}
	}
}

// statefulSet is what can be done for a StatefulSet whose pods are managed in parallel.
func (w *world) statefulSet(s *appsv1.StatefulSet, get func(types.UID) members, can func(func())) {
	replicas := int(*s.Spec.Replicas)
	for i := range replicas {
		pod := fmt.Sprintf("%s-%d", s.Name, i)
		switch p := w.api.objects[pods][types.NamespacedName{Namespace: s.Namespace, Name: pod}]; {
		case p == nil:
			can(func() { w.podOf(s, pod, s.Spec.Template, i) })
		case metav1.GetControllerOfNoCopy(p) == nil && p.GetDeletionTimestamp() == nil:
			can(func() { w.control(p, s) })
		}
	}
	all := get(s.UID).live
	for _, p := range all {
		i, _ := strconv.Atoi(p.Name[len(s.Name)+1:])
		other := p.Labels[revision] != s.Spec.Template.Labels[revision]
		if i >= replicas || other && (!runs(p) || count(all, runs) >= replicas) {
			can(func() { w.deletePod(client.ObjectKeyFromObject(p)) })
			break
		}
	}
}

// virtualMachine is what can be done for a virtual machine: it starts, and it migrates.
func (w *world) virtualMachine(vm client.Object, get func(types.UID) members, can func(func())) {
	key := client.ObjectKeyFromObject(vm)
	i := w.api.objects[instances][key]
	if i == nil {
		can(func() { must(w.api.create(machineOf(instance, vm.GetName(), vm))) })
		return
	}
	if metav1.GetControllerOf(i).UID != vm.GetUID() {
		return
	}
	all := get(i.GetUID()).live
	var source []string // KubeVirt never moves an instance to the node where it is
	for _, p := range all {
		source = append(source, p.Spec.NodeName)
	}
	start := func() {
		w.names++
		w.podOf(i, fmt.Sprintf("virt-launcher-%s-%d", vm.GetName(), w.names), wish{}.template(), w.names, source...)
	}
	switch moves := i.GetAnnotations()[migrates] != ""; {
	case len(all) == 0, len(all) == 1 && moves && runs(all[0]) && len(w.readyNodes(source...)) > 0:
		can(start)
	case len(all) == 2 && !moves: // the source ends when the target runs, or the migration was given up
		slices.SortFunc(all, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		can(func() { w.deletePod(client.ObjectKeyFromObject(all[0])) })
	case len(all) == 2 && count(all, runs) == 2:
		can(func() { w.migrate(key, "") })
	}
}

// migrate has an instance of a virtual machine move, or says that it has moved.
func (w *world) migrate(key types.NamespacedName, to string) {
	i := deepCopy(w.api.objects[instances][key])
	annotations := map[string]string{}
	if to != "" {
		annotations[migrates] = to
	}
	w.note("KubeVirt: instance %s (%s) moves: %t", key.Name, i.GetUID(), to != "")
	i.SetAnnotations(annotations)
	w.api.put(instances, key, i)
}

// podOf makes a pod of a controller, on a node that isn't one of those. nth chooses it where nothing is
// at random.
func (w *world) podOf(owner client.Object, name string, t corev1.PodTemplateSpec, nth int, not ...string) {
	node := w.readyNode(nth, not...)
	w.now = w.now.Add(time.Second)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "test", Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{controlledBy(owner)},
		},
		Spec: corev1.PodSpec{NodeName: node},
	}
	if w.api.create(p) == nil {
		w.note("pod %s (%s) is made on %s for %s (%s)", p.Name, p.UID, node, p.OwnerReferences[0].Kind, owner.GetUID())
	}
}

// readyNode returns a node that takes pods, and isn't one of those.
func (w *world) readyNode(nth int, not ...string) string {
	ready := w.readyNodes(not...)
	if w.scope != nil {
		return ready[nth%len(ready)]
	}
	return ready[w.pick.choose(make1(len(ready)))]
}

// readyNodes returns the nodes that take pods, but for some.
func (w *world) readyNodes(not ...string) []string {
	var ready []string
	for _, key := range sortedKeys(w.api.objects[nodes]) {
		if len(w.api.objects[nodes][key].(*corev1.Node).Spec.Taints) == 0 && !slices.Contains(not, key.Name) {
			ready = append(ready, key.Name)
		}
	}
	return ready
}

// applicationFaults returns what users do with applications.
func (w *world) applicationFaults() []action {
	var out []action
	for n := range w.Deployments {
		out = append(out, w.usersOf(deployments, fmt.Sprintf("app%d", n), w.deploy)...)
	}
	for n := range w.StatefulSets {
		out = append(out, w.usersOf(statefulSets, fmt.Sprintf("set%d", n), w.set)...)
	}
	for n := range w.VirtualMachines {
		key := types.NamespacedName{Namespace: "test", Name: fmt.Sprintf("vm%d", n)}
		if w.api.objects[virtualMachines][key] == nil {
			out = append(out, action{4, func() { w.wants(virtualMachines, machineOf(identities.VirtualMachine, key.Name, nil)) }})
			continue
		}
		out = append(out, action{1, func() { w.unwant(virtualMachines, key) }})
		if i := w.api.objects[instances][key]; i != nil {
			out = append(out, action{1, func() { w.unwant(instances, key) }})
			if i.GetAnnotations()[migrates] == "" {
				out = append(out, action{4, func() { w.migrate(key, "another node") }})
			} else {
				out = append(out, action{1, func() { w.migrate(key, "") }}) // it is given up
			}
		}
	}
	return out
}

// usersOf returns what users do with a Deployment or a StatefulSet.
func (w *world) usersOf(k kind, name string, want func(string, wish)) []action {
	key := types.NamespacedName{Namespace: "test", Name: name}
	if w.api.objects[k][key] == nil {
		return []action{{4, func() { want(name, w.anyWish()) }}}
	}
	return []action{
		{2, func() { // another size
			x := w.wished[name]
			x.replicas = int32(w.pick.choose(make1(w.Replicas + 1)))
			want(name, x)
		}},
		{1, func() { // it rolls, perhaps with other annotations
			x := w.anyWish()
			x.replicas, x.revision = w.wished[name].replicas, (w.wished[name].revision+1)%3
			if w.chance(2) {
				x = w.wished[name]
				x.revision = (x.revision + 1) % 3
			}
			want(name, x)
		}},
		{1, func() { w.unwant(k, key) }},
	}
}

// anyWish returns what a user may want of an application.
func (w *world) anyWish() wish {
	x := wish{replicas: int32(w.pick.choose(make1(w.Replicas + 1))), number: []string{"+1", "+0", "+2", "3"}[w.pick.choose([]int{6, 1, 1, 1})], reclaim: !w.chance(3), nics: 1}
	if w.chance(3) {
		x.nics = 2
	}
	if w.chance(4) {
		x.pool = fmt.Sprintf("p%d", w.pick.choose(make1(w.Pools)))
	} else {
		x.subnet = fmt.Sprintf("s%d", w.pick.choose(make1(w.Subnets)))
	}
	return x
}
