// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// Conn is a netlink socket to nf_tables.
type Conn struct {
	*netlink.Conn
	// waits is set when closing the socket would wait for a grace period.
	waits bool
}

// Dial opens a socket to nf_tables in the calling thread's network namespace.
func Dial(b netlink.Buffers) (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, b)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}

// Close closes the socket without waiting. After a deletion, close(2) would wait for a
// grace period.
func (c *Conn) Close() {
	if c.waits {
		c.CloseLater()
	} else {
		c.Conn.Close()
	}
}

// Transaction sends requests as one transaction of nf_tables, and waits for the answers.
// The kernel does all of them or none.
func (c *Conn) Transaction(reqs ...*nl.NetlinkRequest) error {
	last := reqs[len(reqs)-1]
	last.Flags |= unix.NLM_F_ACK
	begin := request(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC)
	end := request(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC)
	// After an error of the begin message the kernel may send no other answer
	// (nfnetlink_rcv_batch).
	err := netlink.FirstError(c.Exchange(nil, slices.Concat([]*nl.NetlinkRequest{begin}, reqs, []*nl.NetlinkRequest{end}), begin, last))
	// close(2) waits until no packet passes objects that were deleted, or made and rolled
	// back (nft_rcv_nl_event).
	c.waits = c.waits || err != nil || slices.ContainsFunc(reqs, deletes)
	return err
}

// Table is a table of nf_tables.
type Table struct {
	Family uint8 // NFPROTO_INET, …
	Name   string
}

// Chain is a chain of a table. Kind, Hook, Priority and Drops are zero for a chain without
// a hook.
type Chain struct {
	Table          Table
	Name, Kind     string
	Hook, Priority uint32
	Drops          bool // its policy is drop
}

// Verdicts of linux/netfilter.h. They are also the policies of chains.
const (
	VerdictDrop   = 0
	VerdictAccept = 1
)

// Rule is a rule of a chain.
type Rule struct {
	Chain       string
	handle      []byte // identifies the rule in a request to delete it
	Expressions []Expression
}

// Expression is a part of a rule: its name, such as "meta" or "cmp", and its attributes.
type Expression struct {
	Name  string
	Attrs []Attribute
}

// Attribute is a netlink attribute of an expression.
type Attribute struct {
	typ   uint16
	value []byte
}

// request returns a request about objects of a family. The begin and the end of a
// transaction carry the subsystem, nf_tables, in the header.
func request(typ, flags int, family uint8, attrs ...Attribute) *nl.NetlinkRequest {
	head := &nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0}
	if typ == unix.NFNL_MSG_BATCH_BEGIN || typ == unix.NFNL_MSG_BATCH_END {
		head.ResId = nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)
	} else {
		typ |= unix.NFNL_SUBSYS_NFTABLES << 8
	}
	req := netlink.NewRequest(typ, flags, head)
	for _, a := range attrs {
		req.AddData(nl.NewRtAttr(int(a.typ), a.value))
	}
	return req
}

// nest returns an attribute that holds other attributes.
func nest(typ uint16, attrs ...Attribute) Attribute {
	var value []byte
	for _, a := range attrs {
		value = append(value, nl.NewRtAttr(int(a.typ), a.value).Serialize()...)
	}
	return Attribute{typ | unix.NLA_F_NESTED, value}
}

func text(typ uint16, s string) Attribute { return Attribute{typ, nl.ZeroTerminated(s)} }

// Number32 returns an attribute with a number in network byte order. Nf_tables uses this
// order for all numbers but those that it compares with packets.
func Number32(typ uint16, n uint32) Attribute {
	return Attribute{typ, binary.BigEndian.AppendUint32(nil, n)}
}

// data returns an attribute with the value of a register.
func data(typ uint16, value []byte) Attribute {
	return nest(typ, Attribute{unix.NFTA_DATA_VALUE, value})
}

// Add returns the request that makes the table. It fails with EEXIST if there is one.
func (t Table) Add() *nl.NetlinkRequest {
	return request(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, t.Family, text(unix.NFTA_TABLE_NAME, t.Name))
}

func (t Table) Delete() *nl.NetlinkRequest {
	return request(unix.NFT_MSG_DELTABLE, 0, t.Family, text(unix.NFTA_TABLE_NAME, t.Name))
}

// Clear returns the requests that delete the table if there is one. Unlike Delete they
// succeed if there is none.
func (t Table) Clear() []*nl.NetlinkRequest {
	ensure := t.Add()
	ensure.Flags &^= unix.NLM_F_EXCL
	return []*nl.NetlinkRequest{ensure, t.Delete()}
}

func (c Chain) add() *nl.NetlinkRequest {
	return request(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, c.Table.Family,
		text(unix.NFTA_CHAIN_TABLE, c.Table.Name),
		text(unix.NFTA_CHAIN_NAME, c.Name),
		nest(unix.NFTA_CHAIN_HOOK, Number32(unix.NFTA_HOOK_HOOKNUM, c.Hook), Number32(unix.NFTA_HOOK_PRIORITY, c.Priority)),
		text(unix.NFTA_CHAIN_TYPE, c.Kind))
}

func (c Chain) Delete() *nl.NetlinkRequest {
	return request(unix.NFT_MSG_DELCHAIN, 0, c.Table.Family, text(unix.NFTA_CHAIN_TABLE, c.Table.Name), text(unix.NFTA_CHAIN_NAME, c.Name))
}

// Flush returns the request that deletes the chain's rules.
func (c Chain) Flush() *nl.NetlinkRequest {
	return request(unix.NFT_MSG_DELRULE, 0, c.Table.Family, text(unix.NFTA_RULE_TABLE, c.Table.Name), text(unix.NFTA_RULE_CHAIN, c.Name))
}

// add returns the request that appends the rule to its chain.
func (r Rule) add(t Table) *nl.NetlinkRequest {
	var list []Attribute
	for _, e := range r.Expressions {
		list = append(list, nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, e.Name), nest(unix.NFTA_EXPR_DATA, e.Attrs...)))
	}
	return request(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.Family,
		text(unix.NFTA_RULE_TABLE, t.Name),
		text(unix.NFTA_RULE_CHAIN, r.Chain),
		nest(unix.NFTA_RULE_EXPRESSIONS, list...))
}

func (r Rule) Delete(t Table) *nl.NetlinkRequest {
	return request(unix.NFT_MSG_DELRULE, 0, t.Family,
		text(unix.NFTA_RULE_TABLE, t.Name), text(unix.NFTA_RULE_CHAIN, r.Chain), Attribute{unix.NFTA_RULE_HANDLE, r.handle})
}

// deletes reports whether a request deletes something.
func deletes(r *nl.NetlinkRequest) bool {
	return slices.Contains([]uint16{unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE}, r.Type&0xff)
}

// Tables returns the tables of all families.
func (c *Conn) Tables() ([]Table, error) {
	return netlink.Dump(c.Conn, request(unix.NFT_MSG_GETTABLE, 0, unix.NFPROTO_UNSPEC), func(b []byte) (t Table, ok bool) {
		t.Family = b[0]
		netlink.Attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			if typ == unix.NFTA_TABLE_NAME {
				t.Name = unix.ByteSliceToString(v)
			}
		})
		return t, true
	})
}

// Chains returns the chains of a table, none if there is no such table.
func (c *Conn) Chains(of Table) ([]Chain, error) {
	return netlink.Dump(c.Conn, request(unix.NFT_MSG_GETCHAIN, 0, of.Family), func(b []byte) (h Chain, ok bool) {
		h.Table.Family = b[0]
		netlink.Attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				h.Table.Name = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_NAME:
				h.Name = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_TYPE:
				h.Kind = unix.ByteSliceToString(v)
			case unix.NFTA_CHAIN_POLICY:
				h.Drops = binary.BigEndian.Uint32(v) == VerdictDrop
			case unix.NFTA_CHAIN_HOOK:
				netlink.Attrs(v, func(typ uint16, v []byte) {
					switch typ {
					case unix.NFTA_HOOK_HOOKNUM:
						h.Hook = binary.BigEndian.Uint32(v)
					case unix.NFTA_HOOK_PRIORITY:
						h.Priority = binary.BigEndian.Uint32(v)
					}
				})
			}
		})
		return h, h.Table == of
	})
}

// Rules returns the rules of a table; those of one chain are in their order. The kernel
// does the filtering.
func (c *Conn) Rules(of Table) ([]Rule, error) {
	return c.dumpRules(request(unix.NFT_MSG_GETRULE, 0, of.Family, text(unix.NFTA_RULE_TABLE, of.Name)))
}

// RulesOf returns the rules of one chain, in their order.
func (c *Conn) RulesOf(h Chain) ([]Rule, error) {
	return c.dumpRules(request(unix.NFT_MSG_GETRULE, 0, h.Table.Family, text(unix.NFTA_RULE_TABLE, h.Table.Name), text(unix.NFTA_RULE_CHAIN, h.Name)))
}

func (c *Conn) dumpRules(req *nl.NetlinkRequest) ([]Rule, error) {
	return netlink.Dump(c.Conn, req, func(b []byte) (r Rule, ok bool) {
		netlink.Attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_RULE_CHAIN:
				r.Chain = unix.ByteSliceToString(v)
			case unix.NFTA_RULE_HANDLE:
				r.handle = slices.Clone(v) // the buffer is used again
			case unix.NFTA_RULE_EXPRESSIONS:
				netlink.Attrs(v, func(_ uint16, v []byte) { r.Expressions = append(r.Expressions, decodeExpression(v)) })
			}
		})
		return r, true
	})
}

func decodeExpression(b []byte) (e Expression) {
	netlink.Attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			e.Name = unix.ByteSliceToString(v)
		case unix.NFTA_EXPR_DATA:
			netlink.Attrs(v, func(typ uint16, v []byte) { e.Attrs = append(e.Attrs, Attribute{typ, slices.Clone(v)}) })
		}
	})
	return e
}

// Attr returns the value of an attribute, nil if the expression has none of this type.
func (e Expression) Attr(typ uint16) []byte {
	for _, a := range e.Attrs {
		if a.typ&nl.NLA_TYPE_MASK == typ&nl.NLA_TYPE_MASK {
			return a.value
		}
	}
	return nil
}

// Is reports whether an expression that was read has the name and all attributes of want.
// It may have more: the kernel returns more attributes than were set, and newer kernels
// more than older ones.
func (e Expression) Is(want Expression) bool {
	return e.Name == want.Name && !slices.ContainsFunc(want.Attrs, func(a Attribute) bool { return !bytes.Equal(e.Attr(a.typ), a.value) })
}

// Jump returns the chain to which an expression jumps, "" if it isn't a jump.
func (e Expression) Jump() string {
	const jump = -3 // NFT_JUMP of linux/netfilter/nf_tables.h
	if code, chain := e.Verdict(); code == jump {
		return chain
	}
	return ""
}

// NoVerdict is the code of an expression without a verdict.
const NoVerdict = -1 << 31

// Verdict returns the code of an expression's verdict, NoVerdict if it has none, and the
// chain of a jump or goto.
func (e Expression) Verdict() (code int32, chain string) {
	code = NoVerdict
	netlink.Attrs(e.Attr(unix.NFTA_IMMEDIATE_DATA), func(typ uint16, v []byte) {
		if typ != unix.NFTA_DATA_VERDICT {
			return // data for a register
		}
		netlink.Attrs(v, func(typ uint16, v []byte) {
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

// Source returns the prefix with which a rule compares the source of packets, and the
// comparison (NFT_CMP_*). The prefix is invalid if the rule compares no source. Rules
// compare a prefix of whole bytes by these bytes alone, and other prefixes by a mask.
func (r Rule) Source(f netstate.Family) (p netip.Prefix, op uint32) {
	offset, size := uint32(12), 4 // of struct iphdr
	if f == netstate.IPv6 {
		offset, size = 8, 16 // of struct ipv6hdr
	}
	load := Expression{"payload", []Attribute{Number32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER), Number32(unix.NFTA_PAYLOAD_OFFSET, offset)}}
	i := slices.IndexFunc(r.Expressions, func(e Expression) bool { return e.Is(load) })
	if i < 0 {
		return p, 0
	}
	rest, ones := r.Expressions[i+1:], -1
	if len(rest) > 0 && rest[0].Name == "bitwise" {
		ones = 0
		for _, b := range value(rest[0].Attr(unix.NFTA_BITWISE_MASK)) {
			ones += bits.OnesCount8(b)
		}
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].Name != "cmp" || len(rest[0].Attr(unix.NFTA_CMP_OP)) != 4 {
		return p, 0
	}
	with := value(rest[0].Attr(unix.NFTA_CMP_DATA))
	if ones < 0 {
		ones = 8 * len(with)
	}
	full := make([]byte, size)
	copy(full, with)
	a, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(a, ones), binary.BigEndian.Uint32(rest[0].Attr(unix.NFTA_CMP_OP))
}

// value returns the value in the attribute of a register.
func value(data []byte) (out []byte) {
	netlink.Attrs(data, func(typ uint16, v []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			out = v
		}
	})
	return out
}

// Set returns the addresses in a set or a map of a table. An address is the whole key of an
// element or the first part of it.
func (c *Conn) Set(of Table, name string, f netstate.Family) ([]netip.Addr, error) {
	size := 4
	if f == netstate.IPv6 {
		size = 16
	}
	req := request(unix.NFT_MSG_GETSETELEM, 0, of.Family, text(unix.NFTA_SET_ELEM_LIST_TABLE, of.Name), text(unix.NFTA_SET_ELEM_LIST_SET, name))
	lists, err := netlink.Dump(c.Conn, req, func(b []byte) (list []netip.Addr, ok bool) {
		netlink.Attrs(b[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			netlink.Attrs(v, func(_ uint16, element []byte) {
				netlink.Attrs(element, func(typ uint16, v []byte) {
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

// address returns the address in the attribute of a register, the invalid one if it holds
// none.
func address(data []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value(data))
	return a
}

// JumpsTo reports whether the rule jumps to a chain, by the chain's name.
func (r Rule) JumpsTo(c Chain) bool {
	return slices.ContainsFunc(r.Expressions, func(e Expression) bool { return e.Jump() == c.Name })
}

// Destination returns the single destination address that a rule matches, the invalid one
// if it matches none.
func (r Rule) Destination(f netstate.Family) netip.Addr {
	offset := uint32(16) // of struct iphdr
	if f == netstate.IPv6 {
		offset = 24 // of struct ipv6hdr
	}
	load := Expression{"payload", []Attribute{Number32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER), Number32(unix.NFTA_PAYLOAD_OFFSET, offset)}}
	for i, e := range r.Expressions[:max(len(r.Expressions)-1, 0)] {
		if cmp := r.Expressions[i+1]; e.Is(load) && cmp.Is(Expression{"cmp", []Attribute{Number32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)}}) {
			return address(cmp.Attr(unix.NFTA_CMP_DATA))
		}
	}
	return netip.Addr{}
}
