// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestSeveralAddresses gives each NIC several addresses, not in the order of their
// NICs: each address is routed by its NIC, and the first address of the first NIC stays
// the source towards the node, whatever comes later.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()})
	routers := [][]netip.Addr{fixture.Addrs(s.LANs[0].Router), fixture.Addrs(s.LANs[1].Router)}
	eth0 := s.ByHand(t, 0, "eth0", fixture.PrefixesOf("10.6.168.202/16", "10.6.168.201/16", "fd00:6::202/64", "fd00:6::201/64"), routers[0]...)
	eth0.Add(t)
	net1 := s.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.202/16", "10.7.168.201/16", "fd00:7::202/64", "fd00:7::201/64"), routers[1]...)
	net1.Add(t)
	s.AddApp(t)
	s.Serve(t)
	s.Verify(t, s.Checks()...)
	eth0.Check(t)
	net1.Check(t)
	for _, a := range []string{"10.6.168.202", "fd00:6::202"} {
		if r := fixture.Line(t, s.Web.Netns, "ip "+fixture.IPFamily(netip.MustParseAddr(a))+" route", serviceOf(a)); !strings.Contains(r+" ", " src "+a+" ") {
			t.Errorf("the route to Services is %q, want src %s", r, a)
		}
	}
}

func serviceOf(a string) string {
	if strings.Contains(a, ":") {
		return "fd00:10:96::/108"
	}
	return "10.96.0.0/12"
}

// TestNoGateway gives a pod a NIC without a gateway, which reaches only its own LAN.
func TestNoGateway(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, fixture.Chained)
	s.Plug(t, 0, "eth0")
	net1 := s.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16", "fd00:7::201/64"))
	net1.Add(t)
	s.Serve(t)
	var checks []lab.Check
	for _, c := range s.Checks() {
		// The pod can't answer a host in the other LAN: it has no route there.
		if !strings.HasPrefix(c.Name, "host in ens192 to NIC (net1") {
			checks = append(checks, c)
		}
	}
	s.Verify(t, checks...)
	net1.Check(t)
	for _, family := range []string{"-4", "-6"} {
		if got := fixture.Sh(t, s.Web.Netns, "ip "+family+" route show default table 101"); got != "" {
			t.Errorf("net1 has no gateway, and its table has %s", got)
		}
	}
}

// TestSLAAC gives a NIC an address that no prevResult has, and a default route to the
// sender of the router advertisement.
func TestSLAAC(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, fixture.Chained)
	s.Plug(t, 0, "eth0")
	net1 := s.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16"), netip.MustParseAddr("10.7.0.1"))
	fixture.Sh(t, s.Web.Netns, `
		ip addr add fd00:7::abcd/64 dev net1 nodad valid_lft 3600 preferred_lft 3600
		ip -6 route add default via fd00:7::1 dev net1 proto ra metric 512 expires 1800
	`)
	net1.Add(t)
	slaac := netip.MustParsePrefix("fd00:7::abcd/64")
	s.Web.Results["net1"].IPs = append(s.Web.Results["net1"].IPs, &types100.IPConfig{
		Interface: types100.Int(0), Address: net.IPNet{IP: slaac.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)},
	}) // for the checks
	s.Serve(t)
	s.Verify(t, s.Checks()...)
	net1.Check(t)
	s.Check(t)
	if got := fixture.Table(t, s.Web, slaac.Addr()); got != 101 {
		t.Errorf("the address has table %d, want 101", got)
	}
	if r := fixture.Line(t, s.Web.Netns, "ip -6 route show table 101", "default via fd00:7::1 dev net1"); r == "" {
		t.Error("its table has no default")
	}
}
