// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// markTable is the nftables table of netstate.Mark, one object per request.
type markTable struct {
	table  *nftables.Table
	chains []*nftables.Chain
	rules  map[string][][]expr.Any // by chain
}

// buildMark returns the table that netstate.Mark.Ruleset prints.
func buildMark(m netstate.Mark) markTable {
	t := &nftables.Table{Name: netstate.MarkTable, Family: nftables.TableFamilyINet}
	return markTable{
		table: t,
		chains: []*nftables.Chain{{
			Name: "prerouting", Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		}, {
			Name: "output", Table: t, Type: nftables.ChainTypeRoute,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle,
		}},
		rules: map[string][][]expr.Any{
			"prerouting": {markEntering(m), markReply(m.Bits)},
			"output":     {markReply(m.Bits)},
		},
	}
}

const reg = unix.NFT_REG_1

// markEntering: iifname dev [ether saddr from] ct state new ct mark set ct mark | bits
func markEntering(m netstate.Mark) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, m.Dev)
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: name},
	}
	if m.From != (netstate.MAC{}) {
		exprs = append(exprs,
			&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: reg},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER)},
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: m.From[:]},
		)
	}
	return append(exprs,
		&expr.Ct{Key: expr.CtKeySTATE, Register: reg},
		and(expr.CtStateBitNEW),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: number(0)},
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg},
		or(m.Bits),
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg, SourceRegister: true},
	)
}

// markReply: ct direction reply ct mark & bits != 0 meta mark set meta mark | bits
func markReply(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{1}}, // IP_CT_DIR_REPLY
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg},
		and(bits),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: number(0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		or(bits),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg, SourceRegister: true},
	}
}

// and keeps these bits of the register.
func and(bits uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: number(bits), Xor: number(0)}
}

// or sets these bits of the register: (r & ^bits) ^ bits.
func or(bits uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: number(^bits), Xor: number(bits)}
}

func number(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

// nft returns a connection to the namespace's nf_tables, made at first use.
func (s *Space) nft() (*nftables.Conn, error) {
	if s.nftConn != nil {
		return s.nftConn, nil
	}
	err := s.enter(func() (err error) {
		s.nftConn, err = nftables.New(nftables.AsLasting())
		return err
	})
	return s.nftConn, err
}

// HasMarks returns nil if the kernel can hold reply marks.
func (s *Space) HasMarks() error {
	c, err := s.nft()
	if err == nil {
		_, err = c.ListTableOfFamily(netstate.MarkTable, nftables.TableFamilyINet)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: nftables: %w", s.ns, err)
	}
	return nil
}

// ReadMark puts the reply marks into the snapshot, if there is a table of our
// name; want says what an undamaged one holds.
func (s *Space) ReadMark(snap *netstate.Snapshot, want netstate.Mark) error {
	c, err := s.nft()
	if err != nil {
		return fmt.Errorf("%s: nftables: %w", s.ns, err)
	}
	table := buildMark(want)
	if _, err := c.ListTableOfFamily(table.table.Name, table.table.Family); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, table.table.Name, err)
	}
	whole, err := holds(c, table)
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, table.table.Name, err)
	}
	if !whole {
		want = netstate.Mark{Damaged: true}
	}
	snap.Put(s.ns, want)
	return nil
}

// holds reports whether the kernel's table has exactly these chains and rules.
func holds(c *nftables.Conn, want markTable) (bool, error) {
	chains, err := c.ListChainsOfTableFamily(want.table.Family)
	if err != nil {
		return false, err
	}
	have := map[string]*nftables.Chain{}
	for _, ch := range chains {
		if ch.Table.Name == want.table.Name {
			have[ch.Name] = ch
		}
	}
	if len(have) != len(want.chains) {
		return false, nil
	}
	for _, w := range want.chains {
		h := have[w.Name]
		if h == nil || h.Hooknum == nil || h.Priority == nil || *h.Hooknum != *w.Hooknum || *h.Priority != *w.Priority || h.Type != w.Type {
			return false, nil
		}
		rules, err := c.GetRules(want.table, w)
		if err != nil {
			return false, err
		}
		if len(rules) != len(want.rules[w.Name]) {
			return false, nil
		}
		for i, r := range rules {
			if same, err := sameExprs(r.Exprs, want.rules[w.Name][i]); err != nil || !same {
				return false, err
			}
		}
	}
	return true, nil
}

// sameExprs compares a rule that was read with one that was built, as the
// messages they are.
func sameExprs(a, b []expr.Any) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		x, err := expr.Marshal(byte(nftables.TableFamilyINet), settingCt(a[i]))
		if err != nil {
			return false, err
		}
		y, err := expr.Marshal(byte(nftables.TableFamilyINet), b[i])
		if err != nil {
			return false, err
		}
		if !bytes.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}

// settingCt mends an expression that sets a conntrack field, as it is read back:
// google/nftables v0.3.0 doesn't decode NFTA_CT_SREG.
func settingCt(e expr.Any) expr.Any {
	if ct, ok := e.(*expr.Ct); ok && ct.Register == 0 {
		return &expr.Ct{Key: ct.Key, Register: reg, SourceRegister: true}
	}
	return e
}

// applyMark writes the whole table in one transaction: packets meet the old
// one or the new one, never a part.
func (s *Space) applyMark(op netstate.Op) error {
	c, err := s.nft()
	if err != nil {
		return err
	}
	if op.Before != nil {
		c.DelTable(buildMark(netstate.Mark{}).table)
	}
	if op.After != nil {
		m := buildMark(op.After.(netstate.Mark))
		c.CreateTable(m.table)
		for _, ch := range m.chains {
			c.AddChain(ch)
		}
		for _, ch := range m.chains {
			for _, exprs := range m.rules[ch.Name] {
				c.AddRule(&nftables.Rule{Table: m.table, Chain: ch, Exprs: exprs})
			}
		}
	}
	return c.Flush()
}
