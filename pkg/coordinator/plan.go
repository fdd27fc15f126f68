// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Names, tables and priorities of docs/design.md, section 5.
const (
	podEnd     = "veth0" // the pod's end of the veth to its node
	replyTable = 100     // what entered by veth0 is answered by it
	replyPrio  = 32763   // of the rule that looks up replyTable
)

// pods and host are the two sides of an attachment, for short.
const (
	host = netstate.Host
	pod  = netstate.Pod
)

// Plan returns what shall be for the task's attachment.
func (c *Config) Plan(t *plugin.Task) (netstate.Plan, error) {
	if t.IfName == podEnd {
		return netstate.Plan{}, plugin.Invalid("CNI_IFNAME: %s is the name of the pod's link to its node", podEnd)
	}
	if first := t.IfName == c.PodDefaultNIC; !first || c.Mode == "overlay" {
		return netstate.Plan{}, plugin.Invalid("link %s: mode %s: only underlay mode for the pod's first NIC, %s, is there yet", t.IfName, c.Mode, c.PodDefaultNIC)
	}
	addrs, err := nicAddrs(t)
	if err != nil {
		return netstate.Plan{}, err
	}
	return c.planFirst(t, addrs)
}

// side is the node and the pod in one address family.
type side struct {
	family netstate.Family
	node   []netip.Addr   // N, the gateway first
	pod    []netip.Addr   // P, the source towards the node first
	via    []netip.Prefix // S, what the pod reaches through the node
}

// sides returns the families in which both the pod and its node have an
// address: without a node address there is nobody to talk to.
func (c *Config) sides(t *plugin.Task, addrs []netip.Addr) []side {
	var out []side
	for _, f := range []netstate.Family{netstate.IPv4, netstate.IPv6} {
		s := side{f, ofFamily(t.Node, f), ofFamily(addrs, f), c.hijacked(f)}
		if len(s.node) > 0 && len(s.pod) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func ofFamily(addrs []netip.Addr, f netstate.Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if netstate.FamilyOf(a) == f {
			out = append(out, a)
		}
	}
	return out
}

// planFirst is the pod's first NIC in underlay mode.
func (c *Config) planFirst(t *plugin.Task, addrs []netip.Addr) (netstate.Plan, error) {
	var p netstate.Plan
	sides := c.sides(t, addrs)
	if len(sides) == 0 {
		return p, fmt.Errorf("host: no address of the node is of the family of %s: set nodeAddresses", addrs[0])
	}
	hostEnd := plugin.HostEnd(t.ContainerID)
	c.planVeth(t, &p, hostEnd, sides)
	for _, s := range sides {
		c.planPodRoutes(&p, s, macOf(host, t))
		c.planHostRoutes(&p, s, hostEnd, macOf(pod, t))
	}
	p.Want(pod, "a connection that entered by veth0 is answered by it", netstate.Mark{Dev: podEnd, Bits: c.ReplyMark})
	return p, nil
}

// macOf is the MAC of an end of the veth, derived so that it is the same after
// every ADD.
func macOf(end netstate.NS, t *plugin.Task) netstate.MAC {
	return plugin.MAC(string(end), t.ContainerID)
}

// planVeth is the link between the pod and its node.
func (c *Config) planVeth(t *plugin.Task, p *netstate.Plan, hostEnd string, sides []side) {
	mtu := c.VethMTU
	if nic, ok := netstate.Get(t.Snapshot, pod, netstate.Link{Name: t.IfName}); ok && mtu == 0 {
		mtu = nic.MTU
	}
	if _, there := netstate.Get(t.Snapshot, pod, netstate.Link{Name: podEnd}); there && c.VethMTU == 0 {
		mtu = 0 // the NIC's MTU of back then: another plugin may have changed it since
	}
	p.Want(host, "the node's end of its link to the pod", netstate.Link{
		Name: hostEnd, Type: "veth", MAC: macOf(host, t), MTU: mtu, Up: true, Alias: t.Alias(),
		Peer: netstate.End{NS: pod, Name: podEnd, MAC: macOf(pod, t)},
	})
	p.Want(pod, "the pod's end of its link to the node", netstate.Link{
		Name: podEnd, Type: "veth", MAC: macOf(pod, t), MTU: mtu, Up: true,
		Peer: netstate.End{NS: host, Name: hostEnd, MAC: macOf(host, t)},
	})
	if c.HostRPFilter >= 0 {
		p.Want(host, "the pod sends from no address but its own", netstate.Sysctl{Family: netstate.IPv4, Dev: hostEnd, Name: "rp_filter", Value: c.HostRPFilter})
	}
	if c.PodRPFilter >= 0 {
		for _, dev := range []string{"all", t.IfName, podEnd} {
			p.Want(pod, "a packet may come by another link than its answer would leave by", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: c.PodRPFilter})
		}
	}
	if sides[len(sides)-1].family == netstate.IPv6 {
		p.Want(host, "the pod's node takes no routes from it", netstate.Sysctl{Family: netstate.IPv6, Dev: hostEnd, Name: "accept_ra", Value: 0})
		p.Want(host, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: hostEnd, Name: "disable_ipv6", Value: 0})
		p.Want(pod, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: podEnd, Name: "disable_ipv6", Value: 0})
	}
}

// planPodRoutes is how the pod reaches its node and what is behind it, and how
// it answers what came from there.
func (c *Config) planPodRoutes(p *netstate.Plan, s side, hostMAC netstate.MAC) {
	src, gateway := s.pod[0], s.node[0]
	for _, n := range s.node {
		p.Want(pod, "the node, which the NIC can't reach", netstate.NewRoute(netstate.TableMain, netstate.Single(n), netip.Addr{}, podEnd, src))
		p.Want(pod, "the node is always at the other end", netstate.Neigh{Dev: podEnd, Dst: n, MAC: hostMAC, Permanent: true})
	}
	for _, cidr := range s.via {
		p.Want(pod, "what the node knows the way to", netstate.NewRoute(netstate.TableMain, cidr, gateway, podEnd, src))
	}
	p.Want(pod, "the way back to whoever came through the node", netstate.NewRoute(replyTable, netstate.Default(gateway), gateway, podEnd, netip.Addr{}))
	p.Want(pod, "replies to what entered by veth0", netstate.Rule{
		Family: s.family, Priority: replyPrio, Mark: c.ReplyMark, Mask: c.ReplyMark, Table: replyTable, Proto: netstate.Proto,
	})
}

// planHostRoutes is how the node reaches the pod.
func (c *Config) planHostRoutes(p *netstate.Plan, s side, hostEnd string, podMAC netstate.MAC) {
	p.Want(host, "pods come before anything else", netstate.Rule{
		Family: s.family, Priority: c.HostRulePrio, Table: c.HostRuleTable, Proto: netstate.Proto,
	})
	for _, a := range s.pod {
		p.Want(host, "the pod is at the other end", netstate.NewRoute(c.HostRuleTable, netstate.Single(a), netip.Addr{}, hostEnd, s.node[0]))
		p.Want(host, "the pod is always at the other end", netstate.Neigh{Dev: hostEnd, Dst: a, MAC: podMAC, Permanent: true})
	}
}
