// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"testing"

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
			s.splitRouters(t)
			s.refute(t, s.checks()...)
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
	for i, nic := range s.nics {
		for _, web := range s.web.Addrs(nic) {
			for _, network := range []string{"tcp", "udp"} {
				client := of(clients[i], web.Addr())
				out = append(out, lab.Check{
					Name: fmt.Sprintf("outside to %s, %s", nic, web), Network: network, Coordinator: i > 0,
					From: s.Outside, To: netip.AddrPortFrom(web.Addr(), appPort), Answers: s.web.Netns, Sees: client,
					RequestBy: fmt.Sprintf("eth%d", i), ReplyBy: nic,
				}, lab.Check{
					Name: fmt.Sprintf("%s, %s to outside", nic, web), Network: network, Coordinator: i > 0,
					From: s.web.Netns, Source: web.Addr(), To: netip.AddrPortFrom(client, appPort), Answers: s.Outside, Sees: web.Addr(),
					RequestBy: nic,
				})
			}
		}
	}
	return out
}
