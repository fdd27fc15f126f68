// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ruleset is a table of nf_tables with its chains and rules.
type Ruleset struct {
	Table
	Chains []Chain
	Rules  []Rule
}

// Add returns the requests that make the table, its chains and its rules.
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

// Damage compares the kernel's table, which has these chains, with the ruleset. It returns
// the first chain that is missing, differs or is not in the ruleset, "" if there is none.
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

// sameRule reports whether a rule that was read has the expressions of a rule that was
// built.
func sameRule(have, want Rule) bool {
	return slices.EqualFunc(have.Expressions, want.Expressions, Expression.Is)
}

// reg is the register on which all expressions work.
const reg = unix.NFT_REG_1

// Meta returns the expression that loads a property of the packet, NFT_META_*, into the
// register: meta KEY.
func Meta(key uint32) Expression {
	return Expression{"meta", []Attribute{Number32(unix.NFTA_META_KEY, key), Number32(unix.NFTA_META_DREG, reg)}}
}

// SetMark returns the expression that sets the packet's mark to the register: meta mark
// set.
func SetMark() Expression {
	return Expression{"meta", []Attribute{Number32(unix.NFTA_META_KEY, unix.NFT_META_MARK), Number32(unix.NFTA_META_SREG, reg)}}
}

// Conntrack returns the expression that loads a property of the connection, NFT_CT_*, into
// the register: ct KEY.
func Conntrack(key uint32) Expression {
	return Expression{"ct", []Attribute{Number32(unix.NFTA_CT_KEY, key), Number32(unix.NFTA_CT_DREG, reg)}}
}

// SetConntrackMark returns the expression that sets the connection's mark to the register:
// ct mark set.
func SetConntrackMark() Expression {
	return Expression{"ct", []Attribute{Number32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), Number32(unix.NFTA_CT_SREG, reg)}}
}

// EtherSource returns the expression that loads the source MAC of the frame into the
// register: ether saddr.
func EtherSource() Expression {
	return Expression{"payload", []Attribute{
		Number32(unix.NFTA_PAYLOAD_DREG, reg), Number32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_LL_HEADER),
		Number32(unix.NFTA_PAYLOAD_OFFSET, 6), Number32(unix.NFTA_PAYLOAD_LEN, 6),
	}}
}

// Compare returns the expression that compares the register with bytes by op, NFT_CMP_*. If
// the comparison is false, the rule ends.
func Compare(op uint32, with []byte) Expression {
	return Expression{"cmp", []Attribute{Number32(unix.NFTA_CMP_SREG, reg), Number32(unix.NFTA_CMP_OP, op), data(unix.NFTA_CMP_DATA, with)}}
}

// And returns the expression that clears all other bits of the register.
func And(bits uint32) Expression { return bitwise(bits, 0) }

// Or returns the expression that sets these bits of the register.
func Or(bits uint32) Expression { return bitwise(^bits, bits) }

// bitwise returns the expression that sets the register to (register & mask) ^ xor.
func bitwise(mask, xor uint32) Expression {
	return Expression{"bitwise", []Attribute{
		Number32(unix.NFTA_BITWISE_SREG, reg), Number32(unix.NFTA_BITWISE_DREG, reg), Number32(unix.NFTA_BITWISE_LEN, 4),
		data(unix.NFTA_BITWISE_MASK, Bytes(mask)), data(unix.NFTA_BITWISE_XOR, Bytes(xor)),
	}}
}

// Bytes returns a number in the byte order of the machine, as registers hold it.
func Bytes(n uint32) []byte { return nl.Uint32Attr(n) }

// ReversePath returns the expression that loads the index of the packet's incoming link into
// the register if the route to the packet's source leaves by that link, and 0 otherwise:
// fib saddr . iif oif
func ReversePath() Expression {
	return Expression{"fib", []Attribute{
		Number32(unix.NFTA_FIB_DREG, reg), Number32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_OIF),
		Number32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF),
	}}
}

// Drop returns the expression that drops the packet.
func Drop() Expression {
	verdict := nest(unix.NFTA_DATA_VERDICT, Number32(unix.NFTA_VERDICT_CODE, VerdictDrop))
	verdict.typ &^= unix.NLA_F_NESTED // as the kernel returns it
	return Expression{"immediate", []Attribute{
		Number32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT), nest(unix.NFTA_IMMEDIATE_DATA, verdict),
	}}
}
