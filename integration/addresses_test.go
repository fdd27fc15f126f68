// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/lab"
)

// byHand makes a NIC of web without a plugin, so that its prevResult can say what
// no IPAM of this test would, and adds it to the site. Gateways may be missing.
func (s *site) byHand(t *testing.T, lan int, name string, addrs []netip.Prefix, gateways ...netip.Addr) *attachment {
	t.Helper()
	if err := s.Node.AddMacvlan(s.LANs[lan].NIC, s.web.Netns, name); err != nil {
		t.Fatal(err)
	}
	if err := s.web.AddAddrs(name, addrs...); err != nil {
		t.Fatal(err)
	}
	mac, err := s.web.MAC(name)
	if err != nil {
		t.Fatal(err)
	}
	r := &types100.Result{
		CNIVersion: "1.1.0",
		Interfaces: []*types100.Interface{{Name: name, Mac: mac.String(), Sandbox: s.web.Path()}},
	}
	for _, a := range addrs {
		ip := &types100.IPConfig{
			Interface: types100.Int(0),
			Address:   net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())},
		}
		if g := of(gateways, a.Addr()); g.IsValid() {
			ip.Gateway = g.AsSlice()
			if name == lab.NIC { // whose default comes with it
				sh(t, s.web.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", ipFamily(g), g, name))
			}
		}
		r.IPs = append(r.IPs, ip)
	}
	s.web.Results[name] = r
	s.nics = append(s.nics, nic{name: name, lan: lan})
	return s.attached(name)
}

// attached is one of web's NICs as it is, for coordinator to be run by hand.
func (s *site) attached(name string) *attachment {
	return &attachment{Pod: s.web, nic: name, node: s.Lab, prev: s.web.Results[name]}
}

// addApp runs coordinator by hand for app.
func (s *site) addApp(t *testing.T) {
	t.Helper()
	(&attachment{Pod: s.app, nic: lab.NIC, node: s.Lab, prev: s.app.Results[lab.NIC]}).add(t)
}

func prefixesOf(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestSeveralAddresses has more than one on each NIC, in an order that is not
// theirs: each is routed by its NIC, and the first of the first NIC stays the
// source towards the node whatever comes later.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()})
	routers := [][]netip.Addr{addrs(s.LANs[0].Router), addrs(s.LANs[1].Router)}
	eth0 := s.byHand(t, 0, "eth0", prefixesOf("10.6.168.202/16", "10.6.168.201/16", "fd00:6::202/64", "fd00:6::201/64"), routers[0]...)
	eth0.add(t)
	net1 := s.byHand(t, 1, "net1", prefixesOf("10.7.168.202/16", "10.7.168.201/16", "fd00:7::202/64", "fd00:7::201/64"), routers[1]...)
	net1.add(t)
	s.addApp(t)
	s.serve(t)
	s.verify(t, s.checks()...)
	eth0.check(t)
	net1.check(t)
	for _, a := range []string{"10.6.168.202", "fd00:6::202"} {
		if r := line(t, s.web.Netns, "ip "+ipFamily(netip.MustParseAddr(a))+" route", serviceOf(a)); !strings.Contains(r+" ", " src "+a+" ") {
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

// TestNoGateway has a NIC that leads nowhere but into its own LAN.
func TestNoGateway(t *testing.T) {
	t.Parallel()
	s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, chained)
	s.plug(t, 0, "eth0")
	net1 := s.byHand(t, 1, "net1", prefixesOf("10.7.168.201/16", "fd00:7::201/64"))
	net1.add(t)
	s.serve(t)
	var checks []lab.Check
	for _, c := range s.checks() {
		// A host in the other LAN can't be answered: nobody knows the way.
		if !strings.HasPrefix(c.Name, "host in ens192 to NIC (net1") {
			checks = append(checks, c)
		}
	}
	s.verify(t, checks...)
	net1.check(t)
	for _, family := range []string{"-4", "-6"} {
		if got := sh(t, s.web.Netns, "ip "+family+" route show default table 101"); got != "" {
			t.Errorf("net1 has no gateway, and its table has %s", got)
		}
	}
}

// TestSLAAC has an address that no prevResult knows, and a default route to what
// sent the router advertisement.
func TestSLAAC(t *testing.T) {
	t.Parallel()
	s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, chained)
	s.plug(t, 0, "eth0")
	net1 := s.byHand(t, 1, "net1", prefixesOf("10.7.168.201/16"), netip.MustParseAddr("10.7.0.1"))
	sh(t, s.web.Netns, `
		ip addr add fd00:7::abcd/64 dev net1 nodad valid_lft 3600 preferred_lft 3600
		ip -6 route add default via fd00:7::1 dev net1 proto ra metric 512 expires 1800
	`)
	net1.add(t)
	slaac := netip.MustParsePrefix("fd00:7::abcd/64")
	s.web.Results["net1"].IPs = append(s.web.Results["net1"].IPs, &types100.IPConfig{
		Interface: types100.Int(0), Address: net.IPNet{IP: slaac.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)},
	}) // for the checks
	s.serve(t)
	s.verify(t, s.checks()...)
	net1.check(t)
	s.check(t)
	if got := table(t, s.web, slaac.Addr()); got != 101 {
		t.Errorf("the address has table %d, want 101", got)
	}
	if r := line(t, s.web.Netns, "ip -6 route show table 101", "default via fd00:7::1 dev net1"); r == "" {
		t.Error("its table has no default")
	}
}
