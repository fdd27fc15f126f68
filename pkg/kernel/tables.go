// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// Nft returns a connection to the namespace's nf_tables, made at first use.
func (s *Namespace) Nft() (*nft.Conn, error) {
	if s.nftConn != nil {
		return s.nftConn, nil
	}
	err := s.Enter(func() (err error) {
		s.nftConn, err = nft.Dial(s.conn.Buffers)
		return err
	})
	return s.nftConn, err
}

// tables is what netfilter holds in a namespace.
type tables struct {
	nft        []nft.Table
	noNftables error                    // why there is no nf_tables, if so
	legacy     map[netstate.Family]bool // whether there is a table mangle
}

// listTables asks once for all tables: ADD and DEL of every pod want to know,
// most often to learn that there are none. What changes tables forgets them.
// An error says nothing about what there is.
func (s *Namespace) listTables() (*tables, error) {
	if s.tables != nil {
		return s.tables, nil
	}
	legacy, err := s.legacyTables()
	if err != nil {
		return nil, fmt.Errorf("%s: list tables of iptables: %w", s.ns, err)
	}
	t := &tables{legacy: legacy}
	c, err := s.Nft()
	if err == nil {
		t.nft, err = c.Tables()
	}
	if err != nil && !NoNftables(err) {
		return nil, fmt.Errorf("%s: list tables of nftables: %w", s.ns, err)
	}
	if err != nil {
		t.noNftables = fmt.Errorf("nftables: %w", err)
	}
	s.tables = t
	return t, nil
}

// hasNft reports whether nf_tables has a table.
func (t *tables) hasNft(table nft.Table) bool { return slices.Contains(t.nft, table) }

// NoNftables reports whether a request failed for the want of nf_tables: without
// nfnetlink there are no sockets for it, and nfnetlink knows nobody to ask
// (nfnetlink_rcv_msg, nfnetlink_rcv_batch).
func NoNftables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// errNoFamily is in the error of a request for a table of a family that the
// kernel's nf_tables was built without (nft_supported_family in
// net/netfilter/nf_tables_api.c; Debian's user-mode kernel has none of inet, ip
// and ip6).
var errNoFamily = errors.New("the kernel's nf_tables has no such family")

// lacksFamily says why nf_tables can't hold a table of the family, nil if it can. Only
// making one tells, so one of our name is made and deleted in one transaction,
// unless there is one.
func (s *Namespace) lacksFamily(family uint8) (lacks, err error) {
	have, err := s.listTables()
	switch {
	case err != nil:
		return nil, err
	case have.noNftables != nil:
		return have.noNftables, nil
	case slices.ContainsFunc(have.nft, func(t nft.Table) bool { return t.Family == family }):
		return nil, nil
	}
	if lacks, known := s.lacking[family]; known {
		return lacks, nil
	}
	t := nft.Table{Family: family, Name: netstate.MarkTable}
	if err := s.noteFamily(family, s.nftConn.Transaction(t.Add(), t.Delete())); !errors.Is(err, errNoFamily) {
		return nil, err
	}
	return s.lacking[family], nil
}

// noteFamily notes whether the kernel has a family, by what came of making a table of
// it, and returns that.
func (s *Namespace) noteFamily(family uint8, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = fmt.Errorf("nftables: %w: %w", errNoFamily, err)
	} else if err != nil {
		return err
	}
	if s.lacking == nil {
		s.lacking = map[uint8]error{}
	}
	s.lacking[family] = err
	return err
}
