// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/pkg/ipam"
)

// fresh is the standing of a claim about which nothing is said yet.
const fresh = "New"

// stateOf is a state of a pool's addresses.
type stateOf struct{ pool, state string }

// count counts a thing; the zero value of a kind isn't counted.
func count[K comparable](counts map[K]int, k K, by int) {
	var none K
	if k == none {
		return
	}
	if counts[k] += by; counts[k] == 0 {
		delete(counts, k)
	}
}

// standing returns the reason of a claim that isn't Ready; "" if it is, or goes.
func standing(c *v2beta1.SpiderEndpoint) string {
	if c == nil || c.Status.Phase == v2beta1.Releasing || c.Status.Withdrawn != nil {
		return ""
	}
	ready := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Ready)
	switch {
	case ready == nil:
		return fresh
	case ready.Status == metav1.ConditionTrue:
		return ""
	}
	return ready.Reason
}

// Ledger returns how many addresses each pool has that somebody made, by their state, and how
// many claims wait. What is in an application's own pool counts in the subnet from which that
// is: there are as many of them as there are applications.
func (c *Controller) Ledger() metrics.Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	out := metrics.Ledger{Pools: map[string]metrics.Stock{}, Waiting: map[string]int{}}
	for name := range c.pools.standing {
		if c.pools.auto[name] == nil {
			total, used := c.ledger.Counts(name)
			out.Pools[name] = metrics.Stock{Size: total, States: map[string]int64{metrics.Free: total - used}}
		}
	}
	for of, n := range c.states {
		name := of.pool
		if auto := c.pools.auto[name]; auto != nil {
			name = ipam.SubnetPool + auto.Subnet
		}
		if out.Pools[name].States == nil { // the pool is deleted
			out.Pools[name] = metrics.Stock{States: map[string]int64{}}
		}
		out.Pools[name].States[of.state] += int64(n)
	}
	for reason, n := range c.standing {
		out.Waiting[reason] = n
	}
	return out
}

// took notes how long a pod waited that has all of its addresses now. If its binding wasn't
// seen, because another controller led, the pod's own condition has the second.
func (c *Controller) took(pod *corev1.Pod) {
	c.mu.Lock()
	since := c.bound[pod.UID]
	c.mu.Unlock()
	for _, now := range pod.Status.Conditions {
		if now.Type == corev1.PodScheduled && since.IsZero() {
			since = now.LastTransitionTime.Time
		}
	}
	if !since.IsZero() {
		metrics.Ready(c.Now().Sub(since))
	}
}
