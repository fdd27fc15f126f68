// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"net/netip"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// pool checks a SpiderIPPool. former is what it was before an update, else nil.
func (h *handler) pool(ctx context.Context, raw, former []byte) []netconf.Fault {
	var p ipam.Pool
	var was *ipam.PoolSpec
	m, faults := netconf.Object(raw, &p.Spec)
	p.Name = m.Name
	faults = append(faults, p.Spec.Validate()...)
	if ipam.AutoPoolOf(m.Annotations) != nil { // which addresses it has, its IPAddresses say
		return faults
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	if former != nil {
		was = &ipam.PoolSpec{}
		netconf.Object(former, was)
		uses, err := h.uses(ctx, p.Name)
		if err != nil {
			faults = append(faults, unchecked("spec.ips", "addresses in use are removed", err))
		}
		faults = append(faults, p.Spec.Change(was.SubnetSpec, uses)...)
	}
	pools, subnets, err := h.pools(ctx)
	if err != nil {
		return append(faults, unchecked("spec.ips", "others have the addresses", err))
	}
	return append(faults, p.Beside(was, pools, subnets)...)
}

// subnet checks a SpiderSubnet. former is what it was before an update, else nil.
func (h *handler) subnet(ctx context.Context, raw, former []byte) []netconf.Fault {
	var s ipam.Subnet
	var was *ipam.SubnetSpec
	m, faults := netconf.Object(raw, &s.Spec)
	s.Name = m.Name
	faults = append(faults, s.Spec.Validate()...)
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	pools, subnets, err := h.pools(ctx)
	if former != nil {
		was = &ipam.SubnetSpec{}
		netconf.Object(former, was)
		var uses []ipam.Use
		if lost := ipam.Without(was.Total(), s.Spec.Total()); err == nil && len(lost.Ranges()) > 0 {
			var reading error
			if uses, reading = h.usesOf(ctx, s, pools); reading != nil {
				faults = append(faults, unchecked("spec.ips", "addresses in use are removed", reading))
			}
		}
		faults = append(faults, s.Spec.Change(*was, uses)...)
	}
	if err != nil {
		return append(faults, unchecked("spec.subnet", "it overlaps with others", err))
	}
	return append(faults, s.Beside(was, subnets, pools)...)
}

// reserved checks a SpiderReservedIP. former is what it was before an update, else nil.
func reserved(raw, former []byte) []netconf.Fault {
	var s, was ipam.ReservedSpec
	_, faults := netconf.Object(raw, &s)
	faults = append(faults, s.Validate()...)
	if former != nil {
		netconf.Object(former, &was)
		faults = append(faults, s.Change(was)...)
	}
	return faults
}

// pools returns all pools and subnets. Whether pools are in use makes no difference here.
func (h *handler) pools(ctx context.Context) (pools []ipam.Pool, subnets []ipam.Subnet, err error) {
	var list v2beta1.SpiderIPPoolList
	if err := h.reader.List(ctx, &list); err != nil {
		return nil, nil, err
	}
	for _, p := range list.Items {
		pools = append(pools, p.Pool(true))
	}
	var subnetList v2beta1.SpiderSubnetList
	if err := h.reader.List(ctx, &subnetList); err != nil {
		return nil, nil, err
	}
	for _, s := range subnetList.Items {
		subnets = append(subnets, s.Subnet())
	}
	return pools, subnets, nil
}

// usesOf returns the addresses that pods have straight from a subnet or by the pools of applications,
// or that are kept for their owners. A pool of another kind says itself which of its addresses stay.
func (h *handler) usesOf(ctx context.Context, s ipam.Subnet, pools []ipam.Pool) ([]ipam.Use, error) {
	out, err := h.uses(ctx, ipam.SubnetPool+s.Name)
	for _, p := range pools {
		if err != nil {
			return nil, err
		}
		if p.Auto != nil && p.Spec.Space() == s.Spec.Space() {
			var more []ipam.Use
			more, err = h.uses(ctx, p.Name)
			out = append(out, more...)
		}
	}
	return out, err
}

// uses returns the addresses of a pool that pods have, or that are kept for their owners: not those that
// an application's pool has to spare.
func (h *handler) uses(ctx context.Context, pool string) ([]ipam.Use, error) {
	var list v1alpha1.IPAddressList
	if err := h.reader.List(ctx, &list, client.MatchingFields{v1alpha1.ByPool: pool}); err != nil {
		return nil, err
	}
	var out []ipam.Use
	for _, a := range list.Items {
		spare := a.Spec.Application != nil && a.IsFree()
		if addr, err := netip.ParseAddr(a.Spec.Address); err == nil && a.InUse() && !spare {
			out = append(out, ipam.Use{Addr: addr, By: a.By()})
		}
	}
	return out, nil
}

// unchecked warns that something couldn't be looked up. The object is taken all the same,
// and the condition Ready says more.
func unchecked(path, what string, err error) netconf.Fault {
	return netconf.Fault{Path: path, Message: "not checked whether " + what + ": " + err.Error(), Warning: true}
}
