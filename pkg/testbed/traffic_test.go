// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is a client and a server on one wire, eth0 on both.
type pair struct{ client, server *Netns }

var (
	client4, server4 = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	client6, server6 = netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fd00:1::2")
	families         = []struct {
		name           string
		client, server netip.Addr
	}{{"IPv4", client4, server4}, {"IPv6", client6, server6}}
)

func newPair(t *testing.T) pair {
	t.Helper()
	p := pair{newNetns(t, "client"), newNetns(t, "server")}
	check(t, ConnectVeth(p.client, "eth0", p.server, "eth0"))
	check(t, p.client.AddAddrs("eth0", netip.PrefixFrom(client4, 24), netip.PrefixFrom(client6, 64)))
	check(t, p.server.AddAddrs("eth0", netip.PrefixFrom(server4, 24), netip.PrefixFrom(server6, 64)))
	return p
}

func serve(t *testing.T, n *Netns, port uint16, socket Socket) {
	t.Helper()
	s, err := n.Serve(port, socket)
	check(t, err)
	t.Cleanup(func() { s.Close() })
}

func TestAskTellsWhoAnswersAndWhomItSees(t *testing.T) {
	p := newPair(t)
	serve(t, p.server, 80, Socket{})
	for _, f := range families {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(f.name+" "+network, func(t *testing.T) {
				got, err := p.client.Ask(network, netip.AddrPortFrom(f.server, 80), Socket{})
				check(t, err)
				if got.Server != "server" || got.Client.Addr() != f.client || got.Client != got.Local {
					t.Errorf("got %+v, want server answering %s", got, f.client)
				}
			})
		}
	}
}

func TestAskFromASourceAddress(t *testing.T) {
	p := newPair(t)
	serve(t, p.server, 80, Socket{})
	for _, f := range families {
		second := netip.MustParsePrefix("10.1.0.9/24")
		if f.client.Is6() {
			second = netip.MustParsePrefix("fd00:1::9/64")
		}
		check(t, p.client.AddAddrs("eth0", second))
		for _, network := range []string{"tcp", "udp"} {
			got, err := p.client.Ask(network, netip.AddrPortFrom(f.server, 80), Socket{Source: second.Addr()})
			check(t, err)
			if got.Client.Addr() != second.Addr() {
				t.Errorf("%s %s: the server saw %s, want %s", f.name, network, got.Client, second.Addr())
			}
		}
	}
}

// A connected UDP socket hears an answer only from the address that it asked.
func TestUDPAnswersFromTheAddressAsked(t *testing.T) {
	p := newPair(t)
	serve(t, p.server, 80, Socket{})
	for _, second := range []string{"10.1.0.9/24", "fd00:1::9/64"} {
		to := netip.MustParsePrefix(second)
		check(t, p.server.AddAddrs("eth0", to))
		_, err := p.client.Ask("udp", netip.AddrPortFrom(to.Addr(), 80), Socket{})
		check(t, err)
	}
}

func TestAskFails(t *testing.T) {
	p := newPair(t)
	for _, to := range []string{"10.1.0.2:80", "10.1.0.77:80", "10.99.0.1:80", "[fd00:1::2]:80", "[fd00:99::1]:80"} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(network+" "+to, func(t *testing.T) {
				t.Parallel()
				if got, err := p.client.Ask(network, netip.MustParseAddrPort(to), Socket{}); err == nil {
					t.Errorf("got %+v, though nobody is there", got)
				}
			})
		}
	}
}

func TestPing(t *testing.T) {
	p := newPair(t)
	for _, f := range families {
		check(t, p.client.Ping(f.server, Socket{}))
		check(t, p.client.Ping(f.server, Socket{Source: f.client}))
	}
	for _, to := range []string{"10.1.0.77", "fd00:1::77", "10.99.0.1"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			if p.client.Ping(netip.MustParseAddr(to), Socket{}) == nil {
				t.Error("a reply came, though the address is nobody's")
			}
		})
	}
}

func TestCaptureShowsBothDirections(t *testing.T) {
	p := newPair(t)
	serve(t, p.server, 80, Socket{})
	clientMAC, err := p.client.MAC("eth0")
	check(t, err)
	serverMAC, err := p.server.MAC("eth0")
	check(t, err)
	for _, f := range families {
		for _, link := range []string{"", "eth0"} {
			c, err := p.server.Capture(link)
			check(t, err)
			defer c.Close()
			to := netip.AddrPortFrom(f.server, 80)
			got, err := p.client.Ask("tcp", to, Socket{})
			check(t, err)
			frames, err := c.Frames()
			check(t, err)
			syn := Frame{
				Link: "eth0", SrcMAC: clientMAC, DstMAC: serverMAC, EtherType: unix.ETH_P_IP,
				Protocol: unix.IPPROTO_TCP, Src: got.Local, Dst: to, TCPFlags: SYN,
			}
			if f.client.Is6() {
				syn.EtherType = unix.ETH_P_IPV6
			}
			synAck := syn
			synAck.Outgoing, synAck.TCPFlags = true, SYN|ACK
			synAck.SrcMAC, synAck.DstMAC = serverMAC, clientMAC
			synAck.Src, synAck.Dst = to, got.Local
			for _, want := range []Frame{syn, synAck} {
				if !slices.ContainsFunc(frames, func(f Frame) bool { return f.String() == want.String() }) {
					t.Errorf("%s on %q: no frame %v in %v", f.name, link, want, frames)
				}
			}
		}
	}
}

// Two wires and a route by the other one: the capture must tell them apart.
func TestCaptureTellsLinksApart(t *testing.T) {
	p := newPair(t)
	check(t, ConnectVeth(p.client, "eth1", p.server, "eth1"))
	for _, n := range []*Netns{p.client, p.server} {
		for _, key := range []string{"all", "eth0", "eth1"} {
			check(t, n.SetSysctl("ipv4/conf/"+key+"/rp_filter", "0"))
		}
	}
	check(t, p.server.AddAddrs("eth1", netip.MustParsePrefix("10.2.0.2/24")))
	check(t, p.server.AddRoutes(Route{Dst: netip.PrefixFrom(client4, 32), Dev: "eth1"}))
	serve(t, p.server, 80, Socket{})
	c, err := p.server.Capture("")
	check(t, err)
	defer c.Close()
	to := netip.AddrPortFrom(server4, 80)
	got, err := p.client.Ask("tcp", to, Socket{})
	check(t, err)
	frames, err := c.Frames()
	check(t, err)
	links := map[bool]map[string]bool{true: {}, false: {}}
	for _, f := range frames {
		if f.Protocol == unix.IPPROTO_TCP && (f.Src == got.Local || f.Dst == got.Local) {
			links[f.Outgoing][f.Link] = true
		}
	}
	if len(links[false]) != 1 || !links[false]["eth0"] || len(links[true]) != 1 || !links[true]["eth1"] {
		t.Errorf("in by %v, out by %v; want in by eth0 alone, out by eth1 alone", links[false], links[true])
	}
}

func TestMarkOfASocketIsCounted(t *testing.T) {
	p := newPair(t)
	serve(t, p.server, 80, Socket{Mark: 0x20})
	counter := func(n *Netns, mark uint32) *MarkCounter {
		m, err := n.CountMarked("eth0", mark, mark)
		check(t, err)
		return m
	}
	requests, other, replies := counter(p.client, 0x10), counter(p.client, 0x1), counter(p.server, 0x20)
	want := func(m *MarkCounter, some bool, what string) {
		t.Helper()
		n, err := m.Packets()
		check(t, err)
		if (n > 0) != some {
			t.Errorf("%s: %d packets", what, n)
		}
	}
	want(requests, false, "requests before any was sent")
	for _, f := range families {
		for _, network := range []string{"tcp", "udp"} {
			_, err := p.client.Ask(network, netip.AddrPortFrom(f.server, 80), Socket{Mark: 0x10})
			check(t, err)
		}
	}
	want(requests, true, "marked requests")
	want(other, false, "requests with another mark")
	want(replies, true, "marked replies")
}
