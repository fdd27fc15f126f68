// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/owntable"
)

// first plans the pod's first NIC in underlay mode: a link to the node, and replies by
// this link to connections that entered by it.
func (b *builder) first() error {
	if err := b.makeWire(); err != nil {
		return err
	}
	if err := b.findReplies(); err != nil {
		return err
	}
	if err := b.routesAlone(); err != nil {
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
	table := 0
	if b.hasFurther() {
		var err error
		if table, err = b.firstTable(b.nic, b.addrs); err != nil {
			return err
		}
	}
	b.stale(table, table)
	return nil
}

// node wants the pod's routes to the node by the wire, and the table of replies to
// connections that entered by it.
func (b *builder) node(s side, src netip.Addr) {
	b.nodeRoutes(s, netstate.TableMain, way{dev: b.wire.pod}, src)
	b.nodeNeighbours(s, b.wire.pod, b.wire.hostMAC)
	b.plan.Want(pod, "the route of replies to connections from the node", netstate.NewRoute(netstate.ProtoCoordinator, b.replies, netstate.Default(src), s.node[0], b.wire.pod, netip.Addr{}))
	b.plan.Want(pod, "replies to connections from the node", netstate.Rule{
		Family: s.family, Priority: netstate.ReplyPriority, Mark: b.c.ReplyMark, Mask: b.c.ReplyMark, Table: b.replies, Proto: netstate.ProtoCoordinator,
	})
	b.leaveReplies(s.family)
}

// leaveReplies drops what led replies to a table that another program has taken since.
func (b *builder) leaveReplies(f netstate.Family) {
	const why = "another program has taken the table of replies"
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if !isReplyRule(r) || r.Family != f || r.Table == b.replies {
			continue
		}
		b.plan.Drop(pod, why, r)
		for _, o := range b.routes(f, func(o netstate.Route) bool { return isOurs(o) && o.Table == r.Table && o.Dev == b.wire.pod }) {
			b.plan.Drop(pod, why, o)
		}
	}
}

// nodeNeighbours wants the pod's neighbour entries for the node's addresses on a link to the node. It
// may not answer by ARP there (arp_ignore, strictARP of kube-proxy), and in IPv6 it answers for addresses of the link alone.
func (b *builder) nodeNeighbours(s side, dev string, mac netstate.MAC) {
	for _, n := range s.node {
		b.plan.Want(pod, "the node is always at the other end", netstate.Neigh{Dev: dev, Dst: n, MAC: mac, Permanent: true})
	}
}

// findReplies sets the table of replies. It takes the table that a rule of ours looks up, unless another program
// has taken it, or else the table with our reply route whose rules were flushed, or else a free one.
func (b *builder) findReplies() (err error) {
	for _, r := range netstate.All[netstate.Rule](b.v.Snapshot, pod) {
		if isReplyRule(r) && !owntable.Lost(b.v.Snapshot, r.Table) {
			b.replies = r.Table
			return nil
		}
	}
	left := 0
	for _, r := range netstate.All[netstate.Route](b.v.Snapshot, pod) {
		isReply := r.Proto == netstate.ProtoCoordinator && r.Table != netstate.TableMain && r.Dst.Bits() == 0 && r.Dev == b.wire.pod
		toNode := slices.ContainsFunc(b.sides, func(s side) bool { return slices.Contains(s.node, r.Via) }) // and not a NIC's own default route
		if isReply && (b.wire.pod == podEnd || r.Table == b.c.ReplyTable || toNode) {
			left = r.Table
		}
	}
	b.replies, err = owntable.Free(b.v.Snapshot, b.c.ReplyTable, b.c.FirstTable)
	b.replies = cmp.Or(left, b.replies)
	return err
}
