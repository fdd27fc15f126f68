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
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// bench is a namespace of a test on the real API server, with a controller. There is no
// kubelet and no agent: the test speaks for them.
type bench struct {
	*testing.T
	c    client.WithWatch
	ns   string
	ctl  *addresses.Controller // the last that was started
	stop func()
}

func newBench(t *testing.T) *bench {
	c := testcluster.Client(t)
	b := &bench{T: t, c: c, ns: testcluster.Namespace(t, c)}
	t.Cleanup(b.clear)
	return b
}

// clear deletes what isn't in the namespace, and first what would bring it back.
func (b *bench) clear() {
	ctx := context.Background()
	for _, o := range []client.Object{&corev1.Pod{}, &v2beta1.SpiderEndpoint{}} {
		if err := b.c.DeleteAllOf(ctx, o, client.InNamespace(b.ns), client.GracePeriodSeconds(0)); err != nil {
			b.Error(err)
		}
	}
	for _, o := range []client.Object{&v1alpha1.IPAddress{}, &v2beta1.SpiderIPPool{}, &v2beta1.SpiderSubnet{}, &v2beta1.SpiderReservedIP{}, &staticmacvlan.VLANSubnet{}, &v1alpha1.NodeSpool{}, &corev1.Node{}} {
		if err := b.c.DeleteAllOf(ctx, o); err != nil {
			b.Error(err)
		}
	}
	var left v2beta1.SpiderIPPoolList
	if err := b.c.List(ctx, &left); err != nil {
		b.Error(err)
	}
	for i := range left.Items { // its controller has ended
		p := left.Items[i].DeepCopy()
		p.Finalizers = nil
		if err := client.IgnoreNotFound(b.c.Patch(ctx, p, client.MergeFrom(&left.Items[i]))); err != nil {
			b.Error(err)
		}
	}
}

// start starts a controller, which leads without an election.
func (b *bench) start(wrap func(*rest.Config)) (stop func()) {
	b.Helper()
	conf := testcluster.Config(b)
	if wrap != nil {
		wrap(conf)
	}
	mgr, err := ctrl.NewManager(conf, ctrl.Options{
		Scheme: testcluster.Scheme(b), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: addresses.StripPod}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	for _, index := range []func(context.Context, ctrl.Manager) error{pools.Index, addresses.Index, identities.Index} {
		if err := index(ctx, mgr); err != nil {
			b.Fatal(err)
		}
	}
	if err := pools.Add(mgr); err != nil {
		b.Fatal(err)
	}
	ctl, err := addresses.Add(ctx, mgr, ipam.Settings{MultusNamespace: "kube-system"})
	if err != nil {
		b.Fatal(err)
	}
	b.ctl = ctl
	if err := identities.Add(mgr); err != nil {
		b.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := mgr.Start(ctx); err != nil {
			b.Error(err)
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); done.Wait() }) }
	b.Cleanup(stop)
	b.stop = stop
	return stop
}

func (b *bench) create(objects ...client.Object) {
	b.Helper()
	for _, o := range objects {
		if err := b.c.Create(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) node(name string) {
	b.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.create(n)
	n.Status.NodeInfo.MachineID = "machine-of-" + name
	if err := b.c.Status().Update(b.Context(), n); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) pool(name, subnet string, ips ...string) *v2beta1.SpiderIPPool {
	b.Helper()
	p := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet, IPs: ips}}}
	b.create(p)
	return p
}

// network makes a NetworkAttachmentDefinition whose addresses come from pools.
func (b *bench) network(name string, keys string) {
	b.Helper()
	b.create(&nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: name},
		Spec:       nad.Spec{Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool"%s}}]}`, name, keys)},
	})
}

// pod makes a pod on a node, as if the scheduler had bound it.
func (b *bench) pod(name, node string, annotations map[string]string) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
	}
	b.create(p)
	return p
}

func networks(list string) map[string]string {
	return map[string]string{"k8s.v1.cni.cncf.io/networks": list}
}

// eventually tries until there is no error.
func (b *bench) eventually(what string, f func() error) {
	b.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	b.Fatalf("%s: %v", what, err)
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
	b.eventually("pod "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.c.Get(b.Context(), client.ObjectKey{Namespace: b.ns, Name: name}, c); err != nil {
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
	b.eventually("pod "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.c.Get(b.Context(), client.ObjectKey{Namespace: b.ns, Name: name}, c); err != nil {
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
	b.eventually("withdrawing "+name, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.c.Get(b.Context(), client.ObjectKey{Namespace: b.ns, Name: name}, c); err != nil {
			return client.IgnoreNotFound(err)
		}
		c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: c.Spec.MachineID}
		return client.IgnoreNotFound(b.c.Status().Update(b.Context(), c))
	})
}

func (b *bench) delete(o client.Object) {
	b.Helper()
	if err := b.c.Delete(b.Context(), o, client.GracePeriodSeconds(0)); err != nil {
		b.Fatal(err)
	}
}

// count returns how many IPAddresses there are.
func (b *bench) count() int {
	b.Helper()
	var list v1alpha1.IPAddressList
	if err := b.c.List(b.Context(), &list); err != nil {
		b.Fatal(err)
	}
	return len(list.Items)
}

// addressesOf returns the names of the IPAddresses that there are, with their pods.
func (b *bench) addressesOf() map[string]string {
	b.Helper()
	var list v1alpha1.IPAddressList
	if err := b.c.List(b.Context(), &list); err != nil {
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
	b.eventually("everything is given back", func() error {
		var claims v2beta1.SpiderEndpointList
		if err := b.c.List(b.Context(), &claims, client.InNamespace(b.ns)); err != nil {
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
	b.node("node1")
	b.pool("lan", "10.6.0.1/16", "10.6.168.171-10.6.168.172")
	b.pool("lan6", "fd00:6::/64", "fd00:6::171-fd00:6::172")
	b.network("lan", `,"default_ipv4_ippool":["lan"],"default_ipv6_ippool":["lan6"]`)
	b.start(nil)
	first := b.pod("first", "node1", networks("lan,lan"))
	if got, want := b.ready("first"), "net1 10.6.168.171/16 fd00:6::171/64, net2 10.6.168.172/16 fd00:6::172/64"; got != want {
		t.Fatalf("first has %s, want %s", got, want)
	}
	b.pod("second", "node1", networks("lan"))
	b.waits("second", "no IPv4 address for net1: pool lan: 2 of 2 addresses are in use")
	b.delete(first)
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
