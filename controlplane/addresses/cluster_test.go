// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// bench is a bench with a controller.
type bench struct {
	*testcluster.Bench
	ctl  *addresses.Controller // the last that was started
	stop func()

	following sync.Mutex // held while pods of StatefulSets are made and deleted
}

func newBench(t *testing.T) *bench { return &bench{Bench: testcluster.NewBench(t)} }

// start starts a controller.
func (b *bench) start(wrap func(*rest.Config)) (stop func()) {
	b.Helper()
	b.stop = b.Run(wrap, map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: addresses.StripPod}}, func(ctx context.Context, mgr ctrl.Manager) (err error) {
		for _, index := range []func(context.Context, ctrl.Manager) error{pools.Index, addresses.Index, identities.Index} {
			if err := index(ctx, mgr); err != nil {
				return err
			}
		}
		if err := pools.Add(mgr); err != nil {
			return err
		}
		if b.ctl, err = addresses.Add(ctx, mgr, ipam.Settings{MultusNamespace: "kube-system"}); err != nil {
			return err
		}
		return identities.Add(mgr)
	})
	return b.stop
}

func (b *bench) pool(name, subnet string, ips ...string) *v2beta1.SpiderIPPool {
	b.Helper()
	p := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet, IPs: ips}}}
	b.Create(p)
	return p
}

// pod makes a pod on a node, as if the scheduler had bound it.
func (b *bench) pod(name, node string, annotations map[string]string) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
	}
	b.Create(p)
	return p
}

func networks(list string) map[string]string {
	return map[string]string{"k8s.v1.cni.cncf.io/networks": list}
}

// each calls f for 0 to n-1, 16 at a time.
func (b *bench) each(n int, f func(i int)) {
	b.Helper()
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// ready waits until a pod has its addresses, and returns them: net1 10.0.0.1/24, ...
func (b *bench) ready(name string) string {
	b.Helper()
	var out string
	b.Eventually("pod "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
			return err
		}
		if c.Status.Phase != v2beta1.Allocated || len(addresses.Missing(c)) > 0 {
			return fmt.Errorf("phase %q, %v", c.Status.Phase, c.Status.Conditions)
		}
		out = text(c)
		return nil
	})
	return out
}

func text(c *v2beta1.SpiderEndpoint) string {
	var parts []string
	for _, n := range c.Status.Current.IPs {
		parts = append(parts, strings.Join(slices.DeleteFunc([]string{n.Interface, n.IPv4, n.IPv6}, func(s string) bool { return s == "" }), " "))
	}
	return strings.Join(parts, ", ")
}

// waits waits until a claim says why it has no addresses.
func (b *bench) waits(name, want string) {
	b.Helper()
	b.Eventually("pod "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
			return err
		}
		for _, cond := range c.Status.Conditions {
			if cond.Status == metav1.ConditionFalse && strings.Contains(cond.Message, want) {
				return nil
			}
		}
		return fmt.Errorf("phase %q, %v, want %s", c.Status.Phase, c.Status.Conditions, want)
	})
}

// withdraw says for the agent that nothing of a pod is left on its node.
func (b *bench) withdraw(name string) {
	b.Helper()
	b.Eventually("withdrawing "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
			return client.IgnoreNotFound(err)
		}
		c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: c.Spec.MachineID}
		return client.IgnoreNotFound(b.C.Status().Update(b.Context(), c))
	})
}

// count returns how many IPAddresses there are.
func (b *bench) count() int {
	b.Helper()
	var list v1alpha1.IPAddressList
	if err := b.C.List(b.Context(), &list); err != nil {
		b.Fatal(err)
	}
	return len(list.Items)
}

// addressesOf returns the names of the IPAddresses that there are, with their pods.
func (b *bench) addressesOf() map[string]string {
	b.Helper()
	var list v1alpha1.IPAddressList
	if err := b.C.List(b.Context(), &list); err != nil {
		b.Fatal(err)
	}
	out := map[string]string{}
	for _, a := range list.Items {
		out[a.Name] = "" // kept for its owner
		for _, h := range a.Spec.Holders {
			out[a.Name] = h.Pod
		}
	}
	return out
}

// free waits until no address is out and no claim is left.
func (b *bench) free() {
	b.Helper()
	b.Eventually("everything is given back", func() error {
		var claims v2beta1.SpiderEndpointList
		if err := b.C.List(b.Context(), &claims, client.InNamespace(b.NS)); err != nil {
			return err
		}
		if left := b.addressesOf(); len(left)+len(claims.Items) > 0 {
			return fmt.Errorf("%d claims and %d addresses are left", len(claims.Items), len(left))
		}
		return nil
	})
}

// TestLife: a pod gets the addresses of all its NICs, keeps them until its node has withdrawn
// them, and then they are the next pod's.
func TestLife(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("lan", "10.6.0.1/16", "10.6.168.171-10.6.168.172")
	b.pool("lan6", "fd00:6::/64", "fd00:6::171-fd00:6::172")
	b.Network("lan", `,"default_ipv4_ippool":["lan"],"default_ipv6_ippool":["lan6"]`)
	b.start(nil)
	first := b.pod("first", "node1", networks("lan,lan"))
	if got, want := b.ready("first"), "net1 10.6.168.171/16 fd00:6::171/64, net2 10.6.168.172/16 fd00:6::172/64"; got != want {
		t.Fatalf("first has %s, want %s", got, want)
	}
	b.pod("second", "node1", networks("lan"))
	b.waits("second", "no IPv4 address for net1: pool lan: 2 of 2 addresses are in use")
	b.Delete(first)
	time.Sleep(300 * time.Millisecond)
	b.waits("second", "2 of 2") // the node hasn't said anything
	b.withdraw("first")
	if got := b.ready("second"); !regexp.MustCompile(`^net1 10\.6\.168\.17[12]/16 fd00:6::17[12]/64$`).MatchString(got) {
		t.Fatalf("second has %s", got)
	}
	if n := b.count(); n != 2 {
		t.Errorf("%d addresses are out, want 2", n)
	}
}
