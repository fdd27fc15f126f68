// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// marksIn is the name and family of the table that holds the reply marks.
var marksIn = nft.Table{Family: unix.NFPROTO_INET, Name: netstate.MarkTable}

// priorityMangle is NF_IP_PRI_MANGLE of linux/netfilter_ipv4.h, -150.
const priorityMangle = 1<<32 - 150

// buildMark returns the table of a Mark. netstate.Mark.Ruleset prints the same table.
func buildMark(m netstate.Mark) nft.Ruleset {
	return nft.Ruleset{
		Table: marksIn,
		Chains: []nft.Chain{
			{Table: marksIn, Name: "prerouting", Kind: "filter", Hook: unix.NF_INET_PRE_ROUTING, Priority: priorityMangle, Drops: false},
			{Table: marksIn, Name: "output", Kind: "route", Hook: unix.NF_INET_LOCAL_OUT, Priority: priorityMangle, Drops: false},
		},
		Rules: []nft.Rule{
			{Chain: "prerouting", Expressions: markEntering(m)},
			{Chain: "prerouting", Expressions: markReply(m.Bits)},
			{Chain: "output", Expressions: markReply(m.Bits)},
		},
	}
}

// markEntering returns the rule
//
//	iifname dev [ether saddr from] ct state new ct mark set ct mark | bits
func markEntering(m netstate.Mark) []nft.Expression {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, m.Dev)
	out := []nft.Expression{nft.Meta(unix.NFT_META_IIFNAME), nft.Compare(unix.NFT_CMP_EQ, name)}
	if m.From != (netstate.MAC{}) {
		out = append(out,
			nft.Meta(unix.NFT_META_IIFTYPE), nft.Compare(unix.NFT_CMP_EQ, nl.Uint16Attr(unix.ARPHRD_ETHER)),
			nft.EtherSource(), nft.Compare(unix.NFT_CMP_EQ, m.From[:]))
	}
	const stateNew = 1 << 3 // NF_CT_STATE_BIT(IP_CT_NEW)
	return append(out,
		nft.Conntrack(unix.NFT_CT_STATE), nft.And(stateNew), nft.Compare(unix.NFT_CMP_NEQ, nft.Bytes(0)),
		nft.Conntrack(unix.NFT_CT_MARK), nft.Or(m.Bits), nft.SetConntrackMark())
}

// markReply returns the rule
//
//	ct direction reply ct mark & bits != 0 meta mark set meta mark | bits
func markReply(bits uint32) []nft.Expression {
	const reply = 1 // IP_CT_DIR_REPLY
	return []nft.Expression{
		nft.Conntrack(unix.NFT_CT_DIRECTION), nft.Compare(unix.NFT_CMP_EQ, []byte{reply}),
		nft.Conntrack(unix.NFT_CT_MARK), nft.And(bits), nft.Compare(unix.NFT_CMP_NEQ, nft.Bytes(0)),
		nft.Meta(unix.NFT_META_MARK), nft.Or(bits), nft.SetMark(),
	}
}

// MarkBackend returns the first of these backends that can hold reply marks in the
// namespace. If none can, the error says why not, for each backend.
func (s *Namespace) MarkBackend(among ...netstate.Backend) (netstate.Backend, error) {
	have, err := s.listTables()
	if err != nil {
		return 0, err // this tells nothing about the backends
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

// lacksInet returns in lacks the reason why nf_tables can't hold the table of a Mark, nil
// if it can. It tries to make a table only on nodes that use iptables of the legacy
// flavour, the likely ones to lack the family. Elsewhere the lack shows when the table is
// made (errNoFamily).
func (s *Namespace) lacksInet(have *tables) (lacks, err error) {
	if have.legacy[netstate.IPv4] || have.legacy[netstate.IPv6] {
		return s.lacksFamily(marksIn.Family)
	}
	return cmp.Or(have.noNftables, s.lacking[marksIn.Family]), nil
}

// ReadMark puts the reply marks into the snapshot, if the backend has a table or chain of
// our name. It compares it with want and notes the differences as damage.
func (s *Namespace) ReadMark(snap *netstate.Snapshot, want netstate.Mark) error {
	if want.Backend == netstate.Iptables {
		return s.readChains(snap, want)
	}
	have, err := s.listTables()
	if err != nil || !have.hasNft(marksIn) {
		return err
	}
	chains, err := s.nftConn.Chains(marksIn)
	if err == nil {
		want.Damage, err = buildMark(want).Damage(s.nftConn, chains)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, marksIn.Name, err)
	}
	snap.Put(s.ns, want)
	return nil
}

// applyMark writes the whole table in one transaction: packets meet the old table or the
// new one, never a part. To undo the deletion of a damaged table it makes nothing.
func (s *Namespace) applyMark(op netstate.Op) error {
	if op.Object().(netstate.Mark).Backend == netstate.Iptables {
		return s.applyChains(op)
	}
	s.tables = nil
	var reqs []*nl.NetlinkRequest
	if op.Before != nil {
		reqs = append(reqs, marksIn.Delete())
	}
	if after, ok := op.After.(netstate.Mark); ok && after.Damage == "" {
		reqs = append(reqs, buildMark(after).Add()...)
	}
	if len(reqs) == 0 {
		return nil
	}
	c, err := s.Nft()
	if err == nil {
		err = c.Transaction(reqs...)
	}
	if op.After == nil && NoNftables(err) {
		return nil
	}
	return s.noteFamily(marksIn.Family, err)
}
