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

// Record notes a NIC's addresses and where the node's routes to them are, and the
// MAC that it had. The first NIC of a pod with a veth to its node needs no more than
// that: all else that is its own hangs on the host end, whose alias names the
// attachment.
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

// leadsBeyond reports whether the node has something for the NIC beyond a link of the
// pod's own that was made with it.
func (c *Config) leadsBeyond(v *plugin.View) bool {
	return !c.OnlyMAC && (v.IfName != c.PodDefaultNIC || c.HostLink == keys.LinkMacvlan)
}

// macs are the NIC's before ADD and by it, nil if the plan leaves it as it was.
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

// observeOwned reads what remove goes by: the attachment's record and those of others of
// the pod, the host end, the pod if its namespace is there and its own, and what
// leads to the NIC by links that stay.
func observeOwned(t *plugin.Task) error {
	list, err := t.Readable(records.NodeRoutes.Read(t.Pod()))
	if err != nil {
		return err // there may be other attachments, which need what would go
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

// surveyPod reads the pod. One whose namespace is gone, or another's, has none.
func surveyPod(t *plugin.Task) error {
	onNode := t.Snapshot.Clone()
	if t.Kernel.Pod == nil {
		t.Netns = ""
		return nil
	}
	if err := t.Kernel.ReadPod(t.Snapshot); err != nil {
		return err
	}
	own, err := isOwnPod(t)
	if !own {
		t.Snapshot, t.Netns = onNode, ""
	}
	return err
}

// isOwnPod reports whether the namespace that is said to be the pod's is not another
// one's, as far as that can be told: by the host end of its veth0, and by what the
// record says.
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

// surveyHost reads what the node has for the NIC on links that stay.
func surveyHost(t *plugin.Task, r *remover) error {
	if (t.Own == nil || t.Own.Device == "") && r.end.Name != "" && len(r.others) > 0 { // rules tell the tables
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

// remover finds what an attachment owns.
type remover struct {
	v      *plugin.View
	ops    []netstate.Op
	others []attachment.Attachment // of the pod
	end    netstate.Link           // the host end, if the pod has one
}

// newRemover finds the pod's host end and its attachments: one is named by the host
// end, the others by their records.
func newRemover(v *plugin.View) *remover {
	r := &remover{v: v}
	for _, rec := range v.Others {
		if rec.Device != "" { // or else it is about a MAC alone
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

// remove returns what DEL deletes. With the pod's last attachment that is the
// host end, which takes along its far end, its routes and neighbours, and every
// rule, table and mark of coordinator's in the pod; else what is this NIC's own,
// while the others keep working. The rule that looks up the host table serves all
// pods and stays.
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

func (r *remover) del(ns netstate.NS, o netstate.Object) {
	r.ops = append(r.ops, netstate.Op{NS: ns, Before: o})
}

// isOurs reports whether a rule or route of the pod's is one of coordinator's.
func isOurs(o netstate.Object) bool {
	switch o := o.(type) {
	case netstate.Rule:
		return o.Proto == netstate.ProtoCoordinator && o.Owned()
	case netstate.Route:
		return o.Proto == netstate.ProtoCoordinator
	}
	return false
}

// everything is what the pod's last attachment leaves: nothing.
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

// delAll deletes routes behind the neighbours that are found by them, and rules behind
// the routes of their tables: if DEL is killed, they tell the next one what is ours.
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

// thisNIC is what one NIC of several has for itself.
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
			after.Src = netip.Addr{} // its NIC's address will go
			r.ops = append(r.ops, netstate.Op{NS: pod, Before: route, After: after})
		}
	}
	r.delAll(routes, rules)
}

// tables are the NIC's own, and the first NIC's if no other NIC's is left: it has
// one because of others.
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

// isLastOf reports whether no other NIC of the pod has an address of a family: what
// the NIC has the pod reach in that family goes with it.
func (r *remover) isLastOf(f netstate.Family) bool {
	others := false
	for _, a := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		others = others || a.Dev != r.v.IfName && a.Dev != podEnd && netstate.FamilyOf(a.Prefix.Addr()) == f
	}
	return !others
}

// isFirst reports whether an address is of the pod's first NIC: it has an address
// from which the pod speaks to its node.
func (r *remover) isFirst(a netip.Addr) bool {
	devs := map[string]bool{}
	for _, route := range netstate.All[netstate.Route](r.v.Snapshot, pod) {
		if isOurs(route) && route.Table == netstate.TableMain && route.Src.IsValid() {
			devs[r.linkOf(route.Src)] = true
		}
	}
	return devs[r.linkOf(a)] && r.linkOf(a) != ""
}

// linkOf is the pod's link that has an address, "" if none has.
func (r *remover) linkOf(a netip.Addr) string {
	for _, have := range netstate.All[netstate.Addr](r.v.Snapshot, pod) {
		if have.Prefix.Addr() == a {
			return have.Dev
		}
	}
	return ""
}

// isCopy reports whether a route of a NIC's own table is the copy of one that
// main has, or a default that main had: copies keep their protocol, by which
// they can't be told from what somebody else put there.
func (r *remover) isCopy(route netstate.Route) bool {
	in := route
	in.Table = netstate.TableMain
	have, ok := netstate.Get(r.v.Snapshot, pod, in)
	return ok && have == in || route.Dst.Bits() == 0
}

// addrs returns the addresses of the attachment's NIC: of the record, of
// prevResult and of the link, as far as they are there.
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

// restoreDefaults gives the pod the default route of another NIC, of the lowest
// table that coordinator made, where main has none but this NIC's, which makes way for it: it goes with
// its NIC.
func (r *remover) restoreDefaults() {
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
		case route.Dst.Bits() > 0 || route.Dev == podEnd:
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
		op := netstate.Op{NS: pod}
		route.Table = netstate.TableMain
		if old, there := mine[f]; there && old.Metric == route.Metric {
			op.Before = old // replaced, without a moment between
		}
		op.After = route
		r.ops = append(r.ops, op)
	}
}

// lead is what leads to the NIC's addresses by a link of the node.
type lead struct {
	table  int
	device string
	mac    string // behind the link, where others share it
	addrs  []netip.Addr
}

// restoreMAC gives the NIC the MAC that it had before ADD, unless somebody else has
// changed it since.
func (r *remover) restoreMAC() {
	nic, ok := netstate.Get(r.v.Snapshot, pod, netstate.Link{Name: r.v.IfName})
	if !ok || r.v.Own == nil || r.v.Own.MACs == nil || nic.MAC.String() != r.v.Own.MACs.After {
		return
	}
	before, err := netstate.ParseMAC(r.v.Own.MACs.Before)
	if err != nil {
		return // it is not of our writing
	}
	after := nic
	after.MAC = before
	r.ops = append(r.ops, netstate.Op{NS: pod, Before: nic, After: after})
}

// leads are those by links that stay. A link that is the pod's own needs no record to
// tell whose they are.
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
		return out // they go, or went, with the host end
	}
	for _, rule := range netstate.All[netstate.Rule](r.v.Snapshot, host) {
		if isOurs(rule) && !slices.ContainsFunc(out, func(l lead) bool { return l.table == rule.Table }) {
			out = append(out, lead{rule.Table, r.end.Name, "", r.addrs()})
		}
	}
	return out
}

// hostRoutes deletes them.
func (r *remover) hostRoutes() {
	for _, l := range r.leads() {
		r.ops = append(r.ops, hostlink.Release(r.v.Snapshot, netstate.ProtoCoordinator, l.table, l.device, l.mac, l.addrs, nil)...)
	}
}

// attachments returns those that own something on the node: by the aliases of
// host ends, and by records.
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

// unused returns the rules that look up host tables in which no pod has a route
// any more, and the check of sources when no link needs it.
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
