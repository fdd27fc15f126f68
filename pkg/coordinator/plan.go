// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// podEnd is the pod's end of the veth to its node.
const podEnd = "veth0"

// The two sides of an attachment, for short.
const (
	host = netstate.Host
	pod  = netstate.Pod
)

var families = []netstate.Family{netstate.IPv4, netstate.IPv6}

// Plan returns what shall be for the task's attachment.
func (c *Config) Plan(v *plugin.View) (netstate.Plan, error) {
	if err := readable(v); err != nil {
		return netstate.Plan{}, err
	}
	addrs, err := nicAddrs(v)
	if err != nil {
		return netstate.Plan{}, err
	}
	c = c.named(v)
	b := &builder{c: c, v: v, nic: v.IfName, addrs: addrs}
	if c.OnlyMAC {
		b.podMAC()
		return b.plan, nil
	}
	for _, a := range addrs {
		if slices.Contains(c.NodeAddresses, a) {
			return netstate.Plan{}, config.Invalid("nodeAddresses: %s: link %s of the pod has that address", a, b.nic)
		}
	}
	b.sides = c.sides(v, addrs)
	if len(b.sides) == 0 {
		return netstate.Plan{}, fmt.Errorf("host: no address of the node is of the family of %s: set nodeAddresses", addrs[0])
	}
	mode, err := c.modeOf(v)
	if err != nil {
		return netstate.Plan{}, err
	}
	b.podMAC()
	switch mode {
	case firstNIC:
		err = b.first()
	case furtherNIC:
		err = b.further()
	case overlayNIC:
		err = b.overlay()
	}
	if c.TxQueueLen > 0 {
		b.plan.Want(pod, "txQueueLen", netstate.Link{Name: b.nic, TxQueueLen: c.TxQueueLen})
	}
	return b.plan, err
}

// named returns the configuration with the pod's NICs by the names that the kernel has
// for them.
func (c *Config) named(v *plugin.View) *Config {
	out := *c
	out.PodDefaultNIC = netstate.RealName(v.Snapshot, pod, c.PodDefaultNIC)
	out.DefaultRouteNIC = netstate.RealName(v.Snapshot, pod, c.DefaultRouteNIC)
	return &out
}

// mode is the situation that an attachment is in.
type mode int

const (
	firstNIC   mode = iota // the pod's first NIC is on the underlay, and so is this
	furtherNIC             // this is another NIC of such a pod
	overlayNIC             // the pod's first NIC is another CNI's
)

// modeOf decides by the configuration and by what the pod has.
func (c *Config) modeOf(v *plugin.View) (mode, error) {
	first := v.IfName == c.PodDefaultNIC
	underlay := isUnderlay(v.Snapshot)
	switch {
	case v.IfName == podEnd:
		return 0, config.Invalid("CNI_IFNAME: %s is the name of the pod's link to its node", podEnd)
	case c.Mode == "overlay" && first:
		return 0, config.Invalid("mode: overlay: link %s is the pod's first NIC (podDefaultCNINIC), which the overlay's plugin makes: chain coordinator behind the further ones", v.IfName)
	case c.Mode == "overlay" && underlay:
		return 0, config.Invalid("mode: overlay: the pod's first NIC, %s, is in underlay mode", c.PodDefaultNIC)
	case c.Mode == "underlay" && !first && !underlay:
		return 0, config.Invalid("mode: underlay: link %s: the pod has no %s: chain coordinator behind its first NIC, %s, as well, or use mode overlay", v.IfName, podEnd, c.PodDefaultNIC)
	case first:
		return firstNIC, nil
	case underlay:
		return furtherNIC, nil
	}
	return overlayNIC, nil
}

// isUnderlay reports whether the pod's first NIC is in underlay mode: it has a
// veth0, or answers its node as we make it.
func isUnderlay(s *netstate.Snapshot) bool {
	if _, ok := netstate.Get(s, pod, netstate.Link{Name: podEnd}); ok {
		return true
	}
	return slices.ContainsFunc(netstate.All[netstate.Rule](s, pod), isReplyRule)
}

func isReplyRule(r netstate.Rule) bool {
	return r.Proto == netstate.ProtoCoordinator && r.Owned() && r.Priority == netstate.ReplyPriority && r.Mask != 0
}

// builder puts a plan together.
type builder struct {
	c       *Config
	v       *plugin.View
	plan    netstate.Plan
	nic     string       // the attachment's
	addrs   []netip.Addr // on it
	sides   []side
	wire    wire
	replies int // the table of replies to what the node sent; 0 in mode overlay
}

// wire is the link between the pod and its node.
type wire struct {
	pod     string       // its end in the pod
	podMAC  netstate.MAC // what the node sends to
	host    string       // its end on the node
	hostMAC netstate.MAC // what the pod sends to
}

// side is the node and the attachment's NIC in one address family.
type side struct {
	family netstate.Family
	node   []netip.Addr   // N, the gateway first
	pod    []netip.Addr   // P, of the NIC, the source towards the node first
	via    []netip.Prefix // S, what the pod reaches through the node
}

// sides returns the families in which both the NIC and its node have an
// address: without a node address there is nobody to talk to.
func (c *Config) sides(v *plugin.View, addrs []netip.Addr) []side {
	var out []side
	for _, f := range families {
		s := side{f, ofFamily(c.nodeAddrs(v.Node), f), ofFamily(addrs, f), c.Hijacked(f)}
		if len(s.node) > 0 && len(s.pod) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func ofFamily(addrs []netip.Addr, f netstate.Family) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return netstate.FamilyOf(a) != f })
}

// link returns a link of the pod.
func (b *builder) link(name string) (netstate.Link, bool) {
	return netstate.Get(b.v.Snapshot, pod, netstate.Link{Name: name})
}

// routes returns the pod's routes of a family that satisfy ok.
func (b *builder) routes(f netstate.Family, ok func(netstate.Route) bool) []netstate.Route {
	return slices.DeleteFunc(netstate.All[netstate.Route](b.v.Snapshot, pod), func(r netstate.Route) bool {
		return netstate.FamilyOf(r.Dst.Addr()) != f || !ok(r)
	})
}

// nodeRoutes is how a table reaches the node by a link, and by way of it what
// only the node knows the way to. A gateway that isn't valid stands for the node
// itself, at the other end of the link.
func (b *builder) nodeRoutes(s side, table int, dev string, via, src netip.Addr) {
	for _, n := range s.node {
		if n == via && table == netstate.TableMain {
			continue // what is the next hop is reached already, and ptp has a route of its own to it
		}
		b.plan.Want(pod, "the node, which an underlay NIC can't reach", netstate.NewRoute(netstate.ProtoCoordinator, table, netstate.Single(n), via, dev, src))
	}
	gateway := via
	if !gateway.IsValid() {
		gateway = s.node[0]
	}
	for _, cidr := range s.via {
		if cidr.IsSingleIP() && slices.Contains(s.node, cidr.Addr()) {
			continue // it has a route as one of the node's
		}
		b.plan.Want(pod, "what the node knows the way to", netstate.NewRoute(netstate.ProtoCoordinator, table, cidr, gateway, dev, src))
	}
}

// hostRoutes is how the node reaches the NIC's addresses, by a link of its own
// and to a MAC behind it. With a next hop that is valid they are reached by way of
// that address of the pod's, and their MAC only tells whose they are.
func (b *builder) hostRoutes(s side, dev string, via netip.Addr, mac netstate.MAC) {
	b.plan.WantShared(host, "pods come before anything else", netstate.Rule{
		Family: s.family, Priority: b.c.HostRulePrio, Table: b.c.HostRuleTable, Proto: netstate.ProtoCoordinator,
	})
	for _, a := range s.pod {
		r := netstate.NewRoute(netstate.ProtoCoordinator, b.c.HostRuleTable, netstate.Single(a), via, dev, b.source(s, a))
		r.Onlink = via.IsValid()
		b.plan.Want(host, "the pod is at the other end", r)
		b.plan.Want(host, "the pod is always at the other end", netstate.Neigh{Dev: dev, Dst: a, MAC: mac, Permanent: true})
	}
}

// source is what the node sends from to an address of the NIC: its address in the
// same subnet, if it has one.
func (b *builder) source(s side, to netip.Addr) netip.Addr {
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dev != b.nic || a.Prefix.Addr() != to {
			continue
		}
		for _, n := range s.node {
			if a.Prefix.Contains(n) {
				return n
			}
		}
	}
	return s.node[0]
}

// policyRoutes is what the configuration wants by this NIC. It comes last: a table has
// one route to a destination, and what the plan has by now isn't given up for it.
func (b *builder) policyRoutes(s side, table int) error {
	for _, r := range b.c.PolicyRoutes {
		if netstate.FamilyOf(r.Gw) != s.family {
			continue
		}
		if err := b.mustBeNeighbour(r.Gw); err != nil {
			return config.Invalid("policyRoutes: dst %s: gw %s: want a router in a subnet of link %s: %w", r.Dst, r.Gw, b.nic, err)
		}
		want := netstate.NewRoute(netstate.ProtoCoordinator, table, r.Dst, r.Gw, b.nic, netip.Addr{})
		for _, item := range b.plan.Present {
			has, ok := item.Object.(netstate.Route)
			if ok && item.NS == pod && has.Table == want.Table && has.Dst == want.Dst && has.Metric == want.Metric && has.Key() != want.Key() {
				return config.Invalid("policyRoutes: dst %s via %s: the pod has another route to it: %s (%s)", r.Dst, r.Gw, has, item.Why)
			}
		}
		b.plan.Want(pod, "policyRoutes", want)
	}
	return nil
}

// mustBeNeighbour returns an error for a gateway that the kernel refuses for a route by
// the NIC: one that is local, or that neither a subnet nor a route of the NIC leads to
// (fib_check_nh_v4_gw in net/ipv4/fib_semantics.c, ip6_validate_gw in net/ipv6/route.c).
func (b *builder) mustBeNeighbour(gw netip.Addr) error {
	inSubnet := false
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Prefix.Addr() == gw {
			return fmt.Errorf("it is the pod's own, on link %s", a.Dev)
		}
		inSubnet = inSubnet || a.Dev == b.nic && a.Prefix.Contains(gw)
	}
	onLink := func(r netstate.Route) bool { return r.Dev == b.nic && !r.Via.IsValid() && r.Dst.Contains(gw) }
	if inSubnet || gw.Is6() && gw.IsLinkLocalUnicast() || len(b.routes(netstate.FamilyOf(gw), onLink)) > 0 {
		return nil
	}
	return errors.New("it is in none")
}

// rpFilter lets packets come by another link than their answers leave by.
func (b *builder) rpFilter(devs ...string) {
	if b.c.PodRPFilter < 0 {
		return
	}
	for _, dev := range devs {
		b.plan.Want(pod, "a packet may come by another link than its answer would leave by", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: b.c.PodRPFilter})
	}
}
