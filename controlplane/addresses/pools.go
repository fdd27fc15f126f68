// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// pools is what is known about all pools.
type pools struct {
	standing map[string]ipam.Standing // subnets, too, under the names by which they stand for pools
	auto     map[string]*ipam.AutoPool
	views    []ipam.PoolView
	subnets  []ipam.SubnetView
	choice   ipam.Pools // of both
	vlans    map[string]ipam.VLANSubnet
}

// poolsOf returns what is known about pools. used says which have addresses in use.
func poolsOf(list []v2beta1.SpiderIPPool, subnets []v2beta1.SpiderSubnet, reserved []v2beta1.SpiderReservedIP, vlans []staticmacvlan.VLANSubnet, used map[string]int) pools {
	var all []ipam.Pool
	var parents []ipam.Subnet
	var kept []ipam.ReservedSpec
	for _, p := range list {
		all = append(all, p.Pool(used[p.Name] > 0))
	}
	for _, s := range subnets {
		parents = append(parents, s.Subnet())
	}
	for _, r := range reserved {
		kept = append(kept, r.Spec)
	}
	out := pools{auto: map[string]*ipam.AutoPool{}, vlans: map[string]ipam.VLANSubnet{}}
	usable := slices.Clone(all)
	for i := range vlans {
		v := vlans[i].VLANSubnet()
		out.vlans[v.Name] = v
		usable = append(usable, v.Pool(used[ipam.VLANSubnetPool(v.Name)] > 0))
	}
	out.standing = ipam.Usable(usable, parents, kept)
	stocks := ipam.Stocks(usable, parents, kept, out.standing)
	for _, p := range all {
		standing := out.standing[p.Name]
		view := ipam.PoolView{
			Name: p.Name, Spec: p.Spec, Reason: standing.Reason, Disabled: standing.State == ipam.Disabled, Deleting: standing.State == ipam.Deleting, Auto: p.Auto,
		}
		if p.Auto != nil {
			out.auto[p.Name] = p.Auto
			view.Spec.IPs = nil // which it has, its IPAddresses say
			s := out.standing[p.Name]
			if subnet, there := stocks[p.Auto.Subnet]; there && view.Reason == "" {
				s.Free = subnet.Free
			}
			out.standing[p.Name] = s
		}
		out.views = append(out.views, view)
	}
	for _, s := range parents {
		standing := stocks[s.Name]
		out.standing[ipam.SubnetPool+s.Name] = standing
		out.subnets = append(out.subnets, ipam.SubnetView{Name: s.Name, Prefix: s.Spec.Prefix(), Space: standing.Space, Reason: standing.Reason})
	}
	out.choice = ipam.NewPools(out.views, out.subnets...)
	return out
}

// ofSubnets returns what subnets can hand out.
func (p pools) ofSubnets() map[string]ipam.Standing {
	out := map[string]ipam.Standing{}
	for _, s := range p.subnets {
		out[s.Name] = p.standing[ipam.SubnetPool+s.Name]
	}
	return out
}

// spaceOf returns the network of a pool.
func (c *Controller) spaceOf(pool string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pools.standing[pool].Space
}

// needs returns what a claim lacks, with the pools from which it can come; or why it can't come
// from any, with the reason for the condition. What only an owner of addresses of a disabled pool
// can have has no pools.
func (c *Controller) needs(ctx context.Context, o *Observed, claim *v2beta1.SpiderEndpoint) (out []ipam.Need, reason, why string, err error) {
	at := ipam.Place{Pod: facts(o.Pod), MultusNamespace: c.Settings.MultusNamespace}
	if slices.ContainsFunc(Missing(claim), func(n v2beta1.EndpointNIC) bool { return n.Subnets }) {
		if at.Application, err = c.Owners.Top(ctx, o.Pod); err != nil {
			return nil, "", "", err
		}
	}
	ns, err := c.namespace(ctx, o.Key.Namespace)
	if err != nil {
		return nil, "", "", err
	}
	node, err := get(ctx, c.Cache, client.ObjectKey{Name: o.Pod.Spec.NodeName}, &corev1.Node{})
	if err != nil {
		return nil, "", "", err
	}
	if ns != nil {
		at.NamespaceLabels = ns.Labels
	}
	if node != nil {
		at.NodeLabels = node.Labels
	}
	c.mu.Lock()
	choice := c.pools.choice
	c.seeking[o.Key] = true // so that a change of the pools from here on is heard of
	c.mu.Unlock()
	for _, n := range Missing(claim) {
		nic := ipam.NIC(n)
		if nic.Static != nil {
			need, reason, why := c.staticNeed(claim, nic)
			if why != "" {
				return nil, reason, why, nil
			}
			out = append(out, need)
			continue
		}
		needs, rejected := ipam.Candidates(nic, choice, at)
		for _, need := range needs {
			if len(need.Pools) == 0 && (need.Keep == nil || claim.Spec.Identity == nil) {
				return nil, noPool, ipam.Explain(nic, need, rejected), nil
			}
		}
		out = append(out, needs...)
	}
	return out, "", "", nil
}

// current returns what a claim says its pod has, with further addresses, and the routes of the
// pod's annotation that no NIC can have.
func (c *Controller) current(claim *v2beta1.SpiderEndpoint, got []*v1alpha1.IPAddress) (*v2beta1.PodCurrent, []ipam.Route) {
	c.mu.Lock()
	standing := c.pools.standing
	c.mu.Unlock()
	out := claim.Status.Current.DeepCopy()
	if out == nil {
		out = &v2beta1.PodCurrent{UID: claim.Spec.PodUID, Node: claim.Spec.NodeName}
	}
	missing := Missing(claim)
	var subnets []ipam.Got
	for _, n := range out.IPs {
		for _, text := range []string{n.IPv4, n.IPv6} {
			if p, err := netip.ParsePrefix(text); err == nil {
				subnets = append(subnets, ipam.Got{Interface: n.Interface, Subnet: p.Masked()})
			}
		}
	}
	for _, nic := range missing {
		n := v2beta1.NICAddresses{Interface: nic.Interface, CleanGateway: nic.CleanGateway}
		for _, a := range got {
			if slices.ContainsFunc(a.Spec.Holders, func(h v1alpha1.Holder) bool { return h.PodUID == claim.Spec.PodUID && h.Interface == nic.Interface }) {
				s := standing[a.Spec.Pool]
				fill(&n, a, s)
				c.fillStatic(&n, nic, a)
				subnets = append(subnets, ipam.Got{Interface: nic.Interface, Subnet: s.Prefix, Routes: s.Routes})
			}
		}
		out.IPs = append(out.IPs, n)
	}
	var nics []ipam.NIC
	for _, n := range claim.Spec.NICs {
		nics = append(nics, ipam.NIC(n))
	}
	routes, left := ipam.AnswerRoutes(nics, subnets)
	for i, n := range out.IPs {
		if slices.ContainsFunc(missing, func(m v2beta1.EndpointNIC) bool { return m.Interface == n.Interface }) {
			out.IPs[i].Routes = routes[n.Interface]
		}
	}
	return out, left
}

// fill puts an address into what a claim says about a NIC.
func fill(n *v2beta1.NICAddresses, a *v1alpha1.IPAddress, s ipam.Standing) {
	addr := keyOf(a).Addr
	bits := s.Prefix.Bits()
	if !s.Prefix.IsValid() { // the pool is gone, and the pod has the address
		bits = addr.BitLen()
	}
	text := netip.PrefixFrom(addr, bits).String()
	gateway := ""
	if s.Gateway.IsValid() {
		gateway = s.Gateway.String()
	}
	n.AddressSpace = a.Spec.Network
	if addr.Is4() {
		n.IPv4, n.IPv4Pool, n.IPv4Gateway = text, a.Spec.Pool, gateway
	} else {
		n.IPv6, n.IPv6Pool, n.IPv6Gateway = text, a.Spec.Pool, gateway
	}
}
