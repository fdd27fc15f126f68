// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// macKey is a MAC that a pod names, in a VLANSubnet.
type macKey struct{ vlanSubnet, mac string }

// macs are the MACs that pods name and have, and who waits for them. Unlike an address, a MAC
// has no object in the API server: two controllers that both believe they lead can give one twice.
type macs struct {
	has   map[macKey]map[types.NamespacedName]*v1alpha1.Owner // claims, with the identities of their pods
	waits map[macKey]map[types.NamespacedName]bool
}

func newMACs() macs {
	return macs{map[macKey]map[types.NamespacedName]*v1alpha1.Owner{}, map[macKey]map[types.NamespacedName]bool{}}
}

// holder returns the claim that keeps a claim from having a MAC, the first by name. The two pods
// of a virtual machine may have one MAC.
func (m macs) holder(k macKey, claim *v2beta1.SpiderEndpoint) (types.NamespacedName, bool) {
	var others []types.NamespacedName
	for other, id := range m.has[k] {
		if other != keyOfClaim(claim) && !identities.Same(id, claim.Spec.Identity) {
			others = append(others, other)
		}
	}
	if len(others) == 0 {
		return types.NamespacedName{}, false
	}
	return slices.MinFunc(others, compareNames), true
}

// wait notes that a claim waits for a MAC, and says for whom.
func (m macs) wait(k macKey, claim *v2beta1.SpiderEndpoint, nic string, holder types.NamespacedName) string {
	if m.waits[k] == nil {
		m.waits[k] = map[types.NamespacedName]bool{}
	}
	m.waits[k][keyOfClaim(claim)] = true
	return fmt.Sprintf("%s waits: MAC %s is held by %s in VLANSubnet %s", nic, k.mac, holder, k.vlanSubnet)
}

func (m macs) take(k macKey, claim *v2beta1.SpiderEndpoint) {
	if m.has[k] == nil {
		m.has[k] = map[types.NamespacedName]*v1alpha1.Owner{}
	}
	m.has[k][keyOfClaim(claim)] = claim.Spec.Identity
}

// giveBack returns who waited for a MAC that a claim doesn't have any more.
func (m macs) giveBack(k macKey, claim types.NamespacedName) map[types.NamespacedName]bool {
	delete(m.has[k], claim)
	if len(m.has[k]) == 0 {
		delete(m.has, k)
	}
	waited := m.waits[k]
	delete(m.waits, k)
	return waited
}

func keyOfClaim(c *v2beta1.SpiderEndpoint) types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
}

// macsOf returns the MACs that a claim's pod names and has.
func macsOf(c *v2beta1.SpiderEndpoint) []macKey {
	if c == nil || c.Status.Current == nil {
		return nil
	}
	var out []macKey
	for _, n := range c.Spec.NICs {
		for _, has := range c.Status.Current.IPs {
			if n.Static != nil && has.Interface == n.Interface && has.MAC != "" && slices.Contains(n.Static.MACs, has.MAC) {
				out = append(out, macKey{n.Static.VLANSubnet, has.MAC})
			}
		}
	}
	return out
}

// followMACs follows the MACs of a claim: former is nil if it is new, now is nil if it is
// deleted. What a claim without addresses is about to get, it has already.
func (c *Controller) followMACs(former, now *v2beta1.SpiderEndpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	for _, k := range macsOf(now) {
		c.macs.take(k, now)
	}
	if now != nil {
		return
	}
	gone := keyOfClaim(former)
	for k, has := range c.macs.has {
		if _, had := has[gone]; had {
			for name := range c.macs.giveBack(k, gone) {
				c.Wake(name)
			}
		}
	}
}

// lessMACs leaves the addresses of a need beside which is a MAC that no other pod has, or says why
// there is none. Of an address that is taken it is the address that says why.
func (c *Controller) lessMACs(claim *v2beta1.SpiderEndpoint, nic ipam.NIC, need ipam.Need) (ipam.Need, string) {
	if len(nic.Static.MACs) == 0 {
		return need, ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	why := ""
	taken := func(mac string) bool {
		k := macKey{nic.Static.VLANSubnet, mac}
		holder, held := c.macs.holder(k, claim)
		if held {
			why = c.macs.wait(k, claim, nic.Interface, holder)
		}
		return held
	}
	if len(need.Addresses) == 0 {
		taken(nic.Static.MACs[0])
		return need, why
	}
	space := c.pools.standing[need.Pools[0]].Space
	var left []netip.Addr
	for _, a := range need.Addresses {
		if c.ledger.Taken(ipam.Key{Space: space, Addr: a}) || !taken(nic.Static.MAC(a)) {
			left = append(left, a)
		}
	}
	if len(left) > 0 {
		need.Addresses, why = left, ""
	}
	return need, why
}

// takeMACs gives a claim the MACs beside the addresses that it gets, all of them, or says why it
// can't have one.
func (c *Controller) takeMACs(claim *v2beta1.SpiderEndpoint, held []*v1alpha1.IPAddress, granted []ipam.Grant) string {
	var mine []macKey
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range Missing(claim) {
		if n.Static == nil {
			continue
		}
		var keys []ipam.Key
		for _, a := range held {
			if slices.ContainsFunc(a.Spec.Holders, func(h v1alpha1.Holder) bool { return h.PodUID == claim.Spec.PodUID && h.Interface == n.Interface }) {
				keys = append(keys, keyOf(a))
			}
		}
		for _, g := range granted {
			if g.Interface == n.Interface {
				keys = append(keys, g.Key)
			}
		}
		for _, key := range keys {
			k := macKey{n.Static.VLANSubnet, n.Static.MAC(key.Addr)}
			if k.mac == "" {
				continue
			}
			if holder, taken := c.macs.holder(k, claim); taken {
				return c.macs.wait(k, claim, n.Interface, holder)
			}
			mine = append(mine, k)
		}
	}
	for _, k := range mine {
		c.macs.take(k, claim)
	}
	return ""
}
