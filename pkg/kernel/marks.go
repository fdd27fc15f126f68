// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

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
	nft    []*nftables.Table
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
	var c *nftables.Conn
	if c, t.err = s.nft(); t.err == nil {
		t.nft, t.err = c.ListTables()
	}
	s.tables = t
	return t
}

// hasNft reports whether nf_tables has a table.
func (t *tables) hasNft(family nftables.TableFamily, name string) bool {
	return slices.ContainsFunc(t.nft, func(h *nftables.Table) bool { return h.Family == family && h.Name == name })
}

// holdsInet returns nil if nf_tables can hold the table of a Mark. It is tried
// out only where somebody uses iptables of the legacy flavour, as those do who
// have to; elsewhere it turns out when the table is made (errNoFamily).
func (s *Space) holdsInet() error {
	have := s.listTables()
	if have.err == nil && !have.legacy[netstate.IPv4] && !have.legacy[netstate.IPv6] {
		return s.refused[nftables.TableFamilyINet]
	}
	return s.holds(nftables.TableFamilyINet)
}

// errNoFamily is in the error of a request for a table of a family that the
// kernel's nf_tables was built without (nft_supported_family in
// net/netfilter/nf_tables_api.c; Debian's user-mode kernel has none of inet, ip
// and ip6).
var errNoFamily = errors.New("the kernel's nf_tables has no such family")

// holds returns nil if nf_tables can hold a table of the family. Only making one
// tells, so one of our name is made and deleted in one transaction, unless it is
// there.
func (s *Space) holds(family nftables.TableFamily) error {
	have := s.listTables()
	switch {
	case have.err != nil:
		return fmt.Errorf("nftables: %w", have.err)
	case have.hasNft(family, netstate.MarkTable) || have.hasNft(family, netstate.MangleTable):
		return nil
	}
	if err, known := s.refused[family]; known {
		return err
	}
	t := &nftables.Table{Name: netstate.MarkTable, Family: family}
	s.nftConn.CreateTable(t)
	s.nftConn.DelTable(t)
	return s.tried(family, s.nftConn.Flush())
}

// tried notes whether the kernel has a family, by what came of making a table of it.
func (s *Space) tried(family nftables.TableFamily, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = fmt.Errorf("nftables: %w: %w", errNoFamily, err)
	} else if err != nil {
		return err
	}
	if s.refused == nil {
		s.refused = map[nftables.TableFamily]error{}
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
	table, have := buildMark(want), s.listTables()
	if noNftables(have.err) {
		return nil
	}
	damage, err := "", have.err
	if err == nil && !have.hasNft(table.table.Family, table.table.Name) {
		return nil
	}
	if err == nil {
		damage, err = compare(s.nftConn, table)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, table.table.Name, err)
	}
	want.Damage = damage
	snap.Put(s.ns, want)
	return nil
}

// compare says where the kernel's table isn't made of exactly these chains and
// rules, "" if nowhere.
func compare(c *nftables.Conn, want markTable) (damage string, err error) {
	chains, err := c.ListChainsOfTableFamily(want.table.Family)
	if err != nil {
		return "", err
	}
	have := map[string]*nftables.Chain{}
	for _, ch := range chains {
		if ch.Table.Name == want.table.Name {
			have[ch.Name] = ch
		}
	}
	for _, w := range want.chains {
		h := have[w.Name]
		if h == nil || h.Hooknum == nil || h.Priority == nil || *h.Hooknum != *w.Hooknum || *h.Priority != *w.Priority || h.Type != w.Type {
			return "chain " + w.Name, nil
		}
		delete(have, w.Name)
		rules, err := c.GetRules(want.table, w)
		if err != nil {
			return "", err
		}
		same := len(rules) == len(want.rules[w.Name])
		for i := 0; same && i < len(rules); i++ {
			if same, err = sameExprs(rules[i].Exprs, want.rules[w.Name][i]); err != nil {
				return "", err
			}
		}
		if !same {
			return "chain " + w.Name, nil
		}
	}
	for name := range have {
		return "chain " + name, nil
	}
	return "", nil
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
	if op.Before != nil {
		c.DelTable(buildMark(netstate.Mark{}).table)
	}
	if after, ok := op.After.(netstate.Mark); ok && after.Damage == "" {
		m := buildMark(after)
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
	err = c.Flush()
	if op.After == nil && noNftables(err) {
		return nil
	}
	return s.tried(nftables.TableFamilyINet, err)
}
