// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
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

// stale.go drops objects that an earlier ADD or repair made and this plan doesn't want:
// the node or the NIC had other addresses then, or the configuration was different. NICs
// of one pod share table main and veth0, so these rules tell whose plan may drop a route:
//
//   - A NIC's own table belongs to the NIC alone.
//   - The first NIC's plan decides about main and the first NIC's own table, unless a NIC
//     without a table to look into may want the route.
//   - Any NIC's plan decides about a route to an address that the node no longer has.
//
// The routes to neighbours tell which neighbour entries to drop.
const whyStale = "the plan no longer wants it"

// observeStale reads the records of the pod's other NICs and the addresses that the node
// no longer has. It reads them only if the pod has routes of ours that this configuration
// doesn't explain.
func (c *Config) observeStale(t *plugin.Task) error {
	if c.OnlyMAC {
		return nil
	}
	unexplained := c.unexplained(&t.View)
	if len(unexplained) == 0 {
		return nil
	}
	list, err := t.Readable(records.NodeRoutes.Read(t.Pod()))
	if err != nil {
		return err
	}
	t.Others = slices.DeleteFunc(list, func(r records.Record) bool { return r.IfName == t.IfName })
	for _, r := range unexplained {
		if !r.Dst.IsSingleIP() {
			continue
		}
		has, err := t.Kernel.Host.HasAddr(r.Dst.Addr())
		if err != nil {
			return err
		}
		if !has {
			t.Gone = append(t.Gone, r.Dst.Addr())
		}
	}
	return nil
}

// unexplained returns the routes of ours in main that neither the node's addresses nor
// the configuration explain. It leaves out default routes: they replace the default route
// of a NIC that was unplugged.
func (c *Config) unexplained(v *plugin.View) []netstate.Route {
	known := map[netip.Prefix]bool{}
	for _, n := range c.nodeAddrs(v.Node) {
		known[netstate.Single(n)] = true
		for _, p := range c.Hijacked(netstate.FamilyOf(n)) {
			known[p.Masked()] = true
		}
	}
	if v.IfName == c.PodDefaultNIC {
		for _, r := range c.PolicyRoutes {
			known[r.Dst.Masked()] = true
		}
	}
	return slices.DeleteFunc(netstate.All[netstate.Route](v.Snapshot, pod), func(r netstate.Route) bool {
		return !isOurs(r) || r.Table != netstate.TableMain || r.Dst.Bits() == 0 || known[r.Dst]
	})
}

// stale drops objects that the plan doesn't want any more. The tables are the
// attachment's NIC's own one and the first NIC's; 0 is none.
func (b *builder) stale(own, firsts int) {
	before := len(b.plan.Absent)
	defer func() { b.spareDynamic(before) }()
	if own != 0 {
		b.staleTable(own)
	}
	for _, r := range b.c.unexplained(b.v) {
		if b.isStale(r, own, firsts) {
			b.staleRoute(r, firsts)
		}
	}
	b.staleHost()
}

// spareDynamic takes back, in CHECK, drops from an index on. CHECK's plan leaves out the
// addresses of router advertisements, so it doesn't know the objects that an ADD made for
// such an address. It must not drop anything in such a family.
func (b *builder) spareDynamic(from int) {
	if !b.v.Checking {
		return
	}
	dynamic := map[netstate.Family]bool{}
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dynamic {
			dynamic[netstate.FamilyOf(a.Prefix.Addr())] = true
		}
	}
	kept := slices.DeleteFunc(b.plan.Absent[from:], func(i netstate.Item) bool {
		switch o := i.Object.(type) {
		case netstate.Route:
			return dynamic[netstate.FamilyOf(o.Dst.Addr())]
		case netstate.Rule:
			return dynamic[o.Family]
		case netstate.Neigh:
			return dynamic[netstate.FamilyOf(o.Dst)]
		}
		return false
	})
	b.plan.Absent = b.plan.Absent[:from+len(kept)]
}

// staleTable drops stale objects of a NIC's own table. A copy of a route that the kernel
// made for an address is stale if main no longer has that route.
func (b *builder) staleTable(table int) {
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		copied := r.Dev == b.nic && r.Proto == netstate.ProtoKernel
		if r.Table == table && (isOurs(r) || copied) && !b.plan.Wants(pod, r) {
			b.plan.Drop(pod, whyStale, r)
		}
	}
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		former := r.From.IsValid() && !b.onNIC(r.From.Addr())
		if isOurs(r) && r.Table == table && (former || r.To.IsValid()) && !b.plan.Wants(pod, r) {
			b.plan.Drop(pod, whyStale, r)
		}
	}
}

// onNIC reports whether the attachment's NIC has an address, of any origin.
func (b *builder) onNIC(a netip.Addr) bool {
	return slices.ContainsFunc(netstate.All[netstate.Addr](b.v.Snapshot, pod), func(have netstate.Addr) bool {
		return have.Dev == b.nic && have.Prefix.Addr() == a
	})
}

// isStale reports whether no plan wants an unexplained route of main.
func (b *builder) isStale(r netstate.Route, own, firsts int) bool {
	if b.plan.Wants(pod, r) || b.isInOthers(r, own, firsts) {
		return false
	}
	if b.nic == b.c.PodDefaultNIC && !b.hasUnseen() {
		return true
	}
	return r.Dst.IsSingleIP() && slices.Contains(b.v.Gone, r.Dst.Addr())
}

// isInOthers reports whether the own table of another further NIC has the route too.
func (b *builder) isInOthers(r netstate.Route, own, firsts int) bool {
	return slices.ContainsFunc(netstate.All[netstate.Rule](b.v.Snapshot, pod), func(rule netstate.Rule) bool {
		if !owntable.IsOwn(rule, netstate.ProtoCoordinator) || rule.Table == own || rule.Table == firsts {
			return false
		}
		return slices.ContainsFunc(netstate.All[netstate.Route](b.v.Snapshot, pod), func(o netstate.Route) bool {
			return o.Table == rule.Table && o.Dst == r.Dst && o.Dev == r.Dev
		})
	})
}

// hasUnseen reports whether the pod has another NIC without a table that tells which
// routes it wants.
func (b *builder) hasUnseen() bool {
	return slices.ContainsFunc(b.v.Others, func(other records.Record) bool {
		return other.Device != "" && !slices.ContainsFunc(netstate.All[netstate.Rule](b.v.Snapshot, pod), func(r netstate.Rule) bool {
			return owntable.IsOwn(r, netstate.ProtoCoordinator) && slices.Contains(other.Addresses, r.From.Addr())
		})
	})
}

// staleRoute drops a route of main, its neighbour and its copy in the first NIC's own
// table.
func (b *builder) staleRoute(r netstate.Route, firsts int) {
	if r.Dst.IsSingleIP() && !r.Via.IsValid() {
		b.plan.Drop(pod, whyStale, netstate.Neigh{Dev: r.Dev, Dst: r.Dst.Addr()})
	}
	for _, o := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		same := o.Dst == r.Dst && o.Dev == r.Dev && isOurs(o) && (o.Table == netstate.TableMain || o.Table == firsts)
		if same && !b.plan.Wants(pod, o) {
			b.plan.Drop(pod, whyStale, o)
		}
	}
}

// staleHost drops the node's objects for addresses that no NIC of the pod has any more.
// On the host end they are the pod's; on other links the record tells.
func (b *builder) staleHost() {
	hostlink.Former(&b.plan, b.v, netstate.ProtoCoordinator, pastBridge(b.c.firstAddrs(b.v)))
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, host) {
		if !isOurs(r) || r.Dev != b.wire.host || b.wire.pod != podEnd || !r.Dst.IsSingleIP() || b.hasAddr(r.Dst.Addr()) {
			continue
		}
		b.plan.Drop(host, whyStale, netstate.Neigh{Dev: r.Dev, Dst: r.Dst.Addr()})
		b.plan.Drop(host, whyStale, r)
	}
}

// hasAddr reports whether the pod has an address.
func (b *builder) hasAddr(a netip.Addr) bool {
	return slices.ContainsFunc(netstate.All[netstate.Addr](b.v.Snapshot, pod), func(have netstate.Addr) bool { return have.Prefix.Addr() == a })
}

// observeHost reads the node's routes by an existing host end, and the node's objects
// that an earlier record names for addresses that the NIC no longer has.
func (c *Config) observeHost(t *plugin.Task, addrs []netip.Addr) error {
	if c.leadsBeyond(&t.View) || c.MACPrefix != nil {
		var err error
		if t.Own, err = records.NodeRoutes.Earlier(t.Pod(), t.IfName); err != nil {
			return err
		}
	}
	if err := hostlink.ReadFormer(t, addrs); err != nil {
		return err
	}
	if _, there := netstate.Get(t.Snapshot, pod, netstate.Link{Name: podEnd}); !there || t.IfName != c.PodDefaultNIC || c.HostLink != keys.LinkVeth || c.OnlyMAC {
		return nil
	}
	end := attachment.HostEnd(t.ContainerID)
	if err := t.Kernel.Host.ReadLink(t.Snapshot, end); err != nil {
		return err
	}
	for _, f := range families {
		if err := t.Kernel.Host.ReadRoutesBy(t.Snapshot, f, c.HostRuleTable, end); err != nil {
			return err
		}
	}
	return nil
}
