// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Record returns the NIC's addresses, the place of the node's routes to them, and the MAC
// that the NIC had. The first NIC of a pod with a veth to its node needs no record of
// routes: they hang on the host end, and its alias names the attachment.
func (c *Config) Record(v *plugin.View, plan netstate.Plan) *records.Record {
	r := &records.Record{MACs: macs(v, plan)}
	if !c.named(v).leadsBeyond(v) {
		if r.MACs == nil {
			return nil
		}
		return r
	}
	r.Table = c.HostRuleTable
	for _, item := range plan.Present {
		if n, ok := item.Object.(netstate.Neigh); ok && item.NS == host {
			r.Device, r.MAC = n.Dev, n.MAC.String()
			r.Addresses = append(r.Addresses, n.Dst)
		}
	}
	return r
}

// leadsBeyond reports whether the node has objects for the NIC that don't go with a link
// of the pod's own.
func (c *Config) leadsBeyond(v *plugin.View) bool {
	return !c.OnlyMAC && (v.IfName != c.PodDefaultNIC || c.HostLink == keys.LinkMacvlan)
}

// macs returns the NIC's MAC before and after ADD. It returns an earlier record's, or
// nil, if the plan doesn't change the MAC.
func macs(v *plugin.View, plan netstate.Plan) *records.MACs {
	nic, _ := netstate.Get(v.Snapshot, pod, netstate.Link{Name: v.IfName})
	before := nic.MAC.String()
	var noted *records.MACs
	if v.Own != nil {
		noted = v.Own.MACs
	}
	if noted != nil && noted.After == before {
		before = noted.Before // an earlier ADD changed it
	}
	for _, item := range plan.Present {
		if l, ok := item.Object.(netstate.Link); ok && item.NS == pod && l.Name == v.IfName && l.MAC != (netstate.MAC{}) && l.MAC.String() != before {
			return &records.MACs{Before: before, After: l.MAC.String()}
		}
	}
	return noted
}

// observeOwned reads the input of remove: the records of the attachment and of the pod's
// other attachments, the host end, the pod if its namespace still exists and is its own,
// and the node's objects for the NIC on links that stay.
func observeOwned(t *plugin.Task) error {
	list, err := t.Readable(records.NodeRoutes.Read(t.Pod()))
	if err != nil {
		return err // an unread record may be of an attachment that needs the shared objects
	}
	for i, rec := range list {
		if rec.IfName == t.IfName {
			t.Own = &list[i]
		} else {
			t.Others = append(t.Others, rec)
		}
	}
	if err := t.Kernel.Host.ReadLink(t.Snapshot, attachment.HostEnd(t.ContainerID)); err != nil {
		return err
	}
	if err := surveyPod(t); err != nil {
		return err
	}
	return surveyHost(t, newRemover(&t.View))
}

// surveyPod reads the pod into the snapshot, unless its namespace is gone or is another
// pod's.
func surveyPod(t *plugin.Task) error {
	onNode := t.Snapshot.Clone()
	if t.Kernel.Pod == nil {
		t.Netns = ""
		return nil
	}
	if err := t.Kernel.ReadPod(t.Snapshot); err != nil {
		return err
	}
	for _, l := range netstate.All[netstate.Link](t.Snapshot, pod) {
		readAdverts(t, l.Name)
	}
	own, err := isOwnPod(t)
	if !own {
		t.Snapshot, t.Netns = onNode, ""
	}
	return err
}

// isOwnPod reports whether the namespace is the pod's own. It is another pod's if the
// record names another namespace, or if the host end of its veth0 has another pod's
// alias.
func isOwnPod(t *plugin.Task) (bool, error) {
	if t.Own != nil && t.Own.Netns != t.Kernel.PodNetns(t.Own.Netns.Path) {
		return false, nil
	}
	if err := t.Kernel.ReadPeer(t.Snapshot, podEnd); err != nil {
		return false, err
	}
	veth, _ := netstate.Get(t.Snapshot, pod, netstate.Link{Name: podEnd})
	end, _ := netstate.Get(t.Snapshot, host, netstate.Link{Name: veth.Peer.Name})
	a, ours := attachment.ParseAlias(end.Alias)
	return !ours || a.SamePod(t.Attachment), nil
}

// surveyHost reads the node's objects for the NIC on links that stay.
func surveyHost(t *plugin.Task, r *remover) error {
	if (t.Own == nil || t.Own.Device == "") && r.end.Name != "" && len(r.others) > 0 { // leads finds the tables by the rules
		for _, f := range families {
			if err := t.Kernel.Host.ReadRules(t.Snapshot, f); err != nil {
				return err
			}
		}
	}
	for _, l := range r.leads() {
		if err := hostlink.ReadRelease(t.Kernel, t.Snapshot, l.device, l.addrs); err != nil {
			return err
		}
	}
	return nil
}

// remover finds the objects that an attachment owns.
type remover struct {
	v      *plugin.View
	ops    []netstate.Op
	others []attachment.Attachment // the pod's other attachments
	end    netstate.Link           // the host end, if the pod has one
}

// newRemover finds the pod's host end and its other attachments. The host end's alias
// names one attachment; records name the others.
func newRemover(v *plugin.View) *remover {
	r := &remover{v: v}
	for _, rec := range v.Others {
		if rec.Device != "" { // a record without a device is about a MAC only
			r.others = append(r.others, plugin.AttachmentOf(rec))
		}
	}
	l, _ := netstate.Get(v.Snapshot, host, netstate.Link{Name: attachment.HostEnd(v.ContainerID)})
	if a, ours := attachment.ParseAlias(l.Alias); ours && a.SamePod(v.Attachment) {
		r.end = l
		if a.IfName != v.IfName && !slices.ContainsFunc(r.others, a.Same) {
			r.others = append(r.others, a)
		}
	}
	return r
}

// remove returns the operations of DEL. For the pod's last attachment it deletes the host
// end, which takes its far end, its routes and its neighbours along, and every rule,
// table and mark of coordinator's in the pod. Otherwise it deletes this NIC's own
// objects, and the other NICs keep working. The rule that looks up the host table serves
// all pods and stays.
func remove(v *plugin.View) []netstate.Op {
	r := newRemover(v)
	if len(r.others) == 0 {
		r.everything()
	} else {
		r.thisNIC()
	}
	r.restoreMAC()
	r.hostRoutes()
	return r.ops
}

// del adds the deletion of an object.
func (r *remover) del(ns netstate.NS, o netstate.Object) {
	r.ops = append(r.ops, netstate.Op{NS: ns, Before: o})
}

// isOurs reports whether coordinator made a rule or route.
func isOurs(o netstate.Object) bool {
	switch o := o.(type) {
	case netstate.Rule:
		return o.Proto == netstate.ProtoCoordinator && o.Owned()
	case netstate.Route:
		return o.Proto == netstate.ProtoCoordinator
	}
	return false
}

// everything deletes all that coordinator made for the pod.
func (r *remover) everything() {
	if r.v.Netns != "" {
		r.restoreDefaults()
		tables := map[int]bool{}
		var rules []netstate.Rule
		for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, pod) {
			if isOurs(rule) {
				rules = append(rules, rule)
				tables[rule.Table] = true
			}
		}
		var routes []netstate.Route
		for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
			if route.Dev != podEnd && (isOurs(route) || tables[route.Table] && r.isCopy(route)) {
				routes = append(routes, route)
			}
		}
		r.delAll(routes, rules)
		r.del(pod, netstate.Mark{})
		for _, f := range families {
			r.del(pod, netstate.Mark{Backend: netstate.Iptables, Family: f})
		}
	}
	if r.end.Name != "" {
		r.del(host, r.end)
	}
}

// delAll deletes routes and rules of the pod. Neighbours go before the routes that lead
// to them, and routes before the rules of their tables. If DEL is killed, the remaining
// routes and rules tell the next DEL which neighbours and tables are ours.
func (r *remover) delAll(routes []netstate.Route, rules []netstate.Rule) {
	for _, route := range routes {
		isNode := route.Table == netstate.TableMain && route.Dst.IsSingleIP() && !route.Via.IsValid()
		if isNode && isOurs(route) {
			r.del(pod, netstate.Neigh{Dev: route.Dev, Dst: route.Dst.Addr()})
		}
	}
	for _, route := range routes {
		r.del(pod, route)
	}
	for _, rule := range rules {
		r.del(pod, rule)
	}
}

// thisNIC deletes the objects of this NIC while the pod has others.
func (r *remover) thisNIC() {
	if a, ok := attachment.ParseAlias(r.end.Alias); ok && a.IfName == r.v.IfName {
		after := r.end
		after.Alias = r.others[0].Alias()
		r.ops = append(r.ops, netstate.Op{NS: host, Before: r.end, After: after})
	}
	if r.v.Netns == "" {
		return
	}
	r.restoreDefaults()
	addrs, tables := r.addrs(), r.tables()
	var rules []netstate.Rule
	var routes []netstate.Route
	for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, pod) {
		if isOurs(rule) && (tables[rule.Table] || r.isLastOf(rule.Family)) {
			rules = append(rules, rule)
		}
	}
	for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
		switch {
		case tables[route.Table] && (isOurs(route) || r.isCopy(route)), isOurs(route) && route.Dev == r.v.IfName:
			routes = append(routes, route)
		case isOurs(route) && r.isLastOf(netstate.FamilyOf(route.Dst.Addr())):
			routes = append(routes, route)
		case isOurs(route) && slices.Contains(addrs, route.Src):
			after := route
			after.Src = netip.Addr{} // the address goes with its NIC
			r.ops = append(r.ops, netstate.Op{NS: pod, Before: route, After: after})
		}
	}
	r.delAll(routes, rules)
}

// tables returns the NIC's own tables. They include the first NIC's if no other further
// NIC is left: the first NIC has a table only because of further ones.
func (r *remover) tables() map[int]bool {
	mine, addrs := map[int]bool{}, r.addrs()
	rules := slices.DeleteFunc(netstate.All[netstate.Rule](r.v.Snapshot, pod), func(rule netstate.Rule) bool {
		return !owntable.IsOwn(rule, netstate.ProtoCoordinator)
	})
	for _, rule := range rules {
		if slices.Contains(addrs, rule.From.Addr()) {
			mine[rule.Table] = true
		}
	}
	first := map[int]bool{}
	for _, rule := range rules {
		if r.isFirst(rule.From.Addr()) {
			first[rule.Table] = true
		}
	}
	if !slices.ContainsFunc(rules, func(rule netstate.Rule) bool { return !mine[rule.Table] && !first[rule.Table] }) {
		maps.Copy(mine, first)
	}
	return mine
}

// isLastOf reports whether no other NIC of the pod has an address of a family. The pod's
// routes and rules of that family then go with the NIC.
func (r *remover) isLastOf(f netstate.Family) bool {
	others := false
	for _, a := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		others = others || a.Dev != r.v.IfName && a.Dev != podEnd && netstate.FamilyOf(a.Prefix.Addr()) == f
	}
	return !others
}

// isFirst reports whether an address belongs to the pod's first NIC: the NIC with the
// source address of the pod's routes to its node.
func (r *remover) isFirst(a netip.Addr) bool {
	devs := map[string]bool{}
	for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
		if isOurs(route) && route.Table == netstate.TableMain && route.Src.IsValid() {
			devs[r.linkOf(route.Src)] = true
		}
	}
	return devs[r.linkOf(a)] && r.linkOf(a) != ""
}

// linkOf returns the pod's link with an address, "" if there is none.
func (r *remover) linkOf(a netip.Addr) string {
	for _, have := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		if have.Prefix.Addr() == a {
			return have.Dev
		}
	}
	return ""
}

// isCopy reports whether a route of a NIC's own table is a copy of a route in main, or a
// default route that was in main. A copy keeps its protocol, so the protocol can't tell
// it from another program's route.
func (r *remover) isCopy(route netstate.Route) bool {
	in := route
	in.Table = netstate.TableMain
	have, ok := netstate.Get(r.v.Snapshot, pod, in)
	return ok && have == in || route.Dst.Bits() == 0
}

// addrs returns the addresses of the attachment's NIC: those of the record, of prevResult
// and of the link.
func (r *remover) addrs() []netip.Addr {
	var out []netip.Addr
	if r.v.Own != nil {
		out = append(out, r.v.Own.Addresses...)
		for _, former := range r.v.Own.Former {
			out = append(out, former.Addresses...)
		}
	}
	for _, ip := range r.v.PrevIPs() {
		out = append(out, ip.Prefix.Addr())
	}
	for _, a := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		if a.Dev == r.v.IfName {
			out = append(out, a.Prefix.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// restoreDefaults puts another NIC's default route into main if main has none but this
// NIC's, which goes with its NIC. It takes the route from the lowest table that
// coordinator made. What router advertisements do to both NICs is as before ADD.
func (r *remover) restoreDefaults() {
	r.restoreAdverts(r.v.IfName)
	mine, best := map[netstate.Family]netstate.Route{}, map[netstate.Family]netstate.Route{}
	covered := map[netstate.Family]bool{}
	tables := map[int]bool{}
	for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, pod) {
		if owntable.IsOwn(rule, netstate.ProtoCoordinator) {
			tables[rule.Table] = true
		}
	}
	for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
		f := netstate.FamilyOf(route.Dst.Addr())
		switch inMain := route.Table == netstate.TableMain; {
		case route.Dst.Bits() > 0 || route.Dev == podEnd || inMain && route.LosesDefault():
		case inMain && route.Dev == r.v.IfName:
			mine[f] = route
		case inMain:
			covered[f] = true
		case tables[route.Table] && route.Dev != r.v.IfName && (best[f].Table == 0 || route.Table < best[f].Table):
			best[f] = route
		}
	}
	for _, f := range families {
		route, found := best[f]
		if !found || covered[f] {
			continue
		}
		if f == netstate.IPv6 {
			r.restoreAdverts(route.Dev)
		}
		op := netstate.Op{NS: pod}
		route.Table = netstate.TableMain
		if old, there := mine[f]; there && old.Metric == route.Metric {
			op.Before = old // replace it, so that the pod always has a default route
		}
		op.After = route
		r.ops = append(r.ops, op)
	}
}

// lead is the place of the node's routes to addresses of the NIC by a link of the node.
type lead struct {
	table  int
	device string
	mac    string // in the neighbour entries, if pods share the link
	addrs  []netip.Addr
}

// restoreMAC gives the NIC the MAC that it had before ADD, unless another program has
// changed it since.
func (r *remover) restoreMAC() {
	nic, ok := netstate.Get(r.v.Snapshot, pod, netstate.Link{Name: r.v.IfName})
	if !ok || r.v.Own == nil || r.v.Own.MACs == nil || nic.MAC.String() != r.v.Own.MACs.After {
		return
	}
	before, err := netstate.ParseMAC(r.v.Own.MACs.Before)
	if err != nil {
		return // the plugin doesn't write such a record
	}
	after := nic
	after.MAC = before
	r.ops = append(r.ops, netstate.Op{NS: pod, Before: nic, After: after})
}

// leads returns the leads by links that stay. A link of the pod's own needs no record:
// all routes by it are the pod's.
func (r *remover) leads() []lead {
	var out []lead
	if own := r.v.Own; own != nil {
		for _, former := range own.Former {
			out = append(out, lead{former.Table, former.Device, former.MAC, former.Addresses})
		}
		if own.Device != "" {
			return append(out, lead{own.Table, own.Device, own.MAC, own.Addresses})
		}
	}
	if r.end.Name == "" || len(r.others) == 0 {
		return out // the rest goes, or went, with the host end
	}
	for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, host) {
		if isOurs(rule) && !slices.ContainsFunc(out, func(l lead) bool { return l.table == rule.Table }) {
			out = append(out, lead{rule.Table, r.end.Name, "", r.addrs()})
		}
	}
	return out
}

// hostRoutes deletes the node's routes and neighbours of the leads.
func (r *remover) hostRoutes() {
	for _, l := range r.leads() {
		r.ops = append(r.ops, hostlink.Release(r.v.Snapshot, netstate.ProtoCoordinator, l.table, l.device, l.mac, l.addrs, nil)...)
	}
}

// attachments returns the attachments that own something on the node. It finds them by
// the aliases of host ends and by records.
func attachments(t *plugin.Task) ([]attachment.Attachment, error) {
	links, err := t.Kernel.Host.Owned()
	if err != nil {
		return nil, err
	}
	var out []attachment.Attachment
	for _, l := range links {
		if a, ok := attachment.ParseAlias(l.Alias); ok {
			out = append(out, a)
		}
	}
	list, err := records.NodeRoutes.Read("")
	for _, r := range list {
		if a := plugin.AttachmentOf(r); !slices.ContainsFunc(out, a.Same) {
			out = append(out, a)
		}
	}
	return out, err
}

// unused returns the deletion of rules that look up a host table without routes, and of
// the check of sources if no link needs it.
func unused(t *plugin.Task) ([]netstate.Op, error) {
	ops, err := hostlink.Unused(t.Kernel, t.Snapshot)
	errs := []error{err}
	for _, f := range families {
		if err := t.Kernel.Host.ReadRules(t.Snapshot, f); err != nil {
			errs = append(errs, err)
		}
	}
	for _, rule := range netstate.All[netstate.Rule](t.Snapshot, host) {
		if !isOurs(rule) {
			continue
		}
		inUse := false
		found := netstate.NewSnapshot()
		if err := t.Kernel.Host.ReadRoutes(found, rule.Family, rule.Table, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, r := range netstate.All[netstate.Route](found, host) {
			inUse = inUse || r.Table == rule.Table
		}
		if !inUse {
			ops = append(ops, netstate.Op{NS: host, Before: rule})
		}
	}
	return ops, errors.Join(errs...)
}
