// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"strings"
	"testing"
)

// forced is the tests' bond, with force.
const forced = `{"interfaces": ["ens192", "ens224"], "force": true, "bond": {"name": "bond0", "mode": 1}}`

// uplink gives a NIC the node's address and default route.
const uplink = `
	ip addr add 10.6.168.123/16 dev ens192; ip addr add fd00:6::123/64 dev ens192
	ip route add default via 10.6.0.1; ip -6 route add default via fd00:6::1 dev ens192
	ip route add 10.9.0.0/16 via 10.6.0.9 table 77`

// TestProtected checks that a NIC with the node's address or default route doesn't
// become a member.
func TestProtected(t *testing.T) {
	for _, tt := range []struct{ made, want string }{
		{"ip addr add 10.6.168.123/16 dev ens192", "link ens192: it carries addr 10.6.168.123/16 dev ens192: set force"},
		{"ip addr add fd00:6::123/64 dev ens224 nodad", "link ens224: it carries addr fd00:6::123/64 dev ens224"},
		{"ip route add default dev ens192", "link ens192: it carries route default dev ens192"},
		{"ip -6 route add default via fe80::1 dev ens192", "link ens192: it carries route default via fe80::1 dev ens192"},
		{"ip link add link ens192 name ens192.7 type vlan id 7; ip addr add 10.6.168.123/16 dev ens192.7", "link ens192: it carries addr 10.6.168.123/16 dev ens192.7"},
		{"ip link add br0 type bridge; ip link set ens192 master br0", "link ens192: master is br0, want bond0: set force"},
	} {
		n := two(t)
		n.sh(tt.made)
		n.addRefused(bond0, tt.want)
		n.addRefused(bond200, tt.want)
	}
}

// TestForce checks that it does, if the configuration has force.
func TestForce(t *testing.T) {
	n := two(t)
	n.sh(uplink)
	n.add(forced)
	n.shows("ip link show ens192", "master bond0 ")
	n.add(forced)
	n.check(forced)
	n = two(t)
	n.sh("ip link add br0 type bridge; ip link set ens192 master br0")
	n.add(forced)
	n.shows("ip link show ens192", "master bond0 ")
}

// TestVLANOfUplink checks that a VLAN leaves its parent as it is.
func TestVLANOfUplink(t *testing.T) {
	n := two(t)
	n.sh(uplink)
	routes := n.sh("ip route; ip -6 route show default")
	n.add(vlan100)
	if after := n.sh("ip route; ip -6 route show default"); after != routes {
		t.Errorf("routes were\n%s\nand are\n%s", routes, after)
	}
}

// TestUndo checks that a build that fails at its last member leaves the node as it was:
// its members up or down, at their former master, with their addresses and routes.
func TestUndo(t *testing.T) {
	// A NIC with a macvlan can't become a member of a bond.
	const busy = "ip link add link ens224 name mv0 type macvlan mode bridge; ip link set mv0 up"
	for state, script := range map[string]string{
		"up":              ":",
		"down":            "ip link set ens192 down; ip link set ens224 down",
		"the uplink":      uplink,
		"a bridge's port": "ip link add br0 type bridge; ip link set ens192 master br0; ip link set br0 up",
	} {
		t.Run(state, func(t *testing.T) {
			n := two(t)
			n.sh(script)
			n.sh(busy)
			n.addRefused(strings.Replace(forced, "{", `{"vlanID": 5, `, 1), "host: change link ens224")
			n.lacks("bond0")
		})
	}
}
