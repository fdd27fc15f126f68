// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestReportsOfStoppedNodes: an address that only a node's report names is taken as long as its
// machine may still have it, and free when its Node is marked out of service, is deleted, or is
// another machine's.
func TestReportsOfStoppedNodes(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, v2beta1.AddToScheme, staticmacvlan.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	subnet := &v2beta1.SpiderSubnet{
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Spec:       ipam.SubnetSpec{Subnet: "10.0.0.0/24", IPs: []string{"10.0.0.1"}},
	}
	node := func(machine string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Spec: corev1.NodeSpec{Taints: taints},
			Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{MachineID: machine}},
		}
	}
	report := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: v1alpha1.NodeSpoolStatus{
		MachineID: "m1", Sandboxes: []v1alpha1.Sandbox{{Addresses: []v1alpha1.Held{{Address: "10.0.0.1"}}}},
	}}
	runs := node("m1")
	for name, x := range map[string]struct {
		now  *corev1.Node
		free int
	}{
		"it runs":                      {runs, 0},
		"it is marked":                 {node("m1", corev1.Taint{Key: corev1.TaintNodeOutOfService}), 1},
		"it is deleted":                {nil, 1},
		"another machine has its name": {node("m2"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := &addresses.Controller{Now: time.Now, Cache: fake.NewClientBuilder().WithScheme(scheme).WithObjects(subnet).Build()}
			c.OnSpool(nil, report)
			c.OnNode(nil, runs)
			if err := c.OnPools(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.OnNode(runs, x.now)
			if got := len(c.Reserve("s", 1)); got != x.free {
				t.Errorf("%d addresses are free, want %d", got, x.free)
			}
		})
	}
}
