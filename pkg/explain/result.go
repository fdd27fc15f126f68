// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/netstate"
)

// ipConfig returns an address of the first interface, with the first gateway in its
// subnet, or else the first of its family.
func ipConfig(p netip.Prefix, gateways []netip.Addr) *types100.IPConfig {
	first := 0
	out := &types100.IPConfig{Interface: &first, Address: ipNet(p)}
	of := slices.DeleteFunc(slices.Clone(gateways), func(g netip.Addr) bool { return g.Is6() != p.Addr().Is6() })
	if i := slices.IndexFunc(of, p.Contains); i >= 0 {
		out.Gateway = of[i].AsSlice()
	} else if len(of) > 0 {
		out.Gateway = of[0].AsSlice()
	}
	return out
}

// defaultBy returns a default route as a result holds it.
func defaultBy(r netstate.Route) *types.Route {
	return &types.Route{Dst: ipNet(r.Dst), GW: r.Via.AsSlice()}
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
