// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

const (
	bond0   = `{"interfaces": ["ens192", "ens224"], "bond": {"name": "bond0", "mode": 1, "options": ""}}`
	bond200 = `{"interfaces": ["ens192", "ens224"], "vlanID": 200, "bond": {"name": "bond0", "mode": 1}}`
)

// bonding returns a configuration of bond0.
func bonding(mode, options string) string {
	return fmt.Sprintf(`{"interfaces": ["ens192", "ens224"], "bond": {"name": "bond0", "mode": %s, "options": %q}}`, mode, options)
}

// TestBond makes the links of the document, in which the VLAN is the bond's.
func TestBond(t *testing.T) {
	n := two(t)
	const conf = `{"interfaces": ["ens192", "ens224"], "vlanID": 200, "bond": {"name": "bond0", "mode": 1, "options": "primary=ens192;arp_interval=1"}}`
	mac, err := n.MAC("ens192")
	if err != nil {
		t.Fatal(err)
	}
	n.add(conf)
	n.shows("ip --details link show type bond", `^\d+: bond0: <[^>]*\bBROADCAST,MULTICAST,MASTER,UP\b[^>]*> mtu 1500 qdisc noqueue state \S+ mode DEFAULT group default qlen 1000`)
	n.shows("ip --details link show type bond", "link/ether "+mac.String())
	n.shows("ip --details link show type bond", `bond mode active-backup (active_slave \S+ )?miimon 0 updelay 0 downdelay 0 .*use_carrier 1 arp_interval 1 .*arp_validate none arp_all_targets any primary ens192 primary_reselect always fail_over_mac none xmit_hash_policy layer2 resend_igmp 1 num_grat_arp 1 all_slaves_active 0 min_links 0 lp_interval 1 packets_per_slave 1 .*lacp_rate slow ad_select stable tlb_dynamic_lb 1`)
	n.shows("ip link show type vlan", `^\d+: bond0\.200@bond0: <[^>]*BROADCAST,MULTICAST,UP`)
	for _, nic := range []string{"ens192", "ens224"} {
		n.shows("ip link show "+nic, `<[^>]*\bSLAVE,UP\b.* master bond0 `)
	}
	n.check(conf)
	before := n.state()
	n.add(conf)
	n.same("ADD again", before)
}

// TestBondWithoutVLAN checks that vlanID 0 stands for none.
func TestBondWithoutVLAN(t *testing.T) {
	n := two(t)
	n.add(`{"interfaces": ["ens192", "ens224"], "vlanID": 0, "mtu": 1400, "bond": {"name": "bond0", "mode": 1}}`)
	n.shows("ip -d link show bond0", "mode active-backup .*miimon 100 ")
	n.shows("ip link show bond0", "mtu 1400 ")
	n.shows("ip link show ens192", "mtu 1400 ")
	if out := n.sh("ip link show type vlan"); out != "" {
		t.Errorf("a VLAN: %s", out)
	}
	n.addRefused(`{"interfaces": ["ens192", "ens224"], "mtu": 1500, "bond": {"name": "bond0", "mode": 1}}`, "link bond0: mtu is 1400, want 1500")
}

// TestModes tries all modes, by number and by name.
func TestModes(t *testing.T) {
	n := two(t)
	for i, name := range netstate.BondModes {
		byName := fmt.Sprintf("%q", name)
		n.add(bonding(fmt.Sprint(i), ""))
		n.shows("ip -d link show bond0", "bond mode "+strings.ReplaceAll(name, ".", `\.`)+" .*miimon 100 ")
		n.check(bonding(byName, ""))
		n.add(bonding(byName, ""))
		n.fails(call{verb: "ADD", id: "a", conf: bonding(fmt.Sprint((i+1)%7), "")}, "link bond0: mode is "+name+", want ")
		n.sh("ip link del bond0")
	}
}

// TestOptions checks that every option of a mode is set, printed by ip and verified,
// and that another value is refused or set.
func TestOptions(t *testing.T) {
	n := two(t)
	for _, o := range netstate.BondOptions {
		mode := "active-backup"
		if o.Modes != nil {
			mode = o.Modes[0]
		}
		printed := o.Name
		var value, other string
		switch o.Form {
		case netstate.BondLink:
			value, other = "ens224", "ens192"
		case netstate.BondMAC:
			value, other = "02:00:5e:10:00:01", "02:00:5e:10:00:02"
		case netstate.BondIPv4:
			value, other = "10.0.0.1,10.0.0.2", "10.0.0.3"
		case netstate.BondIPv6:
			value, other = "fd00::1,fd00::2", "fd00::3"
		case netstate.BondWord:
			value, other = o.Words[1], o.Words[0]
		case netstate.BondNumber:
			value, other = "1", "0"
			if o.Max > 1 {
				value, other = "200", "100" // multiples of miimon, for options that must be
			}
		}
		beside := ""
		if o.Name == "arp_validate" {
			beside = ";arp_interval=100"
		}
		options := func(v string) string { return bonding(fmt.Sprintf("%q", mode), o.Name+"="+v+beside) }
		switch o.Name {
		case "broadcast_neighbor": // newer than this kernel
			n.addRefused(options("on"), "operation not supported by this kernel")
			continue
		}
		n.add(options(value))
		if o.Name != "coupled_control" { // newer than this ip
			n.shows("ip -d link show bond0", " "+printed+" "+regexp.QuoteMeta(value)+" ")
		}
		n.check(options(value))
		n.add(options(value))
		switch {
		case o.Name == "active_slave": // holds only for that moment
			n.add(options(other))
			n.shows("ip -d link show bond0", " active_slave "+value+" ")
		case o.Live:
			n.fails(call{verb: "CHECK", id: "a", conf: options(other), more: prev}, "link is bond0")
			n.add(options(other))
			n.shows("ip -d link show bond0", " "+printed+" "+other+" ")
		default:
			n.fails(call{verb: "ADD", id: "a", conf: options(other)}, fmt.Sprintf("link bond0: %s is %s, want %s", o.Name, value, other))
		}
		n.sh("ip link del bond0")
	}
}

// TestBondByHand checks that a bond made by hand is verified completely, and used.
func TestBondByHand(t *testing.T) {
	const made = `ip link add bond0 type bond mode active-backup miimon 100
		for i in ens192 ens224; do ip link set $i down; ip link set $i master bond0; done; ip link set bond0 up`
	n := two(t)
	n.sh(made)
	before := n.state()
	n.add(strings.TrimSuffix(bond0, "}") + `, "removeUnused": true}`)
	n.fine(call{verb: "DEL", id: "a"})
	n.same("ADD and DEL", before)

	n.sh("ip link set ens224 nomaster; ip link set bond0 down")
	n.add(bond0)
	n.shows("ip link show ens224", `<[^>]*\bSLAVE,UP\b.* master bond0 `)
	n.shows("ip link show bond0", `<[^>]*\bMASTER,UP\b`)

	n.sh("ip link add ens256 type dummy; ip link set ens256 master bond0")
	n.addRefused(bond0, "link bond0: the list of members is ens192, ens224, ens256, want ens192, ens224")
}

// TestBondThatIsNone checks that another link with the bond's name is refused before
// anything is changed.
func TestBondThatIsNone(t *testing.T) {
	n := two(t)
	n.sh("ip link add bond0 type bridge")
	n.addRefused(bond0, "link bond0: type is bridge, want bond")
	n.shows("ip link show bond0", `<BROADCAST,MULTICAST>`)
}

// TestBondOfTheDriver uses a bond0 that the driver makes when it is loaded.
func TestBondOfTheDriver(t *testing.T) {
	n := two(t)
	n.sh("ip link add bond0 type bond")
	n.add(bond200)
	n.shows("ip -d link show bond0", "mode active-backup .*miimon 100 ")
	n.shows("ip link show type vlan", `bond0\.200@bond0`)
}

// TestFailover takes the active member away: the bond keeps its other member.
func TestFailover(t *testing.T) {
	n := two(t)
	n.add(bonding("1", "primary=ens192"))
	n.shows("ip -d link show bond0", "active_slave ens192 ")
	if err := n.sw.SetDown("ens192"); err != nil {
		t.Fatal(err)
	}
	n.eventually("ip -d link show bond0", "active_slave ens224 ")
	n.check(bonding("1", "primary=ens192"))
	n.add(bonding("1", "primary=ens192"))
	n.shows("ip -d link show bond0", "active_slave ens224 ")
}

// TestStatus checks that STATUS names what ADD lacks.
func TestStatus(t *testing.T) {
	n := two(t)
	n.fine(call{verb: "STATUS", conf: vlan100})
	n.fine(call{verb: "STATUS", conf: bond200})
	n.lacks("mh-vlan")
	n.lacks("mh-bond")
	n.refused(call{verb: "STATUS", conf: `{"interfaces": ["ens256"], "vlanID": 5}`}, "host: link ens256: no such device")
}
