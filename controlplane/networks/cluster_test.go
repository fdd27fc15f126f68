// SPDX-License-Identifier: Apache-2.0

package networks_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/networks"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netconf"
)

// bench is a namespace of the API server, with what a test does there.
type bench struct {
	*testing.T
	client.WithWatch
	ns string
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

func newBench(t *testing.T) *bench {
	t.Helper()
	c := testcluster.Client(t)
	return &bench{t, c, testcluster.Namespace(t, c)}
}

// wire is the controller's way to the API server. A test counts and disturbs writes there.
type wire struct {
	writes  atomic.Int64
	disturb func(req *http.Request, n int64, do func() (*http.Response, error)) (*http.Response, error) // nil: undisturbed
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodGet {
			return next.RoundTrip(req)
		}
		n := w.writes.Add(1)
		do := func() (*http.Response, error) { return next.RoundTrip(req) }
		if w.disturb == nil {
			return do()
		}
		return w.disturb(req, n, do)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// start starts a controller for the namespace, which ends with the test, or before.
func (b *bench) start(w *wire) (stop func()) {
	b.Helper()
	cfg := testcluster.Config(b.T)
	cfg.Wrap(w.wrap)
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  testcluster.Scheme(b.T),
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{b.ns: {}},
			SyncPeriod:        ptr.To(300 * time.Millisecond),
		},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := networks.Add(ctx, mgr); err != nil {
		b.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := mgr.Start(ctx); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	})
	stop = func() { cancel(); done.Wait() }
	b.Cleanup(stop)
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		b.Fatal("the cache has nothing")
	}
	return stop
}

// config returns a config of macvlan on a master.
func (b *bench) config(name, master string) *v2beta1.SpiderMultusConfig {
	return &v2beta1.SpiderMultusConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: name},
		Spec:       netconf.Spec{CNIType: "macvlan", Macvlan: &netconf.Macvlan{Master: []string{master}}},
	}
}

// wanting returns a config that wants another name.
func (b *bench) wanting(name, nadName, master string) *v2beta1.SpiderMultusConfig {
	c := b.config(name, master)
	c.Annotations = map[string]string{netconf.NameAnnotation: nadName}
	return c
}

func (b *bench) create(o client.Object) {
	b.Helper()
	if err := b.Create(b.Context(), o); err != nil {
		b.Fatal(err)
	}
}

// change reads an object, changes it and writes it, until nobody else was faster.
func (b *bench) change(o client.Object, change func()) {
	b.Helper()
	for {
		err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o)
		if err == nil {
			change()
			err = b.Update(b.Context(), o)
		}
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "the object has been modified") {
			b.Fatal(err)
		}
	}
}

func (b *bench) delete(o client.Object, options ...client.DeleteOption) {
	b.Helper()
	if err := b.Delete(b.Context(), o, options...); err != nil {
		b.Fatal(err)
	}
}

// nad reads a NetworkAttachmentDefinition.
func (b *bench) nad(name string) (*nad.NetworkAttachmentDefinition, error) {
	out := &nad.NetworkAttachmentDefinition{}
	return out, b.Get(b.Context(), client.ObjectKey{Namespace: b.ns, Name: name}, out)
}

var errNotYet = errors.New("not yet")

// eventually waits until what is there is as it should be. The bound is for a slow machine.
func (b *bench) eventually(what string, f func() error) {
	b.Helper()
	err := errNotYet
	for range 3000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatalf("%s: %v", what, err)
}

// has waits until a NetworkAttachmentDefinition has the configuration of a config, which
// controls it.
func (b *bench) has(name string, c *v2beta1.SpiderMultusConfig) *nad.NetworkAttachmentDefinition {
	b.Helper()
	var out *nad.NetworkAttachmentDefinition
	want := c.Network().Render().Config
	b.eventually(name+" of "+c.Name, func() (err error) {
		if out, err = b.nad(name); err != nil {
			return err
		}
		if owner := metav1.GetControllerOf(out); out.Spec.Config != want || owner == nil || owner.UID != c.UID {
			return errors.New("it has " + out.Spec.Config + ", and wants " + want)
		}
		return nil
	})
	return out
}

// says waits until a config's condition Ready has a reason, and returns the message.
func (b *bench) says(c *v2beta1.SpiderMultusConfig, reason string) (message string) {
	b.Helper()
	b.eventually(c.Name+": "+reason, func() error {
		now := &v2beta1.SpiderMultusConfig{}
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(c), now); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(now.Status.Conditions, v2beta1.Ready)
		if ready == nil || ready.Reason != reason || ready.ObservedGeneration != now.Generation {
			return errors.New(c.Name + " has no such condition yet")
		}
		if want := reason == v2beta1.Written; want != (ready.Status == metav1.ConditionTrue) {
			b.Errorf("%s: Ready is %s with the reason %s", c.Name, ready.Status, reason)
		}
		message = ready.Message
		return nil
	})
	return message
}

// quiet waits until the controllers wrote nothing over ten resyncs.
func (b *bench) quiet(wires ...*wire) {
	b.Helper()
	sum := func() (n int64) {
		for _, w := range wires {
			n += w.writes.Load()
		}
		return n
	}
	b.eventually("no more writes", func() error {
		before := sum()
		time.Sleep(3 * time.Second)
		if n := sum() - before; n > 0 {
			return errNotYet
		}
		return nil
	})
}

// fast waits for something that is measured.
func (b *bench) fast(f func() bool) {
	b.Helper()
	for range 100000 {
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	b.Fatal("it doesn't come")
}

// inParallel calls f for all, 16 at a time.
func inParallel[T any](all []*T, f func(client.Object)) {
	var wait sync.WaitGroup
	work := make(chan *T)
	for range 16 {
		wait.Go(func() {
			for o := range work {
				f(any(o).(client.Object))
			}
		})
	}
	for _, o := range all {
		work <- o
	}
	close(work)
	wait.Wait()
}

// ended reports whether all configs of the namespace are ready, and the former name of the
// renamed one is gone.
func (b *bench) ended() bool {
	var configs v2beta1.SpiderMultusConfigList
	if err := b.List(b.Context(), &configs, client.InNamespace(b.ns)); err != nil {
		b.Fatal(err)
	}
	for _, c := range configs.Items {
		ready := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Ready)
		if ready == nil || ready.Reason != v2beta1.Written || c.Status.NetworkAttachmentDefinition != networks.NameOf(&c) || ready.ObservedGeneration != c.Generation {
			return false
		}
	}
	_, err := b.nad("first")
	return apierrors.IsNotFound(err)
}
