// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
)

// Owner is a StatefulSet or a virtual machine, as the API server has it.
type Owner struct {
	Gone bool
	UID  string // "" if it isn't known, as of an instance without a virtual machine
	// The ordinals of a StatefulSet: Replicas of them, from Start on.
	Start, Replicas int32
}

// Pod is a pod of an identity that has a claim.
type Pod struct {
	Identity *v1alpha1.Owner
	Runs     bool     // with all that the claim gives it
	NICs     []string // that get addresses by the claim
	// Addresses that the claim has for each NIC.
	Addresses map[string][]netip.Addr
}

// Observed is what is known about an owner of identities.
type Observed struct {
	Owner     Owner
	Addresses []v1alpha1.IPAddress // of its identities
	Policies  map[string]Policy    // by pool
	Pods      []Pod
}

// Decide returns the addresses whose identity is over: those that nobody holds, of an ordinal
// or an owner that isn't there any more, or of a NIC that its pods don't have any more, or that has
// another address.
func Decide(o Observed) []*v1alpha1.IPAddress {
	var out []*v1alpha1.IPAddress
	for i := range o.Addresses {
		a := &o.Addresses[i]
		if a.Spec.State == v1alpha1.Reserved && len(a.Spec.Holders) == 0 && (o.over(a) || dropped(a.Spec.Identity, o.Pods) || replaced(a, o.Pods)) {
			out = append(out, a)
		}
	}
	return out
}

// over reports whether an address is free by the policy of its pool.
func (o Observed) over(a *v1alpha1.IPAddress) bool {
	id, policy := a.Spec.Identity, o.Policies[a.Spec.Pool]
	switch {
	case o.Owner.Gone, Another(id.UID, o.Owner.UID):
		return !policy.RetainDeleted
	case id.Ordinal == nil:
		return false
	}
	n := int64(*id.Ordinal) - int64(o.Owner.Start)
	return (n < 0 || n >= int64(o.Owner.Replicas)) && !policy.RetainScaled
}

// dropped reports whether the pods of an identity run without its NIC, whatever the policy.
func dropped(id *v1alpha1.Owner, pods []Pod) bool {
	mine := slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return !Same(p.Identity, id) })
	return len(mine) > 0 && !slices.ContainsFunc(mine, func(p Pod) bool { return !p.Runs || slices.Contains(p.NICs, id.Interface) })
}

// replaced reports whether a pod of an address's identity runs with another one. A write that came late
// took the address, when the pod had that already.
func replaced(a *v1alpha1.IPAddress, pods []Pod) bool {
	return slices.ContainsFunc(pods, func(p Pod) bool { return p.Runs && Same(p.Identity, a.Spec.Identity) && p.hasAnother(a) })
}

// hasAnother reports whether the pod has another address for the NIC and of the family of one.
func (p Pod) hasAnother(a *v1alpha1.IPAddress) bool {
	addr, err := netip.ParseAddr(a.Spec.Address)
	return err == nil && slices.ContainsFunc(p.Addresses[a.Spec.Identity.Interface], func(other netip.Addr) bool {
		return other.Is4() == addr.Is4() && other != addr
	})
}

// Freed returns an address as it is without its identity; nil: deleted. One in the pool of an
// application stays there.
func Freed(a *v1alpha1.IPAddress) *v1alpha1.IPAddress {
	if a.Spec.Application == nil {
		return nil
	}
	next := a.DeepCopy()
	next.Spec.Identity = nil
	return next
}
