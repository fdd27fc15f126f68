// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ruleset is a table of nf_tables with all that is in it.
type ruleset struct {
	nftTable
	chains []nftChain
	rules  []nftRule
}

// add returns the requests that make it.
func (r ruleset) add() []*nl.NetlinkRequest {
	reqs := []*nl.NetlinkRequest{r.nftTable.add()}
	for _, chain := range r.chains {
		reqs = append(reqs, chain.add())
	}
	for _, rule := range r.rules {
		reqs = append(reqs, rule.add(r.nftTable))
	}
	return reqs
}

// damage says where the kernel's table, which has these chains, isn't made of
// exactly the wanted chains and rules, "" if nowhere.
func (r ruleset) damage(c *nftSocket, chains []nftChain) (string, error) {
	rules, err := c.nftRules(r.nftTable)
	if err != nil {
		return "", err
	}
	for _, w := range r.chains {
		have := slices.DeleteFunc(slices.Clone(rules), func(h nftRule) bool { return h.chain != w.name })
		want := slices.DeleteFunc(slices.Clone(r.rules), func(h nftRule) bool { return h.chain != w.name })
		if !slices.Contains(chains, w) || !slices.EqualFunc(have, want, sameRule) {
			return "chain " + w.name, nil
		}
	}
	for _, h := range chains {
		if !slices.Contains(r.chains, h) {
			return "chain " + h.name, nil
		}
	}
	return "", nil
}

// sameRule compares a rule that was read with one that was built.
func sameRule(have, want nftRule) bool {
	return slices.EqualFunc(have.expressions, want.expressions, expression.is)
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
