// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// marksIn is the table's name and family.
var marksIn = nftTable{unix.NFPROTO_INET, netstate.MarkTable}

// priorityMangle is NF_IP_PRI_MANGLE of linux/netfilter_ipv4.h, -150.
const priorityMangle = 1<<32 - 150

// buildMark returns the table that netstate.Mark.Ruleset prints.
func buildMark(m netstate.Mark) ruleset {
	return ruleset{
		nftTable: marksIn,
		chains: []nftChain{
			{marksIn, "prerouting", "filter", unix.NF_INET_PRE_ROUTING, priorityMangle, false},
			{marksIn, "output", "route", unix.NF_INET_LOCAL_OUT, priorityMangle, false},
		},
		rules: []nftRule{
			{chain: "prerouting", expressions: markEntering(m)},
			{chain: "prerouting", expressions: markReply(m.Bits)},
			{chain: "output", expressions: markReply(m.Bits)},
		},
	}
}

// markEntering: iifname dev [ether saddr from] ct state new ct mark set ct mark | bits
func markEntering(m netstate.Mark) []expression {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, m.Dev)
	out := []expression{meta(unix.NFT_META_IIFNAME), compare(unix.NFT_CMP_EQ, name)}
	if m.From != (netstate.MAC{}) {
		out = append(out,
			meta(unix.NFT_META_IIFTYPE), compare(unix.NFT_CMP_EQ, nl.Uint16Attr(unix.ARPHRD_ETHER)),
			etherSource(), compare(unix.NFT_CMP_EQ, m.From[:]))
	}
	const stateNew = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW)
	return append(out,
		ct(unix.NFT_CT_STATE), and(stateNew), compare(unix.NFT_CMP_NEQ, number(0)),
		ct(unix.NFT_CT_MARK), or(m.Bits), setCtMark())
}

// markReply: ct direction reply ct mark & bits != 0 meta mark set meta mark | bits
func markReply(bits uint32) []expression {
	const reply = 1 // IP_CT_DIR_REPLY
	return []expression{
		ct(unix.NFT_CT_DIRECTION), compare(unix.NFT_CMP_EQ, []byte{reply}),
		ct(unix.NFT_CT_MARK), and(bits), compare(unix.NFT_CMP_NEQ, number(0)),
		meta(unix.NFT_META_MARK), or(bits), setMark(),
	}
}

// MarkBackend returns the first of these backends that can hold reply marks in
// the namespace, or why none of them can.
func (s *Space) MarkBackend(among ...netstate.Backend) (netstate.Backend, error) {
	have, err := s.listTables()
	if err != nil {
		return 0, err // which says nothing about what the kernel has
	}
	var reasons error
	for _, b := range among {
		var lacks error
		if b == netstate.Iptables {
			_, lacks = s.programFor(netstate.IPv4)
		} else if lacks, err = s.lacksInet(have); err != nil {
			return 0, err
		}
		switch {
		case lacks == nil:
			return b, nil
		case reasons == nil:
			reasons = fmt.Errorf("%s: %w", s.ns, lacks)
		default:
			reasons = fmt.Errorf("%w; %w", reasons, lacks)
		}
	}
	return 0, reasons
}

// lacksInet says why nf_tables can't hold the table of a Mark, nil if it can. It
// is tried out only where somebody uses iptables of the legacy flavour, as those do
// who have to; elsewhere it turns out when the table is made (errNoFamily).
func (s *Space) lacksInet(have *tables) (lacks, err error) {
	if have.legacy[netstate.IPv4] || have.legacy[netstate.IPv6] {
		return s.holds(marksIn.family)
	}
	return cmp.Or(have.noNftables, s.lacking[marksIn.family]), nil
}

// ReadMark puts the reply marks into the snapshot, if there is something of our
// name in the backend; want says what it holds when it is undamaged.
func (s *Space) ReadMark(snap *netstate.Snapshot, want netstate.Mark) error {
	if want.Backend == netstate.Iptables {
		return s.readChains(snap, want)
	}
	have, err := s.listTables()
	if err != nil || !have.hasNft(marksIn) {
		return err
	}
	chains, err := s.nftConn.nftChains(marksIn)
	if err == nil {
		want.Damage, err = buildMark(want).damage(s.nftConn, chains)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, marksIn.name, err)
	}
	snap.Put(s.ns, want)
	return nil
}

// applyMark writes the whole table in one transaction: packets meet the old one
// or the new one, never a part. What was damaged is not made again.
func (s *Space) applyMark(op netstate.Op) error {
	if op.Object().(netstate.Mark).Backend == netstate.Iptables {
		return s.applyChains(op)
	}
	s.tables = nil
	var reqs []*nl.NetlinkRequest
	if op.Before != nil {
		reqs = append(reqs, marksIn.delete())
	}
	if after, ok := op.After.(netstate.Mark); ok && after.Damage == "" {
		reqs = append(reqs, buildMark(after).add()...)
	}
	if len(reqs) == 0 {
		return nil
	}
	c, err := s.nft()
	if err == nil {
		err = c.transaction(reqs...)
	}
	if op.After == nil && noNftables(err) {
		return nil
	}
	return s.tried(marksIn.family, err)
}
