// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// MarkCounter counts packets that leave a namespace with a mark.
type MarkCounter struct {
	netns *Netns
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
}

// CountMarked starts counting the packets that leave by a link with a mark. It counts them
// after all other rules of the namespace, and doesn't count ICMPv6. A second call with the
// same arguments starts at 0 again, also for the first counter.
func (n *Netns) CountMarked(link string, mark, mask uint32) (*MarkCounter, error) {
	c, err := n.nftables()
	if err != nil {
		return nil, err
	}
	m := &MarkCounter{netns: n, conn: c}
	m.table = c.AddTable(&nftables.Table{
		Name: fmt.Sprintf("count-%s-%#x-%#x", link, mark, mask), Family: nftables.TableFamilyINet,
	})
	c.DelTable(m.table) // of an earlier call
	c.AddTable(m.table)
	m.chain = c.AddChain(&nftables.Chain{
		Name: "leaving", Table: m.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityLast,
	})
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Register: 1, Data: linkName(link)},
		// The kernel's own MLD reports carry a wrong mark: in struct sk_buff, mark is in a
		// union with reserved_tailroom, which mld_newpack sets.
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
	}
	rule = append(rule, matchMark(mark, mask)...)
	c.AddRule(&nftables.Rule{Table: m.table, Chain: m.chain, Exprs: append(rule, &expr.Counter{})})
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("count mark %#x/%#x in %s: %w", mark, mask, n.name, err)
	}
	return m, nil
}

// Packets returns the number of packets that were counted.
func (m *MarkCounter) Packets() (uint64, error) {
	rules, err := m.conn.GetRules(m.table, m.chain)
	if err != nil {
		return 0, fmt.Errorf("read %s in %s: %w", m.table.Name, m.netns.name, err)
	}
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if counter, ok := e.(*expr.Counter); ok {
				return counter.Packets, nil
			}
		}
	}
	return 0, fmt.Errorf("read %s in %s: the counter is gone", m.table.Name, m.netns.name)
}

// linkName returns the name of a link in the form that nftables compares: padded with zeros.
func linkName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
