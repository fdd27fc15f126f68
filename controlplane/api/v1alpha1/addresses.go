// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "slices"

// ByPool is the field by which IPAddresses of a pool are selected, in the API server and as
// an index of caches.
const ByPool = "spec.pool"

// InUse reports whether pods have the address, or it is kept for its owner.
func (a *IPAddress) InUse() bool { return a.Spec.State != Quarantined }

// IsFree reports whether nobody has the address, and it isn't kept for an identity: an application's pool has it to spare.
func (a *IPAddress) IsFree() bool {
	return a.Spec.State == Reserved && a.Spec.Identity == nil && len(a.Spec.Holders) == 0
}

// HeldBy reports whether a pod, by the UID that CNI sees, holds the address.
func (a *IPAddress) HeldBy(uid string) bool {
	return slices.ContainsFunc(a.Spec.Holders, func(h Holder) bool { return h.PodUID == uid })
}

// By says in words who has the address.
func (a *IPAddress) By() string {
	switch app := a.Spec.Application; {
	case len(a.Spec.Holders) > 0:
	case a.Spec.Quarantine != nil:
		return "another machine, with MAC " + a.Spec.Quarantine.MAC
	case app != nil:
		return app.Kind + " " + app.Namespace + "/" + app.Name
	default:
		return "its owner"
	}
	h := a.Spec.Holders[0]
	return "pod " + h.Namespace + "/" + h.Pod
}
