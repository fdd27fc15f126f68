// SPDX-License-Identifier: Apache-2.0

package v2beta1

import "github.com/multihome/multihome/pkg/ipam"

// Pool returns the object as the pure functions take it. inUse says whether addresses of it
// are in use.
func (p *SpiderIPPool) Pool(inUse bool) ipam.Pool {
	return ipam.Pool{
		Name: p.Name, UID: string(p.UID), Created: p.CreationTimestamp.Time, Deleting: !p.DeletionTimestamp.IsZero(),
		InUse: inUse, Spec: p.Spec, Inherited: p.Status.Inherited, Auto: ipam.AutoPoolOf(p.Annotations),
	}
}

// Subnet returns the object as the pure functions take it.
func (s *SpiderSubnet) Subnet() ipam.Subnet {
	return ipam.Subnet{
		Name: s.Name, UID: string(s.UID), Created: s.CreationTimestamp.Time, Deleting: !s.DeletionTimestamp.IsZero(), Spec: s.Spec,
	}
}
