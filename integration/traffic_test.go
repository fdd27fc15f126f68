// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// lans are the LANs of the address families that the node and its pods may have.
var lans = map[string]lab.LAN{"v4": fixture.Only(0), "v6": fixture.Only(1), "dual": lab.Ens192()}

// TestTraffic sends traffic on all paths, and checks by which link each packet left;
// see lab.Scene for the names of the checks.
func TestTraffic(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewScene(t, lan, fixture.Chained)
			fixture.Holds(t, s)
			for _, ping := range pings(s) {
				if err := ping(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestTrafficWithoutCoordinator is the control: exactly the paths that coordinator
// makes fail without it.
func TestTrafficWithoutCoordinator(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192())
	needed := map[string]bool{}
	for _, r := range lab.RunAll(slices.Concat(s.Checks("tcp"), s.Checks("udp"))) {
		if failed := r.Err != nil; failed != r.Coordinator {
			t.Errorf("%s, %s: got error %v, needs coordinator: %t; %s", r.Name, r.Network, r.Err, r.Coordinator, r.Evidence)
		}
		needed[r.Name] = r.Coordinator
	}
	for _, sentence := range []string{"node to pod", "pod to node", "pod to ClusterIP", "LAN client to NodePort"} {
		for _, family := range []string{"IPv4", "IPv6"} {
			if !needed[sentence+", "+family] {
				t.Errorf("no check shows that %s needs coordinator in %s", sentence, family)
			}
		}
	}
	for _, ping := range pings(s) {
		if ping() == nil {
			t.Error("node and pod ping each other without coordinator")
		}
	}
}

// pings returns echo requests between the node and a pod, in both directions.
func pings(s *lab.Scene) []func() error {
	var out []func() error
	for i, web := range s.Web.Addrs(lab.NIC) {
		out = append(out,
			func() error { return s.Node.Ping(web.Addr(), testbed.Socket{}) },
			func() error { return s.Web.Ping(s.LANs[0].Node[i].Addr(), testbed.Socket{}) })
	}
	return out
}

// TestSpoofedSource sends from the pod by veth0 with an address that is not the pod's:
// the node must drop it, or the pod could pretend to be any host.
func TestSpoofedSource(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, fixture.Only(0), fixture.Chained)
	foreign := netip.MustParsePrefix("198.51.100.7/32")
	if err := s.Web.AddAddrs("lo", foreign); err != nil {
		t.Fatal(err)
	}
	node := netip.AddrPortFrom(s.LANs[0].Node[0].Addr(), 9)
	seen := func() bool {
		fixture.Sh(t, s.Node.Netns, "nft add table inet seen; nft add chain inet seen in '{ type filter hook input priority 0; }'; nft add rule inet seen in udp dport 9 counter")
		defer fixture.Sh(t, s.Node.Netns, "nft delete table inet seen")
		// The port is closed: from its own address, the pod gets an error.
		_, err := s.Web.Ask("udp", node, testbed.Socket{Source: foreign.Addr()})
		if err == nil {
			t.Error("somebody answers")
		}
		return !strings.Contains(fixture.Sh(t, s.Node.Netns, "nft list table inet seen"), "packets 0 ")
	}
	if seen() {
		t.Error("the node took a packet with a source that is not the pod's")
	}
	fixture.Sh(t, s.Node.Netns, "echo 0 > /proc/sys/net/ipv4/conf/"+s.Web.HostEnd(lab.NIC)+"/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter")
	if seen() {
		t.Error("without rp_filter the node takes a packet that nftables should have dropped")
	}
	fixture.Sh(t, s.Node.Netns, "nft delete table inet multihome-sources")
	if !seen() {
		t.Error("the control: without either check the packet must come through")
	}
}
