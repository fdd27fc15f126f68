// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// Rules returns the rules of a family, in the order in which packets meet them. It asks for
// each family alone: dumps of all families were seen to lack rules.
func (s *Namespace) Rules(f netstate.Family) ([]rtnetlink.Rule, error) {
	out, err := netlink.Dump(s.conn, netlink.NewRequest(unix.RTM_GETRULE, 0, rtnetlink.RouteHeader(rtnetlink.FamilyNumber(f))), func(b []byte) (rtnetlink.Rule, bool) { return rtnetlink.DecodeRule(b), true })
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without that family
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list IPv%d rules: %w", s.ns, f, err)
	}
	return out, nil
}

// ReadRules puts the rules of a family that look up a table into the snapshot. It includes
// rules with conditions that our rules don't have (Rest), because they show that the table
// is in use.
func (s *Namespace) ReadRules(snap *netstate.Snapshot, f netstate.Family) error {
	rules, err := s.Rules(f)
	if err != nil {
		return err
	}
	s.leading[f] = 0
	for i, r := range rules {
		r.Rest = !r.Plain
		if r.Plain || r.Table != 0 { // other rules look up no table
			snap.Put(s.ns, r.Rule)
		}
		// The first rule looks up the node's own addresses, and the list is in
		// the order in which packets meet it.
		everything := netstate.Rule{Family: f, Priority: r.Priority, Table: r.Table, Proto: r.Proto}
		if i == 1 && r.Plain && r.Rule == everything && rules[0].Table == netstate.TableLocal {
			s.leading[f] = r.Table
		}
	}
	return nil
}
