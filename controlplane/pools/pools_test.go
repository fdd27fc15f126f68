// SPDX-License-Identifier: Apache-2.0

package pools_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// bench is the API server, with objects that no other test sees: they have a label.
type bench struct {
	*testing.T
	client.WithWatch
	mark string // the label's value, and the start of names
}

func newBench(t *testing.T) *bench {
	t.Helper()
	c := testcluster.Client(t)
	b := &bench{t, c, testcluster.Namespace(t, c)}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, o := range []client.Object{&v1alpha1.IPAddress{}, &v2beta1.SpiderIPPool{}, &v2beta1.SpiderSubnet{}, &v2beta1.SpiderReservedIP{}} {
			if err := c.DeleteAllOf(ctx, o, client.MatchingLabels{"test": b.mark}); err != nil {
				t.Error(err)
			}
		}
		var left v2beta1.SpiderIPPoolList
		if err := c.List(ctx, &left, client.MatchingLabels{"test": b.mark}); err != nil {
			t.Error(err)
		}
		for i := range left.Items { // its controller may have ended
			p := left.Items[i].DeepCopy()
			p.Finalizers = nil
			if err := client.IgnoreNotFound(c.Patch(ctx, p, client.MergeFrom(&left.Items[i]))); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// wire is the controller's way to the API server.
type wire struct {
	mu      sync.Mutex
	writes  []time.Time
	status  map[string][]time.Time                                                 // by path
	disturb func(n int, do func() (*http.Response, error)) (*http.Response, error) // nil: undisturbed
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		do := func() (*http.Response, error) { return next.RoundTrip(req) }
		if req.Method == http.MethodGet {
			return do()
		}
		w.mu.Lock()
		w.writes = append(w.writes, time.Now())
		n := len(w.writes)
		if strings.HasSuffix(req.URL.Path, "/status") {
			if w.status == nil {
				w.status = map[string][]time.Time{}
			}
			w.status[req.URL.Path] = append(w.status[req.URL.Path], time.Now())
		}
		w.mu.Unlock()
		if w.disturb == nil {
			return do()
		}
		return w.disturb(n, do)
	})
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// start starts a controller that sees the test's objects, until the test ends or before.
func (b *bench) start(w *wire) (stop func()) {
	b.Helper()
	cfg := testcluster.Config(b.T)
	cfg.Wrap(w.wrap)
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: testcluster.Scheme(b.T), Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultLabelSelector: labels.SelectorFromSet(labels.Set{"test": b.mark})},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := errors.Join(pools.Index(ctx, mgr), pools.Add(mgr)); err != nil {
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
	return stop
}

// meta names an object of the test.
func (b *bench) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: b.mark + "-" + name, Labels: map[string]string{"test": b.mark}}
}

// pool makes a pool in the network of the test, so that it has no conflict with others.
func (b *bench) pool(name string, s ipam.PoolSpec) *v2beta1.SpiderIPPool {
	b.Helper()
	p := &v2beta1.SpiderIPPool{ObjectMeta: b.meta(name), Spec: s}
	b.create(p)
	return p
}

// address makes an address that a pod has.
func (b *bench) address(pool *v2beta1.SpiderIPPool, addr string, state string) *v1alpha1.IPAddress {
	b.Helper()
	a := &v1alpha1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: addr + "." + b.mark, Labels: map[string]string{"test": b.mark}},
		Spec: v1alpha1.IPAddressSpec{Address: addr, Network: b.mark, Pool: pool.Name, State: state,
			Holders: []v1alpha1.Holder{{Namespace: "default", Pod: "web", PodUID: "u", Interface: "net1", Node: "n"}}},
	}
	b.create(a)
	return a
}

func (b *bench) create(o client.Object) {
	b.Helper()
	if err := b.Create(b.Context(), o); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) delete(o client.Object) {
	b.Helper()
	if err := b.Delete(b.Context(), o); err != nil {
		b.Fatal(err)
	}
}

// change reads an object, changes it and writes it.
func (b *bench) change(o client.Object, change func()) {
	b.Helper()
	for {
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			b.Fatal(err)
		}
		change()
		err := b.Update(b.Context(), o)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "the object has been modified") {
			b.Fatal(err)
		}
	}
}

// eventually waits until what is there is as it should be. The bound is for a slow machine.
func (b *bench) eventually(what string, f func() error) {
	b.Helper()
	var err error
	for range 3000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatalf("%s: %v", what, err)
}

// says waits until an object's conditions say something about what it is now, in the form
// REASON: MESSAGE; UNADVISED. It returns its status.
func (b *bench) says(o client.Object, want string) v2beta1.PoolStatus {
	b.Helper()
	var status v2beta1.PoolStatus
	b.eventually(o.GetName(), func() error {
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		switch o := o.(type) {
		case *v2beta1.SpiderIPPool:
			status = o.Status
		case *v2beta1.SpiderSubnet:
			status = o.Status
		case *v2beta1.SpiderReservedIP:
			status.IPVersion, status.Conditions = o.Status.IPVersion, o.Status.Conditions
		}
		got := ""
		if ready := meta.FindStatusCondition(status.Conditions, v2beta1.Ready); ready != nil && ready.ObservedGeneration == o.GetGeneration() {
			got = ready.Reason + ": " + ready.Message
			if active := ready.Reason == ipam.Active; active != (ready.Status == metav1.ConditionTrue) {
				b.Errorf("Ready is %s for %s", ready.Status, ready.Reason)
			}
		}
		if notes := meta.FindStatusCondition(status.Conditions, v2beta1.Unadvised); notes != nil {
			got += "; " + notes.Message
		}
		if !strings.Contains(got, want) {
			return fmt.Errorf("it says %q: want %q", got, want)
		}
		return nil
	})
	return status
}

// counted waits for the counts of a status.
func (b *bench) counted(o client.Object, total, allocated int64) {
	b.Helper()
	b.eventually(o.GetName(), func() error {
		status := b.says(o, "")
		if got := [2]int64{ptr.Deref(status.TotalIPCount, -1), ptr.Deref(status.AllocatedIPCount, -1)}; got != [2]int64{total, allocated} {
			return fmt.Errorf("counts %v: want %d and %d", got, total, allocated)
		}
		return nil
	})
}

// spec returns a pool of 10.6.0.0/16 in the network of the test.
func (b *bench) spec(ips ...string) ipam.PoolSpec {
	return ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", Network: b.mark, IPs: ips}}
}

const active = "Active: it hands out addresses"

// TestD00001Overlap has two pools with one address, and changes who has the right to it.
func TestD00001Overlap(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	first := b.pool("a", b.spec("10.6.1.1-10.6.1.9"))
	b.says(first, active)
	time.Sleep(1100 * time.Millisecond) // until the API server's next second: the other one is younger
	second := b.pool("b", b.spec("10.6.1.9-10.6.1.20"))
	b.says(second, "Conflict: spec.ips: SpiderIPPool "+first.Name+" has 10.6.1.9 too, and came first: want other addresses, or another network")
	b.says(first, active)
	taken := b.address(second, "10.6.1.10", v1alpha1.Allocated) // as if both had been made at once
	b.says(first, "Conflict: spec.ips: SpiderIPPool "+second.Name+" has 10.6.1.9 too, and has addresses in use")
	b.says(second, active)
	b.delete(taken)
	b.says(first, active)
	b.says(second, "Conflict")
	b.change(second, func() { second.Spec.IPs = []string{"10.6.1.10-10.6.1.20"} })
	b.says(second, active)
	b.change(first, func() { first.Spec.IPs = append(first.Spec.IPs, "10.6.1.10") })
	b.delete(first)
	b.says(second, active)
}

// TestX14OneOfAHundred has two controllers, and a hundred pools of one spec made at once.
func TestX14OneOfAHundred(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	b.start(&wire{})
	var done sync.WaitGroup
	for i := range 100 {
		done.Go(func() { b.pool(fmt.Sprint("p", i), b.spec("10.6.1.1-10.6.1.9")) })
	}
	done.Wait()
	b.eventually("one active", func() error {
		var all v2beta1.SpiderIPPoolList
		if err := b.List(b.Context(), &all, client.MatchingLabels{"test": b.mark}); err != nil {
			return err
		}
		reasons := map[string]int{}
		for _, p := range all.Items {
			if ready := meta.FindStatusCondition(p.Status.Conditions, v2beta1.Ready); ready != nil {
				reasons[ready.Reason]++
			}
		}
		if reasons[ipam.Active] != 1 || reasons[ipam.Conflict] != 99 {
			return fmt.Errorf("%v", reasons)
		}
		return nil
	})
}

// TestI00009I00010OneName makes a hundred pools, and subnets, of one name at once.
func TestI00009I00010OneName(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	for _, object := range []func() client.Object{
		func() client.Object {
			return &v2beta1.SpiderIPPool{ObjectMeta: b.meta("a"), Spec: b.spec("10.6.1.1-10.6.1.9")}
		},
		func() client.Object {
			return &v2beta1.SpiderSubnet{ObjectMeta: b.meta("a"), Spec: b.spec("10.6.1.1-10.6.1.9").SubnetSpec}
		},
	} {
		var done sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 100 {
			done.Go(func() {
				if err := b.Create(b.Context(), object()); err == nil {
					mu.Lock()
					made++
					mu.Unlock()
				} else if !strings.Contains(err.Error(), "already exists") {
					b.Error(err)
				}
			})
		}
		done.Wait()
		if made != 1 {
			b.Errorf("%d made", made)
		}
		b.says(object(), "Active")
	}
}

// TestD00004Deletion deletes a pool in use: it stays, hands out nothing, and goes with its
// last address. One that isn't in use goes at once, with or without a controller.
func TestD00004Deletion(t *testing.T) {
	b := newBench(t)
	stop := b.start(&wire{})
	p := b.pool("a", b.spec("10.6.1.1-10.6.1.9"))
	b.says(p, active)
	first, second := b.address(p, "10.6.1.1", v1alpha1.Allocated), b.address(p, "10.6.1.2", v1alpha1.Reserved)
	b.address(p, "10.6.1.3", v1alpha1.Quarantined)
	b.eventually("the finalizer", func() error { return b.finalizers(p, pools.Finalizer) })
	b.counted(p, 9, 1)
	b.delete(p)
	b.says(p, "Deleting: it is being deleted: it is gone when its last address is back: 10.6.1.1 of pod default/web and 1 more")
	b.delete(first)
	b.says(p, "10.6.1.2 of pod default/web")
	stop()
	b.delete(second)
	if err := b.finalizers(p, pools.Finalizer); err != nil {
		t.Error(err)
	}
	b.start(&wire{})
	b.eventually("the pool gone", func() error {
		err := b.Get(b.Context(), client.ObjectKeyFromObject(p), p)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

func (b *bench) finalizers(p *v2beta1.SpiderIPPool, want string) error {
	if err := b.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		return err
	}
	if got := strings.Join(p.Finalizers, " "); got != want {
		return fmt.Errorf("finalizers %q: want %q", got, want)
	}
	return nil
}

// TestNothingLeftAtUninstalling: when no address is out, a pool and its definition can be
// deleted without a controller.
func TestNothingLeftAtUninstalling(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	stop := b.start(w)
	p := b.pool("a", b.spec("10.6.1.1-10.6.1.9"))
	a := b.address(p, "10.6.1.1", v1alpha1.Allocated)
	b.eventually("the finalizer", func() error { return b.finalizers(p, pools.Finalizer) })
	b.counted(p, 9, 1)
	b.delete(a)
	b.eventually("no finalizer", func() error { return b.finalizers(p, "") })
	b.counted(p, 9, 0)
	stop()
	if n := w.count(); n > 5 {
		t.Errorf("%d writes: want the status three times, the finalizers twice", n)
	}
	b.delete(p)
	if err := b.Get(b.Context(), client.ObjectKeyFromObject(p), p); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("it stays: %v", err)
	}
}

// TestD00005Disable switches a pool off and on again.
func TestD00005Disable(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	p := b.pool("a", b.spec("10.6.1.1-10.6.1.9"))
	a := b.address(p, "10.6.1.1", v1alpha1.Allocated)
	b.change(p, func() { p.Spec.Disable = ptr.To(true) })
	b.says(p, "Disabled: spec.disable is true")
	b.counted(p, 9, 1)
	b.delete(a)
	b.counted(p, 9, 0)
	b.change(p, func() { p.Spec.Disable = nil })
	b.says(p, active)
}

// TestD00006D00007Batch makes, changes and deletes pools by the dozen.
func TestD00006D00007Batch(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	var all []*v2beta1.SpiderIPPool
	for i := range 40 {
		all = append(all, b.pool(fmt.Sprint("p", i), b.spec(fmt.Sprintf("10.6.%d.1-10.6.%[1]d.9", i))))
	}
	for i, p := range all {
		b.change(p, func() { p.Spec.IPs = []string{fmt.Sprintf("10.6.%d.1-10.6.%[1]d.7", i)} })
	}
	for _, p := range all {
		b.says(p, active)
		b.counted(p, 7, 0)
	}
	for _, p := range all {
		b.delete(p)
		if err := b.Get(b.Context(), client.ObjectKeyFromObject(p), p); err == nil {
			t.Errorf("%s stays", p.Name)
		}
	}
}

// TestD00008I00005Inheritance makes a pool in a subnet, then changes and deletes that.
func TestD00008I00005Inheritance(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	spec := b.spec("10.6.1.1-10.6.1.20").SubnetSpec
	spec.ExcludeIPs, spec.Gateway, spec.Routes = []string{"10.6.1.5"}, ptr.To("10.6.0.1"), []ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.6.0.2"}}
	s := &v2beta1.SpiderSubnet{ObjectMeta: b.meta("lan"), Spec: spec}
	b.create(s)
	b.says(s, "Active: pools can have its addresses")
	p := b.pool("a", b.spec("10.6.1.4-10.6.1.6"))
	inherited := func() *ipam.Inherited {
		t.Helper()
		var got *ipam.Inherited
		b.eventually("the heritage", func() error {
			got = b.says(p, active).Inherited
			if got == nil {
				return errors.New("nothing")
			}
			return nil
		})
		return got
	}
	if got := inherited(); got.Subnet != s.Name || got.Gateway != "10.6.0.1" || len(got.Routes) != 1 {
		t.Errorf("%+v", got)
	}
	b.says(p, "; spec.ips: SpiderSubnet "+s.Name+" doesn't have 10.6.1.5, so nobody gets them")
	b.counted(s, 19, 2)
	b.change(s, func() { s.Spec.Gateway, s.Spec.ExcludeIPs = ptr.To("10.6.0.9"), nil })
	b.counted(s, 20, 3)
	if got := inherited(); got.Gateway != "10.6.0.1" {
		t.Errorf("I00005: %+v", got)
	}
	b.delete(s)
	b.change(p, func() { p.Spec.IPs = []string{"10.6.1.4"} })
	b.counted(p, 1, 0)
	if got := inherited(); got.Gateway != "10.6.0.1" {
		t.Errorf("the subnet is gone: %+v", got)
	}
	if p.Spec.Gateway != nil {
		t.Error("the user's spec is written")
	}
	again := &v2beta1.SpiderSubnet{ObjectMeta: b.meta("lan"), Spec: spec}
	again.Spec.Gateway = ptr.To("10.6.0.7")
	b.create(again)
	b.eventually("the new one's gateway", func() error {
		if got := inherited(); got.Gateway != "10.6.0.7" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

// TestI00001Subnets makes and changes subnets, two of them overlapping.
func TestI00001Subnets(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	s := &v2beta1.SpiderSubnet{ObjectMeta: b.meta("a"), Spec: b.spec("10.6.1.1-10.6.1.9").SubnetSpec}
	b.create(s)
	b.counted(s, 9, 0)
	b.change(s, func() { s.Spec.IPs = []string{"10.6.1.1-10.6.1.20"} })
	b.counted(s, 20, 0)
	time.Sleep(1100 * time.Millisecond) // until the API server's next second
	other := &v2beta1.SpiderSubnet{ObjectMeta: b.meta("b"), Spec: b.spec().SubnetSpec}
	other.Spec.Subnet = "10.6.9.0/24"
	b.create(other)
	b.says(other, "Conflict: spec.subnet: 10.6.9.0/24 overlaps with SpiderSubnet "+s.Name+", which came first")
	b.delete(s)
	b.says(other, "Active")
}

// TestD00017X13Counts has pools of IPv6 of any size, which are changed afterwards.
func TestD00017X13Counts(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	spec := ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "fd00:6::/32", Network: b.mark, IPs: []string{"fd00:6::1-fd00:6:ffff:ffff:ffff:ffff:ffff:ffff"}}}
	p := b.pool("a", spec)
	b.counted(p, 1<<63-1, 0)
	b.change(p, func() { p.Spec.IPs = []string{"fd00:6::1-fd00:6::1:0:0"} })
	b.counted(p, 1<<32, 0)
	if v := b.says(p, active).IPVersion; v != 6 {
		t.Errorf("version %d", v)
	}
}

// TestS00001Reserved reserves all addresses of a pool, and mends a SpiderReservedIP.
func TestS00001Reserved(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	p := b.pool("a", b.spec("10.6.1.1-10.6.1.2"))
	r := &v2beta1.SpiderReservedIP{ObjectMeta: b.meta("r"), Spec: ipam.ReservedSpec{IPs: []string{"10.6.1.1-10.6.1.9", "10.6.1.9"}}}
	b.create(r)
	b.says(r, `Invalid: spec.ips[1]: "10.6.1.9": want each address once`)
	b.says(p, "Empty: nobody can get 10.6.1.1-10.6.1.2: they are reserved")
	b.change(r, func() { r.Spec.IPs = []string{"10.6.1.1"} })
	if v := b.says(r, "Active: no pool hands them out").IPVersion; v != 4 {
		t.Errorf("version %d", v)
	}
	b.says(p, active)
	b.counted(p, 2, 0)
}

// TestS00003StaysWithThePod removes an address in use, where no webhook is: it stays with its
// pod, and the pool says so.
func TestS00003StaysWithThePod(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	p := b.pool("a", b.spec("10.6.1.1-10.6.1.9"))
	b.address(p, "10.6.1.1", v1alpha1.Allocated)
	b.counted(p, 9, 1)
	b.change(p, func() { p.Spec.IPs = []string{"10.6.1.2-10.6.1.9"} })
	b.says(p, active+"; spec.ips: in use, though it isn't in ips, or in excludeIPs too: 10.6.1.1 of pod default/web")
	b.counted(p, 8, 1)
}

// TestInvalid has a pool with a fault that only the webhook would refuse.
func TestInvalid(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	p := b.pool("a", b.spec("10.6.1.9-10.6.1.1"))
	b.says(p, `Invalid: spec.ips[0]: "10.6.1.9-10.6.1.1": want the lower address first: 10.6.1.1-10.6.1.9`)
	b.change(p, func() { p.Spec.IPs = []string{"10.6.1.1-10.6.1.9"} })
	b.says(p, active)
}

// TestAtMostOneWriteASecond takes addresses for some seconds. The counts are written, but not
// for each one.
func TestAtMostOneWriteASecond(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	b.start(w)
	p := b.pool("a", b.spec("10.6.1.1-10.6.4.250"))
	for i := range 300 {
		b.address(p, fmt.Sprintf("10.6.%d.%d", 1+i/200, 1+i%200), v1alpha1.Allocated)
		time.Sleep(10 * time.Millisecond)
	}
	b.counted(p, 1018, 300)
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, times := range w.status {
		t.Logf("%s: %d writes", path, len(times))
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < time.Second {
				t.Errorf("%s: two writes within %s", path, gap)
			}
		}
	}
	if len(w.status) != 1 {
		t.Errorf("%d objects written", len(w.status))
	}
}

// TestDisturbedWrites loses every third answer, and refuses every fourth write. In the end all
// is as it should be, and nothing more is written.
func TestDisturbedWrites(t *testing.T) {
	b := newBench(t)
	w := &wire{disturb: func(n int, do func() (*http.Response, error)) (*http.Response, error) {
		switch {
		case n%4 == 0:
			return nil, errors.New("no connection")
		case n%3 == 0:
			if r, err := do(); err == nil {
				_ = r.Body.Close()
			}
			return nil, errors.New("no answer")
		}
		return do()
	}}
	b.start(w)
	var all []*v2beta1.SpiderIPPool
	for i := range 10 {
		p := b.pool(fmt.Sprint("p", i), b.spec(fmt.Sprintf("10.6.%d.1-10.6.%[1]d.9", i)))
		b.address(p, fmt.Sprintf("10.6.%d.1", i), v1alpha1.Allocated)
		all = append(all, p)
	}
	for _, p := range all {
		b.counted(p, 9, 1)
		b.eventually("the finalizer", func() error { return b.finalizers(p, pools.Finalizer) })
	}
	before := w.count()
	b.eventually("no more writes", func() error {
		time.Sleep(3 * time.Second)
		if n := w.count(); n != before {
			before = n
			return errors.New("it writes")
		}
		return nil
	})
}

// TestX15Columns applies the pool and the subnet of the project's documents, and prints them as the
// documents do.
func TestX15Columns(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	text := strings.ReplaceAll(`apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: TEST-subnet, labels: {test: TEST}}
spec: {ipVersion: 4, network: TEST, ips: ["10.6.168.171-10.6.168.180"], subnet: 10.6.0.1/16, gateway: 10.6.0.1, vlan: 0}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: TEST-pool, labels: {test: TEST, ipam.spidernet.io/owner-application-namespace: shop}}
spec: {network: TEST, ips: ["10.6.168.171-10.6.168.173"], subnet: 10.6.0.1/16, vlan: 0, nodeName: [node1], multusName: [kube-system/lan]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderReservedIP
metadata: {name: TEST-reserved, labels: {test: TEST}}
spec: {ips: ["10.6.168.190"]}
`, "TEST", b.mark)
	apply := exec.Command("kubectl", "apply", "-f", "-")
	apply.Stdin = strings.NewReader(text)
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for kind, want := range map[string]string{
		"ss": "NAME VERSION SUBNET ALLOCATED-IP-COUNT TOTAL-IP-COUNT TEST-subnet 4 10.6.0.1/16 3 10",
		"sp": "NAME VERSION SUBNET ALLOCATED-IP-COUNT TOTAL-IP-COUNT DEFAULT DISABLE TEST-pool 4 10.6.0.1/16 0 3 false false",
		"sp -o wide": "NAME VERSION SUBNET ALLOCATED-IP-COUNT TOTAL-IP-COUNT DEFAULT DISABLE NODENAME MULTUSNAME APP-NAMESPACE REASON " +
			`TEST-pool 4 10.6.0.1/16 0 3 false false ["node1"] ["kube-system/lan"] shop it hands out addresses`,
		"sr": "NAME VERSION TEST-reserved 4",
	} {
		b.eventually(kind, func() error {
			out, err := exec.Command("kubectl", append([]string{"get", "-l", "test=" + b.mark}, strings.Fields(kind)...)...).CombinedOutput()
			if got := strings.ReplaceAll(strings.Join(strings.Fields(string(out)), " "), b.mark, "TEST"); got != want {
				return fmt.Errorf("%s: want %s", got, want)
			}
			return err
		})
	}
}
