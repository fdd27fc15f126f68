// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

var start = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// pool returns a pool of ten addresses.
func pool(finalizers ...string) v2beta1.SpiderIPPool {
	return v2beta1.SpiderIPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u", CreationTimestamp: start, Finalizers: finalizers},
		Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.1-10.6.0.10"}}},
	}
}

// address returns an address of that pool.
func address(addr, state string) v1alpha1.IPAddress {
	return v1alpha1.IPAddress{Spec: v1alpha1.IPAddressSpec{Address: addr, Pool: "a", State: state}}
}

// in returns a write in words.
func in(w Write) string {
	if !w.Status {
		return fmt.Sprintf("finalizers %v freed %q", w.Next.GetFinalizers(), w.Freed)
	}
	s := w.Next.(*v2beta1.SpiderIPPool).Status
	var said []string
	for _, c := range s.Conditions {
		said = append(said, fmt.Sprintf("%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return fmt.Sprintf("status IPv%d %d of %d: %s", s.IPVersion, *s.AllocatedIPCount, *s.TotalIPCount, strings.Join(said, "; "))
}

// TestDecide has what is written about a pool. When it is written, nothing more is.
func TestDecide(t *testing.T) {
	leaving := pool(Finalizer, "x")
	leaving.DeletionTimestamp = &start
	const active = "Ready True Active: it hands out addresses"
	for _, tt := range []struct {
		name      string
		pool      v2beta1.SpiderIPPool
		addresses []v1alpha1.IPAddress
		want      []string
	}{
		{"new", pool(), nil, []string{"status IPv4 0 of 10: " + active}},
		{"its first address", pool("x"), []v1alpha1.IPAddress{address("10.6.0.1", v1alpha1.Allocated)},
			[]string{`finalizers [x multihome.io/in-use] freed ""`, "status IPv4 1 of 10: " + active}},
		{"an address is kept for its owner", pool(), []v1alpha1.IPAddress{address("10.6.0.1", v1alpha1.Reserved)},
			[]string{`finalizers [multihome.io/in-use] freed ""`, "status IPv4 0 of 10: " + active}},
		{"one in quarantine keeps no pool", pool(Finalizer), []v1alpha1.IPAddress{address("10.6.0.1", v1alpha1.Quarantined)},
			[]string{`finalizers [] freed "a"`, "status IPv4 0 of 10: " + active}},
		{"an address that isn't in it", pool(Finalizer), []v1alpha1.IPAddress{address("10.6.9.1", v1alpha1.Allocated), address("no address", v1alpha1.Allocated)},
			[]string{"status IPv4 2 of 10: " + active + "; Unadvised True Unadvised: spec.ips: in use, though it isn't in ips, or in excludeIPs too: invalid IP of its owner and 1 more"}},
		{"it is being deleted, and in use", leaving, []v1alpha1.IPAddress{address("10.6.0.9", v1alpha1.Allocated), address("10.6.0.2", v1alpha1.Allocated)},
			[]string{"status IPv4 2 of 10: Ready False Deleting: it is being deleted: it is gone when its last address is back: 10.6.0.2 of its owner and 1 more"}},
		{"its last address is back", leaving, nil,
			[]string{`finalizers [x] freed "a"`, "status IPv4 0 of 10: Ready False Deleting: it is being deleted: it is gone when its last address is back"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Observed{Pools: []v2beta1.SpiderIPPool{tt.pool}, Addresses: tt.addresses}
			var got []string
			for _, w := range Decide(o, start) {
				got = append(got, in(w))
				if w.Status {
					o.Pools[0].Status = w.Next.(*v2beta1.SpiderIPPool).Status
				} else {
					o.Pools[0].Finalizers = w.Next.GetFinalizers()
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%q\nwant %q", got, tt.want)
			}
			if more := Decide(o, metav1.NewTime(start.Add(time.Hour))); len(more) > 0 {
				t.Errorf("written again: %s", in(more[0]))
			}
		})
	}
}

// TestSubnetInUse has what a subnet's condition says of addresses that pods have straight from it.
func TestSubnetInUse(t *testing.T) {
	s := v2beta1.SpiderSubnet{
		ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "s", CreationTimestamp: start},
		Spec:       ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.1-10.6.0.10"}},
	}
	a := address("10.6.0.5", v1alpha1.Allocated)
	a.Spec.Pool, a.Spec.Holders = ipam.SubnetPool+"s", []v1alpha1.Holder{{Namespace: "default", Pod: "web"}}
	for _, tt := range []struct {
		excluded []string
		want     string
	}{
		{nil, ""},
		{[]string{"10.6.0.6"}, ""},
		{[]string{"10.6.0.5"}, "spec.ips: in use, though it isn't in ips, or in excludeIPs too: 10.6.0.5 of pod default/web"},
	} {
		s.Spec.ExcludeIPs = tt.excluded
		writes := Decide(Observed{Subnets: []v2beta1.SpiderSubnet{s}, Addresses: []v1alpha1.IPAddress{a}}, start)
		if len(writes) != 1 {
			t.Fatalf("%d writes", len(writes))
		}
		status := writes[0].Next.(*v2beta1.SpiderSubnet).Status
		got := ""
		if c := meta.FindStatusCondition(status.Conditions, v2beta1.Unadvised); c != nil {
			got = c.Message
		}
		if got != tt.want || *status.AllocatedIPCount != 1 {
			t.Errorf("without %v: %d allocated, %q, want %q", tt.excluded, *status.AllocatedIPCount, got, tt.want)
		}
	}
}

// stale is a cache that has the test's pool, and no address yet.
type stale struct {
	client.Reader
	pool v2beta1.SpiderIPPool
}

func (s stale) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if l, ok := list.(*v2beta1.SpiderIPPoolList); ok {
		l.Items = []v2beta1.SpiderIPPool{s.pool}
	}
	return nil
}

// TestOldCacheFreesNoPool has a cache without the address that was just handed out, while the pool
// is deleted: the pool stays until the API server has no address of it either.
func TestOldCacheFreesNoPool(t *testing.T) {
	c := testcluster.Client(t)
	name := testcluster.Namespace(t, c)
	p := pool(Finalizer)
	p.ObjectMeta = metav1.ObjectMeta{Name: name, Finalizers: []string{Finalizer}}
	p.Spec.Network = name
	a := address("10.6.0.1", v1alpha1.Allocated)
	a.Name, a.Spec.Pool = "10.6.0.1."+name, name
	for _, o := range []client.Object{&p, &a} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Delete(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		err := c.Get(t.Context(), types.NamespacedName{Name: name}, &p)
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, want := range []bool{true, false} {
		if !there() {
			t.Fatal("it is gone")
		}
		r := &Reconciler{Cache: stale{c, p}, Live: c, Writer: c, Now: time.Now}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{}); err != nil {
			t.Fatal(err)
		}
		if got := there(); got != want {
			t.Fatalf("it is there: %t: want %t", got, want)
		}
		if err := client.IgnoreNotFound(c.Delete(t.Context(), &a)); err != nil {
			t.Fatal(err)
		}
	}
}
