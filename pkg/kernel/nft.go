// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// nftSocket is a netlink socket to nf_tables.
type nftSocket struct {
	*conn
	// waits is set when close would wait for what was deleted.
	waits bool
}

// dialNft opens a socket to nf_tables in the calling thread's network namespace.
func dialNft(b buffers) (*nftSocket, error) {
	c, err := dial(unix.NETLINK_NETFILTER, b)
	if err != nil {
		return nil, err
	}
	return &nftSocket{conn: c}, nil
}

// close closes the socket, and doesn't wait for what the kernel would have the
// caller wait for.
func (c *nftSocket) close() {
	if c.waits {
		c.closeLater()
	} else {
		c.conn.close()
	}
}

// transaction sends requests of which all are done or none, and waits for the
// answers.
func (c *nftSocket) transaction(reqs ...*nl.NetlinkRequest) error {
	last := reqs[len(reqs)-1]
	last.Flags |= unix.NLM_F_ACK
	begin := nftRequest(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC)
	end := nftRequest(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC)
	// An error of the begin is one of them all, and nothing need follow it
	// (nfnetlink_rcv_batch).
	err := firstError(c.exchange(nil, slices.Concat([]*nl.NetlinkRequest{begin}, reqs, []*nl.NetlinkRequest{end}), begin, last))
	// Close waits until no packet is on its way through what was deleted, or
	// made and not kept (nft_rcv_nl_event).
	c.waits = c.waits || err != nil || slices.ContainsFunc(reqs, nftDeletes)
	return err
}

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
		head.ResId = nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)
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
func (c *nftSocket) nftTables() ([]nftTable, error) {
	return dump(c.conn, nftRequest(unix.NFT_MSG_GETTABLE, 0, unix.NFPROTO_UNSPEC), func(b []byte) (t nftTable, ok bool) {
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
func (c *nftSocket) nftChains(of nftTable) ([]nftChain, error) {
	return dump(c.conn, nftRequest(unix.NFT_MSG_GETCHAIN, 0, of.family), func(b []byte) (h nftChain, ok bool) {
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
func (c *nftSocket) nftRules(of nftTable) ([]nftRule, error) {
	return c.dumpRules(nftRequest(unix.NFT_MSG_GETRULE, 0, of.family, text(unix.NFTA_RULE_TABLE, of.name)))
}

// nftRulesOf lists the rules of one chain.
func (c *nftSocket) nftRulesOf(h nftChain) ([]nftRule, error) {
	return c.dumpRules(nftRequest(unix.NFT_MSG_GETRULE, 0, h.table.family, text(unix.NFTA_RULE_TABLE, h.table.name), text(unix.NFTA_RULE_CHAIN, h.name)))
}

func (c *nftSocket) dumpRules(req *nl.NetlinkRequest) ([]nftRule, error) {
	return dump(c.conn, req, func(b []byte) (r nftRule, ok bool) {
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

// source returns the sources that a rule compares packets' with, and how. A prefix of
// whole bytes is compared by these alone, others by a mask.
func (r nftRule) source(f netstate.Family) (p netip.Prefix, op uint32) {
	offset, size := uint32(12), 4 // of struct iphdr
	if f == netstate.IPv6 {
		offset, size = 8, 16 // of struct ipv6hdr
	}
	load := expression{"payload", []attribute{big(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER), big(unix.NFTA_PAYLOAD_OFFSET, offset)}}
	i := slices.IndexFunc(r.expressions, func(e expression) bool { return e.is(load) })
	if i < 0 {
		return p, 0
	}
	rest, ones := r.expressions[i+1:], -1
	if len(rest) > 0 && rest[0].name == "bitwise" {
		ones = 0
		for _, b := range value(rest[0].attr(unix.NFTA_BITWISE_MASK)) {
			ones += bits.OnesCount8(b)
		}
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].name != "cmp" || len(rest[0].attr(unix.NFTA_CMP_OP)) != 4 {
		return p, 0
	}
	with := value(rest[0].attr(unix.NFTA_CMP_DATA))
	if ones < 0 {
		ones = 8 * len(with)
	}
	full := make([]byte, size)
	copy(full, with)
	a, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(a, ones), binary.BigEndian.Uint32(rest[0].attr(unix.NFTA_CMP_OP))
}

// value is what is in a register.
func value(data []byte) (out []byte) {
	attrs(data, func(typ uint16, v []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			out = v
		}
	})
	return out
}

// nftSet lists the addresses of a set or a map, which are all of its key or its
// beginning.
func (c *nftSocket) nftSet(of nftTable, name string, f netstate.Family) ([]netip.Addr, error) {
	size := 4
	if f == netstate.IPv6 {
		size = 16
	}
	req := nftRequest(unix.NFT_MSG_GETSETELEM, 0, of.family, text(unix.NFTA_SET_ELEM_LIST_TABLE, of.name), text(unix.NFTA_SET_ELEM_LIST_SET, name))
	lists, err := dump(c.conn, req, func(b []byte) (list []netip.Addr, ok bool) {
		attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			attrs(v, func(_ uint16, element []byte) {
				attrs(element, func(typ uint16, v []byte) {
					key := value(v)
					if a, ok := netip.AddrFromSlice(key[:min(len(key), size)]); typ == unix.NFTA_SET_ELEM_KEY && ok {
						list = append(list, a)
					}
				})
			})
		})
		return list, true
	})
	return slices.Concat(lists...), err
}

// address is what a register is compared with, if that is an address.
func address(data []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value(data))
	return a
}
