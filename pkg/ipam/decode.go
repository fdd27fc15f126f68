// SPDX-License-Identifier: Apache-2.0

package ipam

import "github.com/multihome/multihome/pkg/netconf"

// The kinds that people write.
const (
	SubnetKind   = "SpiderSubnet"
	PoolKind     = "SpiderIPPool"
	ReservedKind = "SpiderReservedIP"

	VLANSubnetKind       = "VLANSubnet"
	VLANSubnetAPIVersion = "staticmacvlan.rancher.com/v1"
)

// Lint returns everything that is wrong with an object of one of these kinds, as JSON, and
// warnings: what the object itself shows, without a look at others.
func Lint(kind string, object []byte) []netconf.Fault {
	switch kind {
	case SubnetKind:
		return lint(object, &SubnetSpec{})
	case PoolKind:
		return lint(object, &PoolSpec{})
	case ReservedKind:
		return lint(object, &ReservedSpec{})
	case VLANSubnetKind:
		var v VLANSubnet
		m, faults := netconf.Object(object, &v.Spec)
		v.Name = m.Name
		return append(faults, v.Validate()...)
	}
	return nil
}

func lint(object []byte, spec interface{ Validate() []netconf.Fault }) []netconf.Fault {
	_, faults := netconf.Object(object, spec)
	return append(faults, spec.Validate()...)
}
