// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

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
		set, err := c.nftSet(nftTable{family, "kube-proxy"}, "cluster-ips")
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

// nftSet lists the addresses of a set.
func (c *conn) nftSet(of nftTable, name string) ([]netip.Addr, error) {
	req := nftRequest(unix.NFT_MSG_GETSETELEM, 0, of.family, text(unix.NFTA_SET_ELEM_LIST_TABLE, of.name), text(unix.NFTA_SET_ELEM_LIST_SET, name))
	lists, err := dump(c, req, func(b []byte) (list []netip.Addr, ok bool) {
		attrs(b[4:], func(typ uint16, v []byte) { // behind struct nfgenmsg
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				return
			}
			attrs(v, func(_ uint16, element []byte) {
				attrs(element, func(typ uint16, v []byte) {
					if a := address(v); typ == unix.NFTA_SET_ELEM_KEY && a.IsValid() {
						list = append(list, a)
					}
				})
			})
		})
		return list, true
	})
	return slices.Concat(lists...), err
}

// address is what a register is compared with, if that is an address.
func address(data []byte) (a netip.Addr) {
	attrs(data, func(typ uint16, v []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			a, _ = netip.AddrFromSlice(v)
		}
	})
	return a
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
