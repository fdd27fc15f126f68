// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
)

// first is the pod's first NIC in underlay mode: a link to the node, and
// whatever entered by it is answered by it.
func (b *builder) first() error {
	if err := b.makeWire(); err != nil {
		return err
	}
	b.rpFilter("all", b.nic)
	if b.wire.pod != b.nic {
		b.rpFilter(b.wire.pod)
	}
	for _, s := range b.sides {
		b.node(s, s.pod[0])
		b.hostRoutes(s, b.wire.host, netip.Addr{}, b.wire.podMAC)
		if err := b.policyRoutes(s, netstate.TableMain); err != nil {
			return err
		}
	}
	b.replyMark()
	if b.hasFurther() {
		return b.firstTable(b.nic, b.addrs)
	}
	return nil
}

// node is how every NIC of the pod reaches the node by the wire, and how the pod
// answers what came by it.
func (b *builder) node(s side, src netip.Addr) {
	b.nodeRoutes(s, netstate.TableMain, b.wire.pod, netip.Addr{}, src)
	for _, n := range s.node {
		b.plan.Want(pod, "the node is always at the other end", netstate.Neigh{Dev: b.wire.pod, Dst: n, MAC: b.wire.hostMAC, Permanent: true})
	}
	b.plan.Want(pod, "the way back to whoever came through the node", netstate.NewRoute(b.c.ReplyTable, netstate.Default(src), s.node[0], b.wire.pod, netip.Addr{}))
	b.plan.Want(pod, "replies to what came from the node", netstate.Rule{
		Family: s.family, Priority: replyPrio, Mark: b.c.ReplyMark, Mask: b.c.ReplyMark, Table: b.c.ReplyTable, Proto: netstate.Proto,
	})
}
