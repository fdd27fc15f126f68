// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	controller "github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// breaks notes that an invariant doesn't hold, unless another one didn't before.
func (w *world) breaks(format string, a ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, a...)
		w.note("BROKEN: %s", w.broken)
		for _, k := range []kind{pools, subnets, claims, addresses} { // what it is about
			for _, key := range sortedKeys(w.api.objects[k]) {
				switch o := w.api.objects[k][key].(type) {
				case *v2beta1.SpiderIPPool:
					w.note("  pool %s: %v, %v", o.Name, o.Spec.IPs, o.Labels[ipam.ReclaimLabel])
				case *v2beta1.SpiderEndpoint:
					w.note("  claim %s: %+v, %+v", o.Name, o.Spec, o.Status)
				case *v1alpha1.IPAddress:
					w.note("  address %s: %+v", o.Name, o.Spec)
				}
			}
		}
	}
}

// moved checks at each write that no address goes from one application's pool into another's
// without being free in between.
func (w *world) moved(former, now client.Object) {
	a, was := former.(*v1alpha1.IPAddress)
	b, is := now.(*v1alpha1.IPAddress)
	if was && is && a.Spec.Application != nil && b.Spec.Application != nil && a.Spec.Pool != b.Spec.Pool {
		w.breaks("address %s goes from pool %s into pool %s", a.Name, a.Spec.Pool, b.Spec.Pool)
	}
}

// keeps checks, where identities keep what they had, that a sandbox has what its identity had first.
func (w *world) keeps(s *sandbox) {
	if s.identity == "" || !w.Retain {
		return
	}
	for nic, has := range s.addresses {
		id := s.identity + " " + nic
		if w.first[id] == "" {
			w.first[id] = fmt.Sprint(has)
		}
		if w.first[id] != fmt.Sprint(has) {
			w.breaks("%s of pod %s has %v, and had %s", id, s.pod, has, w.first[id])
		}
	}
}

// policies returns annotations that say the policy.
func (w *world) policies() map[string]string {
	out := map[string]string{}
	if w.policy.RetainScaled {
		out[identities.WhenScaled] = identities.Retain
	}
	if w.policy.RetainDeleted {
		out[identities.WhenDeleted] = identities.Retain
	}
	return out
}

// byPool returns the IPAddresses of each pool.
func (w *world) byPool() map[string][]*v1alpha1.IPAddress {
	out := map[string][]*v1alpha1.IPAddress{}
	for _, key := range sortedKeys(w.api.objects[addresses]) {
		a := w.api.objects[addresses][key].(*v1alpha1.IPAddress)
		out[a.Spec.Pool] = append(out[a.Spec.Pool], a)
	}
	return out
}

// free reports whether nobody has an address, and no identity.
func free(a *v1alpha1.IPAddress) bool {
	return a.Spec.State == v1alpha1.Reserved && len(a.Spec.Holders) == 0 && a.Spec.Identity == nil
}

func frees(list []*v1alpha1.IPAddress) int {
	return len(slices.DeleteFunc(slices.Clone(list), func(a *v1alpha1.IPAddress) bool { return !free(a) }))
}

// allocated returns how many addresses pods have, without those in quarantine.
func allocated(list []*v1alpha1.IPAddress) int {
	return len(slices.DeleteFunc(slices.Clone(list), func(a *v1alpha1.IPAddress) bool { return a.Spec.State != v1alpha1.Allocated }))
}

func quarantined(a *v1alpha1.IPAddress) bool { return a.Spec.State == v1alpha1.Quarantined }

// sizes checks that each pool of an application that lives has as many addresses as it is to have,
// that those of others are gone, and that all counts are right.
func (w *world) sizes() {
	members := w.byPool()
	living := map[string]client.Object{}
	for _, k := range []kind{deployments, statefulSets} {
		for _, key := range sortedKeys(w.api.objects[k]) {
			o := w.api.objects[k][key]
			living[string(o.GetUID())] = o
			w.sizesOf(o, members)
		}
	}
	sums := map[string]int{}
	for _, key := range sortedKeys(w.api.objects[pools]) {
		pool := w.api.objects[pools][key].(*v2beta1.SpiderIPPool)
		is := ipam.AutoPoolOf(pool.Annotations)
		if is == nil {
			continue
		}
		has := members[pool.Name]
		var texts []string
		for _, a := range has {
			// One that a late write put into a pool of another subnet stays as long as a pod uses it.
			if pool.Spec.Prefix().Contains(netip.MustParseAddr(a.Spec.Address)) {
				sums[is.Subnet]++
				texts = append(texts, a.Spec.Address)
			}
		}
		if want := ipam.Text(ipam.Addresses(texts)); !slices.Equal(want, pool.Spec.IPs) {
			w.breaks("pool %s shows %v, and has %v", pool.Name, pool.Spec.IPs, want)
		}
		w.counted("pool "+pool.Name, pool.Status, len(texts), allocated(has))
		owner := living[is.Application.UID]
		wanted := owner != nil && wants(owner, *is)
		kept := owner == nil && pool.Labels[ipam.ReclaimLabel] == "false"
		if !wanted && !kept && len(has) == frees(has) {
			w.breaks("pool %s is left with %v, and nobody wants it", pool.Name, texts)
		}
		if !wanted && !kept && frees(has) > 0 {
			w.breaks("pool %s, which nobody wants, keeps %d free addresses", pool.Name, frees(has))
		}
	}
	for _, key := range sortedKeys(w.api.objects[subnets]) {
		s := w.api.objects[subnets][key].(*v2beta1.SpiderSubnet)
		w.counted("subnet "+s.Name, s.Status, w.Addresses, sums[s.Name]+allocated(members[ipam.SubnetPool+s.Name]))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if a := members[name][0]; a.Spec.Application != nil && w.api.objects[pools][types.NamespacedName{Name: name}] == nil && frees(members[name]) > 0 {
			w.breaks("address %s is free in pool %s, which isn't there", a.Name, name)
		}
	}
}

// counted checks the counts of a pool or a subnet.
func (w *world) counted(what string, s v2beta1.PoolStatus, total, allocated int) {
	if ptr.Deref(s.TotalIPCount, -1) != int64(total) || ptr.Deref(s.AllocatedIPCount, -1) != int64(allocated) {
		w.breaks("%s says that it has %d addresses, %d of them allocated: it has %d and %d", what, ptr.Deref(s.TotalIPCount, -1), ptr.Deref(s.AllocatedIPCount, -1), total, allocated)
	}
}

// wants reports whether a workload wants a pool.
func wants(o client.Object, is ipam.AutoPool) bool {
	return slices.Contains(wantedOf(o), is)
}

// wantedOf returns the pools that a workload wants.
func wantedOf(o client.Object) []ipam.AutoPool {
	t := templateOf(o)
	subnet := subnetOf(t.Annotations)
	if subnet == "" {
		return nil
	}
	ref := controlledBy(o)
	app := ipam.Application{Group: appsv1.GroupName, Kind: ref.Kind, Namespace: o.GetNamespace(), Name: ref.Name, UID: string(ref.UID)}
	var out []ipam.AutoPool
	for _, n := range nicsOf(&corev1.Pod{ObjectMeta: t.ObjectMeta}, false) {
		out = append(out, ipam.AutoPool{Application: app, Interface: n.Interface, Subnet: subnet})
	}
	return out
}

// subnetOf returns the subnet that annotations of a pod name, "" if they name none.
func subnetOf(annotations map[string]string) string {
	var name string
	_, _ = fmt.Sscanf(annotations[ipam.SubnetAnnotation], `{"ipv4": [%q]}`, &name)
	return name
}

// sizesOf checks the pools of a workload that lives.
func (w *world) sizesOf(o client.Object, members map[string][]*v1alpha1.IPAddress) {
	for _, want := range wantedOf(o) {
		pool := w.poolOf(want)
		if pool == nil {
			w.breaks("%s (%s) has no pool for %s from %s", name(o), o.GetUID(), want.Interface, want.Subnet)
			return
		}
		number, err := ipam.ParseNumber(templateOf(o).Annotations[ipam.IPNumberAnnotation])
		must(err)
		size := number.Size(replicasOf(o))
		has := slices.DeleteFunc(slices.Clone(members[pool.Name]), quarantined) // of these the pool has one more each
		switch {
		case len(has) > size && frees(has) > 0:
			w.breaks("pool %s has %d addresses, %d of them free, and is to have %d", pool.Name, len(has), frees(has), size)
		case len(has) < size && w.left(want.Subnet) > 0:
			w.breaks("pool %s has %d addresses and is to have %d, and subnet %s has %d left", pool.Name, len(has), size, want.Subnet, w.left(want.Subnet))
		case len(has) < size && !w.said[string(o.GetUID())+" SubnetExhausted"]:
			w.breaks("pool %s has %d addresses and is to have %d, and no event says so", pool.Name, len(has), size)
		}
	}
}

// poolOf returns an application's pool; nil: there is none.
func (w *world) poolOf(want ipam.AutoPool) *v2beta1.SpiderIPPool {
	for _, key := range sortedKeys(w.api.objects[pools]) {
		pool := w.api.objects[pools][key].(*v2beta1.SpiderIPPool)
		if is := ipam.AutoPoolOf(pool.Annotations); is != nil && *is == want {
			return pool
		}
	}
	return nil
}

// owned returns the pools of applications.
func (w *world) owned() []types.NamespacedName {
	return slices.DeleteFunc(sortedKeys(w.api.objects[pools]), func(key types.NamespacedName) bool {
		return ipam.AutoPoolOf(w.api.objects[pools][key].GetAnnotations()) == nil
	})
}

// left returns how many addresses of a subnet nobody has, nor a node reports.
func (w *world) left(subnet string) int {
	s := w.api.objects[subnets][types.NamespacedName{Name: subnet}].(*v2beta1.SpiderSubnet)
	taken := map[string]bool{}
	for key := range w.api.objects[addresses] {
		taken[key.Name] = true
	}
	for key, o := range w.api.objects[spools] {
		if w.off(key.Name) {
			continue
		}
		for _, x := range o.(*v1alpha1.NodeSpool).Status.Sandboxes {
			for _, h := range x.Addresses {
				taken[h.Address] = true
			}
		}
	}
	n := 0
	for _, r := range s.Spec.Total().Ranges() {
		for a := r.From(); ; a = a.Next() {
			if !taken[a.String()] {
				n++
			}
			if a == r.To() {
				break
			}
		}
	}
	return n
}

// over reports whether an address is kept for an identity that is over, by the truth.
func (w *world) over(a *v1alpha1.IPAddress) bool {
	id := a.Spec.Identity
	k := statefulSets
	if id.Kind == identities.VirtualMachine {
		k = virtualMachines
	}
	o := w.api.objects[k][types.NamespacedName{Namespace: id.Namespace, Name: id.Name}]
	switch {
	case o == nil, id.UID != "" && string(o.GetUID()) != id.UID:
		return !w.policy.RetainDeleted
	case id.Ordinal == nil:
		return false
	}
	return int(*id.Ordinal) >= replicasOf(o) && !w.policy.RetainScaled
}

// holds checks who an address says that has it.
func (w *world) holds(a *v1alpha1.IPAddress) {
	if len(a.Spec.Holders) == 0 {
		switch {
		case a.Spec.Identity != nil && w.over(a):
			w.breaks("address %s is kept for %+v, which is over", a.Name, *a.Spec.Identity)
		case a.Spec.Identity == nil && a.Spec.Application == nil:
			w.breaks("address %s is lost: it is nobody's", a.Name)
		}
	}
	for _, h := range a.Spec.Holders {
		p, _ := w.api.objects[pods][types.NamespacedName{Namespace: h.Namespace, Name: h.Pod}].(*corev1.Pod)
		if p == nil || w.uidOf(p.Name, string(p.UID)) != h.PodUID { // a living pod's stays, which a former claim may have told it
			w.breaks("address %s is lost: it is held by %+v", a.Name, a.Spec.Holders)
		}
	}
}

// stock is what a NIC of a pod may get.
type stock struct {
	pool string
	n    int // of it, how many addresses are there
}

// stocksOf returns from which pools a NIC of a pod gets its addresses, and how many these have for it.
func (w *world) stocksOf(p *corev1.Pod, nic v2beta1.EndpointNIC, members map[string][]*v1alpha1.IPAddress) []stock {
	if named := p.Annotations[ipam.StaticIPAnnotation]; named != "" {
		s := stock{pool: nic.IPv4Pools[0], n: w.Static - len(members[nic.IPv4Pools[0]])}
		if named != "auto" {
			s = stock{pool: named, n: len(slices.DeleteFunc(strings.Split(named, "-"), func(a string) bool {
				return slices.ContainsFunc(members[nic.IPv4Pools[0]], func(x *v1alpha1.IPAddress) bool { return x.Spec.Address == a })
			}))}
		}
		return []stock{s}
	}
	out := []stock{w.stockOf(p, nic, nic.IPv4Pools[0], members)}
	if subnetOf(p.Annotations) == "" { // subnets are of one family
		for _, pool := range nic.IPv6Pools {
			out = append(out, w.stockOf(p, nic, pool, members))
		}
	}
	return out
}

// stockOf returns how many addresses a pool has for a NIC of a pod, or the pool of its application instead.
func (w *world) stockOf(p *corev1.Pod, nic v2beta1.EndpointNIC, pool string, members map[string][]*v1alpha1.IPAddress) stock {
	id := identities.Of(p)
	subnet := subnetOf(p.Annotations)
	s := stock{pool: pool}
	top := w.topOf(p)
	switch {
	case subnet == "":
		s.n = w.Addresses - len(members[s.pool])
	case top == nil:
		s.pool = ipam.SubnetPool + subnet
		s.n = w.left(subnet)
	default:
		ref := controlledBy(top)
		pool := w.poolOf(ipam.AutoPool{
			Application: ipam.Application{Group: appsv1.GroupName, Kind: ref.Kind, Namespace: top.GetNamespace(), Name: ref.Name, UID: string(ref.UID)},
			Interface:   nic.Interface, Subnet: subnet,
		})
		if pool == nil {
			return s
		}
		s.pool = pool.Name
		s.n = frees(members[s.pool])
	}
	for _, a := range members[s.pool] { // its own
		if own := a.Spec.Identity; id != nil && identities.Same(id, own) && own.Interface == nic.Interface && (len(a.Spec.Holders) == 0 || w.sourceOf(p, a)) {
			s.n++
		}
	}
	return s
}

// sourceOf reports whether an address is one that a pod of a virtual machine may share: of another pod
// of its instance.
func (w *world) sourceOf(p *corev1.Pod, a *v1alpha1.IPAddress) bool {
	h := a.Spec.Holders[0]
	other, _ := w.api.objects[pods][types.NamespacedName{Namespace: h.Namespace, Name: h.Pod}].(*corev1.Pod)
	return other != nil && len(a.Spec.Holders) == 1 && metav1.GetControllerOf(other) != nil && metav1.GetControllerOf(other).UID == metav1.GetControllerOf(p).UID &&
		metav1.GetControllerOf(p).Kind == instance
}

// topOf returns the workload of a pod; nil: it has none.
func (w *world) topOf(p *corev1.Pod) client.Object {
	ref := metav1.GetControllerOf(p)
	if ref == nil || ref.Kind == instance {
		return nil
	}
	key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
	if ref.Kind == "ReplicaSet" {
		r := w.api.objects[replicaSets][key]
		if r == nil || r.GetUID() != ref.UID {
			return nil
		}
		ref = metav1.GetControllerOf(r)
		key.Name = ref.Name
	}
	for _, k := range []kind{deployments, statefulSets} {
		if o := w.api.objects[k][key]; o != nil && o.GetUID() == ref.UID {
			return o
		}
	}
	return nil
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
	for _, n := range nicsOf(p, w.dual) {
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
		if waits && other.CreationTimestamp.Time.Before(p.CreationTimestamp.Time) && slices.ContainsFunc(nicsOf(other, w.dual), func(n v2beta1.EndpointNIC) bool {
			return slices.ContainsFunc(nicsOf(p, w.dual), func(own v2beta1.EndpointNIC) bool { return own.IPv4Pools[0] == n.IPv4Pools[0] })
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
