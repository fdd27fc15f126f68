// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// markTable is the nftables table of netstate.Mark.
type markTable struct {
	nftTable
	chains []nftChain
	rules  []nftRule
}

// marksIn is the table's name and family.
var marksIn = nftTable{unix.NFPROTO_INET, netstate.MarkTable}

// priorityMangle is NF_IP_PRI_MANGLE of linux/netfilter_ipv4.h, -150.
const priorityMangle = 1<<32 - 150

// buildMark returns the table that netstate.Mark.Ruleset prints.
func buildMark(m netstate.Mark) markTable {
	return markTable{
		nftTable: marksIn,
		chains: []nftChain{
			{marksIn, "prerouting", "filter", unix.NF_INET_PRE_ROUTING, priorityMangle},
			{marksIn, "output", "route", unix.NF_INET_LOCAL_OUT, priorityMangle},
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

// The expressions work on one register.
const reg = unix.NFT_REG_1

func meta(key uint32) expression {
	return expression{"meta", []attribute{big(unix.NFTA_META_KEY, key), big(unix.NFTA_META_DREG, reg)}}
}

func setMark() expression {
	return expression{"meta", []attribute{big(unix.NFTA_META_KEY, unix.NFT_META_MARK), big(unix.NFTA_META_SREG, reg)}}
}

func ct(key uint32) expression {
	return expression{"ct", []attribute{big(unix.NFTA_CT_KEY, key), big(unix.NFTA_CT_DREG, reg)}}
}

func setCtMark() expression {
	return expression{"ct", []attribute{big(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), big(unix.NFTA_CT_SREG, reg)}}
}

// etherSource is the MAC that a packet comes from.
func etherSource() expression {
	return expression{"payload", []attribute{
		big(unix.NFTA_PAYLOAD_DREG, reg), big(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_LL_HEADER),
		big(unix.NFTA_PAYLOAD_OFFSET, 6), big(unix.NFTA_PAYLOAD_LEN, 6),
	}}
}

func compare(op uint32, with []byte) expression {
	return expression{"cmp", []attribute{big(unix.NFTA_CMP_SREG, reg), big(unix.NFTA_CMP_OP, op), data(unix.NFTA_CMP_DATA, with)}}
}

// and keeps these bits of the register.
func and(bits uint32) expression { return bitwise(bits, 0) }

// or sets these bits of the register.
func or(bits uint32) expression { return bitwise(^bits, bits) }

// bitwise makes the register (r & mask) ^ xor.
func bitwise(mask, xor uint32) expression {
	return expression{"bitwise", []attribute{
		big(unix.NFTA_BITWISE_SREG, reg), big(unix.NFTA_BITWISE_DREG, reg), big(unix.NFTA_BITWISE_LEN, 4),
		data(unix.NFTA_BITWISE_MASK, number(mask)), data(unix.NFTA_BITWISE_XOR, number(xor)),
	}}
}

func number(n uint32) []byte { return nl.Uint32Attr(n) }

// nft returns a connection to the namespace's nf_tables, made at first use.
func (s *Space) nft() (*conn, error) {
	if s.nftConn != nil {
		return s.nftConn, nil
	}
	err := s.enter(func() (err error) {
		s.nftConn, err = dial(unix.NETLINK_NETFILTER)
		return err
	})
	return s.nftConn, err
}

// MarkBackend returns the first of these backends that can hold reply marks in
// the namespace, or why none of them can.
func (s *Space) MarkBackend(among ...netstate.Backend) (netstate.Backend, error) {
	var reasons error
	for _, b := range among {
		var err error
		if b == netstate.Iptables {
			_, err = s.programFor(netstate.IPv4)
		} else {
			err = s.holdsInet()
		}
		switch {
		case err == nil:
			return b, nil
		case reasons == nil:
			reasons = fmt.Errorf("%s: %w", s.ns, err)
		default:
			reasons = fmt.Errorf("%w; %w", reasons, err)
		}
	}
	return 0, reasons
}

// tables is what netfilter holds in a namespace.
type tables struct {
	nft    []nftTable
	err    error                    // of nf_tables
	legacy map[netstate.Family]bool // whether there is a table mangle
}

// listTables asks once for all tables: ADD and DEL of every pod want to know,
// most often to learn that there are none. What changes tables forgets them.
func (s *Space) listTables() *tables {
	if s.tables != nil {
		return s.tables
	}
	t := &tables{legacy: s.legacyTables()}
	var c *conn
	if c, t.err = s.nft(); t.err == nil {
		t.nft, t.err = c.nftTables()
	}
	s.tables = t
	return t
}

// hasNft reports whether nf_tables has a table.
func (t *tables) hasNft(table nftTable) bool { return slices.Contains(t.nft, table) }

// holdsInet returns nil if nf_tables can hold the table of a Mark. It is tried
// out only where somebody uses iptables of the legacy flavour, as those do who
// have to; elsewhere it turns out when the table is made (errNoFamily).
func (s *Space) holdsInet() error {
	have := s.listTables()
	if have.err == nil && !have.legacy[netstate.IPv4] && !have.legacy[netstate.IPv6] {
		return s.refused[marksIn.family]
	}
	return s.holds(marksIn.family)
}

// errNoFamily is in the error of a request for a table of a family that the
// kernel's nf_tables was built without (nft_supported_family in
// net/netfilter/nf_tables_api.c; Debian's user-mode kernel has none of inet, ip
// and ip6).
var errNoFamily = errors.New("the kernel's nf_tables has no such family")

// holds returns nil if nf_tables can hold a table of the family. Only making one
// tells, so one of our name is made and deleted in one transaction, unless there
// is one.
func (s *Space) holds(family uint8) error {
	have := s.listTables()
	switch {
	case have.err != nil:
		return fmt.Errorf("nftables: %w", have.err)
	case slices.ContainsFunc(have.nft, func(t nftTable) bool { return t.family == family }):
		return nil
	}
	if err, known := s.refused[family]; known {
		return err
	}
	t := nftTable{family, netstate.MarkTable}
	return s.tried(family, s.nftConn.transaction(t.add(), t.delete()))
}

// tried notes whether the kernel has a family, by what came of making a table of it.
func (s *Space) tried(family uint8, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = fmt.Errorf("nftables: %w: %w", errNoFamily, err)
	} else if err != nil {
		return err
	}
	if s.refused == nil {
		s.refused = map[uint8]error{}
	}
	s.refused[family] = err
	return err
}

// noNftables reports whether a request failed for the want of nf_tables: without
// nfnetlink there are no sockets for it, and nfnetlink knows nobody to ask
// (nfnetlink_rcv_msg, nfnetlink_rcv_batch).
func noNftables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// ReadMark puts the reply marks into the snapshot, if there is something of our
// name in the backend; want says what it holds when it is undamaged.
func (s *Space) ReadMark(snap *netstate.Snapshot, want netstate.Mark) error {
	if want.Backend == netstate.Iptables {
		return s.readChains(snap, want)
	}
	have := s.listTables()
	if noNftables(have.err) {
		return nil
	}
	damage, err := "", have.err
	if err == nil && !have.hasNft(marksIn) {
		return nil
	}
	if err == nil {
		damage, err = buildMark(want).damage(s.nftConn)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, marksIn.name, err)
	}
	want.Damage = damage
	snap.Put(s.ns, want)
	return nil
}

// damage says where the kernel's table isn't made of exactly these chains and
// rules, "" if nowhere.
func (t markTable) damage(c *conn) (string, error) {
	chains, err := c.nftChains(t.nftTable)
	if err != nil {
		return "", err
	}
	rules, err := c.nftRules(t.nftTable)
	if err != nil {
		return "", err
	}
	for _, w := range t.chains {
		have := slices.DeleteFunc(slices.Clone(rules), func(r nftRule) bool { return r.chain != w.name })
		want := slices.DeleteFunc(slices.Clone(t.rules), func(r nftRule) bool { return r.chain != w.name })
		if !slices.Contains(chains, w) || !slices.EqualFunc(have, want, sameRule) {
			return "chain " + w.name, nil
		}
	}
	for _, h := range chains {
		if !slices.Contains(t.chains, h) {
			return "chain " + h.name, nil
		}
	}
	return "", nil
}

// sameRule compares a rule that was read with one that was built.
func sameRule(have, want nftRule) bool {
	return slices.EqualFunc(have.expressions, want.expressions, expression.is)
}

// applyMark writes the whole table in one transaction: packets meet the old
// one or the new one, never a part. What was damaged is not made again.
func (s *Space) applyMark(op netstate.Op) error {
	if op.Object().(netstate.Mark).Backend == netstate.Iptables {
		return s.applyChains(op)
	}
	s.tables = nil
	c, err := s.nft()
	if err != nil {
		if op.After == nil && noNftables(err) {
			return nil
		}
		return err
	}
	var reqs []*nl.NetlinkRequest
	if op.Before != nil {
		reqs = append(reqs, marksIn.delete())
	}
	if after, ok := op.After.(netstate.Mark); ok && after.Damage == "" {
		m := buildMark(after)
		reqs = append(reqs, m.add())
		for _, chain := range m.chains {
			reqs = append(reqs, chain.add())
		}
		for _, rule := range m.rules {
			reqs = append(reqs, rule.add(m.nftTable))
		}
	}
	if len(reqs) == 0 {
		return nil
	}
	err = c.transaction(reqs...)
	if op.After == nil && noNftables(err) {
		return nil
	}
	return s.tried(marksIn.family, err)
}
