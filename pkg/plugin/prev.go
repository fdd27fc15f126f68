// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
)

// PrevIP is an address that prevResult gives the attachment's NIC.
type PrevIP struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // not valid if prevResult names none
}

// PrevIPs returns the addresses that prevResult gives the attachment's NIC, each once. An
// address without an interface, or with an index out of range, counts as the
// attachment's, as in the CNI project's sbr. So does one with another interface's index that is on the
// attachment's NIC: some plugins put the node's end first, and leave the index as it was.
func (v *View) PrevIPs() []PrevIP {
	if v.Prev == nil {
		return nil
	}
	var out []PrevIP
	for _, ip := range v.Prev.IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(v.Prev.Interfaces) && v.Prev.Interfaces[*i].Name != v.IfName && !v.isOnNIC(a.Unmap()) {
			continue
		}
		bits, _ := ip.Address.Mask.Size()
		p := netip.PrefixFrom(a.Unmap(), bits)
		if !ok || !p.IsValid() || slices.ContainsFunc(out, func(o PrevIP) bool { return o.Prefix == p }) {
			continue
		}
		out = append(out, PrevIP{p, GatewayOf(ip.Gateway)})
	}
	return out
}

// isOnNIC reports whether the attachment's NIC has an address.
func (v *View) isOnNIC(a netip.Addr) bool {
	return slices.ContainsFunc(netstate.All[netstate.Addr](v.Snapshot, netstate.Pod), func(have netstate.Addr) bool {
		return have.Dev == v.IfName && have.Prefix.Addr() == a
	})
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
