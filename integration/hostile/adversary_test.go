// SPDX-License-Identifier: Apache-2.0

package hostile

import (
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

// spoofer sends any packet to its node.
type spoofer struct {
	*testbed.Netns
	link string
	node net.HardwareAddr // the MAC of the other end
}

func newSpoofer(t *testing.T, s *fixture.Stage, link, nodeLink string) spoofer {
	t.Helper()
	mac, err := s.Node.MAC(nodeLink)
	if err != nil {
		t.Fatal(err)
	}
	return spoofer{s.Web.Netns, link, mac}
}

// sends sends a datagram from an address.
func (p spoofer) sends(t *testing.T, from netip.Addr, to netip.AddrPort, data string) {
	t.Helper()
	const port = 7777
	etherType, packet := testbed.UDPPacket(netip.AddrPortFrom(from, port), to, data)
	if err := p.Inject(p.link, p.node, etherType, packet); err != nil {
		t.Fatal(err)
	}
}

// arrivals are the datagrams that arrive at a port of a namespace.
type arrivals struct {
	socket net.PacketConn
	seen   []string
}

func listen(t *testing.T, n *testbed.Netns, at netip.AddrPort) *arrivals {
	t.Helper()
	var a arrivals
	err := n.Do(func() (err error) {
		a.socket, err = net.ListenPacket("udp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.socket.Close() })
	return &a
}

// await fails the test if a datagram doesn't arrive.
func (a *arrivals) await(t *testing.T, data string) {
	t.Helper()
	if err := a.socket.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	for !slices.Contains(a.seen, data) {
		n, _, err := a.socket.ReadFrom(buf)
		if err != nil {
			t.Errorf("%s: it doesn't arrive: %v", data, err)
			return
		}
		a.seen = append(a.seen, string(buf[:n]))
	}
}

// sources are the addresses that a pod may want to forge: another pod's, the node's,
// those of a host in the LAN and of a distant one, and an unused one in the pod's own
// subnet.
func sources(s *fixture.Stage, family int) map[string]netip.Addr {
	far := []string{"198.51.100.7", "2001:db8:bad::7"}
	nobody := []string{"10.6.200.200", "fd00:6::dead"}
	out := map[string]netip.Addr{
		"another pod": s.App.Addrs(lab.NIC)[family].Addr(),
		"the node":    s.LANs[0].Node[family].Addr(),
		"a LAN host":  s.LANs[0].Host[family].Addr(),
		"far away":    netip.MustParseAddr(far[family]),
		"nobody":      netip.MustParseAddr(nobody[family]),
	}
	return out
}

// TestPodSendsFromNoAddressButItsOwn lets a pod send by its veth from the addresses of
// others, to its node, a Service and another pod. Without the check the packets arrive,
// which is the control; with it only packets from the pod's own address do.
func TestPodSendsFromNoAddressButItsOwn(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	const port = 5353
	var backends []netip.AddrPort
	for _, app := range s.App.Addrs(lab.NIC) {
		backends = append(backends, netip.AddrPortFrom(app.Addr(), port))
	}
	s.MakeServices(t, backends...)
	for _, strict := range []bool{false, true} {
		if strict {
			s.WebNIC.Add(t)
			s.WebNIC.Check(t)
		} else {
			s.WebNIC.Add(t, fixture.Keys{"hostRPFilter": 0})
		}
		fixture.Settle(t, s.Node.Netns)
		spoofer := newSpoofer(t, s, "veth0", s.WebNIC.Host())
		for family, own := range s.Web.Addrs(lab.NIC) {
			node := netip.AddrPortFrom(s.LANs[0].Node[family].Addr(), port)
			atNode, atPod := listen(t, s.Node.Netns, node), listen(t, s.App.Netns, backends[family])
			ways := []struct {
				name string
				to   netip.AddrPort
				at   *arrivals
			}{
				{"the node", node, atNode},
				{"a Service", netip.AddrPortFrom(fixture.ClusterIP(family), 53), atPod},
				{"another pod", backends[family], atPod},
			}
			for who, from := range sources(s, family) {
				for _, way := range ways {
					spoofed := fmt.Sprintf("as %s (%s) to %s", who, from, way.name)
					spoofer.sends(t, from, way.to, spoofed)
					// Every kernel drops a packet from one of its own addresses, with
					// or without the check: there is no control for that.
					if itself := who == "the node" || who == way.name || who == "another pod" && way.name == "a Service"; !strict && !itself {
						way.at.await(t, spoofed)
					}
				}
			}
			for _, way := range ways {
				const honest = "as itself"
				spoofer.sends(t, own.Addr(), way.to, honest)
				way.at.await(t, honest)
				for _, data := range way.at.seen {
					if strict && data != honest {
						t.Errorf("it arrives: %s", data)
					}
				}
				way.at.seen = nil
			}
			atNode.socket.Close()
			atPod.socket.Close()
		}
	}
	fixture.Sh(t, s.Node.Netns, "nft delete table inet cluster")
	fixture.Holds(t, s.Scene)
}

// TestPodSendsByBridgeFromNoAddressOfOthers uses the node's macvlan as the link. Pods
// share it, so the check drops only addresses that are of none of its pods.
func TestPodSendsByBridgeFromNoAddressOfOthers(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	option := fixture.Keys{"hostLink": "macvlan"}
	s.AppNIC.Add(t, option)
	for _, strict := range []bool{false, true} {
		if strict {
			s.WebNIC.Add(t, option)
			s.WebNIC.Call("CHECK", option).Fine(t)
		} else {
			s.WebNIC.Add(t, option, fixture.Keys{"hostRPFilter": 0})
			fixture.Sh(t, s.Node.Netns, "nft delete table inet multihome-sources") // the other pod needs it
		}
		fixture.Settle(t, s.Node.Netns)
		spoofer := newSpoofer(t, s, lab.NIC, fixture.Bridge)
		for family, own := range s.Web.Addrs(lab.NIC) {
			node := netip.AddrPortFrom(s.LANs[0].Node[family].Addr(), 5353)
			atNode := listen(t, s.Node.Netns, node)
			for who, from := range sources(s, family) {
				spoofed := fmt.Sprintf("as %s (%s)", who, from)
				spoofer.sends(t, from, node, spoofed)
				if who == "another pod" || !strict && who != "the node" {
					atNode.await(t, spoofed)
					atNode.seen = nil
				}
			}
			const honest = "as itself"
			spoofer.sends(t, own.Addr(), node, honest)
			atNode.await(t, honest)
			if len(atNode.seen) != 1 {
				t.Errorf("strict %t: it arrives: %q", strict, atNode.seen)
			}
			atNode.socket.Close()
		}
	}
}

// TestCheckOfSources damages the check that keeps pods to their own addresses: CHECK
// must name the damage, and ADD repair it. GC removes the check with the last pod.
func TestCheckOfSources(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Add(t)
	s.AppNIC.Add(t)
	whole := s.State(t)
	for damage, says := range map[string]string{
		"nft flush ruleset": "host: nft table inet multihome-sources is missing",
		"nft flush chain inet multihome-sources prerouting":                                        `damaged "chain prerouting", want table inet multihome-sources`,
		"nft insert rule inet multihome-sources prerouting accept":                                 `damaged "chain prerouting"`,
		"nft add chain inet multihome-sources more":                                                `damaged "chain more"`,
		"ip link set " + s.WebNIC.Host() + " group default":                                        " group 109 up",
		"sysctl -qw net.ipv4.conf." + s.WebNIC.Host() + ".rp_filter=0":                             "rp_filter",
		"nft delete table inet multihome-sources; ip link set " + s.WebNIC.Host() + " group 7":     "group 7",
		"nft add rule inet multihome-sources prerouting iifgroup 109 fib saddr . iif oif 0 accept": "damaged",
	} {
		fixture.Sh(t, s.Node.Netns, damage)
		if e := s.WebNIC.Call("CHECK").Fails(t); !strings.Contains(e.Msg, says) {
			t.Errorf("after %q CHECK does not name %q: %s", damage, says, e.Msg)
		}
		s.WebNIC.Add(t)
		s.WebNIC.Check(t)
		s.AppNIC.Check(t)
		if damage != "nft flush ruleset" { // this one removes the Services, too
			fixture.Same(t, "ADD after "+damage, whole.Unnumbered(), s.State(t).Unnumbered())
		}
		if whole = s.State(t); t.Failed() {
			return
		}
	}
	has := func() bool {
		return strings.Contains(fixture.Sh(t, s.Node.Netns, "nft list tables"), "multihome-sources")
	}
	s.WebNIC.Del(t)
	if !has() {
		t.Error("a pod's DEL removes what the others rely on")
	}
	s.AppNIC.Check(t)
	s.AppNIC.Del(t)
	c := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": []string{}})
	c.Env = nil
	c.Fine(t)
	if has() {
		t.Error("GC leaves the check of sources, which no link needs")
	}
}

// TestCheckOfSourcesMadeAtOnce lets many pods make the one check of their node at once.
func TestCheckOfSourcesMadeAtOnce(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192())
	network := fixture.NewNetwork(t, l, fixture.Chained)
	pods := make([]*lab.Pod, 10)
	for i := range pods {
		var err error
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := fixture.AtOnce(pods, func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) }); err != nil {
			t.Fatal(err)
		}
		for _, p := range pods {
			if err := network.Check(t.Context(), p, lab.NIC); err != nil {
				t.Error(err)
			}
		}
		if err := fixture.AtOnce(pods, func(p *lab.Pod) error { return network.Del(t.Context(), p, lab.NIC) }); err != nil {
			t.Fatal(err)
		}
		fixture.Sh(t, l.Node.Netns, "nft delete table inet multihome-sources")
	}
}

// claims are frames that claim an address for a MAC: each sort of ARP, and of NDP, from
// which a kernel may learn a neighbour.
func claims(addr, node netip.Addr, mac, nodeMAC net.HardwareAddr) map[string]func(*testbed.Netns, string) error {
	out := map[string]func(*testbed.Netns, string) error{}
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if addr.Is4() {
		for name, a := range map[string]struct {
			op byte
			to netip.Addr
			at net.HardwareAddr
		}{
			"gratuitous ARP request": {1, addr, everybody},
			"gratuitous ARP reply":   {2, addr, everybody},
			"ARP request":            {1, node, everybody},
			"ARP reply":              {2, node, nodeMAC},
		} {
			packet := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, a.op}, mac, addr.AsSlice(), nodeMAC, a.to.AsSlice())
			out[name] = func(n *testbed.Netns, link string) error { return n.Inject(link, a.at, unix.ETH_P_ARP, packet) }
		}
		return out
	}
	for name, m := range map[string]struct {
		head   []byte // type, code, checksum, flags
		target netip.Addr
		option byte // the option with the link-layer address
		to     netip.Addr
	}{
		"unsolicited advertisement": {[]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, addr, 2, netip.IPv6LinkLocalAllNodes()},
		"solicited advertisement":   {[]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, addr, 2, node},
		"solicitation":              {[]byte{135, 0, 0, 0, 0, 0, 0, 0}, node, 1, node},
	} {
		body := slices.Concat(m.head, m.target.AsSlice(), []byte{m.option, 1}, mac)
		etherType, packet := testbed.IPPacket(addr, m.to, unix.IPPROTO_ICMPV6, body, 2)
		out[name] = func(n *testbed.Netns, link string) error { return n.Inject(link, nodeMAC, etherType, packet) }
	}
	return out
}

// TestPodChangesNoNeighbours lets a pod claim by its veth, in every way there is, that
// it has the addresses of others, or its own at another MAC. The node's neighbour
// entries must not change, and no packet for others may reach the pod. The control is a
// host in the LAN that does the same: the node believes it.
func TestPodChangesNoNeighbours(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Add(t)
	s.AppNIC.Add(t)
	// A new entry is not protected from ARP (neigh locktime).
	fixture.Sh(t, s.Node.Netns, "for f in /proc/sys/net/ipv4/neigh/*/locktime; do echo 0 > $f; done")
	fixture.Holds(t, s.Scene) // now the node knows its neighbours
	client := s.LANs[0].Client
	claimed := net.HardwareAddr{2, 0xba, 0xd, 0, 0, 1}
	neighbours := func() string {
		return fixture.Sh(t, s.Node.Netns, "ip neigh show | grep -v '^fe80:' | sed 's/ [A-Z]* *$//' | sort")
	}
	nodeMAC := func(link string) net.HardwareAddr {
		mac, err := s.Node.MAC(link)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	for family, own := range s.Web.Addrs(lab.NIC) {
		whose := sources(s, family)
		delete(whose, "the node")
		whose["itself"] = own.Addr()
		node := s.LANs[0].Node[family].Addr()
		for who, addr := range whose {
			for how, claim := range claims(addr, node, claimed, nodeMAC(s.WebNIC.Host())) {
				before := neighbours()
				if err := claim(s.Web.Netns, "veth0"); err != nil {
					t.Fatal(err)
				}
				if err := s.Node.Ping(own.Addr(), testbed.Socket{}); err != nil { // the node has received the claims
					t.Errorf("after a claim to be %s by %s: %v", who, how, err)
				}
				if after := neighbours(); after != before {
					t.Errorf("a claim to be %s (%s), made by %s, changes\n%sto\n%s", who, addr, how, before, after)
				}
			}
		}
		host := s.LANs[0].Host[family].Addr()
		for how, claim := range claims(host, node, claimed, nodeMAC("ens192")) {
			fixture.Sh(t, s.Node.Netns, fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:00:99 dev ens192 nud stale; sleep 0.05", host)) // some jiffies later
			if err := claim(client, "eth0"); err != nil {
				t.Fatal(err)
			}
			for range 6000 {
				if strings.Contains(neighbours(), claimed.String()) {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if !strings.Contains(neighbours(), claimed.String()) {
				t.Errorf("the control: %s in the LAN changes nothing:\n%s", how, neighbours())
			}
		}
	}
}

// TestPodTakesNoAddressOfOthers gives a pod an address that another pod has, by every
// sort of link to the node. Its ADD must name the other pod, whose routes stay.
func TestPodTakesNoAddressOfOthers(t *testing.T) {
	byBridge := fixture.Keys{"hostLink": "macvlan"}
	for name, tt := range map[string]struct {
		other, claim fixture.Keys
		says         func(s *fixture.Stage) string
	}{
		"veth, veth":       {nil, nil, func(s *fixture.Stage) string { return s.AppNIC.Host() + " " }},
		"macvlan, macvlan": {byBridge, byBridge, func(s *fixture.Stage) string { return "of container " + s.App.ContainerID + " " }},
		"macvlan, veth":    {byBridge, nil, func(s *fixture.Stage) string { return "of container " + s.App.ContainerID + " " }},
		"veth, macvlan":    {nil, byBridge, func(s *fixture.Stage) string { return s.AppNIC.Host() + " " }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.WebNIC.Add(t, tt.claim) // makes everything that pods share
			s.WebNIC.Del(t)
			s.AppNIC.Add(t, tt.other)
			for family, addr := range s.App.Addrs(lab.NIC) {
				own := s.Web.Addrs(lab.NIC)[family]
				fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip addr del %s dev eth0; ip addr add %s dev eth0 nodad", own, addr))
				before := s.State(t)
				prev := fixture.Keys{"prevResult": fixture.Keys{"cniVersion": "1.1.0", "interfaces": s.WebNIC.Prev.Interfaces, "ips": []fixture.Keys{{"address": addr.String(), "interface": 0}}}}
				e := s.WebNIC.Call("ADD", tt.claim, prev).Fails(t)
				if !strings.Contains(e.Msg, tt.says(s)) || !strings.Contains(e.Msg, addr.Addr().String()) {
					t.Errorf("ADD with %s does not name %q: %s", addr, tt.says(s), e.Msg)
				}
				fixture.Same(t, "refused ADD", before.Unnumbered(), s.State(t).Unnumbered())
				fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip addr del %s dev eth0; ip addr add %s dev eth0 nodad", addr, own))
				s.AppNIC.Call("CHECK", tt.other).Fine(t)
			}
			s.WebNIC.Add(t, tt.claim)
			s.AppNIC.Call("CHECK", tt.other).Fine(t)
		})
	}
}

// TestPodTakesNoAddressOfOverlayPod uses an address that is routed to another CNI's
// link, which doesn't identify a pod.
func TestPodTakesNoAddressOfOverlayPod(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, fixture.Chained)
	s.Overlay(t, "calico")
	s.Plug(t, 0, "net1")
	stolen := s.Web.Addrs("net1")[0]
	pod, err := s.NewPod("thief")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Node.AddMacvlan("ens192", pod.Netns, lab.NIC); err != nil {
		t.Fatal(err)
	}
	if err := pod.AddAddrs(lab.NIC, stolen); err != nil {
		t.Fatal(err)
	}
	thief := &fixture.Attachment{Pod: pod, NIC: lab.NIC, Node: s.Lab}
	prev := fixture.Keys{"prevResult": fixture.Keys{"cniVersion": "1.1.0", "interfaces": []fixture.Keys{{"name": lab.NIC, "sandbox": pod.Path()}}, "ips": []fixture.Keys{{"address": stolen.String(), "interface": 0}}}}
	e := thief.Call("ADD", prev).Fails(t)
	if want := "belongs to link net1 of container " + s.Web.ContainerID; !strings.Contains(e.Msg, want) {
		t.Errorf("ADD does not name %q: %s", want, e.Msg)
	}
	s.Check(t)
}
