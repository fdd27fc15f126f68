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

// sourcesIn is the name and family of the table that checks sources.
var sourcesIn = nft.Table{Family: unix.NFPROTO_INET, Name: netstate.SourceTable}

// priorityRaw is NF_IP_PRI_RAW of linux/netfilter_ipv4.h, -300.
const priorityRaw = 1<<32 - 300

// buildSourceCheck returns the table of the check of sources. netstate.SourceCheck.Ruleset
// prints the same table.
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

// ReadSourceCheck puts the check of sources into the snapshot for a plan that wants it. If
// the kernel doesn't support the check, it puts it as if it were there, so that the plan
// does nothing: rp_filter checks the sources of IPv4, too.
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

// FindSourceCheck puts the check of sources into the snapshot if there is a table of its
// name. If the kernel has no nf_tables, it puts nothing, so that no plan deletes the check.
func (s *Namespace) FindSourceCheck(snap *netstate.Snapshot) error {
	chains, err := s.sourceChains()
	if NoNftables(err) || err == nil && len(chains) == 0 {
		return nil
	}
	return s.putSourceCheck(snap, chains, err)
}

// sourceChains returns the chains of the table, none if there is no table. It doesn't list
// the tables: there may be many.
func (s *Namespace) sourceChains() ([]nft.Chain, error) {
	c, err := s.Nft()
	if err != nil {
		return nil, err
	}
	return c.Chains(sourcesIn)
}

// putSourceCheck puts the check with these chains into the snapshot, and notes its damage.
// err is the error of listing the chains, which it returns with the table's name.
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

// lacksSourceCheck reports whether the kernel lacks nf_tables, its family inet or its
// expression fib (nft_fib_inet). Only an attempt to make the table shows that. So it makes
// and deletes the table in one transaction.
func (s *Namespace) lacksSourceCheck() bool {
	c, err := s.Nft()
	if err == nil {
		err = c.Transaction(append(buildSourceCheck().Add(), sourcesIn.Delete())...)
	}
	return NoNftables(err) || errors.Is(err, unix.ENOENT)
}

// ChecksSources reports whether the namespace has a link to which the check of sources
// applies, other than the links in going, which are about to be deleted.
func (s *Namespace) ChecksSources(going ...string) (bool, error) {
	links, err := s.links(rtnetlink.LinkRequest(""))
	return slices.ContainsFunc(links, func(l rtnetlink.Link) bool {
		return l.Group == netstate.SourceGroup && !slices.Contains(going, l.Name)
	}), err
}

// applySourceCheck writes or deletes the table in one transaction. It replaces a table that
// another pod's ADD made meanwhile: all want the same.
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
