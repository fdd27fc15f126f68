// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// The methods in this file follow the cache. They must be called for each change in it, of
// one object in the order in which it changed.

// OnAddress follows an IPAddress: former is nil if it is new, now is nil if it is deleted.
func (c *Controller) OnAddress(former, now *v1alpha1.IPAddress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	c.counts(former, -1)
	c.counts(now, 1)
	switch now {
	case nil:
		k := keyOf(former)
		if !c.deleted[former.UID] && c.leads && former.Spec.State != v1alpha1.Reserved && len(former.Spec.Holders) > 0 {
			h := former.Spec.Holders[0]
			l := lostAddress{types.NamespacedName{Namespace: h.Namespace, Name: h.Pod}, former.DeepCopy()}
			c.lost[former.Name] = l
			c.ledger.Set(k, ipam.Promise)
			c.Wake(l.key)
		}
		delete(c.deleted, former.UID)
		if c.ledger.Keep(k, "", 0) {
			c.serve(types.NamespacedName{})
		}
	default:
		c.mark(now)
		c.has(now.Spec.Identity, now.Name)
		if former == nil || former.UID != now.UID || former.Spec.State != now.Spec.State {
			c.free(keyOf(now))
		}
	}
}

// counts follows how many IPAddresses there are of a pool, and in which state.
func (c *Controller) counts(a *v1alpha1.IPAddress, n int) {
	if a == nil {
		return
	}
	c.used[a.Spec.Pool] += n
	count(c.states, stateOf{a.Spec.Pool, a.Spec.State}, n)
	c.confine(a, n > 0 && a.Spec.State == v1alpha1.Quarantined)
}

// mark notes what an IPAddress says: whose the address is, or that it is kept for the next pod
// of an application.
func (c *Controller) mark(a *v1alpha1.IPAddress) {
	s, pool, m := a.Spec, "", ipam.Object
	if s.Application != nil {
		pool = s.Pool
		if s.State == v1alpha1.Reserved && s.Identity == nil && len(s.Holders) == 0 {
			m = ipam.Kept
		}
	}
	if c.ledger.Keep(keyOf(a), pool, m) {
		c.serve(types.NamespacedName{})
	}
}

// OnClaim follows a SpiderEndpoint.
func (c *Controller) OnClaim(former, now *v2beta1.SpiderEndpoint) {
	c.followMACs(former, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now != nil && (c.newest == "" || older(c.newest, now.ResourceVersion)) {
		c.newest = now.ResourceVersion
	}
	c.named(keysOf(Named(former)), keysOf(Named(now)))
	count(c.standing, standing(former), -1)
	count(c.standing, standing(now), 1)
	if former != nil && (now == nil || now.Spec.PodUID != former.Spec.PodUID) {
		delete(c.waits, former.Spec.PodUID)
	}
}

// OnPod follows a pod: when it was bound to a node, if that is seen while this controller
// leads.
func (c *Controller) OnPod(former, now *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	switch {
	case now == nil:
		delete(c.bound, former.UID)
	case c.leads && Alive(now) && !Alive(former):
		c.bound[now.UID] = c.Now()
	}
}

// OnSpool follows a NodeSpool.
func (c *Controller) OnSpool(former, now *v1alpha1.NodeSpool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	name := nameOf(former, now)
	if c.reports[name] = now; now == nil {
		delete(c.reports, name)
	}
	c.heard(name)
}

// OnNode follows a Node: what it reports doesn't count any more when it is deleted or marked out of
// service.
func (c *Controller) OnNode(former, now *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	name := nameOf(former, now)
	if c.nodes[name] = nodeOf(now); now == nil {
		delete(c.nodes, name)
	}
	c.heard(name)
}

// nameOf returns the name of an object that is new, has changed or is deleted.
func nameOf[T client.Object](former, now T) string {
	if reflect.ValueOf(now).IsNil() {
		return former.GetName()
	}
	return now.GetName()
}

// heard follows what a node reports, as far as its machine may still have that. It is called with the
// controller's lock held.
func (c *Controller) heard(name string) {
	former := c.reported[name]
	var now map[ipam.Key]bool
	node, there := c.nodes[name]
	if spool := c.reports[name]; spool != nil && there && !node.stopped(spool.Status.MachineID) {
		now = heldOn(spool)
	}
	if c.reported[name] = now; now == nil {
		delete(c.reported, name)
	}
	c.named(former, now)
}

// named follows what a claim or a node names. It is called with the controller's lock held.
func (c *Controller) named(former, now map[ipam.Key]bool) {
	freed := false
	for k := range now {
		if !former[k] {
			c.ledger.Name(k)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(former), ipam.Key.Compare) { // what is free first is handed out first
		if !now[k] && c.ledger.Unname(k) {
			freed = true
		}
	}
	if freed {
		c.serve(types.NamespacedName{})
	}
}

// OnPools follows the pools, the subnets and the reserved addresses: all of them, by the
// cache.
func (c *Controller) OnPools(ctx context.Context) error {
	var pools v2beta1.SpiderIPPoolList
	var subnets v2beta1.SpiderSubnetList
	var reserved v2beta1.SpiderReservedIPList
	var vlans staticmacvlan.VLANSubnetList
	for _, list := range []client.ObjectList{&pools, &subnets, &reserved, &vlans} {
		if err := c.Cache.List(ctx, list); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	former := c.pools
	c.pools = poolsOf(pools.Items, subnets.Items, reserved.Items, vlans.Items, c.used)
	stocks := map[string]ipam.Stock{}
	for name, s := range c.pools.standing {
		stocks[name] = ipam.Stock{Space: s.Space, Free: s.Free, Auto: c.pools.auto[name] != nil}
	}
	c.ledger.SetPools(stocks)
	if c.Restocked != nil && !reflect.DeepEqual(former.ofSubnets(), c.pools.ofSubnets()) {
		c.Restocked()
	}
	if reflect.DeepEqual(former.views, c.pools.views) && reflect.DeepEqual(former.subnets, c.pools.subnets) && reflect.DeepEqual(former.vlans, c.pools.vlans) {
		c.serve(types.NamespacedName{})
		return nil
	}
	all := maps.Clone(c.seeking)
	for key := range c.line {
		all[key] = true
	}
	for _, key := range slices.SortedFunc(maps.Keys(all), compareNames) { // each may have other pools now
		c.Wake(key)
	}
	return nil
}

// keysOf returns the keys of IPAddresses.
func keysOf(addresses map[string]*v1alpha1.IPAddress) map[ipam.Key]bool {
	out := map[ipam.Key]bool{}
	for _, a := range addresses {
		out[keyOf(a)] = true
	}
	return out
}

// heldOn returns the addresses that a node reports.
func heldOn(s *v1alpha1.NodeSpool) map[ipam.Key]bool {
	out := map[ipam.Key]bool{}
	if s == nil {
		return out
	}
	for _, sandbox := range s.Status.Sandboxes {
		for _, h := range sandbox.Addresses {
			if k, ok := keyOfHeld(h); ok {
				out[k] = true
			}
		}
	}
	return out
}
