// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
	"github.com/multihome/multihome/pkg/plugin"
)

// remover finds what an attachment owns.
type remover struct {
	t   *plugin.Task
	ops []netstate.Op
	own kernel.Record // of this attachment, if there is one
}

// remove returns what DEL deletes: by its record, what leads to the NIC by the
// bridge, which stays; and in the pod, if that is still there, the NIC's rules and
// tables, out of which main gets back what it had.
func remove(t *plugin.Task) ([]netstate.Op, error) {
	r := &remover{t: t}
	records, err := t.Readable(kernel.BridgeRoutes.Read(t.Pod()))
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if attachmentOf(rec).IfName == t.IfName {
			r.own = rec
		}
	}
	if r.own.Device != "" {
		r.ops, err = hostlink.Release(t.Kernel, t.Snapshot, r.own.Table, r.own.Device, r.own.MAC, r.own.Addresses)
	}
	if t.Kernel.Pod == nil {
		return r.ops, err
	}
	if e := t.Kernel.ReadPod(t.Snapshot); e != nil {
		return r.ops, errors.Join(err, e)
	}
	for _, n := range r.own.Node {
		r.del(netstate.Neigh{Dev: t.IfName, Dst: n})
	}
	r.sources()
	return r.ops, err
}

func attachmentOf(r kernel.Record) plugin.Attachment {
	return plugin.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}

func (r *remover) del(o netstate.Object) {
	r.ops = append(r.ops, netstate.Op{NS: pod, Before: o})
}

// sources is what is there for the NIC's addresses. Main gets its routes back
// before their tables go; what was moved still has its own protocol.
func (r *remover) sources() {
	var rules []netstate.Rule
	var own []netstate.Route
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
		if !rule.Owned() || rule.Priority != owntable.Priority && rule.Priority != tablePrio || !rule.From.IsValid() {
			continue
		}
		routes := r.routesOf(rule)
		if len(routes) > 0 || slices.Contains(r.addrs(), rule.From.Addr()) {
			rules, own = append(rules, rule), append(own, routes...)
		}
	}
	own = gatewaysLast(own)
	back := map[netstate.Object]bool{}
	for _, route := range own {
		in := route
		in.Table = netstate.TableMain
		if !route.Owned() && !back[slot(in)] && r.isFree(in) {
			back[slot(in)] = true
			r.ops = append(r.ops, netstate.Op{NS: pod, After: in})
		}
	}
	for _, route := range slices.Backward(own) {
		r.del(route)
	}
	// Last, for they tell whose the tables are, if DEL is killed before.
	for _, rule := range rules {
		r.del(rule)
	}
	for _, route := range netstate.All[netstate.Route](r.t.Snapshot, pod) {
		if route.Owned() && r.isOurHint(route) {
			r.del(route)
		}
	}
}

// slot is what the kernel takes one route for.
func slot(r netstate.Route) netstate.Object {
	return netstate.Route{Table: r.Table, Dst: r.Dst, Metric: r.Metric}
}

// routesOf returns what a rule's table has by the NIC, if the table is the NIC's
// own.
func (r *remover) routesOf(rule netstate.Rule) []netstate.Route {
	return slices.DeleteFunc(netstate.All[netstate.Route](r.t.Snapshot, pod), func(route netstate.Route) bool {
		return rule.Priority != owntable.Priority || route.Table != rule.Table || route.Dev != r.t.IfName ||
			netstate.FamilyOf(route.Dst.Addr()) != rule.Family
	})
}

// isFree reports whether main can have a route again: nothing else is in its
// place, and its link is up.
func (r *remover) isFree(in netstate.Route) bool {
	l, ok := netstate.Get(r.t.Snapshot, pod, netstate.Link{Name: in.Dev})
	return ok && l.Up && !slices.ContainsFunc(netstate.All[netstate.Route](r.t.Snapshot, pod), func(route netstate.Route) bool {
		return slot(route) == slot(in)
	})
}

// isOurHint reports whether a route of main is one that addSourceHints made.
func (r *remover) isOurHint(route netstate.Route) bool {
	return slices.ContainsFunc(netstate.All[netstate.Addr](r.t.Snapshot, pod), func(a netstate.Addr) bool {
		return a.Dev == r.t.IfName && isHint(route, a.Prefix, a.Dev)
	})
}

// addrs returns the addresses of the attachment's NIC: of the record, of
// prevResult and of the link, as far as they are there.
func (r *remover) addrs() []netip.Addr {
	out := slices.Clone(r.own.Addresses)
	if r.t.Prev != nil {
		for _, a := range addresses(&r.t.View) {
			out = append(out, a.Addr())
		}
	}
	for _, a := range netstate.All[netstate.Addr](r.t.Snapshot, pod) {
		if a.Dev == r.t.IfName {
			out = append(out, a.Prefix.Addr())
		}
	}
	return out
}

// attachments returns those that own something on the node.
func attachments(*plugin.Task) ([]plugin.Attachment, error) {
	records, err := kernel.BridgeRoutes.Read("")
	var out []plugin.Attachment
	for _, r := range records {
		out = append(out, attachmentOf(r))
	}
	return out, err
}

// unused returns what nobody needs any more: the network's bridge, and the check
// of sources.
func unused(t *plugin.Task) ([]netstate.Op, error) {
	ops, errBridge := unusedBridge(t)
	var going []string
	for _, op := range ops {
		going = append(going, op.Before.(netstate.Link).Name)
	}
	check, err := hostlink.Unused(t.Kernel, t.Snapshot, going...)
	return append(ops, check...), errors.Join(errBridge, err)
}

// unusedBridge returns the network's bridge, if one of ours made it, the
// configuration lets it go, and neither a pod nor the node itself uses it.
func unusedBridge(t *plugin.Task) ([]netstate.Op, error) {
	conf, err := Load(t.Keys)
	if err != nil {
		return nil, err
	}
	c := conf.(*Config)
	if !c.RemoveUnused {
		return nil, nil
	}
	snap := netstate.NewSnapshot()
	if err := c.Bridge.Look(t.Kernel, snap); err != nil {
		return nil, err
	}
	l, ok := c.Bridge.Find(snap)
	if !ok || !c.Bridge.Made(l) {
		return nil, nil
	}
	for _, set := range []kernel.Records{kernel.BridgeRoutes, kernel.NodeRoutes} {
		records, err := set.Read("")
		if err != nil { // who knows what it uses
			return nil, err
		}
		if slices.ContainsFunc(records, func(r kernel.Record) bool { return r.Device == l.Name }) {
			return nil, nil
		}
	}
	if err := t.Kernel.Host.ReadOn(snap, l.Name); err != nil {
		return nil, err
	}
	if len(netstate.All[netstate.Addr](snap, host))+len(netstate.All[netstate.Route](snap, host)) > 0 {
		return nil, nil
	}
	return []netstate.Op{{NS: host, Before: l, Why: "nothing uses it any more"}}, nil
}
