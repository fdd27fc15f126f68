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

// podEnd names the pod's end of the veth to its node.
const podEnd = "veth0"

// Short names for the two namespaces of an attachment.
const (
	host = netstate.Host
	pod  = netstate.Pod
)

var families = []netstate.Family{netstate.IPv4, netstate.IPv6}

// Plan returns the wanted state for the attachment.
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
	if err := c.checkOverlap(v); err != nil {
		return netstate.Plan{}, err
	}
	for _, a := range addrs {
		if slices.Contains(c.NodeAddresses, a) {
			return netstate.Plan{}, config.Invalid("nodeAddresses: %s: link %s of the pod has that address", a, b.nic)
		}
	}
	b.sides = c.sides(v, addrs)
	if len(b.sides) == 0 {
		return netstate.Plan{}, fmt.Errorf("host: the node has no address of the same family as %s: set nodeAddresses", addrs[0])
	}
	mode, err := c.modeOf(v)
	if err != nil {
		return netstate.Plan{}, err
	}
	if err := b.outsideVRF(); err != nil {
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

// named returns the configuration with the kernel's names of the pod's NICs in place of
// their alternative names.
func (c *Config) named(v *plugin.View) *Config {
	out := *c
	out.PodDefaultNIC = netstate.RealName(v.Snapshot, pod, c.PodDefaultNIC)
	out.DefaultRouteNIC = netstate.RealName(v.Snapshot, pod, c.DefaultRouteNIC)
	return &out
}

// mode is the situation of an attachment.
type mode int

const (
	firstNIC   mode = iota // the pod's first NIC is on the underlay, and so is this
	furtherNIC             // this is another NIC of such a pod
	overlayNIC             // the pod's first NIC is another CNI's
)

// modeOf returns the attachment's mode, by the configuration and the pod's links and
// rules. It returns an error if they contradict each other.
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

// outsideVRF returns an error if the NIC is in a VRF. Its addresses are then local in the VRF's table alone, so the pod
// takes no packet for them that enters by its link to the node. And the VRF's table is the NIC's own already.
func (b *builder) outsideVRF() error {
	nic, _ := b.link(b.nic)
	if master, _ := b.link(nic.Master); master.Type != "vrf" {
		return nil
	}
	return fmt.Errorf("pod: link %s is in VRF %s: only links in that VRF reach its addresses, and the link to the node is in none: leave coordinator out of this chain, or the VRF", b.nic, nic.Master)
}

// isUnderlay reports whether the pod's first NIC is in underlay mode: the pod has a veth0
// or a reply rule of ours.
func isUnderlay(s *netstate.Snapshot) bool {
	if _, ok := netstate.Get(s, pod, netstate.Link{Name: podEnd}); ok {
		return true
	}
	return slices.ContainsFunc(netstate.All[netstate.Rule](s, pod), isReplyRule)
}

// isReplyRule reports whether a rule is the one of ours that looks up the table of
// replies.
func isReplyRule(r netstate.Rule) bool {
	return r.Proto == netstate.ProtoCoordinator && r.Owned() && r.Priority == netstate.ReplyPriority && r.Mask != 0
}

// builder puts a plan together.
type builder struct {
	c       *Config
	v       *plugin.View
	plan    netstate.Plan
	nic     string       // the attachment's NIC
	addrs   []netip.Addr // of the NIC
	sides   []side
	wire    wire
	replies int // the table of replies to packets from the node; 0 in mode overlay
}

// wire is the link between the pod and its node.
type wire struct {
	pod     string       // its end in the pod
	podMAC  netstate.MAC // the node sends to it
	host    string       // its end on the node
	hostMAC netstate.MAC // the pod sends to it
}

// side is the node and the attachment's NIC in one address family.
type side struct {
	family netstate.Family
	node   []netip.Addr   // N: the node's addresses, the gateway first
	pod    []netip.Addr   // P: the NIC's addresses, the source towards the node first
	via    []netip.Prefix // S: destinations that the pod reaches through the node
}

// sides returns the families in which both the NIC and its node have an address. In other
// families there is nothing to plan.
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

// way is how the pod reaches its node.
type way struct {
	dev    string
	via    netip.Addr // not valid: the node is at the other end of the link
	mtu    int        // 0: the link's
	advMSS int
}

// route returns a route that leads the way, or by a gateway in place of the way's.
func (w way) route(table int, dst netip.Prefix, via, src netip.Addr) netstate.Route {
	r := netstate.NewRoute(netstate.ProtoCoordinator, table, dst, via, w.dev, src)
	r.MTU, r.AdvMSS = w.mtu, w.advMSS
	return r
}

// nodeRoutes wants a table's routes to the node, and through the node to the destinations in
// s.via.
func (b *builder) nodeRoutes(s side, table int, to way, src netip.Addr) {
	for _, n := range s.node {
		if n == to.via && table == netstate.TableMain {
			continue // the next hop is reachable already, and ptp has made a route to it
		}
		b.plan.Want(pod, "reaches the node, which an underlay NIC can't do itself", to.route(table, netstate.Single(n), to.via, src))
	}
	gateway := to.via
	if !gateway.IsValid() {
		gateway = s.node[0]
	}
	for _, cidr := range s.via {
		if cidr.IsSingleIP() && slices.Contains(s.node, cidr.Addr()) {
			continue // it has a route as one of the node's
		}
		b.plan.Want(pod, "reached through the node", to.route(table, cidr, gateway, src))
	}
}

// hostRoutes wants the node's routes to the NIC's addresses by a link of the node, and
// neighbour entries with the MAC of the pod behind it. If via is valid, the routes lead
// through that address of the pod; the MAC in the neighbour entries then only tells which
// pod has the address.
func (b *builder) hostRoutes(s side, dev string, via netip.Addr, mac netstate.MAC) {
	b.plan.WantShared(host, "routes to pods come first", netstate.Rule{
		Family: s.family, Priority: b.c.HostRulePrio, Table: b.c.HostRuleTable, Proto: netstate.ProtoCoordinator,
	})
	for _, a := range s.pod {
		r := netstate.NewRoute(netstate.ProtoCoordinator, b.c.HostRuleTable, netstate.Single(a), via, dev, b.source(s, a))
		r.Onlink = via.IsValid()
		b.plan.Want(host, "the pod is at the other end", r)
		b.plan.Want(host, "the pod is always at the other end", netstate.Neigh{Dev: dev, Dst: a, MAC: mac, Permanent: true})
	}
}

// source returns the node's source address for packets to an address of the NIC: the
// node's address in the same subnet, or else its first one.
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

// policyRoutes wants the configured routes by this NIC. It runs last: a table has one
// route to a destination, so a configured route must not displace one that the plan has
// already.
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

// mustBeNeighbour returns an error for a gateway that the kernel refuses in a route by
// the NIC: a local address, or one that no subnet and no route of the NIC contains
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

// rpFilter lets packets enter by another link than the one that replies leave by.
func (b *builder) rpFilter(devs ...string) {
	if b.c.PodRPFilter < 0 {
		return
	}
	for _, dev := range devs {
		b.plan.Want(pod, "packets may arrive by another link than their replies leave by", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: b.c.PodRPFilter})
	}
}
