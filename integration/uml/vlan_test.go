// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"strings"
	"testing"
)

const vlan100 = `{"interfaces": ["ens192"], "vlanID": 100}`

// TestVLAN makes the link of the document, once.
func TestVLAN(t *testing.T) {
	n := two(t)
	n.add(vlan100)
	const printed = `^\d+: ens192\.100@ens192: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default`
	n.eventually("ip link show type vlan", printed)
	n.shows("ip -d link show ens192.100", `vlan protocol 802\.1Q id 100 `)
	n.check(vlan100)
	before := n.state()
	n.add(vlan100)
	n.fine(call{verb: "ADD", id: "a", conf: vlan100})
	n.same("ADD again", before)
	if got := strings.Count(n.sh("ip -o link show type vlan"), "\n"); got != 1 {
		t.Errorf("%d VLANs, want 1", got)
	}
}

// TestVLANName makes a VLAN with a name of its own, as a VLANSubnet has. The same VLAN by another
// name is refused.
func TestVLANName(t *testing.T) {
	n := two(t)
	const named = `{"interfaces": ["ens192"], "vlanID": 100, "vlanName": "mv1.100"}`
	n.add(named)
	n.shows("ip link show type vlan", `mv1\.100@ens192: <[^>]*\bUP\b`)
	n.check(named)
	before := n.state()
	n.add(named)
	n.same("ADD again", before)
	n.addRefused(vlan100, "mv1.100 already has")
}

// TestVLANDown checks that an existing VLAN that is down is set up.
func TestVLANDown(t *testing.T) {
	n := two(t)
	n.add(vlan100)
	n.sh("ip link set ens192.100 down")
	n.refused(call{verb: "CHECK", id: "a", conf: vlan100, more: prev}, "link is ens192.100")
	n.add(vlan100)
	n.shows("ip link show ens192.100", `<[^>]*\bUP\b`)
}

// TestVLANParentDown checks the same for a parent.
func TestVLANParentDown(t *testing.T) {
	n := two(t)
	n.sh("ip link set ens192 down")
	n.add(vlan100)
	n.shows("ip link show ens192", `<[^>]*\bUP\b`)
	n.shows("ip link show ens192.100", `<[^>]*\bUP\b`)
}

// TestVLANOnTwoParents uses the same VLAN ID on two NICs.
func TestVLANOnTwoParents(t *testing.T) {
	n := two(t)
	n.add(vlan100)
	n.add(`{"interfaces": ["ens224"], "vlanID": 100}`)
	n.shows("ip link show type vlan", `ens192\.100@ens192`)
	n.shows("ip link show type vlan", `ens224\.100@ens224`)
}

// TestReboot checks that the next ADD makes links again that were lost with a reboot.
func TestReboot(t *testing.T) {
	n := two(t)
	n.add(vlan100)
	n.add(bond200)
	n.sh("ip link del ens192.100; ip link del bond0; rm -r /run/multihome")
	n.add(bond200)
	n.sh("ip link del bond0; rm -r /run/multihome")
	n.add(vlan100)
	n.shows("ip link show type vlan", `ens192\.100@ens192`)
}

// TestVLANThatIsNone checks that another link with the right name is refused.
func TestVLANThatIsNone(t *testing.T) {
	for _, tt := range []struct{ made, want string }{
		{"link add ens192.100 type bridge", "link ens192.100: type is bridge, want vlan"},
		{"link add ens192.100 type dummy", "link ens192.100: type is dummy, want vlan"},
		{"link add link ens224 name ens192.100 type vlan id 100", "link ens192.100: parent is ens224, want ens192"},
		{"link add link ens192 name ens192.100 type vlan id 101", "vlan is protocol 802.1Q id 101, want protocol 802.1Q id 100"},
		{"link add link ens192 name ens192.100 type vlan protocol 802.1ad id 100", "vlan is protocol 802.1ad id 100, want protocol 802.1Q id 100"},
		{"link add link ens192 name vlan100 type vlan id 100", "link vlan100 already has protocol 802.1Q id 100 of ens192"},
	} {
		n := two(t)
		n.sh("ip " + tt.made)
		n.addRefused(vlan100, tt.want)
	}
}

// TestVLANByHand checks that a VLAN made by hand is used, and never deleted.
func TestVLANByHand(t *testing.T) {
	n := two(t)
	n.sh("ip link add link ens192 name ens192.100 type vlan id 100; ip link set ens192.100 up")
	conf := `{"interfaces": ["ens192"], "vlanID": 100, "removeUnused": true}`
	before := n.state()
	n.add(conf)
	n.fine(call{verb: "DEL", id: "a", conf: conf})
	n.same("ADD and DEL", before)
}

// TestVLANOptions checks the MTU and the protocol.
func TestVLANOptions(t *testing.T) {
	n := two(t)
	n.add(`{"interfaces": ["ens192"], "vlanID": 4094, "mtu": 1400, "vlanProtocol": "802.1ad"}`)
	n.shows("ip -d link show ens192.4094", `mtu 1400 `)
	n.shows("ip -d link show ens192.4094", `vlan protocol 802\.1ad id 4094 `)
	n.add(`{"interfaces": ["ens192"], "vlanID": 4094, "mtu": 1500, "vlanProtocol": "802.1ad"}`)
	n.shows("ip -d link show ens192.4094", `mtu 1500 `)
	n.addRefused(`{"interfaces": ["ens192"], "vlanID": 4094, "mtu": 1400, "vlanProtocol": "802.1ad"}`, "mtu is 1500, want 1400")
	n.addRefused(`{"interfaces": ["ens192"], "vlanID": 5, "mtu": 1501}`, "link ens192: mtu is 1500, want at least the 1501 of ens192.5")
}

// TestNothingToMake checks that a single interface is set up, and must exist.
func TestNothingToMake(t *testing.T) {
	n := two(t)
	n.sh("ip link set ens224 down")
	n.add(`{"interfaces": ["ens224"], "vlanID": 0}`)
	n.shows("ip link show ens224", `<[^>]*\bUP\b`)
	n.addRefused(`{"interfaces": ["ens256"]}`, "host: link ens256: no such device")
	n.addRefused(`{"interfaces": ["ens256"], "vlanID": 5}`, "host: link ens256: no such device")
}

// TestConfigurationErrors checks that bad configurations are refused before anything is
// changed.
func TestConfigurationErrors(t *testing.T) {
	n := two(t)
	n.sh("ip link set ens192 down")
	for _, tt := range []struct{ conf, want string }{
		{`{"interfaces": ["ens192"], "vlanID": 4095}`, "vlanID: 4095"},
		{`{"interfaces": ["ens192", "ens224"]}`, "without a bond"},
		{`{"interfaces": ["ens192"], "bond": {"name": "bond0"}}`, "bond: with one interface"},
		{`{"interfaces": ["ens192", "ens192"], "bond": {"name": "bond0"}}`, "twice"},
		{`{"interfaces": ["ens192", "ens224"], "bond": {"name": "a-very-long-name"}}`, "bond.name"},
		{`{"interfaces": ["ens192", "ens224"], "bond": {"name": "bond0", "mode": 1, "options": "primary=ens192; arp_intervall=1"}}`, `unknown option "arp_intervall"`},
	} {
		n.addRefused(tt.conf, tt.want)
	}
}
