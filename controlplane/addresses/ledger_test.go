// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/pkg/ipam"
)

// says waits until the ledger is as it is wanted.
func (b *bench) says(what string, want metrics.Ledger) {
	b.Helper()
	b.Eventually(what, func() error {
		if diff := cmp.Diff(want, b.ctl.Ledger()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// timed returns how many pods' addresses were timed.
func timed(t *testing.T) uint64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	metrics.RegisterController(r, nil, nil)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() == "multihome_controller_binding_to_ready_seconds" {
			return m.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("there is no histogram")
	return 0
}

// TestLedger: what the leader says of pools and claims follows the objects: who waits and why,
// how many addresses of a pool there are in each state, and those of an application's own pool
// in the subnet's name.
func TestLedger(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("lan", "10.6.0.1/16", "10.6.168.171-10.6.168.172")
	b.Network("lan", `,"default_ipv4_ippool":["lan"]`)
	b.Create(
		&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: ipam.SubnetSpec{Subnet: "10.7.0.0/16", IPs: []string{"10.7.0.1-10.7.0.9"}}},
		&v2beta1.SpiderIPPool{
			ObjectMeta: metav1.ObjectMeta{Name: "auto-web", Annotations: map[string]string{ipam.AutoAnnotation: `{"subnet": "s"}`}},
			Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.7.0.0/16"}},
		},
		&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.7.0.5"}, Spec: v1alpha1.IPAddressSpec{
			Address: "10.7.0.5", Pool: "auto-web", State: v1alpha1.Reserved, Application: &v1alpha1.Owner{Kind: "Deployment", Namespace: "x", Name: "web"},
		}},
	)
	b.start(nil)
	subnet := metrics.Stock{Size: 9, States: map[string]int64{"Free": 8, "Reserved": 1}}
	b.says("nobody", metrics.Ledger{
		Pools:   map[string]metrics.Stock{"lan": {Size: 2, States: map[string]int64{"Free": 2}}, "subnet/s": subnet},
		Waiting: map[string]int{},
	})
	before := timed(t)
	first := b.pod("first", "node1", networks("lan,lan"))
	b.ready("first")
	b.Eventually("its time", func() error {
		if n := timed(t) - before; n != 1 {
			return fmt.Errorf("the time of %d pods is known, want 1", n)
		}
		return nil
	})
	b.pod("second", "node1", networks("lan"))
	b.pod("third", "node1", networks("nowhere"))
	full := metrics.Stock{Size: 2, States: map[string]int64{"Free": 0, "Allocated": 2}}
	b.says("all of them", metrics.Ledger{
		Pools:   map[string]metrics.Stock{"lan": full, "subnet/s": subnet},
		Waiting: map[string]int{"PoolExhausted": 1, "Waiting": 1},
	})
	b.Delete(first)
	b.says("a pod that is gone, and a node that says nothing", metrics.Ledger{
		Pools:   map[string]metrics.Stock{"lan": full, "subnet/s": subnet},
		Waiting: map[string]int{"PoolExhausted": 1, "Waiting": 1, "NotWithdrawn": 1},
	})
	b.withdraw("first")
	b.ready("second")
	b.says("the second", metrics.Ledger{
		Pools:   map[string]metrics.Stock{"lan": {Size: 2, States: map[string]int64{"Free": 1, "Allocated": 1}}, "subnet/s": subnet},
		Waiting: map[string]int{"Waiting": 1},
	})
}
