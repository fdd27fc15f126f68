// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// adverts.go keeps router advertisements from giving a pod's default route to a NIC that
// shall not have it. The kernel puts a default route into main for each router that
// advertises itself, with the same metric by every NIC, and makes it anew after it was
// deleted. So these NICs have another metric for such routes: ra_defrtr_metric, or, on
// kernels before Linux 5.12, they have no such routes at all: accept_ra_defrtr
// (ndisc_router_discovery in net/ipv6/ndisc.c).

func advertMetric(nic string) netstate.Sysctl {
	return netstate.Sysctl{Family: netstate.IPv6, Dev: nic, Name: "ra_defrtr_metric", Value: netstate.RAMetric}
}

func acceptsAdverts(nic string) netstate.Sysctl {
	return netstate.Sysctl{Family: netstate.IPv6, Dev: nic, Name: "accept_ra_defrtr", Value: 0}
}

// readAdverts puts the settings of NICs into the snapshot. Of a kernel that has
// ra_defrtr_metric it leaves out accept_ra_defrtr, which tells the plan so.
func readAdverts(t *plugin.Task, nics ...string) {
	for _, nic := range nics {
		for _, set := range []netstate.Sysctl{advertMetric(nic), acceptsAdverts(nic)} {
			if value, ok := t.Kernel.Pod.Known(set); ok {
				set.Value = value
				t.Snapshot.Put(pod, set)
				break
			}
		}
	}
}

// restoreAdverts gives a NIC the kernel's own setting if it has the one of ADD: the NIC has
// the pod's default route again, or stays without coordinator.
func (r *remover) restoreAdverts(nic string) {
	for _, set := range []netstate.Sysctl{advertMetric(nic), acceptsAdverts(nic)} {
		if have, ok := netstate.Get(r.v.Snapshot, pod, set); !ok || have != set {
			continue
		}
		after := set
		after.Value = netstate.RAMetric / 2
		if set == acceptsAdverts(nic) {
			after.Value = 1
		}
		r.ops = append(r.ops, netstate.Op{NS: pod, Before: set, After: after})
	}
}

// yield removes a NIC's default routes from main, and wants those of router advertisements
// to come after the other NICs'.
func (b *builder) yield(f netstate.Family, nic string) {
	if f == netstate.IPv6 {
		b.yieldAdverts(nic)
	}
	for _, r := range b.routes(f, func(r netstate.Route) bool {
		return r.Table == netstate.TableMain && r.Dev == nic && r.Dst.Bits() == 0 && !r.LosesDefault()
	}) {
		const why = "it is in its NIC's own table"
		beside := func(o netstate.Route) bool {
			return o.Table == r.Table && o.Dst == r.Dst && o.Metric == r.Metric && o != r
		}
		if r.Proto == netstate.ProtoRA && len(b.routes(f, beside)) > 0 {
			b.plan.Drop(pod, why, r) // the kernel put it beside another one, which we can't
		} else {
			b.plan.Unwant(pod, why, r)
		}
	}
}

// yieldAdverts wants the setting by which default routes of router advertisements lose. An
// old kernel makes none any more, so the NIC's own table must have one by then: without
// it, the next ADD sets it.
func (b *builder) yieldAdverts(nic string) {
	const why = "router advertisements don't take the default route from the NIC that has it"
	if _, old := netstate.Get(b.v.Snapshot, pod, acceptsAdverts(nic)); !old {
		b.plan.Want(pod, why, advertMetric(nic))
		return
	}
	inOwn := func(i netstate.Item) bool {
		r, ok := i.Object.(netstate.Route)
		return ok && i.NS == pod && r.Dev == nic && r.IPv6() && r.Dst.Bits() == 0 && r.Table != netstate.TableMain
	}
	if slices.ContainsFunc(b.plan.Present, inOwn) {
		b.plan.Want(pod, why, acceptsAdverts(nic))
	}
}
