// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"slices"
)

// PrevIP is an address that prevResult gives the attachment's NIC.
type PrevIP struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // not valid: none is said
}

// PrevIPs returns the addresses that prevResult gives the attachment's NIC, each
// once. As the CNI project's sbr has it, one that is said to be on no interface, or
// on one that isn't there, is on the attachment's.
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

// PrevGateways returns the gateways that prevResult names for the attachment's NIC:
// those of its addresses, and then those of default routes.
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
