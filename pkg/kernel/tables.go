// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// nft returns a connection to the namespace's nf_tables, made at first use.
func (s *Space) nft() (*conn, error) {
	if s.nftConn != nil {
		return s.nftConn, nil
	}
	err := s.enter(func() (err error) {
		s.nftConn, err = dial(unix.NETLINK_NETFILTER)
		return err
	})
	return s.nftConn, err
}

// tables is what netfilter holds in a namespace.
type tables struct {
	nft    []nftTable
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
	var c *conn
	if c, t.err = s.nft(); t.err == nil {
		t.nft, t.err = c.nftTables()
	}
	s.tables = t
	return t
}

// hasNft reports whether nf_tables has a table.
func (t *tables) hasNft(table nftTable) bool { return slices.Contains(t.nft, table) }

// holdsInet returns nil if nf_tables can hold the table of a Mark. It is tried
// out only where somebody uses iptables of the legacy flavour, as those do who
// have to; elsewhere it turns out when the table is made (errNoFamily).
func (s *Space) holdsInet() error {
	have := s.listTables()
	if have.err == nil && !have.legacy[netstate.IPv4] && !have.legacy[netstate.IPv6] {
		return s.refused[marksIn.family]
	}
	return s.holds(marksIn.family)
}

// errNoFamily is in the error of a request for a table of a family that the
// kernel's nf_tables was built without (nft_supported_family in
// net/netfilter/nf_tables_api.c; Debian's user-mode kernel has none of inet, ip
// and ip6).
var errNoFamily = errors.New("the kernel's nf_tables has no such family")

// holds returns nil if nf_tables can hold a table of the family. Only making one
// tells, so one of our name is made and deleted in one transaction, unless there
// is one.
func (s *Space) holds(family uint8) error {
	have := s.listTables()
	switch {
	case have.err != nil:
		return fmt.Errorf("nftables: %w", have.err)
	case slices.ContainsFunc(have.nft, func(t nftTable) bool { return t.family == family }):
		return nil
	}
	if err, known := s.refused[family]; known {
		return err
	}
	t := nftTable{family, netstate.MarkTable}
	return s.tried(family, s.nftConn.transaction(t.add(), t.delete()))
}

// tried notes whether the kernel has a family, by what came of making a table of it.
func (s *Space) tried(family uint8, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = fmt.Errorf("nftables: %w: %w", errNoFamily, err)
	} else if err != nil {
		return err
	}
	if s.refused == nil {
		s.refused = map[uint8]error{}
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
