// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// sourcesIn is the table's name and family.
var sourcesIn = nftTable{unix.NFPROTO_INET, netstate.SourceTable}

// priorityRaw is NF_IP_PRI_RAW of linux/netfilter_ipv4.h, -300.
const priorityRaw = 1<<32 - 300

// buildSourceCheck returns the table that netstate.SourceCheck.Ruleset prints.
func buildSourceCheck() ruleset {
	return ruleset{
		nftTable: sourcesIn,
		chains:   []nftChain{{sourcesIn, "prerouting", "filter", unix.NF_INET_PRE_ROUTING, priorityRaw, false}},
		rules: []nftRule{{chain: "prerouting", expressions: []expression{
			meta(unix.NFT_META_IIFGROUP), compare(unix.NFT_CMP_EQ, number(netstate.SourceGroup)),
			reversePath(), compare(unix.NFT_CMP_EQ, number(0)),
			drop(),
		}}},
	}
}

// reversePath is the index of the link that a packet came in by, if its source
// is reached by that, or else 0: fib saddr . iif oif
func reversePath() expression {
	return expression{"fib", []attribute{
		big(unix.NFTA_FIB_DREG, reg), big(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_OIF),
		big(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF),
	}}
}

func drop() expression {
	verdict := nest(unix.NFTA_DATA_VERDICT, big(unix.NFTA_VERDICT_CODE, nfDrop))
	verdict.typ &^= unix.NLA_F_NESTED // as the kernel tells it
	return expression{"immediate", []attribute{
		big(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT), nest(unix.NFTA_IMMEDIATE_DATA, verdict),
	}}
}

// ReadSourceCheck puts the check of sources into the snapshot for a plan that wants it.
// Where the kernel can't have it, it counts as done: the IPv4 half is rp_filter's, too.
func (s *Space) ReadSourceCheck(snap *netstate.Snapshot, want netstate.SourceCheck) error {
	chains, err := s.sourceChains()
	missing := err == nil && len(chains) == 0
	if noNftables(err) || missing && s.lacksSourceCheck() {
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
func (s *Space) FindSourceCheck(snap *netstate.Snapshot) error {
	chains, err := s.sourceChains()
	if noNftables(err) || err == nil && len(chains) == 0 {
		return nil
	}
	return s.putSourceCheck(snap, chains, err)
}

// sourceChains lists the table's chains, which tell of the table, too: there may be many
// tables.
func (s *Space) sourceChains() ([]nftChain, error) {
	c, err := s.nft()
	if err != nil {
		return nil, err
	}
	return c.nftChains(sourcesIn)
}

// putSourceCheck puts the check into the snapshot that has these chains, or an
// error in place of them.
func (s *Space) putSourceCheck(snap *netstate.Snapshot, chains []nftChain, err error) error {
	var c netstate.SourceCheck
	if err == nil {
		c.Damage, err = buildSourceCheck().damage(s.nftConn, chains)
	}
	if err != nil {
		return fmt.Errorf("%s: read table inet %s: %w", s.ns, sourcesIn.name, err)
	}
	snap.Put(s.ns, c)
	return nil
}

// lacksSourceCheck reports whether the kernel has no nf_tables, or without the
// family inet, or without fib (nft_fib_inet). Only making the table tells, so it
// is made and deleted in one transaction.
func (s *Space) lacksSourceCheck() bool {
	c, err := s.nft()
	if err == nil {
		err = c.transaction(append(buildSourceCheck().add(), sourcesIn.delete())...)
	}
	return noNftables(err) || errors.Is(err, unix.ENOENT)
}

// ChecksSources reports whether the namespace has a link that the check of
// sources is about, beside those that are about to go.
func (s *Space) ChecksSources(going ...string) (bool, error) {
	links, err := s.links(linkRequest(""))
	return slices.ContainsFunc(links, func(l link) bool {
		return l.Group == netstate.SourceGroup && !slices.Contains(going, l.Name)
	}), err
}

// applySourceCheck writes the table in one transaction, in the place of one that
// may be there by now: every pod's ADD wants the same.
func (s *Space) applySourceCheck(op netstate.Op) error {
	c, err := s.nft()
	if err != nil {
		return err
	}
	reqs := sourcesIn.clear()
	if after, ok := op.After.(netstate.SourceCheck); ok && after.Damage == "" {
		reqs = append(reqs, buildSourceCheck().add()...)
	}
	return c.transaction(reqs...)
}
