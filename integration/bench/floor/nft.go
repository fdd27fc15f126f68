// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	nftTable = "multihome"

	priorityMangle = 0xffffff6a // -150
	ctStateNew     = 8          // NF_CT_STATE_BIT(IP_CT_NEW)
	ctReply        = 1          // IP_CT_DIR_REPLY
)

// replyMarks returns the messages of a transaction that adds the same table inet multihome as
// coordinator.
func replyMarks(dev string, mark uint32) [][]byte {
	newOfLink := slices.Concat(
		meta(unix.NFT_META_IIFNAME), compare(unix.NFT_CMP_EQ, fixed(dev, unix.IFNAMSIZ)),
		ct(unix.NFT_CT_STATE), bits(ctStateNew, 0), compare(unix.NFT_CMP_NEQ, u32(0)),
		ct(unix.NFT_CT_MARK), bits(^mark, mark), setCtMark())
	replies := slices.Concat(
		ct(unix.NFT_CT_DIRECTION), compare(unix.NFT_CMP_EQ, []byte{ctReply}),
		ct(unix.NFT_CT_MARK), bits(mark, 0), compare(unix.NFT_CMP_NEQ, u32(0)),
		meta(unix.NFT_META_MARK), bits(^mark, mark), setMark())
	return [][]byte{
		nfnl(unix.NFNL_MSG_BATCH_BEGIN, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		nft(unix.NFT_MSG_NEWTABLE, attr(unix.NFTA_TABLE_NAME, cstring(nftTable))),
		nftChain("prerouting", "filter", unix.NF_INET_PRE_ROUTING),
		nftChain("output", "route", unix.NF_INET_LOCAL_OUT),
		nftRule("prerouting", newOfLink),
		nftRule("prerouting", replies),
		nftRule("output", replies),
		nfnl(unix.NFNL_MSG_BATCH_END, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
}

func nftChain(name, kind string, hook uint32) []byte {
	return nft(unix.NFT_MSG_NEWCHAIN,
		attr(unix.NFTA_CHAIN_TABLE, cstring(nftTable)),
		attr(unix.NFTA_CHAIN_NAME, cstring(name)),
		attr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED,
			attr(unix.NFTA_HOOK_HOOKNUM, be32(hook)),
			attr(unix.NFTA_HOOK_PRIORITY, be32(priorityMangle))),
		attr(unix.NFTA_CHAIN_TYPE, cstring(kind)))
}

func nftRule(chain string, expressions []byte) []byte {
	return nft(unix.NFT_MSG_NEWRULE,
		attr(unix.NFTA_RULE_TABLE, cstring(nftTable)),
		attr(unix.NFTA_RULE_CHAIN, cstring(chain)),
		attr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, expressions))
}

// All expressions below use register 1.

func meta(key uint32) []byte {
	return expression("meta", attr(unix.NFTA_META_DREG, be32(unix.NFT_REG_1)), attr(unix.NFTA_META_KEY, be32(key)))
}

func setMark() []byte {
	return expression("meta", attr(unix.NFTA_META_SREG, be32(unix.NFT_REG_1)), attr(unix.NFTA_META_KEY, be32(unix.NFT_META_MARK)))
}

func ct(key uint32) []byte {
	return expression("ct", attr(unix.NFTA_CT_DREG, be32(unix.NFT_REG_1)), attr(unix.NFTA_CT_KEY, be32(key)))
}

func setCtMark() []byte {
	return expression("ct", attr(unix.NFTA_CT_SREG, be32(unix.NFT_REG_1)), attr(unix.NFTA_CT_KEY, be32(unix.NFT_CT_MARK)))
}

// bits sets the register to (register & mask) ^ xor.
func bits(mask, xor uint32) []byte {
	return expression("bitwise",
		attr(unix.NFTA_BITWISE_SREG, be32(unix.NFT_REG_1)),
		attr(unix.NFTA_BITWISE_DREG, be32(unix.NFT_REG_1)),
		attr(unix.NFTA_BITWISE_LEN, be32(4)),
		attr(unix.NFTA_BITWISE_MASK|unix.NLA_F_NESTED, attr(unix.NFTA_DATA_VALUE, u32(mask))),
		attr(unix.NFTA_BITWISE_XOR|unix.NLA_F_NESTED, attr(unix.NFTA_DATA_VALUE, u32(xor))))
}

func compare(op uint32, with []byte) []byte {
	return expression("cmp",
		attr(unix.NFTA_CMP_SREG, be32(unix.NFT_REG_1)),
		attr(unix.NFTA_CMP_OP, be32(op)),
		attr(unix.NFTA_CMP_DATA|unix.NLA_F_NESTED, attr(unix.NFTA_DATA_VALUE, with)))
}

func expression(name string, data ...[]byte) []byte {
	return attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED,
		attr(unix.NFTA_EXPR_NAME, cstring(name)),
		attr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, data...))
}

// nft returns a message of a transaction on a table of family inet.
func nft(kind uint16, attrs ...[]byte) []byte {
	return nfnl(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NFPROTO_INET, 0, attrs...)
}

func nfnl(kind uint16, family byte, resource uint16, attrs ...[]byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	return request(kind, unix.NLM_F_CREATE|unix.NLM_F_APPEND, append([][]byte{head}, attrs...)...)
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// fixed returns a string that is padded with zeros to a size in bytes.
func fixed(s string, size int) []byte { return append([]byte(s), make([]byte, size-len(s))...) }
