// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

// refuseNodes returns an error if the attachment's NIC has an address that its node has
// on any link: the node would keep every packet to it.
func (v *View) refuseNodes() error {
	for _, a := range netstate.All[netstate.Addr](v.Snapshot, netstate.Pod) {
		addr := a.Prefix.Addr()
		if a.Dev != v.IfName || addr.Is6() && addr.IsLinkLocalUnicast() {
			continue
		}
		for _, n := range netstate.All[netstate.Addr](v.Snapshot, netstate.Host) {
			if n.Prefix.Addr() == addr {
				return fmt.Errorf("host: addr %s dev %s is the node's own: link %s of the pod can't have it", addr, n.Dev, v.IfName)
			}
		}
	}
	return nil
}

// refuseTables returns an error if a rule of ours that the node lacks would lead its own traffic by
// routes that somebody else has in the rule's table. If the rule is there, it reads nothing.
func (t *Task) refuseTables(ops []netstate.Op) error {
	for _, op := range ops {
		rule, ok := op.After.(netstate.Rule)
		if !ok || op.NS != netstate.Host || op.Before != nil || !rule.Owned() {
			continue
		}
		table := netstate.NewSnapshot()
		if err := t.Kernel.Host.ReadRoutes(table, rule.Family, rule.Table, nil); err != nil {
			return err
		}
		for _, r := range netstate.All[netstate.Route](table, netstate.Host) {
			if !r.Owned() && !r.Dst.IsSingleIP() {
				return fmt.Errorf("host: table %d is in use: %s: the rule at priority %d would lead the node's own traffic by it: set hostRuleTable to a table that is free on all nodes",
					rule.Table, r, rule.Priority)
			}
		}
	}
	return nil
}

// diff returns the operations that lead to the plan. It returns an error if one of them
// would take a route or neighbour entry from another pod that still has the address. If
// the link is a pod's own, [netstate.Diff] reports a [netstate.Conflict] instead of
// operations, and the link tells the pod. If pods share the link, or another CNI made it,
// the records tell the pod. diff takes over routes and entries of a pod that no longer
// has the address, even before that pod's DEL.
func (t *Task) diff(plan netstate.Plan) ([]netstate.Op, error) {
	former := map[netip.Addr]attachment.Attachment{}
	for _, have := range t.inherited(plan) {
		owner, holds, unknown := t.otherOwner(have.Dst)
		if holds {
			return nil, fmt.Errorf("host: %s belongs to link %s of container %s in network %s: %s leads to it",
				have.Dst, owner.IfName, owner.ContainerID, owner.Network, netstate.Words(have))
		}
		if unknown != nil {
			return nil, unknown
		}
		if owner != nil {
			former[have.Dst] = AttachmentOf(*owner)
		}
	}
	for {
		ops, err := netstate.Diff(plan, t.Snapshot)
		conflict := (*netstate.Conflict)(nil)
		if errors.As(err, &conflict) {
			ops = []netstate.Op{{NS: conflict.NS, Before: conflict.Have, After: conflict.Want}}
		}
		known := true
		for _, op := range ops {
			addr, by := t.moved(op)
			if by == nil {
				continue
			}
			owner, holds, unknown := t.otherOwner(addr)
			if holds {
				return nil, fmt.Errorf("%s: %s belongs to link %s of container %s in network %s: %s is in the way of %s",
					op.NS, addr, owner.IfName, owner.ContainerID, owner.Network, netstate.Words(by), op.After)
			}
			if owner != nil {
				former[addr] = AttachmentOf(*owner)
			}
			if err == nil {
				err = unknown
			}
			known = known && unknown == nil
		}
		if conflict == nil {
			if err != nil {
				return nil, err
			}
			t.former = former
			for addr, a := range former {
				t.Log.Warn("address taken over: its former pod no longer has it", "addr", addr, "ofNetwork", a.Network, "ofContainer", a.ContainerID, "ofIfname", a.IfName)
			}
			return ops, nil
		}
		link, _ := conflict.Link.(netstate.Link)
		addr, by := t.moved(ops[0])
		if by == nil || link.Name == "" {
			return nil, err
		}
		holds := !known // if pods share the link, only records can tell
		if link.Type == "veth" {
			var e error
			if holds, e = t.Kernel.Host.FarHolds(link.Name, addr); e != nil {
				return nil, errors.Join(err, e)
			}
			if a, ok := attachment.ParseAlias(link.Alias); ok {
				former[addr] = a
			}
		}
		if holds {
			return nil, err
		}
		t.Snapshot.Free(conflict.NS, conflict.Have)
	}
}

// inherited returns the neighbour entries of the plan that are there although the
// attachment has noted nothing of their addresses: another pod had the same address
// and the same MAC, on a link that pods share.
func (v *View) inherited(plan netstate.Plan) []netstate.Neigh {
	var out []netstate.Neigh
	for _, item := range plan.Present {
		want, isNeigh := item.Object.(netstate.Neigh)
		if !isNeigh || item.NS != netstate.Host || v.Own != nil && v.Own.Has(want.Dst) {
			continue
		}
		link, _ := netstate.Get(v.Snapshot, netstate.Host, netstate.Link{Name: want.Dev})
		if a, ok := attachment.ParseAlias(link.Alias); ok && a.SamePod(v.Attachment) {
			continue // the pod's own link
		}
		if have, ok := netstate.Get(v.Snapshot, netstate.Host, want); ok && have.Permanent && have.MAC == want.MAC {
			out = append(out, have)
		}
	}
	return out
}

// disown removes the addresses that were taken over from the records of their former
// pods, if the attachment's record doesn't differ from theirs: those pods' DEL comes later,
// and would take the address away.
func (t *Task) disown(own *records.Record) error {
	var errs []error
	for addr, a := range t.former {
		for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes} {
			errs = append(errs, set.Disown(a.Pod(), a.IfName, addr, own.Device, own.MAC))
		}
	}
	return errors.Join(errs...)
}

// moved returns the address that an operation leads elsewhere on the node, and the object
// that leads to it now; nil if the operation moves no address. A new neighbour entry
// moves an address if there is a route to it already: a bridge loses all entries, even
// permanent ones, when a port gives it another MAC (neigh_changeaddr in
// net/core/neighbour.c).
func (v *View) moved(op netstate.Op) (addr netip.Addr, by netstate.Object) {
	if op.NS != netstate.Host || op.After == nil {
		return addr, nil
	}
	after, isNeigh := op.After.(netstate.Neigh)
	switch before := op.Before.(type) {
	case netstate.Route:
		if before.Dst.IsSingleIP() && before.Dev != op.After.Device() {
			return before.Dst.Addr(), before
		}
	case netstate.Neigh:
		if isNeigh && before.Permanent && before.MAC != after.MAC {
			return before.Dst, before
		}
	case nil:
		if !isNeigh {
			return addr, nil
		}
		for _, r := range netstate.All[netstate.Route](v.Snapshot, netstate.Host) {
			if r.Dst == netstate.Single(after.Dst) {
				return after.Dst, r
			}
		}
	}
	return addr, nil
}

// otherOwner returns another pod's record that names the address, nil if there is none,
// and reports whether that pod still has the address. An address of a dead pod is free,
// even before the pod's DEL.
func (t *Task) otherOwner(addr netip.Addr) (former *records.Record, holds bool, err error) {
	var errs []error
	own := t.Kernel.PodNetns(t.Netns)
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes} {
		list, err := set.Read("")
		errs = append(errs, err)
		for _, r := range list {
			if r.ContainerID == t.ContainerID || !r.Has(addr) {
				continue
			}
			former = &r
			if r.Netns.Inode == own.Inode {
				continue // the record's namespace is this pod's by now
			}
			holds, err := t.Kernel.StillHas(r.Netns, addr)
			if holds {
				return &r, true, nil
			}
			errs = append(errs, err)
		}
	}
	return former, false, errors.Join(errs...)
}
