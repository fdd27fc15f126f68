// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Plan returns the wanted state for the attachment.
func (c *Config) Plan(v *plugin.View) (netstate.Plan, error) {
	if err := readable(v); err != nil {
		return netstate.Plan{}, err
	}
	nic, err := nicOf(v)
	if err != nil {
		return netstate.Plan{}, err
	}
	b := &builder{c: c, v: v, nic: nic, addrs: addresses(v)}
	if c.Bridge.Name != "" {
		if err := b.bridge(); err != nil {
			return netstate.Plan{}, err
		}
	}
	switch {
	case c.Table != 0:
		b.table()
	case c.SBR:
		err = b.ownTables()
	}
	b.stale()
	return b.plan, err
}

// builder builds a plan.
type builder struct {
	c     *Config
	v     *plugin.View
	plan  netstate.Plan
	nic   netstate.Link
	addrs []netip.Prefix // of prevResult
}

// onNIC returns the addresses on the attachment's NIC.
func onNIC(v *plugin.View) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range netstate.All[netstate.Addr](v.Snapshot, pod) {
		if a.Dev == v.IfName {
			out = append(out, a.Prefix)
		}
	}
	return out
}

// bridge plans a macvlan of the node, and routes and neighbours by it. A macvlan
// and its parent do not reach each other, but two macvlans on one parent do.
func (b *builder) bridge() error {
	v, c, nic := b.v, b.c.Bridge, b.nic
	if err := hostlink.CanShare(nic, c.Parent); err != nil {
		return err
	}
	if nic.Type == "macvlan" && v.Parent != "" && v.Parent != netstate.RealName(v.Snapshot, host, c.Parent) {
		return config.Invalid("master: %s: want %s, the parent of link %s of the pod", c.Parent, v.Parent, nic.Name)
	}
	for _, a := range b.addrs {
		if !slices.ContainsFunc(onNIC(v), func(p netip.Prefix) bool { return p.Addr() == a.Addr() }) {
			return fmt.Errorf("pod: addr %s of prevResult is not on link %s", a.Addr(), nic.Name)
		}
	}
	bridge, err := c.Want(&b.plan, v.Snapshot, hostlink.Settings{RPFilter: 1, IPv6: b.has(netstate.IPv6)})
	if err != nil {
		return err
	}
	for _, a := range b.addrs {
		b.plan.Want(host, "the pod is on the same link", netstate.NewRoute(netstate.ProtoRoute, netstate.TableMain, netstate.Single(a.Addr()), netip.Addr{}, bridge.Name, b.source(a)))
		b.plan.Want(host, "the pod is always there", netstate.Neigh{Dev: bridge.Name, Dst: a.Addr(), MAC: nic.MAC, Permanent: true})
	}
	for _, n := range v.Node {
		if b.has(netstate.FamilyOf(n)) {
			b.plan.Want(pod, "the node answers no ARP or NDP request by its macvlan", netstate.Neigh{Dev: nic.Name, Dst: n, MAC: bridge.MAC, Permanent: true})
		}
	}
	return nil
}

// has reports whether prevResult has an address of a family.
func (b *builder) has(f netstate.Family) bool {
	return slices.ContainsFunc(b.addrs, func(a netip.Prefix) bool { return netstate.FamilyOf(a.Addr()) == f })
}

// source returns the node's source address for packets to address a: a node address
// in the pod's subnet, or else the first one. It returns none if the node has only
// one, in that subnet. The bridge has no address, so the kernel would take any of
// the node's.
func (b *builder) source(a netip.Prefix) netip.Addr {
	f := netstate.FamilyOf(a.Addr())
	of := slices.DeleteFunc(slices.Clone(b.v.Node), func(n netip.Addr) bool { return netstate.FamilyOf(n) != f })
	i := slices.IndexFunc(of, a.Contains)
	switch {
	case len(of) == 0 || len(of) == 1 && i == 0:
		return netip.Addr{}
	case i < 0:
		return of[0]
	}
	return of[i]
}

// Record returns a record of the NIC's addresses, of the node's routes and neighbours
// for them, and of the pod's neighbours for the node. It returns nil without a bridge.
func (c *Config) Record(v *plugin.View, plan netstate.Plan) *records.Record {
	if c.Bridge.Name == "" {
		return nil
	}
	r := &records.Record{Table: netstate.TableMain, Proto: netstate.ProtoRoute}
	if v.Own != nil {
		r.Proto = v.Own.Proto // existing routes keep their protocol
	}
	for _, item := range plan.Present {
		n, ok := item.Object.(netstate.Neigh)
		switch {
		case ok && item.NS == host:
			r.Device, r.MAC = n.Dev, n.MAC.String()
			r.Addresses = append(r.Addresses, n.Dst)
		case ok:
			r.Node = append(r.Node, n.Dst)
		}
	}
	return r
}
