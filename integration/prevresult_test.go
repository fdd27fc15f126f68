// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/integration/fixture"
)

// TestIndexOfHostEnd has a prevResult that gives the NIC's address to the node's end of the NIC, as plugins do that
// put this end first and leave the index as it was (ovs-cni#133). The address counts, and so does its gateway.
func TestIndexOfHostEnd(t *testing.T) {
	for name, call := range map[string]func(a *fixture.Attachment, verb string) fixture.Call{
		"coordinator": func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb) },
		"route": func(a *fixture.Attachment, verb string) fixture.Call {
			return a.Route(verb, fixture.Keys{"sbr": true, "master": nil, "bridge": nil})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["v4"], fixture.Chained)
			s.Plug(t, 0, "eth0")
			net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16")}, netip.MustParseAddr("10.7.0.1"))
			net1.Prev.Interfaces = append([]*types100.Interface{{Name: "vethovs1"}}, net1.Prev.Interfaces...)
			call(net1, "ADD").Fine(t)
			call(net1, "CHECK").Fine(t)
			if got := fixture.Sh(t, s.Web.Netns, "ip route get 8.8.8.8 from 10.7.168.201"); !strings.Contains(got, "via 10.7.0.1 dev net1") {
				t.Errorf("packets from the address leave by %s", got)
			}
			call(net1, "DEL").Fine(t)
		})
	}
}

// TestDuplicateAddress has a NIC whose IPv6 address the kernel has found at another host before ADD. The error says so, and
// not that the NIC lacks the address, which `ip address` shows.
func TestDuplicateAddress(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Plug(t, 0, "eth0")
	router := fixture.Addrs(s.LANs[1].Router)[1]
	net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16")}, netip.MustParseAddr("10.7.0.1"))
	fixture.Sh(t, s.Web.Netns, fmt.Sprintf("echo 1 > /proc/sys/net/ipv6/conf/net1/accept_dad; ip addr add %s/64 dev net1; until ip -6 addr show dev net1 dadfailed | grep -q %[1]s; do sleep 0.05; done", router))
	prefix := netip.PrefixFrom(router, 64)
	net1.Prev.IPs = append(net1.Prev.IPs, &types100.IPConfig{
		Interface: types100.Int(0), Address: net.IPNet{IP: router.AsSlice(), Mask: net.CIDRMask(64, 128)},
	})
	if got, want := net1.Call("ADD").Fails(t).Msg, fmt.Sprintf("pod: addr %s dev net1: another host has it", prefix); !strings.Contains(got, want) {
		t.Errorf("ADD says %q, want %q", got, want)
	}
}

// TestBehindSBR chains coordinator behind the CNI project's sbr, which has moved the NIC's routes into a table, with a rule
// before ours. ADD says so, and changes nothing. A rule that somebody adds later is no reason to leave the pod as it is.
func TestBehindSBR(t *testing.T) {
	const rule = "ip rule add from 10.7.168.201 lookup 101"
	for _, mode := range []string{"underlay", "overlay"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			if mode == "underlay" {
				s.Plug(t, 0, "eth0")
			} else {
				s.Overlay(t, "calico")
			}
			net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16")}, netip.MustParseAddr("10.7.0.1"))
			fixture.Sh(t, s.Web.Netns, rule+"; ip route del 10.7.0.0/16 dev net1; ip route add 10.7.0.0/16 dev net1 table 101; ip route add default via 10.7.0.1 dev net1 table 101")
			before := routing(t, s.Web)
			e := net1.Call("ADD").Fails(t)
			if want := "pod: link net1: another plugin, such as sbr, has made rule pref"; e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, want) {
				t.Errorf("ADD says %d %q, want %q", e.Code, e.Msg, want)
			}
			if after := routing(t, s.Web); after != before {
				t.Errorf("ADD changed\n%s\nto\n%s", before, after)
			}
			fixture.Sh(t, s.Web.Netns, "ip rule del from 10.7.168.201; ip route flush table 101; ip route add 10.7.0.0/16 dev net1 src 10.7.168.201 proto kernel")
			net1.Call("ADD").Fine(t)
			fixture.Sh(t, s.Web.Netns, strings.Replace(rule, "101", "200", 1))
			net1.Call("CHECK").Fine(t)
			net1.Call("ADD").Fine(t)
		})
	}
}
