// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
)

// kept is how long a test looks whether an address stays where it is.
const kept = 500 * time.Millisecond

// TestRelease: pod first is gone with the only address, and second waits for it. What frees
// it, and what doesn't.
func TestRelease(t *testing.T) {
	for _, x := range []struct {
		name  string
		keeps func(b *bench, first *corev1.Pod)
		frees func(b *bench, first *corev1.Pod)
	}{
		{"G00009: a node that isn't ready keeps, a deleted one doesn't", func(b *bench, _ *corev1.Pod) {
			b.changeNode("node1", func(n *corev1.Node) {
				n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
			})
		}, func(b *bench, _ *corev1.Pod) { b.Delete(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}) }},
		{"a node marked as out of service", func(b *bench, _ *corev1.Pod) {
			b.taint("node1", corev1.TaintNodeUnreachable)
		}, func(b *bench, _ *corev1.Pod) { b.taint("node1", corev1.TaintNodeOutOfService) }},
		{"another machine has the node's name", func(b *bench, _ *corev1.Pod) {
			b.changeNode("node1", func(n *corev1.Node) { n.Status.NodeInfo.BootID = "another boot" })
		}, func(b *bench, _ *corev1.Pod) {
			b.changeNode("node1", func(n *corev1.Node) { n.Status.NodeInfo.MachineID = "another" })
		}},
		{"another machine can't withdraw", func(b *bench, _ *corev1.Pod) {
			c := &v2beta1.SpiderEndpoint{}
			b.Eventually("a word of another machine", func() error {
				if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: "first"}, c); err != nil {
					return err
				}
				c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: "another"}
				return b.C.Status().Update(b.Context(), c)
			})
		}, func(b *bench, _ *corev1.Pod) { b.withdraw("first") }},
		{"the claim is deleted by hand: the node is asked, and answers", func(b *bench, first *corev1.Pod) {
			b.Delete(&v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "first"}})
			b.asked("node1", first)
		}, func(b *bench, first *corev1.Pod) {
			b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Withdrawn = []string{string(first.UID)} })
		}},
		{"the claim is deleted by hand: the node is deleted", func(b *bench, first *corev1.Pod) {
			b.Delete(&v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "first"}})
			b.asked("node1", first)
		}, func(b *bench, _ *corev1.Pod) { b.Delete(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}) }},
		{"claim and IPAddress are deleted by hand", func(b *bench, first *corev1.Pod) {
			b.Delete(&v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "first"}})
			b.Delete(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.1.0.5"}})
			b.asked("node1", first)
			b.holds("10.1.0.5", "first")
		}, func(b *bench, first *corev1.Pod) {
			b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Withdrawn = []string{string(first.UID)} })
		}},
		{"the IPAddress is deleted by hand", func(b *bench, _ *corev1.Pod) {
			b.Delete(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.1.0.5"}})
		}, func(b *bench, _ *corev1.Pod) { b.withdraw("first") }},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t)
			b.Node("node1")
			b.Node("node2")
			b.pool("a", "10.1.0.0/16", "10.1.0.5")
			b.Network("a", `,"default_ipv4_ippool":["a"]`)
			b.start(nil)
			first := b.pod("first", "node1", networks("a"))
			b.ready("first")
			b.pod("second", "node2", networks("a"))
			b.waits("second", "1 of 1 addresses are in use")
			b.Delete(first)
			x.keeps(b, first)
			time.Sleep(kept)
			b.waits("second", "1 of 1 addresses are in use")
			x.frees(b, first)
			if got := b.ready("second"); got != "net1 10.1.0.5/16" {
				t.Errorf("second has %s", got)
			}
			b.holds("10.1.0.5", "second")
		})
	}
}

// changeNode changes the status of a node.
func (b *bench) changeNode(name string, f func(*corev1.Node)) {
	b.Helper()
	b.Eventually("node "+name, func() error {
		n := &corev1.Node{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: name}, n); err != nil {
			return err
		}
		f(n)
		return b.C.Status().Update(b.Context(), n)
	})
}

func (b *bench) taint(node, key string) {
	b.Helper()
	b.Eventually("node "+node, func() error {
		n := &corev1.Node{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: node}, n); err != nil {
			return err
		}
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
		return b.C.Update(b.Context(), n)
	})
}

// asked waits until a node is asked about a pod.
func (b *bench) asked(node string, p *corev1.Pod) {
	b.Helper()
	b.Eventually("the question about "+p.Name, func() error {
		s := &v1alpha1.NodeSpool{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: node}, s); err != nil {
			return err
		}
		if !slices.Contains(s.Spec.Ask, string(p.UID)) {
			return fmt.Errorf("it is asked about %v", s.Spec.Ask)
		}
		return nil
	})
}

// holds waits until a pod holds an address.
func (b *bench) holds(name, pod string) {
	b.Helper()
	b.Eventually("address "+name, func() error {
		a := &v1alpha1.IPAddress{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: name}, a); err != nil {
			return err
		}
		if got := a.Spec.Holders[0].Pod; got != pod {
			return fmt.Errorf("%s holds it, want %s", got, pod)
		}
		return nil
	})
}

// TestHands: what somebody deletes while the pod lives is there again, with the same address.
// So is the address of a sandbox that only its node knows of.
func TestHands(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	p := b.pod("p", "node1", networks("a"))
	b.ready("p")
	b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) {
		s.Sandboxes = []v1alpha1.Sandbox{
			{Namespace: b.NS, Pod: "p", PodUID: string(p.UID), Interface: "net1", Addresses: []v1alpha1.Held{{Address: "10.1.0.5", Pool: "a"}}},
			{Namespace: b.NS, Pod: "unknown", PodUID: "uid", Interface: "net1", Addresses: []v1alpha1.Held{{Address: "10.1.0.6", Pool: "a"}}},
		}
	})
	b.holds("10.1.0.6", "unknown")
	former := &v1alpha1.IPAddress{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Name: "10.1.0.5"}, former); err != nil {
		t.Fatal(err)
	}
	b.Delete(former)
	b.holds("10.1.0.5", "p")
	claim := &v2beta1.SpiderEndpoint{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: "p"}, claim); err != nil {
		t.Fatal(err)
	}
	b.Delete(claim)
	b.Eventually("another claim", func() error {
		now := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(claim), now); err != nil {
			return err
		}
		if now.UID == claim.UID {
			return fmt.Errorf("it is the former one")
		}
		return nil
	})
	if got := b.ready("p"); got != "net1 10.1.0.5/16" {
		t.Errorf("p has %s", got)
	}
	b.pod("q", "node1", networks("a"))
	if got := b.ready("q"); got != "net1 10.1.0.7/16" {
		t.Errorf("q has %s", got)
	}
	b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Sandboxes, s.Withdrawn = nil, []string{"uid"} })
	b.Eventually("the unknown sandbox's address is free", func() error {
		if all := b.addressesOf(); all["10.1.0.6"] != "" {
			return fmt.Errorf("%v", all)
		}
		return nil
	})
}

// TestReport10: the controller is down while A is deleted and B made, which waits until A's
// node has withdrawn.
func TestReport10(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Node("node2")
	b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	stop := b.start(nil)
	first := b.pod("first", "node1", networks("a"))
	b.ready("first")
	stop()
	b.Delete(first)
	b.pod("second", "node2", networks("a"))
	b.start(nil)
	b.waits("second", "1 of 1 addresses are in use")
	time.Sleep(kept)
	b.holds("10.1.0.5", "first")
	b.withdraw("first")
	b.ready("second")
}

// TestG00001: a namespace is deleted with its pods and claims: the nodes are asked, and all is
// free. G00002: a pod of the same name in another namespace keeps its address.
func TestG00001(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.pod("p", "node1", networks("a"))
	b.ready("p")
	mine := b.NS
	defer func() { b.NS = mine }()
	b.NS = testcluster.Namespace(t, b.C)
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	p := b.pod("p", "node1", networks("a"))
	b.ready("p")
	b.Delete(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.NS}})
	b.asked("node1", p)
	time.Sleep(kept)
	if n := b.count(); n != 2 {
		t.Errorf("%d addresses are taken, want 2", n)
	}
	b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Withdrawn = []string{string(p.UID)} })
	b.Eventually("one address", func() error {
		if all := b.addressesOf(); len(all) != 1 || all["10.1.0.5"] == "" {
			return fmt.Errorf("addresses %v", all)
		}
		return nil
	})
	b.Eventually("no more questions", func() error {
		s := &v1alpha1.NodeSpool{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: "node1"}, s); err != nil {
			return err
		}
		if len(s.Spec.Ask) > 0 {
			return fmt.Errorf("asked %v", s.Spec.Ask)
		}
		return nil
	})
}

// TestG00005: an IPAddress of a pod that never was, and G00007: of another UID than the pod's,
// go when the node says that nothing has them.
func TestG00005(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.pod("p", "node1", networks("a"))
	b.ready("p")
	b.machines()
	for addr, pod := range map[string]string{"10.1.0.8": "never", "10.1.0.9": "p"} {
		b.Create(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr}, Spec: v1alpha1.IPAddressSpec{
			Address: addr, Pool: "a", State: v1alpha1.Allocated,
			Holders: []v1alpha1.Holder{{Namespace: b.NS, Pod: pod, PodUID: "other", Interface: "net1", Node: "node1", MachineID: "machine-of-node1"}},
		}})
	}
	b.Eventually("p's address alone", func() error {
		if all := b.addressesOf(); len(all) != 1 || all["10.1.0.5"] != "p" {
			return fmt.Errorf("addresses %v", all)
		}
		return nil
	})
}

// TestReport2 makes a pod 50 times under one name, each time as soon as the former one is
// gone. Report 5: the node withdraws late, and the new pod waits. No two sandboxes have one
// address, which the machines look after.
func TestReport2(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.6")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	m := b.machines()
	p := b.pod("p", "node1", networks("a"))
	for i := range 50 {
		if i%2 == 0 {
			b.readyAs("p", p)
		}
		if i%10 == 0 {
			m.hang("node1", true)
		}
		b.Delete(p)
		p = b.pod("p", "node1", networks("a"))
		if i%10 == 0 {
			time.Sleep(50 * time.Millisecond)
			m.hang("node1", false)
		}
	}
	b.readyAs("p", p)
	q := b.pod("q", "node1", networks("a"))
	b.readyAs("q", q)
	b.Eventually("two addresses", func() error {
		if n := b.count(); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	b.Delete(p)
	b.Delete(q)
	b.free()
}

// readyAs waits until a pod of a name and UID has its addresses.
func (b *bench) readyAs(name string, p *corev1.Pod) {
	b.Helper()
	b.Eventually("pod "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
			return err
		}
		if c.Spec.PodUID != string(p.UID) || c.Status.Phase != v2beta1.Allocated || len(addresses.Missing(c)) > 0 {
			return fmt.Errorf("the claim is of UID %s, want %s, and %s: %v", c.Spec.PodUID, p.UID, c.Status.Phase, c.Status.Conditions)
		}
		return nil
	})
}

// TestX30 has two controllers that both believe that they lead, and more pods than addresses.
// G00008: one of the two ends and starts again, again and again.
func TestX30(t *testing.T) {
	const pods, rounds = 40, 2
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.1-10.1.0.40")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	m := b.machines()
	for round := range rounds {
		stop := b.start(nil)
		var all []*corev1.Pod
		for i := range pods {
			all = append(all, b.pod(fmt.Sprintf("p%d-%d", round, i), "node1", networks("a")))
		}
		if round%2 == 1 {
			stop()
		}
		for _, p := range all {
			b.readyAs(p.Name, p)
		}
		for _, p := range all {
			b.Delete(p)
		}
		stop()
	}
	b.free()
	if m.started == 0 {
		t.Error("no sandbox was made")
	}
}

// TestReport9: 32 pods with 16 NICs each, at once.
func TestReport9(t *testing.T) {
	const pods, nics = 32, 16
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.1.0-10.1.2.247") // 504 addresses
	b.pool("b", "10.2.0.0/16", "10.2.0.1-10.2.0.8")
	b.Network("a", `,"default_ipv4_ippool":["a","b"]`)
	b.start(nil)
	list := "a"
	for range nics - 1 {
		list += ",a"
	}
	began := time.Now()
	b.each(pods, func(i int) { b.pod(fmt.Sprint("p", i), "node1", networks(list)) })
	b.each(pods, func(i int) { b.ready(fmt.Sprint("p", i)) })
	t.Logf("%d addresses in %s", pods*nics, time.Since(began).Round(10*time.Millisecond))
	if n := b.count(); n != pods*nics {
		t.Errorf("%d addresses are out, want %d", n, pods*nics)
	}
	b.each(pods, func(i int) {
		b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: fmt.Sprint("p", i)}})
		b.withdraw(fmt.Sprint("p", i))
	})
	b.free()
}

// TestG00006: a pod that has finished gives its address back. G00004: so does one that is
// deleted without a grace period, both while the object of the first stays.
func TestG00006(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.7")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.machines()
	for i, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed, corev1.PodRunning} {
		p := b.pod(fmt.Sprint("p", i), "node1", networks("a"))
		b.readyAs(p.Name, p)
		if phase == corev1.PodRunning {
			b.Delete(p)
			continue
		}
		b.Eventually("the phase", func() error {
			if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			p.Status.Phase = phase
			return b.C.Status().Update(b.Context(), p)
		})
	}
	b.free()
}

// TestStaticPod: the claim of a static pod has the UID that CNI sees.
func TestStaticPod(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	annotations := networks("a")
	annotations[corev1.MirrorPodAnnotationKey], annotations["kubernetes.io/config.hash"] = "hash", "hash"
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "static-node1", Annotations: annotations},
		Spec: corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c", Image: "i"}},
			TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
	}
	b.Create(p)
	b.ready(p.Name)
	a := &v1alpha1.IPAddress{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Name: "10.1.0.5"}, a); err != nil {
		t.Fatal(err)
	}
	if got := a.Spec.Holders[0].PodUID; got != "hash" {
		t.Errorf("its holder has UID %s, want hash", got)
	}
}
