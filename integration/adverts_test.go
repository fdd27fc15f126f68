// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// sendAdvert sends a router advertisement of high preference from an address of the router into
// a LAN (RFC 4861, 4191).
func sendAdvert(t *testing.T, s *fixture.Site, lan int, from netip.Addr, lifetime int) {
	t.Helper()
	const routerAdvertisement, hops, high = 134, 64, 0x08
	message := []byte{routerAdvertisement, 0, 0, 0, hops, high, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(message[6:], uint16(lifetime))
	etherType, packet := testbed.IPPacket(from, netip.MustParseAddr("ff02::1"), unix.IPPROTO_ICMPV6, message, 2)
	if err := s.Router.Inject(s.LANs[lan].NIC, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, etherType, packet); err != nil {
		t.Fatal(err)
	}
}

// router returns the link-local address of the router in a LAN, where its link has the name
// of the LAN.
func router(t *testing.T, s *fixture.Site, lan int) netip.Addr {
	t.Helper()
	words := strings.Fields(fixture.Sh(t, s.Router, "until ip -6 -o addr show dev "+s.LANs[lan].NIC+" scope link -tentative | grep fe80; do sleep 0.05; done"))
	return netip.MustParsePrefix(words[3]).Addr()
}

// advertise sends a router advertisement, and waits until web has a default route with this
// lifetime in seconds.
func advertise(t *testing.T, s *fixture.Site, lan int, nic string, from netip.Addr, lifetime int) {
	t.Helper()
	sendAdvert(t, s, lan, from, lifetime)
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var expires int
		if _, rest, ok := strings.Cut(fixture.Sh(t, s.Web.Netns, "ip -6 route show default dev "+nic+" proto ra"), "expires "); ok {
			_, _ = fmt.Sscanf(rest, "%dsec", &expires)
		}
		if expires > lifetime/2 && expires <= lifetime {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the advertisement made no default route by %s", nic)
		}
	}
}

// TestDefaultOfAdvertisements: a router in the LAN of net1 advertises itself, with a higher
// preference than any. What has no source of its own still leaves by eth0, CHECK and repair
// have nothing to do, and net1's own table has a gateway.
func TestDefaultOfAdvertisements(t *testing.T) {
	noGateway := `{"cniVersion": "1.1.0", "name": "storage", "plugins": [{"type": "macvlan", "master": "ens224", "mode": "bridge",
		"ipam": {"type": "static", "addresses": [{"address": "fd00:7::171/64"}]}}, ` + fixture.Chained + "]}"
	ipv6 := func(checks []lab.Check) []lab.Check {
		return slices.DeleteFunc(checks, func(c lab.Check) bool { return c.To.Addr().Is4() })
	}
	for name, mode := range map[string]struct{ overlay, gateway string }{
		"underlay": {"", "fd00:7::1"}, "overlay": {"calico", "fd00:7::1"}, "the gateway is known by the advertisement alone": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			if mode.overlay == "" {
				s.Plug(t, 0, lab.NIC)
			} else {
				s.Overlay(t, mode.overlay)
			}
			if mode.gateway == "" {
				network, err := s.Network(noGateway, fixture.CNIPath()...)
				if err != nil {
					t.Fatal(err)
				}
				if err := network.Add(t.Context(), s.Web, "net1"); err != nil {
					t.Fatal(err)
				}
				s.NICs = append(s.NICs, fixture.NIC{Name: "net1", Lan: 1, Network: network})
			} else {
				s.Plug(t, 1, "net1")
			}
			s.Serve(t)
			first := router(t, s, 1)
			dir := t.TempDir()
			byEth0 := func() {
				t.Helper()
				if mode.overlay == "" {
					s.Verify(t, ipv6(s.Unbound(lab.NIC))...)
				}
				if got := fixture.Sh(t, s.Web.Netns, "ip -6 route get 2001:db8:2::10"); !strings.Contains(got, "dev eth0") {
					t.Errorf("what has no source leaves so: %s", got)
				}
			}
			for _, lifetime := range []int{1800, 600, 200} {
				advertise(t, s, 1, "net1", first, lifetime)
				byEth0()
				if mode.gateway == "" && lifetime == 1800 {
					s.Repair(t, dir) // its table gets the gateway
				}
				s.Check(t)
				s.Healthy(t, dir)
				if r := fixture.Line(t, s.Web.Netns, "ip -6 route show table 101", "default via "); r == "" {
					t.Error("net1's own table has no default route")
				}
			}
			switch {
			case mode.overlay != "":
				s.Verify(t, s.OverlayChecks()...)
			case mode.gateway != "":
				s.Verify(t, s.Checks()...)
			}

			if mode.gateway == "" { // another router replaces the first one
				fixture.Sh(t, s.Router, "ip addr add fe80::99/64 dev ens224 nodad")
				sendAdvert(t, s, 1, first, 0)
				first = netip.MustParseAddr("fe80::99")
				advertise(t, s, 1, "net1", first, 1800)
				s.Check(t)
				s.Repair(t, dir)
				if r := fixture.Sh(t, s.Web.Netns, "ip -6 route show default table 101"); !strings.HasPrefix(r, "default via fe80::99 ") || strings.Count(r, "default") != 1 {
					t.Errorf("net1's own table has %s", r)
				}
				s.Check(t)
				s.Healthy(t, dir)
				byEth0()
			}

			// The control: with the kernel's own metric it wins, and repair removes it. The next
			// advertisement finds the setting as it should be.
			fixture.Sh(t, s.Web.Netns, "sysctl -w net.ipv6.conf.net1.ra_defrtr_metric=1024; ip -6 route flush default dev net1 proto ra")
			advertise(t, s, 1, "net1", first, 1800)
			if got := fixture.Sh(t, s.Web.Netns, "ip -6 route get 2001:db8:2::10"); !strings.Contains(got, "dev net1") {
				t.Errorf("the control: what has no source leaves so: %s", got)
			}
			if mode.overlay == "" {
				s.Refute(t, ipv6(s.Unbound(lab.NIC))...)
			}
			for _, n := range s.NICs {
				if err := n.Network.Check(t.Context(), s.Web, n.Name); (err != nil) != (n.Name == "net1") {
					t.Errorf("the control: CHECK of %s says %v", n.Name, err)
				}
			}
			s.Repair(t, dir)
			byEth0()
			advertise(t, s, 1, "net1", first, 600)
			byEth0()
			s.Check(t)
			s.Healthy(t, dir)
		})
	}
}
