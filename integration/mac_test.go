// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// macs are the MACs that podMACPrefix "0a:1b" gives to the first pod of a LAN: from
// 10.6.168.171, or, without it, from fd00:6::171.
var macs = map[string]string{"v4": "0a:1b:0a:06:a8:ab", "dual": "0a:1b:0a:06:a8:ab", "v6": "0a:1b:00:00:01:71"}

// quiet keeps the kernel from announcing the NIC's MAC: macvlan turns the announcement
// on, but other plugins don't.
func quiet(t *testing.T, pod *testbed.Netns) {
	t.Helper()
	for _, key := range []string{"ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"} {
		if err := pod.SetSysctl(key, "0"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMACPrefix changes the MAC of a NIC whose addresses a host in the LAN has in its
// cache: that host must learn the new MAC. Without an announcement it does not.
func TestMACPrefix(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lan)
			quiet(t, s.Web.Netns)
			client, option := s.LANs[0].Client, fixture.Keys{"podMACPrefix": "0a:1b"}
			ping := func(when string, want bool) {
				t.Helper()
				for _, web := range s.Web.Addrs(lab.NIC) {
					if err := client.Ping(web.Addr(), testbed.Socket{}); (err == nil) != want {
						t.Errorf("%s: %v", when, err)
					}
				}
			}
			ping("before", true)
			made := mac(t, s.Web.Netns)
			fixture.Sh(t, s.Web.Netns, "ip link set eth0 address 02:00:00:00:00:77")
			ping("the control: another MAC that nobody announced", false)

			seen, err := client.Capture("eth0")
			if err != nil {
				t.Fatal(err)
			}
			defer seen.Close()
			r := s.WebNIC.Add(t, option)
			ping("after ADD", true)
			if got := mac(t, s.Web.Netns); got != macs[name] {
				t.Errorf("the NIC has MAC %s, want %s", got, macs[name])
			}
			if got := interfaceOf(r, lab.NIC).Mac; got != macs[name] {
				t.Errorf("the result says MAC %s, want %s", got, macs[name])
			}
			echoesGo(t, seen, s.Web, macs[name])

			s.WebNIC.Call("CHECK", option).Fine(t)
			fixture.Sh(t, s.Web.Netns, "ip link set eth0 address "+made)
			e := s.WebNIC.Call("CHECK", option).Fails(t)
			for _, words := range []string{"pod: link is eth0 address " + made, "want eth0 address " + macs[name]} {
				if !strings.Contains(e.Msg, words) {
					t.Errorf("CHECK does not say %q: %s", words, e.Msg)
				}
			}
			s.WebNIC.Add(t, option)
			s.WebNIC.Call("CHECK", option).Fine(t)
			if got := mac(t, s.Web.Netns); got != macs[name] {
				t.Errorf("ADD that repairs: the NIC has MAC %s, want %s", got, macs[name])
			}
			s.AppNIC.Add(t)
			fixture.Holds(t, s.Scene)
		})
	}
}

// TestMACPrefixUndone makes an ADD fail after it has changed the MAC.
func TestMACPrefixUndone(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	quiet(t, s.Web.Netns)
	before := s.State(t)
	c := s.WebNIC.Call("ADD", fixture.Keys{"podMACPrefix": "0a:1b"})
	c.Full = true
	if out := c.Run(t); out.State.Success() {
		t.Error("ADD succeeds, but did not print its result")
	}
	fixture.Same(t, "ADD that could not print its result", fixture.NoRun(before).Unnumbered(), fixture.NoRun(s.State(t)).Unnumbered())
}

// TestMACPrefixOfFurtherNIC checks that the first NIC keeps its MAC.
func TestMACPrefixOfFurtherNIC(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Add(t)
	first := mac(t, s.Web.Netns)
	var r types100.Result
	decode(t, s.Further(t, "ADD", fixture.Keys{"podMACPrefix": "0a:1b"}).Fine(t), &r)
	var want string
	for _, a := range s.Web.Addrs("net1") {
		if b := a.Addr().AsSlice(); a.Addr().Is4() {
			want = fmt.Sprintf("0a:1b:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
		}
	}
	if got, err := s.Web.MAC("net1"); err != nil || got.String() != want || interfaceOf(&r, "net1").Mac != want {
		t.Errorf("net1 has MAC %s (%v), the result says %s, want %s", got, err, interfaceOf(&r, "net1").Mac, want)
	}
	if got := mac(t, s.Web.Netns); got != first {
		t.Errorf("eth0 had MAC %s, and has %s", first, got)
	}
	s.Further(t, "CHECK", fixture.Keys{"podMACPrefix": "0a:1b"}).Fine(t)
	s.WebNIC.Check(t)
}

// TestMACPrefixWithBridge has the NIC itself as the link to the node. The node's
// entries for the pod's MAC, and the pod's own neighbour entries, which a NIC loses
// with its MAC, must be right after ADD, and after an ADD that repairs.
func TestMACPrefixWithBridge(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	option := fixture.Keys{"podMACPrefix": "0a:1b", "hostLink": "macvlan"}
	for _, damage := range []string{":", "ip link set eth0 address 02:00:00:00:00:77"} {
		fixture.Sh(t, s.Web.Netns, damage)
		s.WebNIC.Add(t, option)
		s.WebNIC.Call("CHECK", option).Fine(t)
		if got := mac(t, s.Web.Netns); got != macs["dual"] {
			t.Errorf("after %q and ADD: the NIC has MAC %s, want %s", damage, got, macs["dual"])
		}
		for _, ping := range pings(s.Scene) {
			if err := ping(); err != nil {
				t.Errorf("after %q and ADD: %v", damage, err)
			}
		}
	}
}

// TestMACPrefixOfOverlayNIC uses a pod whose first NIC another CNI made, and detects
// conflicts on the underlay NIC, too.
func TestMACPrefixOfOverlayNIC(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192())
	pod, err := l.NewPod("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := testbed.ConnectVeth(pod.Netns, "eth0", l.Node.Netns, "cali1"); err != nil {
		t.Fatal(err)
	}
	if err := pod.AddAddrs("eth0", netip.MustParsePrefix("10.244.1.5/32")); err != nil {
		t.Fatal(err)
	}
	if err := fixture.NewNetwork(t, l).Add(t.Context(), pod, "net1"); err != nil {
		t.Fatal(err)
	}
	a := &fixture.Attachment{Pod: pod, NIC: "net1", Node: l, Prev: pod.Results["net1"]}
	option := fixture.Keys{"mode": "overlay", "podMACPrefix": "0a-1b", "detectIPConflict": true, "detectGateway": true}
	var r types100.Result
	decode(t, a.Call("ADD", option).With("CNI_IFNAME", "net1").Fine(t), &r)
	if got, err := pod.MAC("net1"); err != nil || got.String() != macs["dual"] || interfaceOf(&r, "net1").Mac != macs["dual"] {
		t.Errorf("net1 has MAC %s (%v), the result says %s, want %s", got, err, interfaceOf(&r, "net1").Mac, macs["dual"])
	}
	a.Call("CHECK", option).With("CNI_IFNAME", "net1").Fine(t)
	for _, web := range pod.Addrs("net1") {
		if err := l.LANs[0].Client.Ping(web.Addr(), testbed.Socket{}); err != nil {
			t.Error(err)
		}
	}
}

// mac returns the MAC of a pod's NIC.
func mac(t *testing.T, pod *testbed.Netns) string {
	t.Helper()
	m, err := pod.MAC(lab.NIC)
	if err != nil {
		t.Fatal(err)
	}
	return m.String()
}

// interfaceOf returns a pod's interface in a result, or an empty one.
func interfaceOf(r *types100.Result, name string) *types100.Interface {
	for _, i := range r.Interfaces {
		if i.Name == name && i.Sandbox != "" {
			return i
		}
	}
	return &types100.Interface{}
}

// echoesGo fails the test unless a capture has an echo request to each address of the
// pod's NIC, all of them to that MAC.
func echoesGo(t *testing.T, c *testbed.Capture, pod *lab.Pod, mac string) {
	t.Helper()
	frames, err := c.Frames()
	if err != nil {
		t.Fatal(err)
	}
	const echo4, echo6 = 8, 128
	found := map[netip.Addr]bool{}
	for _, f := range frames {
		if !f.Outgoing || f.ICMPType != echo4 && f.ICMPType != echo6 {
			continue
		}
		found[f.Dst.Addr()] = true
		if f.DstMAC.String() != mac {
			t.Errorf("%s, want it to go to %s", f, mac)
		}
	}
	for _, a := range pod.Addrs(lab.NIC) {
		if !found[a.Addr()] {
			t.Errorf("no echo request to %s was seen", a.Addr())
		}
	}
}

// TestMACPrefixAfterDel checks that DEL restores the NIC's former MAC. This matters for
// a device of the node, which goes back there. A MAC that other software has set since
// then stays.
func TestMACPrefixAfterDel(t *testing.T) {
	const theirs = "02:00:00:00:00:77"
	option := `"podMACPrefix": "0a:1b"`
	for name, tt := range map[string]struct {
		nic, chain string
		changed    bool // by other software
	}{
		"first NIC":                   {"eth0", with(option), false},
		"first NIC, hostLink macvlan": {"eth0", with(option + `, "hostLink": "macvlan"`), false},
		"first NIC, changed since":    {"eth0", with(option), true},
		"further NIC":                 {"net1", with(option), false},
		"further NIC, changed since":  {"net1", with(option), true},
		"overlay":                     {"net1", with(option), false},
		"veth, only the MAC":          {"eth0", `{"type": "veth", "only_hardware": true, "mac_prefix": "0a:1b"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			lan := 0
			if tt.nic == "net1" {
				lan = 1
				if name == "overlay" {
					s.Overlay(t, "calico")
				} else {
					s.Plug(t, 0, "eth0")
				}
			}
			s.Chained = nil
			s.Plug(t, lan, tt.nic) // with macvlan alone
			a := s.Attached(tt.nic)
			call := func(verb string) fixture.Call {
				c := a.Call(verb, fixture.KeysOf(t, tt.chain))
				c.Plugin = fixture.KeysOf(t, tt.chain)["type"].(string)
				return c
			}
			mac := func() string {
				got, err := s.Web.MAC(tt.nic)
				if err != nil {
					t.Fatal(err)
				}
				return got.String()
			}
			before := mac()
			for range 2 {
				call("ADD").Fine(t)
				call("CHECK").Fine(t)
				if !strings.HasPrefix(mac(), "0a:1b:") {
					t.Errorf("ADD: MAC %s", mac())
				}
			}
			want := before
			if tt.changed {
				want = theirs
				fixture.Sh(t, s.Web.Netns, "ip link set "+tt.nic+" address "+theirs)
			}
			for range 2 {
				call("DEL").Fine(t)
				if got := mac(); got != want {
					t.Errorf("DEL: MAC %s, want %s", got, want)
				}
			}
		})
	}
}
