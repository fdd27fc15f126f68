// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/iptables"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// ServiceAddrs returns the ClusterIPs that kube-proxy translates by nf_tables. In mode
// nftables they are in the set cluster-ips of its table (pkg/proxy/nftables). In mode
// iptables they are the destinations in chain KUBE-SERVICES of table nat
// (pkg/proxy/iptables). The list is sorted, because nf_tables lists a set in a
// different order each time, and has no duplicates.
func ServiceAddrs(s *kernel.Namespace) ([]netip.Addr, error) {
	c, err := s.Nft()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, f := range netstate.Families {
		family := iptables.Families[f].Nft.Family
		set, err := c.Set(nft.Table{Family: family, Name: "kube-proxy"}, "cluster-ips", f)
		if err != nil && !errors.Is(err, unix.ENOENT) && !kernel.NoNftables(err) {
			return nil, fmt.Errorf("%s: list set cluster-ips: %w", s.NS(), err)
		}
		rules, err := c.RulesOf(nft.Chain{Table: nft.Table{Family: family, Name: "nat"}, Name: "KUBE-SERVICES"})
		if err != nil && !errors.Is(err, unix.ENOENT) && !kernel.NoNftables(err) {
			return nil, fmt.Errorf("%s: list rules of KUBE-SERVICES: %w", s.NS(), err)
		}
		for _, r := range rules {
			if to := r.Destination(f); to.IsValid() {
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

// LoadBalancerAddrs returns the other addresses of Services that kube-proxy translates
// in mode nftables: those of load balancers, and externalIPs. It reads them from the
// map service-ips of kube-proxy's table, which also has the ClusterIPs and the ports.
func LoadBalancerAddrs(s *kernel.Namespace) ([]netip.Addr, error) {
	c, err := s.Nft()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, f := range netstate.Families {
		table := nft.Table{Family: iptables.Families[f].Nft.Family, Name: "kube-proxy"}
		var lists [2][]netip.Addr
		for i, name := range []string{"cluster-ips", "service-ips"} {
			if lists[i], err = c.Set(table, name, f); err != nil && !errors.Is(err, unix.ENOENT) && !kernel.NoNftables(err) {
				return nil, fmt.Errorf("%s: list set %s: %w", s.NS(), name, err)
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

// Backends holds the endpoints of Services, and whether kube-proxy masquerades packets
// to ClusterIPs.
type Backends struct {
	Endpoints []netip.Addr
	// Masquerades is set if kube-proxy masquerades packets to ClusterIPs. Packets from
	// sources in Except are not masqueraded.
	Masquerades bool
	Except      []netip.Prefix
}

// Masquerade reports whether kube-proxy masquerades packets from a source.
func (b Backends) Masquerade(source netip.Addr) bool {
	return b.Masquerades && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(source) })
}

// ReadBackends reads kube-proxy's rules of one family, in mode nftables or in mode
// iptables with nf_tables. The chain of an endpoint has a rule for packets from that
// endpoint (hairpin). The chain of a Service begins with the rule that masquerades, for
// all sources or for those outside of the cluster's pod range (pkg/proxy/iptables,
// pkg/proxy/nftables).
func ReadBackends(s *kernel.Namespace, f netstate.Family) (b Backends, err error) {
	c, err := s.Nft()
	if err != nil {
		return b, err
	}
	for _, table := range []string{"kube-proxy", "nat"} {
		rules, err := c.Rules(nft.Table{Family: iptables.Families[f].Nft.Family, Name: table})
		if err != nil && !errors.Is(err, unix.ENOENT) && !kernel.NoNftables(err) {
			return b, fmt.Errorf("%s: list rules of table %s: %w", s.NS(), table, err)
		}
		for _, r := range rules {
			b.note(r, f)
		}
	}
	slices.SortFunc(b.Endpoints, netip.Addr.Compare)
	b.Endpoints = slices.Compact(b.Endpoints)
	return b, nil
}

// note adds what a rule tells of backends.
func (b *Backends) note(r nft.Rule, f netstate.Family) {
	masquerades := slices.ContainsFunc(r.Expressions, func(e nft.Expression) bool {
		return slices.Contains([]string{"KUBE-MARK-MASQ", "mark-for-masquerade"}, e.Jump())
	})
	if !masquerades {
		return
	}
	source, op := r.Source(f)
	switch {
	case strings.HasPrefix(r.Chain, "KUBE-SEP-") || strings.HasPrefix(r.Chain, "endpoint-"):
		if op == unix.NFT_CMP_EQ && source.IsSingleIP() {
			b.Endpoints = append(b.Endpoints, source.Addr())
		}
	case strings.HasPrefix(r.Chain, "KUBE-SVC-") || strings.HasPrefix(r.Chain, "service-"):
		b.Masquerades = true
		if op == unix.NFT_CMP_NEQ && source.IsValid() && !slices.Contains(b.Except, source) {
			b.Except = append(b.Except, source)
		}
	}
}
