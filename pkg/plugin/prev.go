// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"slices"
)

// PrevIP is an address that prevResult gives the attachment's NIC.
type PrevIP struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // not valid if prevResult names none
}

// PrevIPs returns the addresses that prevResult gives the attachment's NIC, each once. An
// address without an interface, or with an index out of range, counts as the
// attachment's, as in the CNI project's sbr.
func (v *View) PrevIPs() []PrevIP {
	if v.Prev == nil {
		return nil
	}
	var out []PrevIP
	for _, ip := range v.Prev.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(v.Prev.Interfaces) && v.Prev.Interfaces[*i].Name != v.IfName {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		p := netip.PrefixFrom(a.Unmap(), bits)
		if !ok || !p.IsValid() || slices.ContainsFunc(out, func(o PrevIP) bool { return o.Prefix == p }) {
			continue
		}
		out = append(out, PrevIP{p, GatewayOf(ip.Gateway)})
	}
	return out
}

// PrevGateways returns the gateways that prevResult names for the attachment's NIC: first
// those of its addresses, then those of its default routes.
func (v *View) PrevGateways() []netip.Addr {
	var out []netip.Addr
	for _, ip := range v.PrevIPs() {
		if ip.Gateway.IsValid() {
			out = append(out, ip.Gateway)
		}
	}
	if v.Prev == nil {
		return out
	}
	for _, r := range v.Prev.Routes {
		ones, _ := r.Dst.Mask.Size()
		if gateway := GatewayOf(r.GW); gateway.IsValid() && ones == 0 {
			out = append(out, gateway)
		}
	}
	return out
}
