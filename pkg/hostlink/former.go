// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// ReadFormer reads the input of Former, beside t.Own: the neighbour entries of addresses
// that an earlier record names and the NIC no longer has.
func ReadFormer(t *plugin.Task, has []netip.Addr) error {
	for _, rec := range recordsWithDevice(&t.View) {
		gone := slices.DeleteFunc(slices.Clone(rec.Addresses), func(a netip.Addr) bool { return slices.Contains(has, a) })
		if len(gone) == 0 || rec.Device == "" {
			continue
		}
		if err := ReadRelease(t.Kernel, t.Snapshot, rec.Device, gone); err != nil {
			return err
		}
	}
	return nil
}

// Former drops objects that earlier records of the attachment name and the plan doesn't
// want: routes and entries for addresses that the NIC no longer has, or on a link that no
// longer leads to it, and the NIC's entries for addresses that the node no longer has. On
// a link that pods share, an address with another MAC belongs to its next owner. A valid
// via is the address of the pod that the node's routes lead through.
func Former(plan *netstate.Plan, v *plugin.View, owner netstate.Protocol, via netip.Addr) {
	const why = "an earlier ADD made it for an address that is gone"
	for _, rec := range recordsWithDevice(v) {
		for _, op := range Release(v.Snapshot, owner, rec.Table, rec.Device, rec.MAC, rec.Addresses, nil) {
			if !plan.Wants(op.NS, op.Before) {
				plan.Drop(op.NS, why, op.Before)
			}
			if r, ok := op.Before.(netstate.Route); ok && via.IsValid() && r.IPv6() == via.Is6() {
				if r.Via = via; !plan.Wants(op.NS, r) {
					plan.Drop(op.NS, why, r)
				}
			}
		}
		for _, n := range rec.Node {
			if entry := (netstate.Neigh{Dev: v.IfName, Dst: n}); !plan.Wants(netstate.Pod, entry) {
				plan.Drop(netstate.Pod, why, entry)
			}
		}
	}
}

// recordsWithDevice returns the attachment's earlier records that name a link of the
// node.
func recordsWithDevice(v *plugin.View) []records.Record {
	if v.Own == nil {
		return nil
	}
	return slices.DeleteFunc(append([]records.Record{*v.Own}, v.Own.Former...), func(r records.Record) bool { return r.Device == "" })
}
