// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"fmt"
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

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// Bench is a namespace of a test on the API server, for controllers of addresses. There is no
// kubelet, no agent and no scheduler: the test speaks for them.
type Bench struct {
	*testing.T
	C  client.WithWatch
	NS string
}

// NewBench makes a namespace. At the test's end all pods, nodes and addresses are deleted, and
// before them, by kinds, what would bring them back.
func NewBench(t *testing.T, first ...client.Object) *Bench {
	c := Client(t)
	b := &Bench{t, c, Namespace(t, c)}
	t.Cleanup(func() { b.clear(first) })
	return b
}

func (b *Bench) clear(first []client.Object) {
	ctx := context.Background()
	for _, o := range first {
		if err := b.C.DeleteAllOf(ctx, o, client.InNamespace(b.NS), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			b.Error(err)
		}
	}
	for _, o := range []client.Object{&corev1.Pod{}, &v2beta1.SpiderEndpoint{}} {
		if err := b.C.DeleteAllOf(ctx, o, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
			b.Error(err)
		}
	}
	for _, o := range []client.Object{&v1alpha1.IPAddress{}, &v2beta1.SpiderIPPool{}, &v2beta1.SpiderSubnet{}, &v2beta1.SpiderReservedIP{}, &staticmacvlan.VLANSubnet{}, &v1alpha1.NodeSpool{}, &corev1.Node{}} {
		if err := b.C.DeleteAllOf(ctx, o); err != nil {
			b.Error(err)
		}
	}
	var left v2beta1.SpiderIPPoolList
	if err := b.C.List(ctx, &left); err != nil {
		b.Error(err)
	}
	for i := range left.Items { // its controller has ended
		p := left.Items[i].DeepCopy()
		p.Finalizers = nil
		if err := client.IgnoreNotFound(b.C.Patch(ctx, p, client.MergeFrom(&left.Items[i]))); err != nil {
			b.Error(err)
		}
	}
}

// Run runs the controllers that add adds to a manager, which lead without an election, until
// stop is called or the test ends, with the rights that deploy/ gives them: that something is forbidden to them fails
// the test. wrap, if it isn't nil, changes how they reach the API server.
func (b *Bench) Run(wrap func(*rest.Config), cached map[client.Object]cache.ByObject, add func(context.Context, ctrl.Manager) error) (stop func()) {
	b.Helper()
	conf := asController(b)
	if wrap != nil {
		wrap(conf)
	}
	mgr, err := ctrl.NewManager(conf, ctrl.Options{
		Scheme: Scheme(b), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{ByObject: cached},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	if err := add(ctx, mgr); err != nil {
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
	return stop
}

// Create creates objects.
func (b *Bench) Create(objects ...client.Object) {
	b.Helper()
	for _, o := range objects {
		if err := b.C.Create(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// Delete deletes an object at once, and later what it owns.
func (b *Bench) Delete(o client.Object) {
	b.Helper()
	if err := b.C.Delete(b.Context(), o, client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		b.Fatal(err)
	}
}

// Node makes a node of a machine of its own.
func (b *Bench) Node(name string) {
	b.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Create(n)
	n.Status.NodeInfo.MachineID = "machine-of-" + name
	if err := b.C.Status().Update(b.Context(), n); err != nil {
		b.Fatal(err)
	}
}

// Network makes a NetworkAttachmentDefinition whose addresses come from pools. keys are further
// keys of its IPAM, each after a comma.
func (b *Bench) Network(name, keys string) {
	b.Helper()
	b.Create(&nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name},
		Spec:       nad.Spec{Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool"%s}}]}`, name, keys)},
	})
}

// Eventually tries until there is no error, for two minutes: even a slow machine needs less.
func (b *Bench) Eventually(what string, f func() error) {
	b.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	b.Fatalf("%s: %v", what, err)
}
