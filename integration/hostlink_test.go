// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// byBridge returns the checks of a scene in which pods and node have no link of their
// own: the pod's NIC leads to both.
func byBridge(s *lab.Scene) []lab.Check {
	checks := slices.Concat(s.Checks("tcp"), s.Checks("udp"))
	for i := range checks {
		c := &checks[i]
		for _, link := range []*string{&c.RequestBy, &c.ReplyBy} {
			switch *link {
			case "veth0":
				*link = lab.NIC
			case s.Web.HostEnd(lab.NIC), s.App.HostEnd(lab.NIC):
				*link = fixture.Bridge
			}
		}
	}
	return checks
}

// TestHostLinkMacvlan sends traffic on all paths where the node has a macvlan beside
// those of its pods, and checks that the LAN doesn't notice it.
func TestHostLinkMacvlan(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewScene(t, lan, with(`"hostLink": "macvlan"`))
			client := s.LANs[0].Client
			seen, err := client.Capture("eth0")
			if err != nil {
				t.Fatal(err)
			}
			defer seen.Close()
			for _, n := range []*testbed.Netns{s.Node.Netns, s.Web.Netns, s.App.Netns} {
				fixture.Settle(t, n)
			}
			for _, r := range lab.RunAll(byBridge(s)) {
				if r.Err != nil {
					t.Errorf("%s, %s: %v; %s", r.Name, r.Network, r.Err, r.Evidence)
				}
			}
			for _, ping := range pings(s) {
				if err := ping(); err != nil {
					t.Error(err)
				}
			}
			bridges(t, s.Lab, 1)
			mac, err := s.Node.MAC(fixture.Bridge)
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range s.LANs[0].Node {
				if got := fixture.Sh(t, client, "ip neigh show "+node.Addr().String()); strings.Contains(got, mac.String()) {
					t.Errorf("the LAN finds the node at the bridge's MAC: %s", got)
				}
			}
			frames, err := seen.Frames()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if f.SrcMAC.String() == mac.String() && f.EtherType == unix.ETH_P_ARP {
					t.Errorf("the bridge sends ARP into the LAN: %s", f)
				}
			}
		})
	}
}

// TestHostLinkMacvlanIsNeeded is the control: without the macvlan the node doesn't
// reach the pods by their common LAN.
func TestHostLinkMacvlanIsNeeded(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192())
	for _, r := range lab.RunAll(byBridge(s)) {
		if r.Coordinator && r.Err == nil {
			t.Errorf("%s, %s: it holds without coordinator; %s", r.Name, r.Network, r.Evidence)
		}
	}
}

// bridges fails the test unless the node has that many macvlans of its own, and no
// veth.
func bridges(t *testing.T, l *lab.Lab, want int) {
	t.Helper()
	if got := strings.Count(fixture.Sh(t, l.Node.Netns, "ip -o link show type macvlan"), "\n"); got != want {
		t.Errorf("the node has %d macvlans of its own, want %d", got, want)
	}
	if got := fixture.Sh(t, l.Node.Netns, "ip -o link show type veth | grep -v ': ens' || true"); got != "" {
		t.Errorf("the node has veths to its pods: %s", got)
	}
}

// TestMarkOfApplicationByBridge sends with SO_MARK where replies are marked by the MAC
// from which a connection came.
func TestMarkOfApplicationByBridge(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), with(`"hostLink": "macvlan"`))
	const mark = 0x4000
	server, err := s.Web.Serve(9000, testbed.Socket{Mark: mark})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for f, web := range s.Web.Addrs(lab.NIC) {
		to := netip.AddrPortFrom(web.Addr(), 9000)
		for _, network := range []string{"tcp", "udp"} {
			marked{"in replies to the node", s.Web.Netns, "eth0", mark | ourBit}.leaves(t, func(port uint16) error {
				return ask(s.Node.Netns, network, to, testbed.Socket{Port: port})
			})
			marked{"in replies to the LAN", s.Web.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
				return ask(s.LANs[0].Client, network, to, testbed.Socket{Port: port})
			})
			marked{"to the node", s.App.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
				return ask(s.App.Netns, network, netip.AddrPortFrom(s.LANs[0].Node[f].Addr(), 8080), testbed.Socket{Mark: mark, Port: port})
			})
		}
	}
}

// TestBridgeOfManyPods adds pods at the same time on a node without a bridge: they make
// one.
func TestBridgeOfManyPods(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192())
	network := fixture.NewNetwork(t, l, with(`"hostLink": "macvlan"`))
	pods := make([]*lab.Pod, 10)
	for i := range pods {
		var err error
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
		server, err := pods[i].Serve(8080, fixture.Nothing)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	if err := fixture.AtOnce(pods, func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) }); err != nil {
		t.Fatal(err)
	}
	bridges(t, l, 1)
	for _, p := range pods {
		for _, addr := range p.Addrs(lab.NIC) {
			fixture.Reached(t, l, p, addr)
		}
		if err := network.Check(t.Context(), p, lab.NIC); err != nil {
			t.Error(err)
		}
	}
}

// TestDelByBridge deletes one pod in every way in which a runtime may ask for it; the
// bridge and the other pod's routes stay.
func TestDelByBridge(t *testing.T) {
	option := fixture.Keys{"hostLink": "macvlan"}
	for _, way := range []struct {
		name  string
		over  fixture.Keys
		blind bool
	}{
		{"as it should be", nil, false},
		{"without prevResult", fixture.Keys{"prevResult": nil}, false},
		{"without the netns", nil, true},
		{"without either", fixture.Keys{"prevResult": nil}, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.AppNIC.Add(t, option)
			before := s.State(t)
			s.WebNIC.Add(t, option)
			c := s.WebNIC.Call("DEL", option, way.over)
			if way.blind {
				c = c.With("CNI_NETNS", "")
			}
			c.Fine(t)
			after := s.State(t)
			if way.blind {
				before, after = before.Without("web"), after.Without("web")
			}
			fixture.Same(t, "DEL", before.Unnumbered(), after.Unnumbered())
			s.AppNIC.Call("CHECK", option).Fine(t)
		})
	}
}

// TestLateDelByBridge deletes a pod whose addresses another pod has by then.
func TestLateDelByBridge(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	option := fixture.Keys{"hostLink": "macvlan"}
	n, err := testbed.NewNetns("dead")
	if err != nil {
		t.Fatal(err)
	}
	dead := s.Attachment(&lab.Pod{Netns: n, ContainerID: "dead", Results: s.Web.Results})
	if err := s.Node.AddMacvlan("ens192", n, lab.NIC); err != nil {
		t.Fatal(err)
	}
	if err := n.AddAddrs(lab.NIC, s.Web.Addrs(lab.NIC)...); err != nil {
		t.Fatal(err)
	}
	dead.Call("ADD", option).Fine(t)
	path := n.Path()
	if err := n.DeleteLink(lab.NIC); err != nil { // the kernel would delete it some time later
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s.WebNIC.Add(t, option) // with the same addresses
	s.AppNIC.Add(t, option)
	dead.Call("DEL", option).With("CNI_NETNS", path).Fine(t)
	fixture.Settle(t, s.Node.Netns)
	s.WebNIC.Call("CHECK", option).Fine(t)
	for _, r := range lab.RunAll(byBridge(s.Scene)) {
		if r.Err != nil {
			t.Errorf("%s, %s: %v; %s", r.Name, r.Network, r.Err, r.Evidence)
		}
	}
}

// TestTwoNICsByBridge uses the first NIC's parent for the path to the node, also for
// the further NIC.
func TestTwoNICsByBridge(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"], with(`"hostLink": "macvlan"`))
	checks := s.Checks()
	for i := range checks {
		if checks[i].ReplyBy == "veth0" {
			checks[i].ReplyBy = lab.NIC
		}
	}
	s.Verify(t, checks...)
	s.Check(t)
	s.Unplug(t, "net1")
	s.SetServices(t)
	s.Check(t)
}
