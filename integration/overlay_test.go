// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// overlays make eth0 as overlay networks do: Calico by a veth with a /32 and a
// gateway that the node answers for, Flannel by a veth to a bridge, the CNI
// project's ptp by a veth whose other end has the gateway's address.
var overlays = map[string]struct{ node, pod, defaults string }{
	"calico": {`
		ip link set cali1 address ee:ee:ee:ee:ee:ee
		ip addr add fe80::ecee:eeff:feee:eeee/64 dev cali1 nodad
		echo 1 > /proc/sys/net/ipv4/conf/cali1/proxy_arp
		echo 0 > /proc/sys/net/ipv4/neigh/cali1/proxy_delay
		ip route add 10.244.1.5 dev cali1
		ip -6 route add fd00:244::5 dev cali1
	`, `
		ip addr add 10.244.1.5/32 dev eth0
		ip addr add fd00:244::5/128 dev eth0 nodad
		ip route add 169.254.1.1 dev eth0
	`, `
		ip route add default via 169.254.1.1 dev eth0
		ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0
	`},
	"flannel": {`
		ip link add cni0 type bridge
		ip addr add 10.244.1.1/24 dev cni0
		ip addr add fd00:244::1/64 dev cni0 nodad
		ip link set cni0 up
		ip link set cali1 name veth0a1b master cni0
	`, `
		ip addr add 10.244.1.5/24 dev eth0
		ip addr add fd00:244::5/64 dev eth0 nodad
	`, `
		ip route add default via 10.244.1.1 dev eth0
		ip -6 route add default via fd00:244::1 dev eth0
	`},
	"ptp": {`
		ip addr add 10.244.1.1/32 dev cali1
		ip addr add fd00:244::1/128 dev cali1 nodad
		ip route add 10.244.1.5 dev cali1
		ip -6 route add fd00:244::5 dev cali1
	`, `
		ip addr add 10.244.1.5/24 dev eth0 noprefixroute
		ip addr add fd00:244::5/64 dev eth0 noprefixroute nodad
		ip route add 10.244.1.1 dev eth0 src 10.244.1.5
		ip -6 route add fd00:244::1 dev eth0 src fd00:244::5
		ip route add 10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.5
		ip -6 route add fd00:244::/64 via fd00:244::1 dev eth0 src fd00:244::5
	`, `
		ip route add default via 10.244.1.1 dev eth0
		ip -6 route add default via fd00:244::1 dev eth0
	`},
}

// overlay gives web an eth0 by another CNI, whose pods the other machines reach
// through the node.
func (s *site) overlay(t *testing.T, kind string) {
	t.Helper()
	if err := nettest.ConnectVeth(s.web.Netns, "eth0", s.Node.Netns, "cali1"); err != nil {
		t.Fatal(err)
	}
	sh(t, s.Node.Netns, overlays[kind].node)
	sh(t, s.web.Netns, overlays[kind].pod+overlays[kind].defaults)
	sh(t, s.Router, "ip route add 10.244.1.0/24 via 10.6.168.123; ip -6 route add fd00:244::/64 via fd00:6::123")
}

// overlayAddrs are eth0's.
var overlayAddrs = []netip.Addr{netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("fd00:244::5")}

// overlayChecks are what must hold for eth0's addresses, and for the other NICs'.
func (s *site) overlayChecks() []lab.Check {
	var out []lab.Check
	for _, eth0 := range overlayAddrs {
		to := netip.AddrPortFrom(eth0, appPort)
		for i, lan := range s.LANs {
			client := of(addrs(lan.Host), eth0)
			out = append(out, lab.Check{
				Name: fmt.Sprintf("host in %s to eth0 (%s)", lan.NIC, eth0), Coordinator: i > 0,
				From: lan.Client, To: to, Answers: s.web.Netns, Sees: client, ReplyBy: "eth0",
			}, lab.Check{
				Name: fmt.Sprintf("eth0 (%s) to host in %s", eth0, lan.NIC), Coordinator: i > 0,
				From: s.web.Netns, Source: eth0, To: netip.AddrPortFrom(client, appPort), Answers: lan.Client, Sees: eth0, RequestBy: "eth0",
			}, lab.Check{
				Name: fmt.Sprintf("unbound to node's address in %s", lan.NIC), Coordinator: i > 0,
				From: s.web.Netns, To: netip.AddrPortFrom(of(addrs(lan.Node), eth0), appPort), Answers: s.Node.Netns, Sees: eth0, RequestBy: "eth0",
			})
		}
		out = append(out, lab.Check{
			Name: fmt.Sprintf("unbound to ClusterIP (%s)", eth0),
			From: s.web.Netns, To: netip.AddrPortFrom(of(services, eth0), servicePort), Answers: s.app.Netns,
			Sees: of(addrs(s.LANs[0].Node), eth0), RequestBy: "eth0",
		})
	}
	out = both(out...)
	for _, c := range s.checks() {
		// A connection that the node forwards to an underlay NIC's address is
		// answered by that NIC: with an overlay nothing marks it.
		if !strings.Contains(c.Name, "to NodePort") {
			out = append(out, c)
		}
	}
	return out
}

// TestOverlay has an eth0 by another CNI and two underlay NICs, one of mode auto
// and one of mode overlay.
func TestOverlay(t *testing.T) {
	for kind := range overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224(), otherLAN(8)}, chained)
			s.overlay(t, kind)
			before := routing(t, s.web)
			s.plug(t, 1, "net1")
			s.plug(t, 2, "net2", with(`"mode": "overlay"`))
			s.serve(t)
			s.verify(t, s.overlayChecks()...)
			s.check(t)
			if got := sh(t, s.web.Netns, "nft list ruleset"); got != "" {
				t.Errorf("an overlay's pod needs no marks, and has %s", got)
			}
			s.unplug(t, "net1")
			s.verify(t, s.overlayChecks()...)
			s.unplug(t, "net2")
			if after := routing(t, s.web); after != before {
				t.Errorf("after DEL there is\n%s\nbefore ADD there was\n%s", after, before)
			}
		})
	}
}

// TestOverlayWithoutCoordinator is the control.
func TestOverlayWithoutCoordinator(t *testing.T) {
	for kind := range overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()})
			s.overlay(t, kind)
			s.plug(t, 1, "net1")
			// A pod has one default, by its first NIC.
			sh(t, s.web.Netns, "ip route flush default; ip -6 route flush default; "+overlays[kind].defaults)
			s.serve(t)
			s.refute(t, slices.DeleteFunc(s.overlayChecks(), func(c lab.Check) bool {
				// The overlay's own: its pods reach their node.
				return strings.HasPrefix(c.Name, "unbound to node") || c.From == s.web.Netns && c.Answers == s.Node.Netns
			})...)
		})
	}
}

// TestDefaultRouteNICInOverlay moves the default to net1; what the overlay
// reaches stays reachable.
func TestDefaultRouteNICInOverlay(t *testing.T) {
	for kind := range overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, with(`"podDefaultRouteNIC": "net1"`))
			s.overlay(t, kind)
			before := routing(t, s.web)
			s.plug(t, 1, "net1")
			s.serve(t)
			s.verify(t, append(s.overlayChecks(), s.unbound("net1")...)...)
			s.check(t)
			s.unplug(t, "net1")
			if after := routing(t, s.web); after != before {
				t.Errorf("after DEL there is\n%s\nbefore ADD there was\n%s", after, before)
			}
		})
	}
}

// TestOverlayPodsOnABridge: another pod on the bridge asks an underlay NIC's
// address by the node, and is not told to ask on the bridge: it would ask the MAC
// of the pod that had the address first for as long as it lives.
func TestOverlayPodsOnABridge(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], chained)
	s.overlay(t, "flannel")
	beside := s.newPod(t, "beside")
	s.onBridge(t, beside, 6)
	capture, err := beside.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	underlay := netip.MustParsePrefix("fd00:7::201/64")
	for _, next := range []int{7, 0} {
		net1 := s.byHand(t, 1, "net1", []netip.Prefix{underlay}, of(addrs(s.LANs[1].Router), underlay.Addr()))
		net1.add(t)
		net1.check(t)
		serve(t, s.web.Netns)
		for _, n := range []*nettest.Netns{s.Node.Netns, s.web.Netns, beside.Netns} {
			settle(t, n)
		}
		got, err := beside.Ask("tcp", netip.AddrPortFrom(underlay.Addr(), appPort), nothing)
		if err != nil || got.Server != s.web.Name() {
			t.Errorf("answered by %q, want %s (%v)", got.Server, s.web.Name(), err)
		}
		net1.call("DEL").fine(t)
		if err := s.web.DeleteLink("net1"); err != nil {
			t.Fatal(err)
		}
		if left := sh(t, s.Node.Netns, "ip -6 route show table 500; ip -6 neigh show nud permanent"); strings.Contains(left, underlay.Addr().String()) {
			t.Errorf("after DEL there is\n%s", left)
		}
		if next > 0 {
			s.web = s.newPod(t, "next")
			s.onBridge(t, s.web, next)
		}
	}
	frames, err := capture.Frames()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if f.Protocol == unix.IPPROTO_ICMPV6 && f.ICMPType == uint8(ipv6.ICMPTypeRedirect) {
			t.Error(f)
		}
	}
}

// onBridge gives a pod an eth0 on the bridge that overlay made, with addresses
// that end in a number.
func (s *site) onBridge(t *testing.T, pod *lab.Pod, number int) {
	t.Helper()
	port := fmt.Sprintf("port%d", number)
	if err := nettest.ConnectVeth(pod.Netns, "eth0", s.Node.Netns, port); err != nil {
		t.Fatal(err)
	}
	sh(t, s.Node.Netns, "ip link set "+port+" master cni0")
	sh(t, pod.Netns, strings.ReplaceAll(overlays["flannel"].pod, "5/", fmt.Sprintf("%d/", number))+overlays["flannel"].defaults)
}

// TestWrongModes asks for what can't be: nothing is changed.
func TestWrongModes(t *testing.T) {
	t.Parallel()
	overlay := emptySite(t, twoLANs["dual"], chained)
	overlay.overlay(t, "calico")
	overlay.web.Results["eth0"] = &types100.Result{CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: "eth0", Sandbox: overlay.web.Path()}}}
	overlay.nics = []nic{{name: "eth0"}}
	underlay := emptySite(t, twoLANs["dual"], chained)
	underlay.plug(t, 0, "eth0")
	gateway := netip.MustParseAddr("10.7.0.1")
	overlay.byHand(t, 1, "net1", prefixesOf("10.7.168.201/16"), gateway)
	underlay.byHand(t, 1, "net1", prefixesOf("10.7.168.201/16"), gateway)
	for _, tt := range []struct {
		site *site
		nic  string
		mode string
		says string
	}{
		{overlay, "net1", "underlay", "mode: underlay: link net1: the pod has no veth0: chain coordinator behind its first NIC, eth0, as well, or use mode overlay"},
		{underlay, "net1", "overlay", "mode: overlay: the pod's first NIC, eth0, is in underlay mode"},
		{underlay, "eth0", "overlay", "mode: overlay: link eth0 is the pod's first NIC (podDefaultCNINIC), which the overlay's plugin makes: chain coordinator behind the further ones"},
	} {
		before := tt.site.state(t)
		e := tt.site.attached(tt.nic).call("ADD", keys{"mode": tt.mode}).fails(t)
		if want := "coordinator: " + tt.says; e.Code != 7 || e.Msg != want {
			t.Errorf("ADD of %s in mode %s says %d, %q, want 7, %q", tt.nic, tt.mode, e.Code, e.Msg, want)
		}
		same(t, "ADD that was refused", before, tt.site.state(t))
	}
}
