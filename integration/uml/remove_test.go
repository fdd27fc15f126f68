// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"fmt"
	"strings"
	"testing"
)

// unused returns a configuration with removeUnused.
func unused(conf string) string { return strings.Replace(conf, "{", `{"removeUnused": true, `, 1) }

// TestDelKeeps checks that links stay by default.
func TestDelKeeps(t *testing.T) {
	n := two(t)
	n.add(vlan100)
	n.fine(call{verb: "DEL", id: "a", conf: vlan100})
	n.fine(call{verb: "DEL", id: "a", conf: vlan100})
	n.fine(call{verb: "DEL", id: "never", conf: vlan100})
	n.shows("ip link show type vlan", `ens192\.100@ens192`)
}

// TestRemoveUnused checks that DEL of the last attachment removes the links of ifacer,
// and the node is as it was.
func TestRemoveUnused(t *testing.T) {
	for _, conf := range []string{unused(vlan100), unused(bond0), unused(bond200)} {
		for _, before := range []string{":", "ip link set ens224 down"} {
			n := two(t)
			n.sh(before)
			state := n.state()
			n.add(conf)
			n.fine(call{verb: "ADD", id: "b", conf: conf})
			there := n.sh("ip -o link | wc -l")
			n.fine(call{verb: "DEL", id: "a", conf: conf})
			n.fine(call{verb: "DEL", id: "a", conf: conf})
			if left := n.sh("ip -o link | wc -l"); left != there {
				t.Errorf("%s: %s links of %s are left with one pod", conf, left, there)
			}
			n.fine(call{verb: "DEL", id: "b"}) // with none of the plugin's keys
			n.same(conf, state)
		}
	}
}

// TestRemoveShared checks that a bond stays as long as one of its VLANs is in use.
func TestRemoveShared(t *testing.T) {
	n := two(t)
	n.add(unused(bond200))
	n.fine(call{verb: "ADD", id: "b", conf: unused(strings.Replace(bond200, "200", "300", 1))})
	n.fine(call{verb: "ADD", id: "c", conf: bond0})
	n.fine(call{verb: "DEL", id: "a"})
	n.lacks("bond0.200")
	n.shows("ip link show type vlan", `bond0\.300@bond0`)
	n.fine(call{verb: "DEL", id: "b"})
	n.lacks("bond0.300")
	n.fine(call{verb: "DEL", id: "c"})
	n.shows("ip link show bond0", "MASTER,UP") // c's network didn't have removeUnused
}

// TestRemoveInUse checks that links which the node itself now uses stay.
func TestRemoveInUse(t *testing.T) {
	for _, use := range []string{
		"ip addr add 10.1.0.1/16 dev ens192.100",
		"ip link add link ens192.100 name mv0 type macvlan",
		"ip link add br0 type bridge; ip link set ens192.100 master br0",
		"ip link set ens192.100 alias mine",
	} {
		n := two(t)
		n.add(unused(vlan100))
		n.sh(use)
		n.fine(call{verb: "DEL", id: "a"})
		n.shows("ip link show type vlan", `ens192\.100@ens192`)
	}
}

// TestGC checks that GC forgets dead attachments of its network, and no others.
func TestGC(t *testing.T) {
	n := two(t)
	n.add(unused(vlan100))
	n.fine(call{verb: "ADD", id: "b", conf: unused(`{"interfaces": ["ens224"], "vlanID": 100}`)})
	other := `{"interfaces": ["ens192"], "vlanID": 300, "removeUnused": true, "name": "other"}`
	n.fine(call{verb: "ADD", id: "c", conf: other})
	before := n.state()
	gc := func(valid string) {
		n.fine(call{verb: "GC", conf: vlan100, more: `"cni.dev/valid-attachments": [` + valid + `]`})
	}
	gc(`{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"}`)
	n.same("GC of nothing", before)
	gc(`{"containerID": "a", "ifname": "eth0"}`)
	n.lacks("ens224.100")
	n.shows("ip link show type vlan", `ens192\.100@ens192`)
	gc("")
	n.lacks("ens192.100")
	n.shows("ip link show type vlan", `ens192\.300@ens192`)
}

// TestRemoveTwo uses a chain with two ifacers, the second of which builds on the first
// one's link.
func TestRemoveTwo(t *testing.T) {
	const onBond = `{"interfaces": ["bond0"], "vlanID": 7}`
	for _, first := range []string{bond0, unused(bond0)} {
		n := two(t)
		before := n.state()
		for range 2 {
			n.add(first)
			n.add(unused(onBond))
		}
		n.fine(call{verb: "DEL", id: "a", conf: unused(onBond)})
		n.lacks("bond0.7")
		n.fine(call{verb: "DEL", id: "a", conf: first})
		if first == bond0 {
			n.shows("ip link show bond0", "MASTER,UP")
			continue
		}
		n.same("DEL", before)
	}
}

// TestFailingDelKeepsMembersUp checks that a request of DEL that fails doesn't leave a
// member of the bond down: the next DEL restores the node's links.
func TestFailingDelKeepsMembersUp(t *testing.T) {
	conf := unused(bonding("1", ""))
	failed := 0
	for i := 1; ; i++ {
		n := two(t)
		before := n.state()
		n.add(conf)
		out, injected, err := n.faulty(call{verb: "DEL", id: "a", conf: conf}, "error=ENOMEM", i)
		if err != nil && out.err == nil {
			t.Fatal(err)
		}
		if !injected {
			break
		}
		failed++
		n.fine(call{verb: "DEL", id: "a", conf: conf})
		n.same(fmt.Sprintf("DEL after request %d failed: %v", i, out.err), before)
	}
	if failed == 0 {
		t.Error("no request failed")
	}
}
