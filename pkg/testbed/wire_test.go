// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A LAN of a switch, a router and a machine whose macvlan serves a pod.
func TestBridgeMacvlanAndRoutes(t *testing.T) {
	lan, router, far := newNetns(t, "lan"), newNetns(t, "router"), newNetns(t, "far")
	node, pod := newNetns(t, "node"), newNetns(t, "pod")
	check(t, lan.AddBridge("br0"))
	for _, n := range []*Netns{router, node} {
		check(t, ConnectVeth(lan, n.Name(), n, "lan0"))
		check(t, lan.SetMaster(n.Name(), "br0"))
	}
	check(t, ConnectVeth(router, "far0", far, "eth0"))
	check(t, router.EnableForwarding())
	check(t, node.AddMacvlan("lan0", pod, "eth0"))

	prefixes := func(s ...string) (p []netip.Prefix) {
		for _, s := range s {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	check(t, router.AddAddrs("lan0", prefixes("10.6.0.1/16", "fd00:6::1/64")...))
	check(t, router.AddAddrs("far0", prefixes("10.9.0.1/24", "fd00:9::1/64")...))
	check(t, far.AddAddrs("eth0", prefixes("10.9.0.2/24", "fd00:9::2/64")...))
	check(t, pod.AddAddrs("eth0", prefixes("10.6.0.9/16", "fd00:6::9/64")...))
	for _, dst := range []struct{ to, pod, far string }{{"0.0.0.0/0", "10.6.0.1", "10.9.0.1"}, {"::/0", "fd00:6::1", "fd00:9::1"}} {
		check(t, pod.AddRoutes(Route{Dst: netip.MustParsePrefix(dst.to), Via: netip.MustParseAddr(dst.pod), Dev: "eth0"}))
		check(t, far.AddRoutes(Route{Dst: netip.MustParsePrefix(dst.to), Via: netip.MustParseAddr(dst.far), Dev: "eth0"}))
	}
	check(t, pod.Ping(netip.MustParseAddr("10.9.0.2"), Socket{}))
	check(t, pod.Ping(netip.MustParseAddr("fd00:9::2"), Socket{}))

	for _, end := range []*Netns{router, far} { // a wire that takes less than the others
		link := map[*Netns]string{router: "far0", far: "eth0"}[end]
		check(t, end.Do(func() error { return exec.Command("ip", "link", "set", link, "mtu", "1400").Run() }))
	}
	for _, to := range []string{"10.9.0.2", "fd00:9::2"} {
		check(t, pod.Ping(netip.MustParseAddr(to), Socket{Size: 1400}))
		if err := pod.Ping(netip.MustParseAddr(to), Socket{Size: 1401}); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%s: a ping of 1401 bytes: %v, want %v", to, err, unix.EMSGSIZE)
		}
	}

	check(t, router.SetDown("far0"))
	if pod.Ping(netip.MustParseAddr("10.9.0.2"), Socket{}) == nil {
		t.Error("a ping passed a link that is down")
	}
	check(t, pod.DeleteLink("eth0"))
	if _, err := pod.MAC("eth0"); err == nil {
		t.Error("eth0 is there after DeleteLink")
	}
}

func TestFramesCutShortAreRead(t *testing.T) {
	whole := bytes.Repeat([]byte{0x45}, snapLen)
	for _, etherType := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_8021Q, unix.ETH_P_ARP} {
		binary.BigEndian.PutUint16(whole[12:], etherType)
		for _, protocol := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6} {
			whole[14+9], whole[14+6] = protocol, protocol
			for size := range whole {
				f := parseFrame(whole[:size:size])
				if size >= 14 && etherType != unix.ETH_P_8021Q && f.EtherType != etherType {
					t.Errorf("%d bytes of ethertype %#x: read as %v", size, etherType, f)
				}
			}
		}
	}
}
