// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

// TestOwnLinks: what a link is comes before its name, which tells where nothing else
// does.
func TestOwnLinks(t *testing.T) {
	for _, tt := range []struct {
		link string
		want bool
		more []string // what else is there
	}{
		{"eth0", true, nil},
		{"bond0.100 link bond0 type vlan protocol 802.1Q id 100", true, nil},
		{"br-ex type openvswitch", true, nil},
		{"locust type bridge", true, nil},
		{"vxlan.calico2 type vxlan", true, nil},
		{"lo", false, nil},
		{"kube-ipvs0 type dummy", false, nil},
		{"nodelocaldns type dummy", false, nil},
		{"services type dummy", false, nil},
		{"veth1234 type veth", false, nil},
		{"cali12ab type veth", false, nil},
		{"cilium_host type veth", false, nil},
		{"cni0 type bridge", false, nil},
		{"cni0 type bridge", false, []string{"link veth1 master cni0 type veth", "link cali3 master cni0 type veth"}},
		{"virbr0 type bridge", false, []string{"link vnet0 master virbr0 type tun", "route default dev eth0"}},
		{"docker0 type bridge", false, []string{"route default via 10.6.0.1 dev eth0", "route 10.7.0.0/16 dev docker0"}},
		{"flannel.1 type vxlan", false, []string{"link veth1 master flannel.1 type veth"}},
		{"tunl0 type ipip", false, nil},
		{"ens192.host link ens192 alias \"multihome:bridge/ens192\" type macvlan mode bridge", false, nil},

		{"cni-uplink type bridge", true, []string{"link ens192 master cni-uplink"}},
		{"docker-ext type bridge", true, []string{"link bond0.7 master docker-ext type vlan protocol 802.1Q id 7"}},
		{"virbr-lan type bridge", true, []string{"link vnet0 master virbr-lan type tun", "link bond0 master virbr-lan type bond"}},
		{"dummy0 type bridge", true, []string{"route default via 10.6.0.1 dev dummy0"}},
		{"podman-lan type bridge", true, []string{"-6 route default via fe80::1 dev podman-lan metric 1024"}},
		{"cni-node type bridge", true, []string{"link ens192 master cni-node type veth"}}, // a node in a container
		{"dummy0", true, nil},
		{"docker7 link ens192 type vlan protocol 802.1Q id 7", true, nil},
		{"antrea-gw0 type openvswitch", false, nil},
		{"cni-br type openvswitch", true, []string{"route default dev cni-br"}},
		{"cni0 type bridge", true, []string{"parent cni0"}},
		{"dummy0 type dummy", true, []string{"parent dummy0"}},
		{"vethlan type veth", true, []string{"parent vethlan"}},
		{"ens192.100 link ens192 alias \"multihome:ifacer\" type vlan protocol 802.1Q id 100", true, []string{"parent ens192.100"}},

		{"ens192 master blue", false, []string{"link blue type vrf"}},
		{"ens192 master blue", false, []string{"link blue type vrf", "parent ens192"}},
		{"blue type vrf", false, nil},
		{"ens192 master br0", true, []string{"link br0 type bridge"}},
	} {
		snap, parents := netstate.NewSnapshot(), []string(nil)
		var name string
		for i, line := range append([]string{"link " + tt.link}, tt.more...) {
			if len(line) > 7 && line[:7] == "parent " {
				parents = append(parents, line[7:])
				continue
			}
			ns, o, err := netstate.Parse("host: " + line)
			if err != nil {
				t.Fatal(err)
			}
			snap.Put(ns, o)
			if i == 0 {
				name = o.(netstate.Link).Name
			}
		}
		if got := NodeLinksOf(snap, parents...).Own(name); got != tt.want {
			t.Errorf("%s with %q may carry the node's addresses: %v, want %v", tt.link, tt.more, got, tt.want)
		}
	}
}

// TestOwnLinkThatNobodyAskedFor is told by its name alone.
func TestOwnLinkThatNobodyAskedFor(t *testing.T) {
	n := NodeLinksOf(netstate.NewSnapshot())
	for name, want := range map[string]bool{"ens192": true, "br0": true, "lo": false, "kube-ipvs0": false, "cali12": false, "cni0": false} {
		if got := n.Own(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
