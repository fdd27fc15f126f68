// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// sourcesIn is the table's name and family.
var sourcesIn = nft.Table{Family: unix.NFPROTO_INET, Name: netstate.SourceTable}

// priorityRaw is NF_IP_PRI_RAW of linux/netfilter_ipv4.h, -300.
const priorityRaw = 1<<32 - 300

// buildSourceCheck returns the table that netstate.SourceCheck.Ruleset prints.
func buildSourceCheck() nft.Ruleset {
	return nft.Ruleset{
		Table:  sourcesIn,
		Chains: []nft.Chain{{Table: sourcesIn, Name: "prerouting", Kind: "filter", Hook: unix.NF_INET_PRE_ROUTING, Priority: priorityRaw, Drops: false}},
		Rules: []nft.Rule{{Chain: "prerouting", Expressions: []nft.Expression{
			nft.Meta(unix.NFT_META_IIFGROUP), nft.Compare(unix.NFT_CMP_EQ, nft.Bytes(netstate.SourceGroup)),
			nft.ReversePath(), nft.Compare(unix.NFT_CMP_EQ, nft.Bytes(0)),
			nft.Drop(),
		}}},
	}
}

// ReadSourceCheck puts the check of sources into the snapshot for a plan that wants it.
// Where the kernel can't have it, it counts as done: the IPv4 half is rp_filter's, too.
func (s *Namespace) ReadSourceCheck(snap *netstate.Snapshot, want netstate.SourceCheck) error {
	chains, err := s.sourceChains()
	missing := err == nil && len(chains) == 0
	if NoNftables(err) || missing && s.lacksSourceCheck() {
		snap.Put(s.ns, want)
		return nil
	}
	if missing {
		return nil
	}
	return s.putSourceCheck(snap, chains, err)
}

// FindSourceCheck puts it into the snapshot if there is something of its name: what the
// kernel can't have isn't there, and nobody can delete it.
func (s *Namespace) FindSourceCheck(snap *netstate.Snapshot) error {
	chains, err := s.sourceChains()
	if NoNftables(err) || err == nil && len(chains) == 0 {
		return nil
	}
	return s.putSourceCheck(snap, chains, err)
}

// sourceChains lists the table's chains, which tell of the table, too: there may be many
// tables.
func (s *Namespace) sourceChains() ([]nft.Chain, error) {
	c, err := s.Nft()
	if err != nil {
		return nil, err
	}
	return c.Chains(sourcesIn)
}

// putSourceCheck puts the check into the snapshot that has these chains, or an
// error in place of them.
func (s *Namespace) putSourceCheck(snap *netstate.Snapshot, chains []nft.Chain, err error) error {
	var c netstate.SourceCheck
	if err == nil {
		c.Damage, err = buildSourceCheck().Damage(s.nftConn, chains)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, sourcesIn.Name, err)
	}
	snap.Put(s.ns, c)
	return nil
}

// lacksSourceCheck reports whether the kernel has no nf_tables, or without the
// family inet, or without fib (nft_fib_inet). Only making the table tells, so it
// is made and deleted in one transaction.
func (s *Namespace) lacksSourceCheck() bool {
	c, err := s.Nft()
	if err == nil {
		err = c.Transaction(append(buildSourceCheck().Add(), sourcesIn.Delete())...)
	}
	return NoNftables(err) || errors.Is(err, unix.ENOENT)
}

// ChecksSources reports whether the namespace has a link that the check of
// sources is about, beside those that are about to go.
func (s *Namespace) ChecksSources(going ...string) (bool, error) {
	links, err := s.links(rtnetlink.LinkRequest(""))
	return slices.ContainsFunc(links, func(l rtnetlink.Link) bool {
		return l.Group == netstate.SourceGroup && !slices.Contains(going, l.Name)
	}), err
}

// applySourceCheck writes the table in one transaction, in the place of one that
// may be there by now: every pod's ADD wants the same.
func (s *Namespace) applySourceCheck(op netstate.Op) error {
	c, err := s.Nft()
	if err != nil {
		return err
	}
	reqs := sourcesIn.Clear()
	if after, ok := op.After.(netstate.SourceCheck); ok && after.Damage == "" {
		reqs = append(reqs, buildSourceCheck().Add()...)
	}
	return c.Transaction(reqs...)
}
