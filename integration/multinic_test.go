// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// twoLANs are the sites of a pod with two NICs.
var twoLANs = map[string][]lab.LAN{
	"v4":   family(0, lab.Ens192(), lab.Ens224()),
	"v6":   family(1, lab.Ens192(), lab.Ens224()),
	"dual": {lab.Ens192(), lab.Ens224()},
}

// TestTwoNICs sends traffic from and to each address of a pod with two NICs,
// whose LANs have a router each: it drops what doesn't come back the way it
// went.
func TestTwoNICs(t *testing.T) {
	for name, lans := range twoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lans, chained)
			checks := append(s.checks(), s.splitRouters(t)...)
			s.verify(t, checks...)
			s.check(t)
		})
	}
}

// TestTwoNICsWithoutCoordinator is the control.
func TestTwoNICsWithoutCoordinator(t *testing.T) {
	for name, lans := range twoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lans)
			// A pod has one default, by its first NIC.
			for _, router := range s.LANs[0].Router {
				sh(t, s.web.Netns, fmt.Sprintf("ip %[1]s route flush default; ip %[1]s route add default via %[2]s dev eth0", ipFamily(router.Addr()), router.Addr()))
			}
			s.refute(t, append(s.splitRouters(t), s.checks()...)...)
		})
	}
}

// splitRouters gives the second LAN a router of its own, which leads to the
// outside by a link of its own. Each takes from its LAN only what comes from
// there, and nothing of which it has not seen the beginning. It returns what
// must hold between the outside and each NIC.
func (s *site) splitRouters(t *testing.T) []lab.Check {
	t.Helper()
	second, err := nettest.NewNetns("second router")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	if err := second.EnableForwarding(); err != nil {
		t.Fatal(err)
	}
	lan := s.LANs[1]
	sh(t, s.Router, fmt.Sprintf("ip link set %s netns %s", lan.NIC, second.Path()))
	for _, wire := range []struct {
		a  *nettest.Netns
		at string
		b  *nettest.Netns
		bt string
	}{{s.Router, "transit", second, "transit"}, {second, "outside0", s.Outside, "eth1"}} {
		if err := nettest.ConnectVeth(wire.a, wire.at, wire.b, wire.bt); err != nil {
			t.Fatal(err)
		}
	}
	if err := second.SetUp(lan.NIC); err != nil {
		t.Fatal(err)
	}
	if err := second.AddAddrs(lan.NIC, lan.Router...); err != nil {
		t.Fatal(err)
	}
	const strict = `
		nft add table inet strict
		nft add chain inet strict forward '{ type filter hook forward priority 0; }'
		nft add rule inet strict forward ct state invalid drop
		nft add rule inet strict forward iifname %[1]s ip saddr != 10.%[2]d.0.0/16 drop
		nft add rule inet strict forward iifname %[1]s ip6 saddr != fd00:%[2]d::/64 drop
	`
	sh(t, s.Router, fmt.Sprintf(strict, s.LANs[0].NIC, 6)+`
		ip addr add 172.16.0.1/30 dev transit
		ip addr add fd00:16::1/64 dev transit nodad
		ip route add 10.7.0.0/16 via 172.16.0.2
		ip route add 198.51.100.0/24 via 172.16.0.2
		ip -6 route add fd00:7::/64 via fd00:16::2
		ip -6 route add 2001:db8:3::/64 via fd00:16::2
	`)
	sh(t, second, fmt.Sprintf(strict, lan.NIC, 7)+`
		ip addr add 172.16.0.2/30 dev transit
		ip addr add fd00:16::2/64 dev transit nodad
		ip addr add 198.51.100.1/24 dev outside0
		ip addr add 2001:db8:3::1/64 dev outside0 nodad
		ip route add 10.6.0.0/16 via 172.16.0.1
		ip route add 192.0.2.0/24 via 172.16.0.1
		ip -6 route add fd00:6::/64 via fd00:16::1
		ip -6 route add 2001:db8:2::/64 via fd00:16::1
	`)
	sh(t, s.Outside, `
		ip addr add 198.51.100.10/24 dev eth1
		ip addr add 2001:db8:3::10/64 dev eth1 nodad
		ip route add 10.7.0.0/16 via 198.51.100.1
		ip -6 route add fd00:7::/64 via 2001:db8:3::1
	`)
	clients := [][]netip.Addr{
		{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:2::10")},
		{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:3::10")},
	}
	var out []lab.Check
	for i, n := range s.nics {
		for _, web := range s.web.Addrs(n.name) {
			client := of(clients[i], web.Addr())
			out = append(out, lab.Check{
				Name: fmt.Sprintf("outside to %s, %s", n.name, web), Coordinator: i > 0,
				From: s.Outside, To: netip.AddrPortFrom(web.Addr(), appPort), Answers: s.web.Netns, Sees: client,
				RequestBy: fmt.Sprintf("eth%d", i), ReplyBy: n.name,
			}, lab.Check{
				Name: fmt.Sprintf("%s, %s to outside", n.name, web), Coordinator: i > 0,
				From: s.web.Netns, Source: web.Addr(), To: netip.AddrPortFrom(client, appPort), Answers: s.Outside, Sees: web.Addr(),
				RequestBy: n.name,
			})
		}
	}
	return both(out...)
}

// TestEightNICs has names that no numbers can be read from: each NIC gets the
// next table.
func TestEightNICs(t *testing.T) {
	t.Parallel()
	names := []string{lab.NIC, "net1", "bond0.100", "public-network1", "a", "eth1", "veth1", "net10"}
	var lans []lab.LAN
	for i := range names {
		lans = append(lans, otherLAN(20+i))
	}
	s := emptySite(t, lans, chained)
	for i, name := range names {
		s.plug(t, i, name)
	}
	s.serve(t)
	for i, n := range s.nics {
		for _, a := range s.web.Addrs(n.name) {
			if got, want := table(t, s.web, a.Addr()), 100+i; i > 0 && got != want {
				t.Errorf("%s has table %d, want %d", n.name, got, want)
			}
		}
	}
	s.verify(t, byTCP(s.checks())...)
	s.check(t)
}

// table is the one that a rule of ours has for an address.
func table(t *testing.T, pod *lab.Pod, a netip.Addr) int {
	t.Helper()
	var pref, number int
	var from, address, lookup string
	rule := line(t, pod.Netns, "ip "+ipFamily(a)+" rule", "from "+a.String()+" ")
	if _, err := fmt.Sscanf(rule, "%d: %s %s %s %d", &pref, &from, &address, &lookup, &number); err != nil {
		t.Errorf("rule %q: %v", rule, err)
	}
	return number
}

// TestOneSubnet has two NICs in one subnet: each answers ARP for its own address
// alone.
func TestOneSubnet(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]bool{"coordinator": true, "the control": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var chain []string
			if with {
				chain = []string{chained}
			}
			s := emptySite(t, []lab.LAN{lab.Ens192()}, chain...)
			s.plug(t, 0, lab.NIC)
			s.plug(t, 0, "net1")
			s.serve(t)
			if with {
				s.verify(t, s.checks()...)
				s.check(t)
			}
			wrong := 0
			for _, n := range s.nics {
				wrong += s.foreignAnswers(t, n)
			}
			if (wrong > 0) == with {
				t.Errorf("%d ARP answers by another NIC", wrong)
			}
		})
	}
}

// foreignAnswers counts ARP answers for a NIC's address that have another MAC.
func (s *site) foreignAnswers(t *testing.T, n nic) int {
	t.Helper()
	client := s.LANs[n.lan].Client
	mac, err := s.web.MAC(n.name)
	if err != nil {
		t.Fatal(err)
	}
	own, err := client.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	sh(t, client, "ip neigh flush dev eth0")
	seen, err := client.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	if err := client.Ping(s.web.Addrs(n.name)[0].Addr(), nothing); err != nil {
		t.Error(err)
	}
	frames, err := seen.Frames()
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := 0, 0
	for _, f := range frames {
		switch {
		case f.Outgoing || f.EtherType != unix.ETH_P_ARP || f.DstMAC.String() != own.String():
		case f.SrcMAC.String() == mac.String():
			right++
		default:
			wrong++
		}
	}
	if right == 0 {
		t.Errorf("%s doesn't answer ARP for its own address", n.name)
	}
	return wrong
}

// TestOneFamilyOfTwo gives a dual-stack pod a NIC of only one family, and the
// other way round.
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
			s := newSite(t, lans, chained)
			var checks []lab.Check
			for _, c := range s.checks() {
				if len(s.app.Addrs(lab.NIC)) == 1 && c.Answers == s.app.Netns && c.To.Addr().Is4() != s.app.Addrs(lab.NIC)[0].Addr().Is4() {
					continue // nobody serves a ClusterIP of this family
				}
				checks = append(checks, c)
			}
			s.verify(t, checks...)
			s.check(t)
		})
	}
}
