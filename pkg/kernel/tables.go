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

// Nft returns a connection to the namespace's nf_tables. The first call opens it.
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

// tables holds the tables of netfilter in a namespace.
type tables struct {
	nft        []nft.Table
	noNftables error                    // the kernel's error if it has no nf_tables
	legacy     map[netstate.Family]bool // whether iptables-legacy has table mangle
}

// listTables returns the tables of the namespace. It asks the kernel once and caches the
// answer: every ADD and DEL needs it, and on most nodes there are no tables. Functions that
// change tables clear the cache.
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

// NoNftables reports whether a request failed because the kernel has no nf_tables. A kernel
// without nfnetlink refuses the socket (EPROTONOSUPPORT); nfnetlink without nf_tables
// refuses the request (nfnetlink_rcv_msg, nfnetlink_rcv_batch).
func NoNftables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// errNoFamily is in the error of a request for a table of a family that the kernel's
// nf_tables was built without (nft_supported_family in net/netfilter/nf_tables_api.c).
// Debian's user-mode kernel lacks inet, ip and ip6.
var errNoFamily = errors.New("the kernel's nf_tables has no such family")

// lacksFamily returns in lacks the reason why nf_tables can't hold a table of the family,
// nil if it can. Only an attempt shows that. So it makes and deletes a table of our name in
// one transaction, unless there is a table of the family.
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

// noteFamily caches whether the kernel has a family. err is the result of making a table of
// it; noteFamily returns it, and adds errNoFamily if that is the cause.
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
