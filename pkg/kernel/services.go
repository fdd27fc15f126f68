// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ServiceAddrs returns the ClusterIPs that kube-proxy translates by nf_tables: in mode
// nftables they are the set cluster-ips of its table (pkg/proxy/nftables), in mode
// iptables the destinations in chain KUBE-SERVICES of table nat (pkg/proxy/iptables).
// Each is named once, in order: a set of nf_tables has them in another one each time.
func (s *Space) ServiceAddrs() ([]netip.Addr, error) {
	c, err := s.nft()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, f := range families {
		family := xtables[f].nft.family
		set, err := c.nftSet(nftTable{family, "kube-proxy"}, "cluster-ips", f)
		if err != nil && !errors.Is(err, unix.ENOENT) && !noNftables(err) {
			return nil, fmt.Errorf("%s: list set cluster-ips: %w", s.ns, err)
		}
		rules, err := c.nftRulesOf(nftChain{table: nftTable{family, "nat"}, name: "KUBE-SERVICES"})
		if err != nil && !errors.Is(err, unix.ENOENT) && !noNftables(err) {
			return nil, fmt.Errorf("%s: list rules of KUBE-SERVICES: %w", s.ns, err)
		}
		for _, r := range rules {
			if to := r.destination(f); to.IsValid() {
				set = append(set, to)
			}
		}
		for _, a := range set {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// LoadBalancerAddrs returns the addresses of Services beyond their ClusterIPs that
// kube-proxy translates in mode nftables: of load balancers, and externalIPs. All of
// them are in the map service-ips of its table, which has ports as well.
func (s *Space) LoadBalancerAddrs() ([]netip.Addr, error) {
	c, err := s.nft()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, f := range families {
		table := nftTable{xtables[f].nft.family, "kube-proxy"}
		var lists [2][]netip.Addr
		for i, name := range []string{"cluster-ips", "service-ips"} {
			if lists[i], err = c.nftSet(table, name, f); err != nil && !errors.Is(err, unix.ENOENT) && !noNftables(err) {
				return nil, fmt.Errorf("%s: list set %s: %w", s.ns, name, err)
			}
		}
		for _, a := range lists[1] {
			if !slices.Contains(lists[0], a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// Backends are where kube-proxy sends what is for ClusterIPs.
type Backends struct {
	Endpoints []netip.Addr
	// Masquerades is set if it masquerades what comes to ClusterIPs, but for sources in
	// Except.
	Masquerades bool
	Except      []netip.Prefix
}

// Masquerade reports whether what comes from a source is masqueraded.
func (b Backends) Masquerade(source netip.Addr) bool {
	return b.Masquerades && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(source) })
}

// Backends reads kube-proxy's rules of one family in mode iptables, by nf_tables, or in
// mode nftables. A chain of an endpoint has a rule about packets from it (hairpin); a
// chain of a Service begins with the one that masquerades, for all sources or for those
// outside of the cluster's pod range (pkg/proxy/iptables, pkg/proxy/nftables).
func (s *Space) Backends(f netstate.Family) (b Backends, err error) {
	c, err := s.nft()
	if err != nil {
		return b, err
	}
	for _, table := range []string{"kube-proxy", "nat"} {
		rules, err := c.nftRules(nftTable{xtables[f].nft.family, table})
		if err != nil && !errors.Is(err, unix.ENOENT) && !noNftables(err) {
			return b, fmt.Errorf("%s: list rules of table %s: %w", s.ns, table, err)
		}
		for _, r := range rules {
			b.note(r, f)
		}
	}
	slices.SortFunc(b.Endpoints, netip.Addr.Compare)
	b.Endpoints = slices.Compact(b.Endpoints)
	return b, nil
}

func (b *Backends) note(r nftRule, f netstate.Family) {
	masquerades := slices.ContainsFunc(r.expressions, func(e expression) bool {
		return slices.Contains([]string{"KUBE-MARK-MASQ", "mark-for-masquerade"}, e.jump())
	})
	if !masquerades {
		return
	}
	source, op := r.source(f)
	switch {
	case strings.HasPrefix(r.chain, "KUBE-SEP-") || strings.HasPrefix(r.chain, "endpoint-"):
		if op == unix.NFT_CMP_EQ && source.IsSingleIP() {
			b.Endpoints = append(b.Endpoints, source.Addr())
		}
	case strings.HasPrefix(r.chain, "KUBE-SVC-") || strings.HasPrefix(r.chain, "service-"):
		b.Masquerades = true
		if op == unix.NFT_CMP_NEQ && source.IsValid() && !slices.Contains(b.Except, source) {
			b.Except = append(b.Except, source)
		}
	}
}

// destination returns the one address that a rule asks packets to be for, if it does.
func (r nftRule) destination(f netstate.Family) netip.Addr {
	offset := uint32(16) // of struct iphdr
	if f == netstate.IPv6 {
		offset = 24 // of struct ipv6hdr
	}
	load := expression{"payload", []attribute{big(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER), big(unix.NFTA_PAYLOAD_OFFSET, offset)}}
	for i, e := range r.expressions[:max(len(r.expressions)-1, 0)] {
		if cmp := r.expressions[i+1]; e.is(load) && cmp.is(expression{"cmp", []attribute{big(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)}}) {
			return address(cmp.attr(unix.NFTA_CMP_DATA))
		}
	}
	return netip.Addr{}
}
