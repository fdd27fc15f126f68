// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestOverlay uses an eth0 of another CNI and two underlay NICs, one in mode auto and
// one in mode overlay.
func TestOverlay(t *testing.T) {
	for kind := range fixture.Overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224(), fixture.OtherLAN(8)}, fixture.Chained)
			s.Overlay(t, kind)
			before := routing(t, s.Web)
			s.Plug(t, 1, "net1")
			s.Plug(t, 2, "net2", with(`"mode": "overlay"`))
			s.Serve(t)
			s.Verify(t, s.OverlayChecks()...)
			s.Check(t)
			if got := fixture.Sh(t, s.Web.Netns, "nft list ruleset"); got != "" {
				t.Errorf("an overlay's pod needs no marks, but has %s", got)
			}
			s.Unplug(t, "net1")
			s.Verify(t, s.OverlayChecks()...)
			s.Unplug(t, "net2")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after DEL:\n%s\nstate before ADD:\n%s", after, before)
			}
		})
	}
}

// TestOverlayWithoutCoordinator is the control.
func TestOverlayWithoutCoordinator(t *testing.T) {
	for kind := range fixture.Overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()})
			s.Overlay(t, kind)
			s.Plug(t, 1, "net1")
			// A pod has one default route, by its first NIC.
			fixture.Sh(t, s.Web.Netns, "ip route flush default; ip -6 route flush default; "+fixture.Overlays[kind].Defaults)
			s.Serve(t)
			s.Refute(t, slices.DeleteFunc(s.OverlayChecks(), func(c lab.Check) bool {
				// These work by the overlay itself: its pods reach their node.
				return strings.HasPrefix(c.Name, "unbound to node") || c.From == s.Web.Netns && c.Answers == s.Node.Netns
			})...)
		})
	}
}

// TestDefaultRouteNICInOverlay moves the default route to net1; everything that the
// overlay reaches stays reachable.
func TestDefaultRouteNICInOverlay(t *testing.T) {
	for kind := range fixture.Overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, with(`"podDefaultRouteNIC": "net1"`))
			s.Overlay(t, kind)
			before := routing(t, s.Web)
			s.Plug(t, 1, "net1")
			s.Serve(t)
			s.Verify(t, append(s.OverlayChecks(), s.Unbound("net1")...)...)
			s.Check(t)
			s.Unplug(t, "net1")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after DEL:\n%s\nstate before ADD:\n%s", after, before)
			}
		})
	}
}

// TestDefaultRouteOfMultus does what Multus does for an annotation with default-route: it deletes the first
// NIC's default routes before net1 is made, and afterwards sets those by net1. The pod still reaches its node and
// Services, also if the node answers for addresses of the link alone, as with kube-proxy's strictARP.
func TestDefaultRouteOfMultus(t *testing.T) {
	for kind := range fixture.Overlays {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, fixture.Chained)
			s.Overlay(t, kind)
			fixture.Sh(t, s.Node.Netns, "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce")
			fixture.Sh(t, s.Web.Netns, "ip route flush default; ip -6 route flush default")
			before := routing(t, s.Web)
			s.Plug(t, 1, "net1")
			for _, gateway := range fixture.Addrs(s.LANs[1].Router) {
				fixture.Sh(t, s.Web.Netns, "ip route replace default via "+gateway.String()+" dev net1")
			}
			s.Serve(t)
			checks := slices.DeleteFunc(s.OverlayChecks(), func(c lab.Check) bool {
				return !strings.HasPrefix(c.Name, "unbound to node") && !strings.HasPrefix(c.Name, "unbound to ClusterIP")
			})
			if len(checks) < 8 {
				t.Fatalf("%d checks, want node and ClusterIP in both families", len(checks))
			}
			s.Verify(t, append(checks, s.Unbound("net1")...)...)
			s.Check(t)
			s.Unplug(t, "net1")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after DEL:\n%s\nstate before ADD:\n%s", after, before)
			}
		})
	}
}

// TestRouteSizes gives eth0's default routes an MTU, as Cilium does for its tunnel, and one of net1's routes an MTU
// and a segment size. They hold for packets from eth0's addresses, and to node and Services, and are there again
// after DEL.
func TestRouteSizes(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, with(`"podDefaultRouteNIC": "net1"`))
	s.Overlay(t, "calico")
	fixture.Sh(t, s.Web.Netns, "ip route change default via 169.254.1.1 dev eth0 mtu 1380; ip -6 route change default via fe80::ecee:eeff:feee:eeee dev eth0 mtu 1380")
	before := routing(t, s.Web)
	net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16"), netip.MustParsePrefix("fd00:7::201/64")},
		fixture.Addrs(s.LANs[1].Router)...)
	fixture.Sh(t, s.Web.Netns, "ip route add 10.9.0.0/16 via 10.7.0.1 dev net1 mtu 1400 advmss 1300")
	own := fixture.Keys{"podDefaultRouteNIC": "net1"}
	net1.Call("ADD", own).Fine(t)
	net1.Call("CHECK", own).Fine(t)
	for _, tt := range []struct{ get, want string }{
		{"8.8.8.8 from 10.244.1.5", "mtu 1380"},
		{"2001:db8::1 from fd00:244::5", "mtu 1380"},
		{"10.6.168.123", "mtu 1380"},
		{"10.96.0.10", "mtu 1380"},
		{"fd00:10:96::10 from fd00:7::201", "mtu 1380"},
		{"10.9.0.1 from 10.7.168.201", "mtu 1400 advmss 1300"},
	} {
		if got := fixture.Sh(t, s.Web.Netns, "ip route get "+tt.get); !strings.Contains(got, tt.want) {
			t.Errorf("the route to %s is\n%swant %s", tt.get, got, tt.want)
		}
	}
	fixture.Sh(t, s.Web.Netns, "ip route change 10.9.0.0/16 via 10.7.0.1 dev net1 mtu 1350")
	net1.Call("ADD", own).Fine(t)
	net1.Call("CHECK", own).Fine(t)
	if got := fixture.Sh(t, s.Web.Netns, "ip route get 10.9.0.1 from 10.7.168.201"); !strings.Contains(got, "mtu 1350") {
		t.Errorf("net1's route has another MTU now, but its copy is\n%s", got)
	}
	if got := fixture.Sh(t, s.Web.Netns, "ip route get 8.8.8.8"); strings.Contains(got, "mtu") {
		t.Errorf("net1's default route has no MTU of its own, but got\n%s", got)
	}
	net1.Call("DEL").Fine(t)
	if err := s.Web.DeleteLink("net1"); err != nil {
		t.Fatal(err)
	}
	if after := routing(t, s.Web); after != before {
		t.Errorf("state after DEL:\n%s\nstate before ADD:\n%s", after, before)
	}
}

// TestOverlayPodsOnABridge sends from another pod on the bridge to an underlay NIC's
// address, by the node. The node must send no redirect: the pod would then send to the
// MAC of the first pod with that address for the rest of its life.
func TestOverlayPodsOnABridge(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Overlay(t, "flannel")
	beside := s.AddPod(t, "beside")
	s.OnBridge(t, beside, 6)
	capture, err := beside.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	underlay := netip.MustParsePrefix("fd00:7::201/64")
	for _, next := range []int{7, 0} {
		net1 := s.ByHand(t, 1, "net1", []netip.Prefix{underlay}, fixture.Of(fixture.Addrs(s.LANs[1].Router), underlay.Addr()))
		net1.Add(t)
		net1.Check(t)
		fixture.Serve(t, s.Web.Netns)
		for _, n := range []*testbed.Netns{s.Node.Netns, s.Web.Netns, beside.Netns} {
			fixture.Settle(t, n)
		}
		got, err := beside.Ask("tcp", netip.AddrPortFrom(underlay.Addr(), fixture.AppPort), fixture.Nothing)
		if err != nil || got.Server != s.Web.Name() {
			t.Errorf("answered by %q, want %s (%v)", got.Server, s.Web.Name(), err)
		}
		net1.Call("DEL").Fine(t)
		if err := s.Web.DeleteLink("net1"); err != nil {
			t.Fatal(err)
		}
		if left := fixture.Sh(t, s.Node.Netns, "ip -6 route show table 500; ip -6 neigh show nud permanent"); strings.Contains(left, underlay.Addr().String()) {
			t.Errorf("after DEL there is\n%s", left)
		}
		if next > 0 {
			s.Web = s.AddPod(t, "next")
			s.OnBridge(t, s.Web, next)
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

// TestOverlayRouteOfFlannel has overlayPodCIDR be the cluster network, to which Flannel's plugin
// has given the pod a route already: that stays, and stays Flannel's.
func TestOverlayRouteOfFlannel(t *testing.T) {
	t.Parallel()
	const route = "10.244.0.0/16 via 10.244.1.1 dev eth0"
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], strings.Replace(fixture.Chained, "{", `{"overlayPodCIDR": ["10.244.0.0/16"], `, 1))
	s.Overlay(t, "flannel")
	fixture.Sh(t, s.Web.Netns, "ip route add "+route)
	routes := func() string { return fixture.Sh(t, s.Web.Netns, "ip route show 10.244.0.0/16 table main") }
	before := routes()
	net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16")}, netip.MustParseAddr("10.7.0.1"))
	net1.Call("ADD", fixture.Keys{"overlayPodCIDR": []string{"10.244.0.0/16"}}).Fine(t)
	net1.Call("CHECK", fixture.Keys{"overlayPodCIDR": []string{"10.244.0.0/16"}}).Fine(t)
	if got := routes(); got != before {
		t.Errorf("the route is %q, want %q", got, before)
	}
	net1.Call("DEL").Fine(t)
	if got := routes(); got != before {
		t.Errorf("after DEL the route is %q, want %q", got, before)
	}
}

// TestWrongModes uses modes that don't fit the pod: nothing is changed.
func TestWrongModes(t *testing.T) {
	t.Parallel()
	overlay := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	overlay.Overlay(t, "calico")
	overlay.Web.Results["eth0"] = &types100.Result{CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: "eth0", Sandbox: overlay.Web.Path()}}}
	overlay.NICs = []fixture.NIC{{Name: "eth0"}}
	underlay := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	underlay.Plug(t, 0, "eth0")
	gateway := netip.MustParseAddr("10.7.0.1")
	overlay.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16"), gateway)
	underlay.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16"), gateway)
	for _, tt := range []struct {
		site *fixture.Site
		nic  string
		mode string
		says string
	}{
		{overlay, "net1", "underlay", "mode: underlay: link net1: the pod has no veth0: chain coordinator behind its first NIC, eth0, as well, or use mode overlay"},
		{underlay, "net1", "overlay", "mode: overlay: the pod's first NIC, eth0, is in underlay mode"},
		{underlay, "eth0", "overlay", "mode: overlay: link eth0 is the pod's first NIC (podDefaultCNINIC), which the overlay's plugin makes: chain coordinator behind the further ones"},
	} {
		before := tt.site.State(t)
		e := tt.site.Attached(tt.nic).Call("ADD", fixture.Keys{"mode": tt.mode}).Fails(t)
		if want := "coordinator: " + tt.says; e.Code != 7 || e.Msg != want {
			t.Errorf("ADD of %s in mode %s says %d, %q, want 7, %q", tt.nic, tt.mode, e.Code, e.Msg, want)
		}
		fixture.Same(t, "ADD that was refused", before, tt.site.State(t))
	}
}
