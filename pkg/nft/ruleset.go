// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ruleset is a table of nf_tables with all that is in it.
type Ruleset struct {
	Table
	Chains []Chain
	Rules  []Rule
}

// Add returns the requests that make it.
func (r Ruleset) Add() []*nl.NetlinkRequest {
	reqs := []*nl.NetlinkRequest{r.Table.Add()}
	for _, chain := range r.Chains {
		reqs = append(reqs, chain.add())
	}
	for _, rule := range r.Rules {
		reqs = append(reqs, rule.add(r.Table))
	}
	return reqs
}

// Damage says where the kernel's table, which has these chains, isn't made of
// exactly the wanted chains and rules, "" if nowhere.
func (r Ruleset) Damage(c *Conn, chains []Chain) (string, error) {
	rules, err := c.Rules(r.Table)
	if err != nil {
		return "", err
	}
	for _, w := range r.Chains {
		have := slices.DeleteFunc(slices.Clone(rules), func(h Rule) bool { return h.Chain != w.Name })
		want := slices.DeleteFunc(slices.Clone(r.Rules), func(h Rule) bool { return h.Chain != w.Name })
		if !slices.Contains(chains, w) || !slices.EqualFunc(have, want, sameRule) {
			return "chain " + w.Name, nil
		}
	}
	for _, h := range chains {
		if !slices.Contains(r.Chains, h) {
			return "chain " + h.Name, nil
		}
	}
	return "", nil
}

// sameRule compares a rule that was read with one that was built.
func sameRule(have, want Rule) bool {
	return slices.EqualFunc(have.Expressions, want.Expressions, Expression.Is)
}

// The expressions work on one register.
const reg = unix.NFT_REG_1

// Meta loads a property of the packet, NFT_META_*, into the register: meta KEY.
func Meta(key uint32) Expression {
	return Expression{"meta", []Attribute{Number32(unix.NFTA_META_KEY, key), Number32(unix.NFTA_META_DREG, reg)}}
}

// SetMark sets the packet mark to the register: meta mark set.
func SetMark() Expression {
	return Expression{"meta", []Attribute{Number32(unix.NFTA_META_KEY, unix.NFT_META_MARK), Number32(unix.NFTA_META_SREG, reg)}}
}

// Conntrack loads a property of the connection, NFT_CT_*, into the register: ct KEY.
func Conntrack(key uint32) Expression {
	return Expression{"ct", []Attribute{Number32(unix.NFTA_CT_KEY, key), Number32(unix.NFTA_CT_DREG, reg)}}
}

// SetConntrackMark sets the connection mark to the register: ct mark set.
func SetConntrackMark() Expression {
	return Expression{"ct", []Attribute{Number32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), Number32(unix.NFTA_CT_SREG, reg)}}
}

// EtherSource is the MAC that a packet comes from.
func EtherSource() Expression {
	return Expression{"payload", []Attribute{
		Number32(unix.NFTA_PAYLOAD_DREG, reg), Number32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_LL_HEADER),
		Number32(unix.NFTA_PAYLOAD_OFFSET, 6), Number32(unix.NFTA_PAYLOAD_LEN, 6),
	}}
}

// Compare ends the rule unless the register compares by op, NFT_CMP_*, with the bytes.
func Compare(op uint32, with []byte) Expression {
	return Expression{"cmp", []Attribute{Number32(unix.NFTA_CMP_SREG, reg), Number32(unix.NFTA_CMP_OP, op), data(unix.NFTA_CMP_DATA, with)}}
}

// And keeps these bits of the register.
func And(bits uint32) Expression { return bitwise(bits, 0) }

// Or sets these bits of the register.
func Or(bits uint32) Expression { return bitwise(^bits, bits) }

// bitwise makes the register (r & mask) ^ xor.
func bitwise(mask, xor uint32) Expression {
	return Expression{"bitwise", []Attribute{
		Number32(unix.NFTA_BITWISE_SREG, reg), Number32(unix.NFTA_BITWISE_DREG, reg), Number32(unix.NFTA_BITWISE_LEN, 4),
		data(unix.NFTA_BITWISE_MASK, Bytes(mask)), data(unix.NFTA_BITWISE_XOR, Bytes(xor)),
	}}
}

// Bytes returns a number as a register holds it, in the byte order of the machine.
func Bytes(n uint32) []byte { return nl.Uint32Attr(n) }

// ReversePath is the index of the link that a packet came in by, if its source
// is reached by that, or else 0: fib saddr . iif oif
func ReversePath() Expression {
	return Expression{"fib", []Attribute{
		Number32(unix.NFTA_FIB_DREG, reg), Number32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_OIF),
		Number32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF),
	}}
}

// Drop drops the packet.
func Drop() Expression {
	verdict := nest(unix.NFTA_DATA_VERDICT, Number32(unix.NFTA_VERDICT_CODE, VerdictDrop))
	verdict.typ &^= unix.NLA_F_NESTED // as the kernel tells it
	return Expression{"immediate", []Attribute{
		Number32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT), nest(unix.NFTA_IMMEDIATE_DATA, verdict),
	}}
}
