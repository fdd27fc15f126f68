// SPDX-License-Identifier: Apache-2.0

package coordinator

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

// Record notes a NIC's addresses and where the node's routes to them are. The
// first NIC of a pod with a veth to its node needs none: all that is its own
// hangs on the host end, whose alias names the attachment.
func (c *Config) Record(v *plugin.View, plan netstate.Plan) *kernel.Record {
	if v.IfName == c.PodDefaultNIC && c.HostLink == linkVeth || c.OnlyMAC {
		return nil
	}
	r := &kernel.Record{Table: c.HostRuleTable}
	for _, item := range plan.Present {
		if n, ok := item.Object.(netstate.Neigh); ok && item.NS == host {
			r.Device, r.MAC = n.Dev, n.MAC.String()
			r.Addresses = append(r.Addresses, n.Dst)
		}
	}
	return r
}

// remover finds what an attachment owns.
type remover struct {
	t      *plugin.Task
	ops    []netstate.Op
	own    *kernel.Record // of this attachment, if there is one
	others []plugin.Attachment
	end    netstate.Link // the host end, if the pod has one
	pod    bool          // its namespace is there, and is its own
}

// remove returns what DEL deletes. With the pod's last attachment that is the
// host end, which takes along its far end, its routes and neighbours, and every
// rule, table and mark of ours in the pod; else what is this NIC's own, while the
// others keep working. The rule that looks up the host table serves all pods and
// stays.
func remove(t *plugin.Task) ([]netstate.Op, error) {
	r := &remover{t: t}
	if err := r.survey(); err != nil {
		return nil, err
	}
	if t.Kernel.Pod != nil {
		if err := t.Kernel.ReadPod(t.Snapshot); err != nil {
			return nil, err
		}
		var err error
		if r.pod, err = r.isOwnPod(); err != nil {
			return nil, err
		}
		if !r.pod {
			t.Snapshot = netstate.NewSnapshot()
		}
	}
	if len(r.others) == 0 {
		r.everything()
	} else {
		r.thisNIC()
	}
	return r.ops, r.hostRoutes()
}

// survey finds the pod's host end, and its attachments: one is named by the host
// end, the others by their records.
func (r *remover) survey() error {
	records, err := r.t.Readable(kernel.NodeRoutes.Read(r.t.Pod()))
	if err != nil {
		return err // there may be other attachments, which need what would go
	}
	for i, rec := range records {
		if a := attachmentOf(rec); a.IfName == r.t.IfName {
			r.own = &records[i]
		} else {
			r.others = append(r.others, a)
		}
	}
	name := netstate.Link{Name: plugin.HostEnd(r.t.ContainerID)}
	if err := r.t.Kernel.Host.ReadLink(r.t.Snapshot, name.Name); err != nil {
		return err
	}
	l, ok := netstate.Get(r.t.Snapshot, host, name)
	if !ok {
		return nil
	}
	if a, ours := plugin.ParseAlias(l.Alias); ours && a.SamePod(r.t.Attachment) {
		r.end = l
		if a.IfName != r.t.IfName && !slices.ContainsFunc(r.others, a.Same) {
			r.others = append(r.others, a)
		}
	}
	return nil
}

// isOwnPod reports whether the namespace that is said to be the pod's is not another
// one's, as far as that can be told: by the host end of its veth0, and by what the
// record says.
func (r *remover) isOwnPod() (bool, error) {
	if r.own != nil && r.own.Netns != r.t.Kernel.PodNetns(r.own.Netns.Path) {
		return false, nil
	}
	if err := r.t.Kernel.ReadPeer(r.t.Snapshot, podEnd); err != nil {
		return false, err
	}
	veth, _ := netstate.Get(r.t.Snapshot, pod, netstate.Link{Name: podEnd})
	end, _ := netstate.Get(r.t.Snapshot, host, netstate.Link{Name: veth.Peer.Name})
	a, ours := plugin.ParseAlias(end.Alias)
	return !ours || a.SamePod(r.t.Attachment), nil
}

func attachmentOf(r kernel.Record) plugin.Attachment {
	return plugin.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}

func (r *remover) del(ns netstate.NS, o netstate.Object) {
	r.ops = append(r.ops, netstate.Op{NS: ns, Before: o})
}

// everything is what the pod's last attachment leaves: nothing.
func (r *remover) everything() {
	if r.pod {
		r.restoreDefaults()
		tables := map[int]bool{}
		var rules []netstate.Rule
		for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
			if rule.Owned() {
				rules = append(rules, rule)
				tables[rule.Table] = true
			}
		}
		var routes []netstate.Route
		for _, route := range netstate.All[netstate.Route](r.t.Snapshot, pod) {
			if route.Dev != podEnd && (route.Owned() || tables[route.Table] && r.isCopy(route)) {
				routes = append(routes, route)
				if route.Dst.IsSingleIP() && !route.Via.IsValid() {
					r.del(pod, netstate.Neigh{Dev: route.Dev, Dst: route.Dst.Addr()})
				}
			}
		}
		for _, route := range routes { // behind the neighbours that are found by them
			r.del(pod, route)
		}
		r.delLast(rules)
		r.del(pod, netstate.Mark{})
		for _, f := range families {
			r.del(pod, netstate.Mark{Backend: netstate.Iptables, Family: f})
		}
	}
	if r.end.Name != "" {
		r.del(host, r.end)
	}
}

// delLast deletes rules behind the routes of their tables: if DEL is killed, they
// tell the next one which tables are ours.
func (r *remover) delLast(rules []netstate.Rule) {
	for _, rule := range rules {
		r.del(pod, rule)
	}
}

// thisNIC is what one NIC of several has for itself.
func (r *remover) thisNIC() {
	if a, ok := plugin.ParseAlias(r.end.Alias); ok && a.IfName == r.t.IfName {
		after := r.end
		after.Alias = r.others[0].Alias()
		r.ops = append(r.ops, netstate.Op{NS: host, Before: r.end, After: after})
	}
	if !r.pod {
		return
	}
	r.restoreDefaults()
	addrs := r.addrs()
	tables := map[int]bool{}
	var rules []netstate.Rule
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
		if rule.Owned() && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return rule.From == netstate.Single(a) }) {
			rules = append(rules, rule)
			tables[rule.Table] = true
		}
	}
	for _, rule := range r.firstAlone(tables) {
		rules = append(rules, rule)
		tables[rule.Table] = true
	}
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
		if rule.Owned() && rule.To.IsValid() && tables[rule.Table] {
			rules = append(rules, rule)
		}
	}
	for _, route := range netstate.All[netstate.Route](r.t.Snapshot, pod) {
		switch {
		case tables[route.Table] && (route.Owned() || r.isCopy(route)), route.Owned() && route.Dev == r.t.IfName:
			r.del(pod, route)
		case route.Owned() && slices.Contains(addrs, route.Src):
			after := route
			after.Src = netip.Addr{} // its NIC's address will go
			r.ops = append(r.ops, netstate.Op{NS: pod, Before: route, After: after})
		}
	}
	r.delLast(rules)
}

// firstAlone returns the rules of the first NIC's own table if no other NIC's
// table is left: it has one because of others.
func (r *remover) firstAlone(gone map[int]bool) []netstate.Rule {
	first := 0
	var left []netstate.Rule
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
		switch {
		case isReplyRule(rule):
			first = rule.Table - 1
		case rule.Owned() && rule.Priority == owntable.Priority && !gone[rule.Table]:
			left = append(left, rule)
		}
	}
	if slices.ContainsFunc(left, func(rule netstate.Rule) bool { return rule.Table != first }) {
		return nil
	}
	return left
}

// isCopy reports whether a route of a NIC's own table is the copy of one that
// main has, or a default that main had: copies keep their protocol, by which
// they can't be told from what somebody else put there.
func (r *remover) isCopy(route netstate.Route) bool {
	in := route
	in.Table = netstate.TableMain
	have, ok := netstate.Get(r.t.Snapshot, pod, in)
	return ok && have == in || route.Dst.Bits() == 0
}

// addrs returns the addresses of the attachment's NIC: of the record, of
// prevResult and of the link, as far as they are there.
func (r *remover) addrs() []netip.Addr {
	var out []netip.Addr
	if r.own != nil {
		out = append(out, r.own.Addresses...)
	}
	if r.t.Prev != nil {
		for _, ip := range r.t.Prev.IPs {
			if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.t.Prev.Interfaces) && r.t.Prev.Interfaces[*i].Name != r.t.IfName {
				continue
			}
			if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	for _, a := range netstate.All[netstate.Addr](r.t.Snapshot, pod) {
		if a.Dev == r.t.IfName {
			out = append(out, a.Prefix.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// restoreDefaults gives the pod the default route of another NIC, of the lowest
// table, where main has none but this NIC's, which makes way for it: it goes with
// its NIC.
func (r *remover) restoreDefaults() {
	mine, best := map[netstate.Family]netstate.Route{}, map[netstate.Family]netstate.Route{}
	covered := map[netstate.Family]bool{}
	replies := map[int]bool{}
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, pod) {
		if isReplyRule(rule) {
			replies[rule.Table] = true
		}
	}
	for _, route := range netstate.All[netstate.Route](r.t.Snapshot, pod) {
		f := netstate.FamilyOf(route.Dst.Addr())
		switch inMain := route.Table == netstate.TableMain; {
		case route.Dst.Bits() > 0 || route.Dev == podEnd || replies[route.Table]:
		case inMain && route.Dev == r.t.IfName:
			mine[f] = route
		case inMain:
			covered[f] = true
		case route.Dev != r.t.IfName && (best[f].Table == 0 || route.Table < best[f].Table):
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

// hostRoutes is what leads to the NIC's addresses by a link that stays.
func (r *remover) hostRoutes() error {
	if r.own != nil {
		return r.hostRoutesIn(r.own.Table, r.own.Device)
	}
	if r.end.Name == "" || len(r.others) == 0 {
		return nil // they go, or went, with the host end
	}
	for _, f := range families {
		if err := r.t.Kernel.Host.ReadRules(r.t.Snapshot, f); err != nil {
			return err
		}
	}
	for _, rule := range netstate.All[netstate.Rule](r.t.Snapshot, host) {
		if rule.Owned() {
			if err := r.hostRoutesIn(rule.Table, r.end.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostRoutesIn is those of a table by a link. A link that is the pod's own needs
// no record to tell whose they are.
func (r *remover) hostRoutesIn(table int, device string) error {
	mac := ""
	if r.own != nil {
		mac = r.own.MAC
	}
	ops, err := hostlink.Release(r.t.Kernel, r.t.Snapshot, table, device, mac, r.addrs())
	r.ops = append(r.ops, ops...)
	return err
}

// attachments returns those that own something on the node: by the aliases of
// host ends, and by records.
func attachments(t *plugin.Task) ([]plugin.Attachment, error) {
	links, err := t.Kernel.Host.Owned()
	if err != nil {
		return nil, err
	}
	var out []plugin.Attachment
	for _, l := range links {
		if a, ok := plugin.ParseAlias(l.Alias); ok {
			out = append(out, a)
		}
	}
	records, err := kernel.NodeRoutes.Read("")
	for _, r := range records {
		if a := attachmentOf(r); !slices.ContainsFunc(out, a.Same) {
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
		if !rule.Owned() {
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
