// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// first is the pod's first NIC in underlay mode: a veth to the node, and
// whatever entered by it is answered by it.
func (b *builder) first() error {
	b.veth()
	b.rpFilter("all", b.nic, podEnd)
	for _, s := range b.sides {
		b.node(s, s.pod[0])
		b.hostRoutes(s, b.hostEnd, b.macOf(pod))
		b.policyRoutes(s, netstate.TableMain)
	}
	b.replyMark()
	if b.hasFurther() {
		return b.firstTable(b.nic, b.addrs)
	}
	return nil
}

// macOf is the MAC of an end of the veth, derived so that it is the same after
// every ADD.
func (b *builder) macOf(end netstate.NS) netstate.MAC {
	return plugin.EndMAC(end, b.t.ContainerID)
}

// veth is the link between the pod and its node.
func (b *builder) veth() {
	mtu := b.c.VethMTU
	if nic, ok := b.link(b.nic); ok && mtu == 0 {
		mtu = nic.MTU
	}
	if _, there := b.link(podEnd); there && b.c.VethMTU == 0 {
		mtu = 0 // the NIC's MTU of back then: another plugin may have changed it since
	}
	b.plan.Want(host, "the node's end of its link to the pod", netstate.Link{
		Name: b.hostEnd, Type: "veth", MAC: b.macOf(host), MTU: mtu, Up: true, Alias: b.t.Alias(),
		Peer: netstate.End{NS: pod, Name: podEnd, MAC: b.macOf(pod)},
	})
	b.plan.Want(pod, "the pod's end of its link to the node", netstate.Link{
		Name: podEnd, Type: "veth", MAC: b.macOf(pod), MTU: mtu, Up: true,
		Peer: netstate.End{NS: host, Name: b.hostEnd, MAC: b.macOf(host)},
	})
	if b.c.HostRPFilter >= 0 {
		b.plan.Want(host, "the pod sends from no address but its own", netstate.Sysctl{Family: netstate.IPv4, Dev: b.hostEnd, Name: "rp_filter", Value: b.c.HostRPFilter})
	}
	if b.sides[len(b.sides)-1].family == netstate.IPv6 {
		b.plan.Want(host, "the node takes no routes from the pod", netstate.Sysctl{Family: netstate.IPv6, Dev: b.hostEnd, Name: "accept_ra", Value: 0})
		b.plan.Want(host, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: b.hostEnd, Name: "disable_ipv6", Value: 0})
		b.plan.Want(pod, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: podEnd, Name: "disable_ipv6", Value: 0})
	}
	if a := b.c.VethLinkAddress; a.IsValid() {
		b.plan.Want(pod, "vethLinkAddress", netstate.Addr{Dev: podEnd, Prefix: netstate.Single(a)})
	}
}

// node is how every NIC of the pod reaches the node by the veth, and how the pod
// answers what came by it.
func (b *builder) node(s side, src netip.Addr) {
	b.nodeRoutes(s, netstate.TableMain, podEnd, netip.Addr{}, src)
	for _, n := range s.node {
		b.plan.Want(pod, "the node is always at the other end", netstate.Neigh{Dev: podEnd, Dst: n, MAC: b.macOf(host), Permanent: true})
	}
	b.plan.Want(pod, "the way back to whoever came through the node", netstate.NewRoute(b.c.ReplyTable, netstate.Default(src), s.node[0], podEnd, netip.Addr{}))
	b.plan.Want(pod, "replies to what entered by veth0", netstate.Rule{
		Family: s.family, Priority: replyPrio, Mark: b.c.ReplyMark, Mask: b.c.ReplyMark, Table: b.c.ReplyTable, Proto: netstate.Proto,
	})
}

// replyMark marks them.
func (b *builder) replyMark() {
	b.plan.Want(pod, "a connection that entered by veth0 is answered by it", netstate.Mark{Dev: podEnd, Bits: b.c.ReplyMark})
}
