// SPDX-License-Identifier: Apache-2.0

package identities_test

import (
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestDecide: which addresses are free. The address is of ordinal 4 of StatefulSet web of UID 1.
func TestDecide(t *testing.T) {
	is := identities.Owner{UID: "1", Start: 2, Replicas: 3}
	gone := identities.Owner{Gone: true}
	another := identities.Owner{UID: "2", Start: 2, Replicas: 3}
	held := func(a *v1alpha1.IPAddress) {
		a.Spec.State, a.Spec.Holders = v1alpha1.Allocated, []v1alpha1.Holder{{Pod: "web-4"}}
	}
	machine := func(a *v1alpha1.IPAddress) {
		a.Spec.Identity = &v1alpha1.Owner{Kind: identities.VirtualMachine, Name: "vm", UID: "1"}
	}
	for _, x := range []struct {
		name   string
		owner  identities.Owner
		policy identities.Policy
		change func(*v1alpha1.IPAddress)
		free   bool
	}{
		{"in range", is, identities.Policy{}, nil, false},
		{"the last one", identities.Owner{UID: "1", Start: 4, Replicas: 1}, identities.Policy{}, nil, false},
		{"G00010: above", identities.Owner{UID: "1", Start: 2, Replicas: 2}, identities.Policy{}, nil, true},
		{"below the start", identities.Owner{UID: "1", Start: 5, Replicas: 2}, identities.Policy{}, nil, true},
		{"no replicas", identities.Owner{UID: "1"}, identities.Policy{}, nil, true},
		{"no replicas, retained", identities.Owner{UID: "1"}, identities.Policy{RetainScaled: true}, nil, false},
		{"no replicas, retained when deleted", identities.Owner{UID: "1"}, identities.Policy{RetainDeleted: true}, nil, true},
		{"a pod holds it", identities.Owner{UID: "1"}, identities.Policy{}, held, false},
		{"the owner is gone", gone, identities.Policy{}, nil, true},
		{"the owner is gone, a pod holds it", gone, identities.Policy{}, held, false},
		{"the owner is gone, retained", gone, identities.Policy{RetainDeleted: true}, nil, false},
		{"the owner is gone, retained when scaled", gone, identities.Policy{RetainScaled: true}, nil, true},
		{"X24: another owner of the name", another, identities.Policy{}, nil, true},
		{"X24: another owner of the name, retained", another, identities.Policy{RetainDeleted: true}, nil, false},
		{"a machine", is, identities.Policy{}, machine, false},
		{"an instance without a machine", identities.Owner{}, identities.Policy{}, machine, false},
		{"a machine that is gone", gone, identities.Policy{}, machine, true},
	} {
		a := v1alpha1.IPAddress{Spec: v1alpha1.IPAddressSpec{Pool: "a", State: v1alpha1.Reserved,
			Identity: &v1alpha1.Owner{Kind: identities.StatefulSet, Name: "web", UID: "1", Ordinal: ptr.To[int32](4)}}}
		if x.change != nil {
			x.change(&a)
		}
		got := identities.Decide(identities.Observed{Owner: x.owner, Addresses: []v1alpha1.IPAddress{a}, Policies: map[string]identities.Policy{"a": x.policy}})
		if (len(got) == 1) != x.free {
			t.Errorf("%s: free: %t, want %t", x.name, len(got) == 1, x.free)
		}
	}
}

// TestDropped: an address of a NIC that the pod of the identity runs without is free, whatever
// the policy. The address is of net1 of ordinal 4 of StatefulSet web.
func TestDropped(t *testing.T) {
	of := func(n int32, runs bool, nics ...string) identities.Pod {
		return identities.Pod{Identity: &v1alpha1.Owner{Kind: identities.StatefulSet, Name: "web", Ordinal: &n}, Runs: runs, NICs: nics}
	}
	for _, x := range []struct {
		name string
		pods []identities.Pod
		held bool
		free bool
	}{
		{"there is no pod", nil, false, false},
		{"it runs with the NIC", []identities.Pod{of(4, true, "net1")}, false, false},
		{"it runs without", []identities.Pod{of(4, true, "eth0", "net2")}, false, true},
		{"it runs without any", []identities.Pod{of(4, true)}, false, true},
		{"it doesn't run yet", []identities.Pod{of(4, false, "eth0")}, false, false},
		{"another ordinal runs without", []identities.Pod{of(3, true, "eth0"), of(4, true, "net1")}, false, false},
		{"one of two doesn't run yet", []identities.Pod{of(4, true, "eth0"), of(4, false, "eth0")}, false, false},
		{"one of two has it", []identities.Pod{of(4, true, "eth0"), of(4, true, "net1")}, false, false},
		{"a former pod still holds it", []identities.Pod{of(4, true, "eth0")}, true, false},
	} {
		a := v1alpha1.IPAddress{Spec: v1alpha1.IPAddressSpec{Pool: "a", State: v1alpha1.Reserved,
			Identity: &v1alpha1.Owner{Kind: identities.StatefulSet, Name: "web", UID: "1", Ordinal: ptr.To[int32](4), Interface: "net1"}}}
		if x.held {
			a.Spec.Holders = []v1alpha1.Holder{{Pod: "web-4"}}
		}
		got := identities.Decide(identities.Observed{
			Owner: identities.Owner{UID: "1", Replicas: 5}, Addresses: []v1alpha1.IPAddress{a}, Pods: x.pods,
			Policies: map[string]identities.Policy{"a": {RetainScaled: true, RetainDeleted: true}},
		})
		if (len(got) == 1) != x.free {
			t.Errorf("%s: free: %t, want %t", x.name, len(got) == 1, x.free)
		}
	}
}

// TestReplaced: an address is free when a pod of its identity runs with another one for the NIC and the
// family: a late write took it. The address is 10.0.0.1, for net1 of ordinal 4 of StatefulSet web.
func TestReplaced(t *testing.T) {
	of := func(n int32, runs bool, nic string, addrs ...string) identities.Pod {
		out := identities.Pod{Identity: &v1alpha1.Owner{Kind: identities.StatefulSet, Name: "web", Ordinal: &n}, Runs: runs,
			NICs: []string{"net1", "net2"}, Addresses: map[string][]netip.Addr{}}
		for _, a := range addrs {
			out.Addresses[nic] = append(out.Addresses[nic], netip.MustParseAddr(a))
		}
		return out
	}
	for _, x := range []struct {
		name string
		pod  identities.Pod
		free bool
	}{
		{"it runs with another one", of(4, true, "net1", "10.0.0.2"), true},
		{"it doesn't run yet", of(4, false, "net1", "10.0.0.2"), false},
		{"another NIC has one", of(4, true, "net2", "10.0.0.2"), false},
		{"it has one of the other family", of(4, true, "net1", "fd00::2"), false},
		{"it runs with this one, which doesn't say so", of(4, true, "net1", "10.0.0.1", "fd00::2"), false},
		{"it is another ordinal's", of(3, true, "net1", "10.0.0.2"), false},
	} {
		a := v1alpha1.IPAddress{Spec: v1alpha1.IPAddressSpec{Address: "10.0.0.1", Pool: "a", State: v1alpha1.Reserved,
			Identity: &v1alpha1.Owner{Kind: identities.StatefulSet, Name: "web", UID: "1", Ordinal: ptr.To[int32](4), Interface: "net1"}}}
		got := identities.Decide(identities.Observed{
			Owner: identities.Owner{UID: "1", Replicas: 5}, Addresses: []v1alpha1.IPAddress{a}, Pods: []identities.Pod{x.pod},
			Policies: map[string]identities.Policy{"a": {RetainScaled: true, RetainDeleted: true}},
		})
		if (len(got) == 1) != x.free {
			t.Errorf("%s: free: %t, want %t", x.name, len(got) == 1, x.free)
		}
	}
}

// TestPolicy: the pool's annotations, then the subnet's. A value that isn't known retains.
func TestPolicy(t *testing.T) {
	with := func(value string) map[string]string {
		if value == "" {
			return nil
		}
		return map[string]string{identities.WhenScaled: value}
	}
	for _, x := range []struct {
		pool, subnet string
		retain       bool
		faults       int
	}{
		{"", "", false, 0}, {"Delete", "", false, 0}, {"Retain", "", true, 0}, {"", "Retain", true, 0},
		{"Delete", "Retain", false, 0}, {"Retain", "Delete", true, 0}, {"retain", "", true, 1}, {"", "keep", true, 0},
	} {
		pool, subnet := &v2beta1.SpiderIPPool{}, &v2beta1.SpiderSubnet{}
		pool.Annotations, subnet.Annotations = with(x.pool), with(x.subnet)
		if p := identities.PolicyOf(pool, subnet); p.RetainScaled != x.retain || p.RetainDeleted {
			t.Errorf("pool %q, subnet %q: %+v, want %t", x.pool, x.subnet, p, x.retain)
		}
		if n := len(identities.Faults(pool.Annotations)); n != x.faults {
			t.Errorf("pool %q: %d faults, want %d", x.pool, n, x.faults)
		}
	}
}

// TestReadPolicy: the subnet's policy counts for a pool of an application from the first moment, and a pool of which it
// isn't known yet whether a subnet has it has none.
func TestReadPolicy(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v2beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	retains := map[string]string{identities.WhenScaled: identities.Retain}
	auto := map[string]string{ipam.AutoAnnotation: ipam.AutoPool{Interface: "net1", Subnet: "s"}.Annotation()}
	ready := []metav1.Condition{{Type: v2beta1.Ready, Status: metav1.ConditionTrue}}
	for name, x := range map[string]struct {
		annotations map[string]string
		status      v2beta1.PoolStatus
		retain      bool
		unknown     bool
	}{
		"an application's, without a status": {annotations: auto, retain: true},
		"of the subnet":                      {status: v2beta1.PoolStatus{Conditions: ready, Inherited: &ipam.Inherited{Subnet: "s"}}, retain: true},
		"of no subnet":                       {status: v2beta1.PoolStatus{Conditions: ready}},
		"its own":                            {annotations: retains, status: v2beta1.PoolStatus{Conditions: ready}, retain: true},
		"without a status":                   {unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
				&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: retains}},
				&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: x.annotations}, Status: x.status},
			).Build()
			p, err := identities.ReadPolicy(t.Context(), live, "p")
			if (err != nil) != x.unknown || p.RetainScaled != x.retain {
				t.Errorf("%+v, %v: want it to retain: %t, unknown: %t", p, err, x.retain, x.unknown)
			}
		})
	}
}
