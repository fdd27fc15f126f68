// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"slices"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

// known holds all that is known of a pod. From it stale decides what is stale.
type known struct {
	plans []planned
	noted []note
	// vague is set if the pod may have attachments that are neither in plans nor in
	// noted, or if plans may be of an old configuration.
	vague bool
	pod   *netstate.Snapshot // of the pod
}

// planned is an attachment whose plan is known.
type planned struct {
	attachment.Attachment
	by   records.Set // of its plugin
	plan netstate.Plan
}

// note is an attachment that owns something on the node, according to a record or to
// the alias of a link.
type note struct {
	attachment.Attachment
	by   records.Set // of its plugin
	gone bool        // the pod is dead
}

// stale returns the deletion of stale objects: rules and routes of ours in the pod that
// no plan wants. It returns nothing while the plan of an attachment of the pod is
// unknown. Not every attachment is noted. So an object is stale only if each of its
// links is the NIC of a planned attachment or the device of a planned route.
//
// A default route of main is never stale: it may replace that of a NIC that was
// unplugged.
func (k known) stale() []netstate.Op {
	if k.vague || slices.ContainsFunc(k.noted, func(n note) bool { return !k.has(n) }) {
		return nil
	}
	wanted := map[netstate.Object]bool{}
	theirs := map[string]bool{}
	for _, a := range k.plans {
		theirs[a.IfName] = true
		for _, item := range a.plan.Present {
			if item.NS != netstate.Pod {
				continue
			}
			wanted[item.Object.Key()] = true
			if r, ok := item.Object.(netstate.Route); ok && mayGo(r) {
				theirs[r.Dev] = true
			}
		}
	}
	var ops []netstate.Op
	drop := func(o netstate.Object, about ...string) {
		unknown := slices.ContainsFunc(about, func(dev string) bool { return !theirs[dev] })
		if !unknown && !wanted[o.Key()] {
			ops = append(ops, netstate.Op{NS: netstate.Pod, Before: o, Why: "no attachment wants it any more"})
		}
	}
	for _, r := range netstate.All[netstate.Rule](k.pod, netstate.Pod) {
		if r.Owned() {
			drop(r, k.linksOf(r)...)
		}
	}
	for _, r := range netstate.All[netstate.Route](k.pod, netstate.Pod) {
		if mayGo(r) {
			drop(r, r.Dev)
		}
	}
	return ops
}

// has reports whether the plan of a noted attachment is known.
func (k known) has(n note) bool {
	return slices.ContainsFunc(k.plans, func(a planned) bool { return a.by == n.by && a.Same(n.Attachment) })
}

// mayGo reports whether a route of the pod may be stale.
func mayGo(r netstate.Route) bool {
	return r.Owned() && (r.Table != netstate.TableMain || r.Dst.Bits() > 0)
}

// linksOf returns the links of a rule: the link with the address that the rule is from,
// or else the links of the routes in its table. If there are none, the rule may be about
// any link of the pod, so it returns all of them.
func (k known) linksOf(rule netstate.Rule) (out []string) {
	for _, a := range netstate.All[netstate.Addr](k.pod, netstate.Pod) {
		if rule.From == netstate.Single(a.Prefix.Addr()) {
			out = append(out, a.Dev)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, r := range netstate.All[netstate.Route](k.pod, netstate.Pod) {
		if r.Table == rule.Table && netstate.FamilyOf(r.Dst.Addr()) == rule.Family {
			out = append(out, r.Dev)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, l := range netstate.All[netstate.Link](k.pod, netstate.Pod) {
		if l.Name != "lo" {
			out = append(out, l.Name)
		}
	}
	return out
}
