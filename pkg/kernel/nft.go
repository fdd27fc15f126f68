// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftTable is a table of nf_tables.
type nftTable struct {
	family uint8 // NFPROTO_INET, …
	name   string
}

// nftChain is a chain of a table. Of one without a hook, the rest is empty.
type nftChain struct {
	table          nftTable
	name, kind     string
	hook, priority uint32
	drops          bool // by its policy
}

// Verdicts of linux/netfilter.h, which are policies of chains, too.
const (
	nfDrop   = 0
	nfAccept = 1
)

// nftRule is a rule of a chain.
type nftRule struct {
	chain       string
	handle      []byte // by which it is deleted
	expressions []expression
}

// expression is a part of a rule: what it does, and its attributes.
type expression struct {
	name  string
	attrs []attribute
}

type attribute struct {
	typ   uint16
	value []byte
}

// nftRequest returns a request about what belongs to a family; nfnetlink wants to
// know in the begin and the end of a transaction which subsystem that is for.
func nftRequest(typ, flags int, family uint8, attrs ...attribute) *nl.NetlinkRequest {
	head := &nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0}
	if typ == unix.NFNL_MSG_BATCH_BEGIN || typ == unix.NFNL_MSG_BATCH_END {
		head.ResId = networkOrder(unix.NFNL_SUBSYS_NFTABLES)
	} else {
		typ |= unix.NFNL_SUBSYS_NFTABLES << 8
	}
	req := request(typ, flags, head)
	for _, a := range attrs {
		req.AddData(nl.NewRtAttr(int(a.typ), a.value))
	}
	return req
}

// nest puts attributes into one.
func nest(typ uint16, attrs ...attribute) attribute {
	var value []byte
	for _, a := range attrs {
		value = append(value, nl.NewRtAttr(int(a.typ), a.value).Serialize()...)
	}
	return attribute{typ | unix.NLA_F_NESTED, value}
}

func text(typ uint16, s string) attribute { return attribute{typ, nl.ZeroTerminated(s)} }

// big is a number as nf_tables wants those that are not compared with packets.
func big(typ uint16, n uint32) attribute {
	return attribute{typ, binary.BigEndian.AppendUint32(nil, n)}
}

// data is what a register holds, or is compared with.
func data(typ uint16, value []byte) attribute {
	return nest(typ, attribute{unix.NFTA_DATA_VALUE, value})
}

// add returns the request that makes the table; there must be none yet.
func (t nftTable) add() *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, t.family, text(unix.NFTA_TABLE_NAME, t.name))
}

func (t nftTable) delete() *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_DELTABLE, 0, t.family, text(unix.NFTA_TABLE_NAME, t.name))
}

// clear returns the requests after which there is no such table, whether there was
// one or not.
func (t nftTable) clear() []*nl.NetlinkRequest {
	ensure := t.add()
	ensure.Flags &^= unix.NLM_F_EXCL
	return []*nl.NetlinkRequest{ensure, t.delete()}
}

func (c nftChain) add() *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, c.table.family,
		text(unix.NFTA_CHAIN_TABLE, c.table.name),
		text(unix.NFTA_CHAIN_NAME, c.name),
		nest(unix.NFTA_CHAIN_HOOK, big(unix.NFTA_HOOK_HOOKNUM, c.hook), big(unix.NFTA_HOOK_PRIORITY, c.priority)),
		text(unix.NFTA_CHAIN_TYPE, c.kind))
}

func (c nftChain) delete() *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_DELCHAIN, 0, c.table.family, text(unix.NFTA_CHAIN_TABLE, c.table.name), text(unix.NFTA_CHAIN_NAME, c.name))
}

// flush returns the request that deletes the chain's rules.
func (c nftChain) flush() *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_DELRULE, 0, c.table.family, text(unix.NFTA_RULE_TABLE, c.table.name), text(unix.NFTA_RULE_CHAIN, c.name))
}

// add returns the request that puts the rule behind all others of its chain.
func (r nftRule) add(t nftTable) *nl.NetlinkRequest {
	var list []attribute
	for _, e := range r.expressions {
		list = append(list, nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, e.name), nest(unix.NFTA_EXPR_DATA, e.attrs...)))
	}
	return nftRequest(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.family,
		text(unix.NFTA_RULE_TABLE, t.name),
		text(unix.NFTA_RULE_CHAIN, r.chain),
		nest(unix.NFTA_RULE_EXPRESSIONS, list...))
}

func (r nftRule) delete(t nftTable) *nl.NetlinkRequest {
	return nftRequest(unix.NFT_MSG_DELRULE, 0, t.family,
		text(unix.NFTA_RULE_TABLE, t.name), text(unix.NFTA_RULE_CHAIN, r.chain), attribute{unix.NFTA_RULE_HANDLE, r.handle})
}

// nftDeletes reports whether a request deletes something.
func nftDeletes(r *nl.NetlinkRequest) bool {
	return slices.Contains([]uint16{unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE}, r.Type&0xff)
}

// nftTables lists the tables of all families.
func (c *conn) nftTables() ([]nftTable, error) {
	return dump(c, nftRequest(unix.NFT_MSG_GETTABLE, 0, unix.NFPROTO_UNSPEC), func(b []byte) (t nftTable, ok bool) {
		t.family = b[0]
		attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			if typ == unix.NFTA_TABLE_NAME {
				t.name = unix.ByteSliceToString(v)
			}
		})
		return t, true
	})
}

// nftChains lists the chains of a table.
func (c *conn) nftChains(of nftTable) ([]nftChain, error) {
	return dump(c, nftRequest(unix.NFT_MSG_GETCHAIN, 0, of.family), func(b []byte) (h nftChain, ok bool) {
		h.table.family = b[0]
		attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				h.table.name = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_NAME:
				h.name = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_TYPE:
				h.kind = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_POLICY:
				h.drops = binary.BigEndian.Uint32(v) == nfDrop
			case unix.NFTA_CHAIN_HOOK:
				attrs(v, func(typ uint16, v []byte) {
					switch typ {
					case unix.NFTA_HOOK_HOOKNUM:
						h.hook = binary.BigEndian.Uint32(v)
					case unix.NFTA_HOOK_PRIORITY:
						h.priority = binary.BigEndian.Uint32(v)
					}
				})
			}
		})
		return h, h.table == of
	})
}

// nftRules lists the rules of a table, of each chain in their order; the kernel
// does the filtering.
func (c *conn) nftRules(of nftTable) ([]nftRule, error) {
	return c.dumpRules(nftRequest(unix.NFT_MSG_GETRULE, 0, of.family, text(unix.NFTA_RULE_TABLE, of.name)))
}

// nftRulesOf lists the rules of one chain.
func (c *conn) nftRulesOf(h nftChain) ([]nftRule, error) {
	return c.dumpRules(nftRequest(unix.NFT_MSG_GETRULE, 0, h.table.family, text(unix.NFTA_RULE_TABLE, h.table.name), text(unix.NFTA_RULE_CHAIN, h.name)))
}

func (c *conn) dumpRules(req *nl.NetlinkRequest) ([]nftRule, error) {
	return dump(c, req, func(b []byte) (r nftRule, ok bool) {
		attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_RULE_CHAIN:
				r.chain = unix.ByteSliceToString(v)
			case unix.NFTA_RULE_HANDLE:
				r.handle = slices.Clone(v) // the buffer is used again
			case unix.NFTA_RULE_EXPRESSIONS:
				attrs(v, func(_ uint16, v []byte) { r.expressions = append(r.expressions, decodeExpression(v)) })
			}
		})
		return r, true
	})
}

func decodeExpression(b []byte) (e expression) {
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			e.name = unix.ByteSliceToString(v)
		case unix.NFTA_EXPR_DATA:
			attrs(v, func(typ uint16, v []byte) { e.attrs = append(e.attrs, attribute{typ, slices.Clone(v)}) })
		}
	})
	return e
}

// attr returns an attribute's value, nil if there is none.
func (e expression) attr(typ uint16) []byte {
	for _, a := range e.attrs {
		if a.typ&nl.NLA_TYPE_MASK == typ&nl.NLA_TYPE_MASK {
			return a.value
		}
	}
	return nil
}

// is reports whether an expression that was read is this one. The kernel tells
// more of it than it was told, and newer ones more than older ones.
func (e expression) is(want expression) bool {
	return e.name == want.name && !slices.ContainsFunc(want.attrs, func(a attribute) bool { return !bytes.Equal(e.attr(a.typ), a.value) })
}

// jump is the chain that an expression sends packets to and back, "" if it is
// none that does.
func (e expression) jump() string {
	const jump = -3 // NFT_JUMP of linux/netfilter/nf_tables.h
	if code, chain := e.verdict(); code == jump {
		return chain
	}
	return ""
}

// noVerdict is none of the verdicts there are.
const noVerdict = -1 << 31

// verdict is what becomes of packets by an expression, and the chain that they are
// sent to, if so.
func (e expression) verdict() (code int32, chain string) {
	code = noVerdict
	attrs(e.attr(unix.NFTA_IMMEDIATE_DATA), func(typ uint16, v []byte) {
		if typ != unix.NFTA_DATA_VERDICT {
			return // data for a register
		}
		attrs(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_VERDICT_CODE:
				code = int32(binary.BigEndian.Uint32(v))
			case unix.NFTA_VERDICT_CHAIN:
				chain = unix.ByteSliceToString(v)
			}
		})
	})
	return code, chain
}
