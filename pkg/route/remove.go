// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// observeOwned reads the input of remove: the attachment's record, the node's routes
// and neighbours for the NIC, and the pod if it still exists.
func observeOwned(t *plugin.Task) error {
	list, err := t.Readable(records.BridgeRoutes.Read(t.Pod()))
	if err != nil {
		return err
	}
	for i, rec := range list {
		if rec.IfName == t.IfName {
			t.Own = &list[i]
		}
	}
	if t.Own != nil {
		if err := observeBridge(t); err != nil {
			return err
		}
	}
	if t.Kernel.Pod == nil {
		t.Netns = ""
		return nil
	}
	return t.Kernel.ReadPod(t.Snapshot)
}

// observeBridge reads the node's routes and neighbours for the NIC, and coordinator's
// record, which tells whether coordinator has its neighbours on the same bridge.
func observeBridge(t *plugin.Task) error {
	for _, rec := range append(t.Own.Former, *t.Own) {
		if err := hostlink.ReadRelease(t.Kernel, t.Snapshot, rec.Device, rec.Addresses); err != nil {
			return err
		}
	}
	beside, err := records.NodeRoutes.ReadOne(t.Pod(), t.IfName)
	if err == nil {
		t.Others = append(t.Others, beside)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remover finds the objects that an attachment owns.
type remover struct {
	v   *plugin.View
	ops []netstate.Op
}

// remove returns the operations of DEL. On the node they delete the recorded routes
// and neighbours for the NIC; the bridge stays. In the pod, if it still exists, they
// delete the NIC's rules and tables and move routes back to table main.
func remove(v *plugin.View) []netstate.Op {
	r := &remover{v: v}
	if v.Own != nil {
		for _, rec := range append(v.Own.Former, *v.Own) {
			r.bridge(rec)
		}
	}
	if v.Netns != "" {
		r.sources()
	}
	return r.ops
}

// bridge deletes the objects of a record. If coordinator is chained behind the same
// NIC with the same macvlan, it uses the neighbours, too. Then its DEL deletes them.
func (r *remover) bridge(rec records.Record) {
	var kept []netip.Addr
	for _, beside := range r.v.Others {
		if beside.Device == rec.Device {
			kept = rec.Addresses
		}
	}
	owners := []netstate.Protocol{netstate.ProtoRoute}
	if rec.Proto == 0 {
		owners = append(owners, netstate.ProtoCoordinator) // an earlier version used its number
	}
	for _, owner := range owners {
		r.ops = append(r.ops, hostlink.Release(r.v.Snapshot, owner, rec.Table, rec.Device, rec.MAC, rec.Addresses, kept)...)
	}
	if r.v.Netns == "" || kept != nil {
		return
	}
	for _, n := range rec.Node {
		r.del(netstate.Neigh{Dev: r.v.IfName, Dst: n})
	}
}

func (r *remover) del(o netstate.Object) {
	r.ops = append(r.ops, netstate.Op{NS: pod, Before: o})
}

// sources deletes the rules and tables of the NIC's addresses. Before that it adds
// the moved routes to table main again; it knows them by their foreign protocol.
func (r *remover) sources() {
	var rules []netstate.Rule
	var own []netstate.Route
	for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, pod) {
		isOurs := rule.Proto == netstate.ProtoRoute && rule.Owned() && rule.From.IsValid()
		if !isOurs && !isOlder(r.v, rule) {
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
	// Rules go last: if DEL is killed before, they tell the next DEL which tables are
	// its own.
	for _, rule := range rules {
		r.del(rule)
	}
	for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
		if route.Owned() && r.isOurHint(route) {
			r.del(route)
		}
	}
}

// isOlder reports whether an earlier version of route made a rule for the NIC. That
// version used coordinator's protocol. Two signs tell its rules from coordinator's:
// coordinator makes no rule from an address with priority LatePriority, and its
// tables have routes to the node, by another link or from an address of the NIC.
func isOlder(v *plugin.View, rule netstate.Rule) bool {
	if rule.Proto != netstate.ProtoCoordinator || !rule.Owned() || !rule.From.IsSingleIP() {
		return false
	}
	if rule.Priority == netstate.LatePriority {
		return true
	}
	return owntable.IsOwn(rule, netstate.ProtoCoordinator) && !speaksToNode(v) &&
		!slices.ContainsFunc(netstate.All[netstate.Route](v.Snapshot, pod), func(r netstate.Route) bool {
			return r.Table == rule.Table && r.Dev != v.IfName
		})
}

// speaksToNode reports whether coordinator made a route of table main with an address
// of the NIC as its source. By such routes the pod reaches its node.
func speaksToNode(v *plugin.View) bool {
	return slices.ContainsFunc(netstate.All[netstate.Route](v.Snapshot, pod), func(r netstate.Route) bool {
		return r.Proto == netstate.ProtoCoordinator && r.Table == netstate.TableMain &&
			slices.ContainsFunc(onNIC(v), func(a netip.Prefix) bool { return a.Addr() == r.Src })
	})
}

// slot returns a route's place in its table: the kernel holds one route there.
func slot(r netstate.Route) netstate.Object {
	return netstate.Route{Table: r.Table, Dst: r.Dst, Metric: r.Metric}
}

// routesOf returns the routes by the NIC in a rule's table, if the table is the NIC's
// own.
func (r *remover) routesOf(rule netstate.Rule) []netstate.Route {
	return slices.DeleteFunc(netstate.All[netstate.Route](r.v.Snapshot, pod), func(route netstate.Route) bool {
		return rule.Priority != netstate.FromPriority || route.Table != rule.Table || route.Dev != r.v.IfName ||
			netstate.FamilyOf(route.Dst.Addr()) != rule.Family
	})
}

// isFree reports whether a route can be added to main again: its place is free, and
// its link is up.
func (r *remover) isFree(in netstate.Route) bool {
	l, ok := netstate.Get(r.v.Snapshot, pod, netstate.Link{Name: in.Dev})
	return ok && l.Up && !slices.ContainsFunc(netstate.All[netstate.Route](r.v.Snapshot, pod), func(route netstate.Route) bool {
		return slot(route) == slot(in)
	})
}

// isOurHint reports whether addSourceHints made a route of main.
func (r *remover) isOurHint(route netstate.Route) bool {
	return slices.ContainsFunc(netstate.All[netstate.Addr](r.v.Snapshot, pod), func(a netstate.Addr) bool {
		return a.Dev == r.v.IfName && isHint(route, a.Prefix, a.Dev)
	})
}

// addrs returns the addresses of the attachment's NIC in the record, in prevResult
// and on the link.
func (r *remover) addrs() []netip.Addr {
	var out []netip.Addr
	if r.v.Own != nil {
		out = slices.Clone(r.v.Own.Addresses)
	}
	for _, a := range addresses(r.v) {
		out = append(out, a.Addr())
	}
	for _, a := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		if a.Dev == r.v.IfName {
			out = append(out, a.Prefix.Addr())
		}
	}
	return out
}

// attachments returns the attachments that own something on the node.
func attachments(*plugin.Task) ([]attachment.Attachment, error) {
	list, err := records.BridgeRoutes.Read("")
	var out []attachment.Attachment
	for _, r := range list {
		out = append(out, plugin.AttachmentOf(r))
	}
	return out, err
}

// unused returns the deletion of the network's bridge and of the check of sources, as
// far as nothing needs them any more.
func unused(t *plugin.Task) ([]netstate.Op, error) {
	ops, errBridge := unusedBridge(t)
	var going []string
	for _, op := range ops {
		going = append(going, op.Before.(netstate.Link).Name)
	}
	check, err := hostlink.Unused(t.Kernel, t.Snapshot, going...)
	return append(ops, check...), errors.Join(errBridge, err)
}

// unusedBridge returns the deletion of the network's bridge if a plugin of ours made
// it, removeUnused is set, and neither a pod nor the node itself uses it.
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
	for _, set := range []records.Set{records.BridgeRoutes, records.NodeRoutes} {
		list, err := set.Read("")
		if err != nil { // an unreadable record may be of a pod that uses the bridge
			return nil, err
		}
		if slices.ContainsFunc(list, func(r records.Record) bool { return r.Device == l.Name }) {
			return nil, nil
		}
	}
	if err := t.Kernel.Host.ReadCarried(snap, l.Name); err != nil {
		return nil, err
	}
	if len(netstate.All[netstate.Addr](snap, host))+len(netstate.All[netstate.Route](snap, host)) > 0 {
		return nil, nil
	}
	return []netstate.Op{{NS: host, Before: l, Why: "nothing uses it any more"}}, nil
}
