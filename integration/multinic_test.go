// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestTwoNICs sends traffic from and to each address of a pod with two NICs. Each LAN
// has a router, which drops packets that don't come back on the path of the request.
func TestTwoNICs(t *testing.T) {
	for name, lans := range fixture.TwoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, lans, fixture.Chained)
			checks := append(s.Checks(), s.SplitRouters(t)...)
			s.Verify(t, checks...)
			s.Check(t)
		})
	}
}

// TestTwoNICsWithoutCoordinator is the control.
func TestTwoNICsWithoutCoordinator(t *testing.T) {
	for name, lans := range fixture.TwoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, lans)
			// A pod has one default route, by its first NIC.
			for _, router := range s.LANs[0].Router {
				fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip %[1]s route flush default; ip %[1]s route add default via %[2]s dev eth0", fixture.IPFamily(router.Addr()), router.Addr()))
			}
			s.Refute(t, append(s.SplitRouters(t), s.Checks()...)...)
		})
	}
}

// TestEightNICs uses names without numbers: each NIC gets the next table.
func TestEightNICs(t *testing.T) {
	t.Parallel()
	names := []string{lab.NIC, "net1", "bond0.100", "public-network1", "a", "eth1", "veth1", "net10"}
	var lans []lab.LAN
	for i := range names {
		lans = append(lans, fixture.OtherLAN(20+i))
	}
	s := fixture.EmptySite(t, lans, fixture.Chained)
	for i, name := range names {
		s.Plug(t, i, name)
	}
	s.Serve(t)
	for i, n := range s.NICs {
		for _, a := range s.Web.Addrs(n.Name) {
			if got, want := fixture.Table(t, s.Web, a.Addr()), 100+i; i > 0 && got != want {
				t.Errorf("%s has table %d, want %d", n.Name, got, want)
			}
		}
	}
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	s.Check(t)
}

// TestOneSubnet puts two NICs into one subnet: each answers ARP for its own address
// alone.
func TestOneSubnet(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]bool{"coordinator": true, "the control": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var chain []string
			if with {
				chain = []string{fixture.Chained}
			}
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192()}, chain...)
			s.Plug(t, 0, lab.NIC)
			s.Plug(t, 0, "net1")
			s.Serve(t)
			if with {
				s.Verify(t, s.Checks()...)
				s.Check(t)
			}
			wrong := 0
			for _, n := range s.NICs {
				wrong += s.ForeignAnswers(t, n)
			}
			if (wrong > 0) == with {
				t.Errorf("%d ARP answers by another NIC", wrong)
			}
		})
	}
}

// TestOneFamilyOfTwo gives a dual-stack pod a NIC of only one family, and a pod of one
// family a dual-stack NIC.
func TestOneFamilyOfTwo(t *testing.T) {
	one := func(lan lab.LAN, f int) lab.LAN {
		lan.Pods = lan.Pods[f : f+1]
		return lan
	}
	for name, lans := range map[string][]lab.LAN{
		"net1 of IPv4":                  {lab.Ens192(), one(lab.Ens224(), 0)},
		"net1 of IPv6":                  {lab.Ens192(), one(lab.Ens224(), 1)},
		"eth0 of IPv4":                  {one(lab.Ens192(), 0), lab.Ens224()},
		"eth0 of IPv6":                  {one(lab.Ens192(), 1), lab.Ens224()},
		"eth0 of IPv4 and net1 of IPv6": {one(lab.Ens192(), 0), one(lab.Ens224(), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, lans, fixture.Chained)
			var checks []lab.Check
			for _, c := range s.Checks() {
				if len(s.App.Addrs(lab.NIC)) == 1 && c.Answers == s.App.Netns && c.To.Addr().Is4() != s.App.Addrs(lab.NIC)[0].Addr().Is4() {
					continue // ClusterIPs of this family have no endpoint
				}
				checks = append(checks, c)
			}
			s.Verify(t, checks...)
			s.Check(t)
		})
	}
}
