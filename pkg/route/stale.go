// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// stale plans the deletion of objects that an earlier ADD made for addresses that the
// NIC or the node no longer has. On the node it finds them by the record. In the pod it
// finds the rules from such addresses, and their tables.
func (b *builder) stale() {
	const why = "an earlier ADD made it for an address that is gone"
	hostlink.Former(&b.plan, b.v, netstate.ProtoRoute, netip.Addr{})
	for _, rule := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if rule.Proto != netstate.ProtoRoute || !rule.Owned() || !rule.From.IsSingleIP() || !owntable.IsFormer(b.v.Snapshot, rule) || b.plan.Wants(pod, rule) {
			continue
		}
		if rule.Priority == netstate.FromPriority && b.hasOtherNIC(rule.Table) {
			continue
		}
		b.plan.Drop(pod, why, rule)
		for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
			if rule.Priority == netstate.FromPriority && r.Table == rule.Table && r.Dev == b.v.IfName && !b.plan.Wants(pod, r) {
				b.plan.Drop(pod, why, r)
			}
		}
	}
}

// hasOtherNIC reports whether a table has a route by another NIC.
func (b *builder) hasOtherNIC(table int) bool {
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		if r.Table == table && r.Dev != b.v.IfName {
			return true
		}
	}
	return false
}
