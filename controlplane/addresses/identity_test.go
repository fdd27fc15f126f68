// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// runs speaks for the controller of StatefulSets, the scheduler and the agents: it makes the
// pods of StatefulSets on node1, and withdraws what pods have that are gone.
func (b *bench) runs() {
	b.Node("node1")
	ctx, cancel := context.WithCancel(b.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			b.follow(ctx)
			b.withdrawAll(ctx)
			time.Sleep(50 * time.Millisecond)
		}
	})
	b.Cleanup(func() { cancel(); done.Wait() })
}

// follow makes and deletes the pods of StatefulSets.
func (b *bench) follow(ctx context.Context) {
	b.following.Lock()
	defer b.following.Unlock()
	var sets appsv1.StatefulSetList
	var list corev1.PodList
	if b.C.List(ctx, &sets, client.InNamespace(b.NS)) != nil || b.C.List(ctx, &list, client.InNamespace(b.NS)) != nil {
		return
	}
	for i := range sets.Items {
		s := &sets.Items[i]
		if !s.DeletionTimestamp.IsZero() {
			continue
		}
		want := map[string]bool{}
		for n := range *s.Spec.Replicas {
			want[fmt.Sprintf("%s-%d", s.Name, s.Spec.Ordinals.Start+n)] = true
		}
		for j := range list.Items {
			if p := &list.Items[j]; metav1.IsControlledBy(p, s) && !want[p.Name] {
				_ = b.C.Delete(ctx, p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID})
			}
		}
		for name := range want {
			p := &corev1.Pod{ObjectMeta: s.Spec.Template.ObjectMeta, Spec: s.Spec.Template.Spec}
			p.Namespace, p.Name, p.Spec.NodeName = b.NS, name, "node1"
			p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(s, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
			_ = b.C.Create(ctx, p)
		}
	}
}

func (b *bench) withdrawAll(ctx context.Context) {
	var list v2beta1.SpiderEndpointList
	if b.C.List(ctx, &list, client.InNamespace(b.NS)) != nil {
		return
	}
	for i := range list.Items {
		c := &list.Items[i]
		p := &corev1.Pod{}
		err := b.C.Get(ctx, client.ObjectKeyFromObject(c), p)
		if c.Status.Withdrawn != nil || err != nil && !apierrors.IsNotFound(err) || err == nil && pods.UID(p) == c.Spec.PodUID {
			continue
		}
		c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: c.Spec.MachineID}
		_ = b.C.Status().Update(ctx, c)
	}
}

// set makes a StatefulSet whose pods have a network.
func (b *bench) set(name string, start, replicas int32) *appsv1.StatefulSet {
	b.Helper()
	labels := map[string]string{"app": name}
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Ordinals: &appsv1.StatefulSetOrdinals{Start: start}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: networks("net")},
				Spec: corev1.PodSpec{
					Containers:                    []corev1.Container{{Name: "c", Image: "i"}},
					TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false),
				},
			},
		},
	}
	b.Create(s)
	return s
}

func (b *bench) scale(name string, replicas int32) {
	b.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := b.C.Patch(b.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name}}, patch); err != nil {
		b.Fatal(err)
	}
}

// have waits until the pods have addresses, each of its own UID, and returns them.
func (b *bench) have(names ...string) map[string]string {
	b.Helper()
	out := map[string]string{}
	for _, name := range names {
		b.Eventually("pod "+name, func() error {
			p, c := &corev1.Pod{}, &v2beta1.SpiderEndpoint{}
			for _, o := range []client.Object{p, c} {
				if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, o); err != nil {
					return err
				}
			}
			if c.Spec.PodUID != string(p.UID) || c.Status.Phase != v2beta1.Allocated {
				return fmt.Errorf("phase %q, %v", c.Status.Phase, c.Status.Conditions)
			}
			out[name] = text(c)
			return nil
		})
	}
	return out
}

// states waits until there are IPAddresses in these states, and no others: Reserved 2, ...
func (b *bench) states(want string) {
	b.Helper()
	b.Eventually("addresses "+want, func() error {
		var list v1alpha1.IPAddressList
		if err := b.C.List(b.Context(), &list); err != nil {
			return err
		}
		counts := map[string]int{}
		for _, a := range list.Items {
			counts[a.Spec.State]++
		}
		var got []string
		for _, state := range slices.Sorted(maps.Keys(counts)) {
			got = append(got, fmt.Sprintf("%s %d", state, counts[state]))
		}
		if text := strings.Join(got, ", "); text != want {
			return fmt.Errorf("there are: %s", text)
		}
		return nil
	})
}

// fixed returns a bench with a pool of addresses whose annotations are these.
func fixed(t *testing.T, ips string, annotations map[string]string, change ...func(*ipam.PoolSpec)) *bench {
	b := newBench(t)
	b.runs()
	b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: annotations}, Spec: v4(1, ips, change...)})
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	return b
}

// restarted deletes pods and waits until their successors have addresses.
func (b *bench) restarted(names ...string) map[string]string {
	b.Helper()
	for _, name := range names {
		b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name}})
	}
	b.Eventually("the pods are there again", func() error {
		for _, name := range names {
			if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, &corev1.Pod{}); err != nil {
				return err
			}
		}
		return nil
	})
	return b.have(names...)
}

func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestStatefulSet: E00003, L00008, G00010, and the rows on StatefulSets and the start ordinal
// of K. A pod that is made again has its address, though the pool has others, and others that
// were free for longer. Ordinals that are scaled away free theirs.
func TestStatefulSet(t *testing.T) {
	b := fixed(t, "10.1.0.5-10.1.0.20", nil, func(s *ipam.PoolSpec) { s.PodAffinity = labels("app", "web") })
	b.set("web", 5, 3)
	names := []string{"web-5", "web-6", "web-7"}
	first := b.have(names...)
	b.states("Allocated 3")
	equal(t, b.restarted(names...), first)
	equal(t, b.restarted("web-6"), map[string]string{"web-6": first["web-6"]})
	b.scale("web", 1)
	b.states("Allocated 1")
	equal(t, b.have("web-5"), map[string]string{"web-5": first["web-5"]})
	b.scale("web", 0)
	b.states("")
}

// TestDisabledPool: a pool is disabled. Pods of a StatefulSet keep their addresses of it when they are
// made again, whether the network has another pool or not; a new one gets none of it.
func TestDisabledPool(t *testing.T) {
	for _, pools := range []string{`["a"]`, `["a","z"]`} {
		t.Run(pools, func(t *testing.T) {
			b := newBench(t)
			b.runs()
			a := b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.20")
			b.pool("z", "10.1.0.0/16", "10.1.0.50-10.1.0.60")
			b.Network("net", `,"default_ipv4_ippool":`+pools)
			b.Network("only", `,"default_ipv4_ippool":["a"]`)
			b.start(nil)
			b.set("web", 0, 2)
			names := []string{"web-0", "web-1"}
			first := b.have(names...)
			b.change(a, func() { a.Spec.Disable = ptr.To(true) })
			b.pod("new", "node1", networks("only"))
			b.waits("new", "pool a: spec.disable is true")
			equal(t, b.restarted(names...), first)
			b.scale("web", 3)
			if pools == `["a"]` {
				b.waits("web-2", "pool a: spec.disable is true")
			} else if got := b.have("web-2"); got["web-2"] != "net1 10.1.0.50/16" {
				t.Errorf("the new pod has %v", got)
			}
			b.scale("web", 1)
			b.states("Allocated 1") // what is given back isn't given out
			b.waits("new", "pool a: spec.disable is true")
			equal(t, b.restarted("web-0"), map[string]string{"web-0": first["web-0"]})
		})
	}
}

// TestScaled: a StatefulSet is scaled 3 -> 1 -> 3, and meanwhile another application asks for
// the addresses of the pool, which has 4.
func TestScaled(t *testing.T) {
	for _, policy := range []string{identities.Retain, identities.Delete} {
		t.Run(policy, func(t *testing.T) {
			b := fixed(t, "10.1.0.5-10.1.0.8", map[string]string{identities.WhenScaled: policy})
			b.set("web", 0, 3)
			names := []string{"web-0", "web-1", "web-2"}
			first := b.have(names...)
			b.scale("web", 1)
			if policy == identities.Delete {
				b.states("Allocated 1")
			} else {
				b.states("Allocated 1, Reserved 2")
			}
			b.pod("other-1", "node1", networks("net"))
			b.have("other-1")
			b.pod("other-2", "node1", networks("net"))
			if policy == identities.Delete {
				b.have("other-2") // free at once
				return
			}
			b.waits("other-2", "4 of 4 addresses are in use")
			b.scale("web", 3)
			equal(t, b.have(names...), first)
			b.waits("other-2", "4 of 4 addresses are in use")
		})
	}
}

// TestDroppedNIC: a StatefulSet's pods lose a NIC. Its addresses are kept until the new pods
// run, and are free then, whatever the policy. So it is when they lose the other one.
func TestDroppedNIC(t *testing.T) {
	b := fixed(t, "10.1.0.5-10.1.0.20", map[string]string{identities.WhenScaled: identities.Retain, identities.WhenDeleted: identities.Retain})
	set := b.set("web", 0, 2)
	first := b.have("web-0", "web-1")
	for _, list := range []string{"net,net", "net", ""} {
		set = set.DeepCopy()
		if err := b.C.Get(t.Context(), client.ObjectKeyFromObject(set), set); err != nil {
			t.Fatal(err)
		}
		set.Spec.Template.Annotations = networks(list)
		b.following.Lock() // or pods of the former template are made later
		err := b.C.Update(t.Context(), set)
		b.following.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"web-0", "web-1"} {
			b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name}})
		}
		var states string
		switch list {
		case "net,net":
			b.Eventually("both NICs", func() error {
				if got := b.have("web-0", "web-1"); strings.Count(got["web-0"]+got["web-1"], "net2") != 2 {
					return fmt.Errorf("they have %v", got)
				}
				return nil
			})
			b.kubelet("web-0", "web-1")
			b.states("Allocated 4")
			continue
		case "net":
			b.states("Allocated 2, Reserved 2")
			equal(t, b.have("web-0", "web-1"), first)
			states = "Allocated 2"
		default:
			b.states("Reserved 2")
		}
		time.Sleep(300 * time.Millisecond)
		b.kubelet("web-0")
		b.states(strings.TrimPrefix(states+", Reserved 1", ", "))
		b.kubelet("web-1")
		b.states(states)
	}
}

// kubelet says for the kubelet that pods run, and for the controller of their StatefulSet that
// there is one more.
func (b *bench) kubelet(names ...string) {
	b.Helper()
	for _, name := range names {
		p := &corev1.Pod{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, p); err != nil {
			b.Fatal(err)
		}
		p.Status.Phase = corev1.PodRunning
		if err := b.C.Status().Update(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		b.Eventually("the cache", func() error {
			now := &corev1.Pod{}
			if err := b.ctl.Cache.Get(b.Context(), client.ObjectKeyFromObject(p), now); err != nil || now.Status.Phase != corev1.PodRunning {
				return errors.Join(err, errors.New("it is late"))
			}
			return nil
		})
		set := &appsv1.StatefulSet{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name[:strings.LastIndex(name, "-")]}, set); err != nil {
			b.Fatal(err)
		}
		set.Status.Replicas++
		if err := b.C.Status().Update(b.Context(), set); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDeletedSet, X24: a StatefulSet is deleted and made again under the same name.
func TestDeletedSet(t *testing.T) {
	for _, policy := range []string{identities.Retain, identities.Delete} {
		t.Run(policy, func(t *testing.T) {
			b := fixed(t, "10.1.0.5-10.1.0.20", map[string]string{identities.WhenDeleted: policy})
			former := b.set("web", 0, 2)
			first := b.have("web-0", "web-1")
			b.Delete(former)
			left := ""
			if policy == identities.Retain {
				left = "Reserved 2"
			}
			b.states(left)
			b.pod("other", "node1", networks("net"))
			b.have("other")
			b.Eventually("the former one is gone", func() error {
				if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(former), &appsv1.StatefulSet{}); !apierrors.IsNotFound(err) {
					return errors.Join(errors.New("it is there"), err)
				}
				return nil
			})
			now := b.set("web", 0, 2)
			got := b.have("web-0", "web-1")
			if policy == identities.Retain {
				equal(t, got, first)
			} else if maps.Equal(got, first) {
				t.Errorf("the new StatefulSet has the addresses of the former one, %v", got)
			}
			var list v1alpha1.IPAddressList
			if err := b.C.List(t.Context(), &list); err != nil {
				t.Fatal(err)
			}
			for _, a := range list.Items {
				if id := a.Spec.Identity; id != nil && id.UID != string(now.UID) {
					t.Errorf("address %s is of UID %s, want %s", a.Name, id.UID, now.UID)
				}
			}
		})
	}
}

// TestOtherOwners: T00003: the pods of a third-party StatefulSet have no identity, and their
// addresses are free when they are gone.
func TestOtherOwners(t *testing.T) {
	for _, x := range []struct{ name, version, kind, owner, want string }{
		{"web-3", "apps/v1", "StatefulSet", "web", "StatefulSet ns/web 3"},
		{"web-0-11", "apps/v1", "StatefulSet", "web-0", "StatefulSet ns/web-0 11"},
		{"web-x", "apps/v1", "StatefulSet", "web", "none"},
		{"web-03", "apps/v1", "StatefulSet", "web", "none"},
		{"web--1", "apps/v1", "StatefulSet", "web", "none"},
		{"web-99999999999", "apps/v1", "StatefulSet", "web", "none"},
		{"other-0", "apps/v1", "StatefulSet", "web", "none"},
		{"web-3", "apps.kruise.io/v1beta1", "StatefulSet", "web", "none"},
		{"web-3", "apps/v1", "ReplicaSet", "web", "none"},
		{"virt-launcher-vm-abcde", "kubevirt.io/v1", "VirtualMachineInstance", "vm", "VirtualMachine ns/vm"},
		{"p", "", "", "", "none"},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: x.name}}
		if x.kind != "" {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: x.version, Kind: x.kind, Name: x.owner, UID: "uid", Controller: ptr.To(true)}}
		}
		got := "none"
		if id := identities.Of(p); id != nil {
			got = fmt.Sprintf("%s %s/%s", id.Kind, id.Namespace, id.Name)
			if id.Ordinal != nil {
				got += fmt.Sprintf(" %d", *id.Ordinal)
			}
		}
		if got != x.want {
			t.Errorf("%s of %s %s %s: %s, want %s", x.name, x.version, x.kind, x.owner, got, x.want)
		}
	}
}

// rounds is how often reports are tried.
const rounds = 50

// TestReport1, G00011: two StatefulSets on one pool are scaled down and up quickly while
// another pod waits for an address. No two pods have one, and the pod keeps waiting.
func TestReport1(t *testing.T) {
	b := fixed(t, "10.1.0.5-10.1.0.8", map[string]string{identities.WhenScaled: identities.Retain})
	b.set("web", 0, 2)
	b.set("db", 0, 2)
	names := []string{"web-0", "web-1", "db-0", "db-1"}
	first := b.have(names...)
	b.pod("pending", "node1", networks("net"))
	b.waits("pending", "4 of 4")
	for i := range rounds {
		b.scale("web", int32(i%2))
		b.scale("db", 0)
		if i%10 == 0 {
			b.states("Reserved 4")
		}
		b.scale("web", 2)
		b.scale("db", 2)
		b.unique()
	}
	equal(t, b.have(names...), first)
	b.waits("pending", "4 of 4")
}

// unique checks that no two claims name one address.
func (b *bench) unique() {
	b.Helper()
	var list v2beta1.SpiderEndpointList
	if err := b.C.List(b.Context(), &list); err != nil {
		b.Fatal(err)
	}
	whose := map[string]string{}
	for i := range list.Items {
		for name := range addresses.Named(&list.Items[i]) {
			if other := whose[name]; other != "" {
				b.Fatalf("address %s is of %s and of %s", name, other, list.Items[i].Name)
			}
			whose[name] = list.Items[i].Name
		}
	}
}

// TestReport5: pods of one name are made again at once, without an identity. Each gets its
// addresses when the former one's are settled.
func TestReport5(t *testing.T) {
	b := fixed(t, "10.1.0.5", nil)
	for range rounds {
		p := b.pod("llama2-master-0", "node1", networks("net"))
		b.have("llama2-master-0")
		b.Delete(p)
	}
	b.states("")
}

// machine makes an object of KubeVirt.
func (b *bench) machine(kind, name string) *unstructured.Unstructured {
	b.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("kubevirt.io/v1")
	o.SetKind(kind)
	o.SetNamespace(b.NS)
	o.SetName(name)
	b.Eventually(kind+" "+name, func() error { return b.C.Create(b.Context(), o) })
	return o
}

// launcher makes a pod of a VirtualMachineInstance.
func (b *bench) launcher(name string, vmi *unstructured.Unstructured) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name, Annotations: networks("net,net"), OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance", Name: vmi.GetName(), UID: vmi.GetUID(), Controller: ptr.To(true)},
		}},
		Spec: corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c", Image: "i"}}, TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
	}
	b.Create(p)
	return p
}

// TestMachine: F00001: a virtual machine keeps its addresses when it is restarted, and its pod
// waits until those of the former one are withdrawn. F00002: both pods of a live migration have
// them. F00003: it has several NICs.
func TestMachine(t *testing.T) {
	b := newBench(t)
	b.KubeVirt()
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.20")
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	vm, vmi := b.machine("VirtualMachine", "vm"), b.machine("VirtualMachineInstance", "vm")
	first := b.launcher("virt-launcher-vm-a", vmi)
	has := b.ready(first.Name)
	if !strings.Contains(has, "net2 ") {
		t.Errorf("it has %s, want two NICs", has)
	}
	holders := func(want ...string) {
		t.Helper()
		b.Eventually("the holders", func() error {
			var list v1alpha1.IPAddressList
			if err := b.C.List(t.Context(), &list); err != nil {
				return err
			}
			if len(list.Items) != 2 {
				return fmt.Errorf("%d addresses", len(list.Items))
			}
			for _, a := range list.Items {
				var got []string
				for _, h := range a.Spec.Holders {
					got = append(got, h.Pod)
				}
				if !slices.Equal(got, want) || a.Spec.Identity.UID != string(vm.GetUID()) {
					return fmt.Errorf("%s is of %v, %v", a.Name, got, a.Spec.Identity)
				}
			}
			return nil
		})
	}
	target := b.launcher("virt-launcher-vm-b", vmi)
	if got := b.ready(target.Name); got != has {
		t.Errorf("the target of the migration has %s, want %s", got, has)
	}
	holders(first.Name, target.Name)
	third := b.launcher("virt-launcher-vm-c", vmi)
	b.waits(third.Name, "still belongs to pod")
	b.Delete(third)
	b.Delete(first)
	b.withdraw(first.Name)
	holders(target.Name)

	b.Delete(vmi)
	b.collected(target)
	vmi = b.machine("VirtualMachineInstance", "vm")
	again := b.launcher("virt-launcher-vm-d", vmi)
	b.waits(again.Name, "still belongs to pod")
	b.withdraw(target.Name)
	if got := b.ready(again.Name); got != has {
		t.Errorf("restarted, it has %s, want %s", got, has)
	}
	b.Delete(vm)
	b.Delete(vmi)
	b.collected(again)
	b.withdraw(again.Name)
	b.states("")
}

// collected waits until the garbage collector has deleted a pod: a node withdraws nothing before.
func (b *bench) collected(p *corev1.Pod) {
	b.Helper()
	b.Eventually("pod "+p.Name+" goes with its owner", func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), &corev1.Pod{}); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is there"), err)
		}
		return nil
	})
}
