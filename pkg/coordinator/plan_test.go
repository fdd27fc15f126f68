// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plantest"
)

var suite = plantest.Suite{Names: []plantest.Name{{Name: "coordinator", Load: Load}, {Name: "veth", Load: LoadOlder}}, Remove: remove}

func TestPlans(t *testing.T) { suite.Plans(t) }

// TestDocs holds the page to the goldens, and to the keys of both names.
func TestDocs(t *testing.T) {
	const page = "../../docs/coordinator.md"
	suite.Page(t, page)
	plantest.Keys(t, page, "keys/config.go", "keys/older.go")
}

// TestCheckIgnoresLateAddresses: a router advertisement that came after ADD is
// no reason for CHECK to fail, and one for a repeated ADD to do something.
func TestCheckIgnoresLateAddresses(t *testing.T) {
	c := suite.Case(t, "underlay-dual")
	c.Add(t)
	_, late, err := netstate.Parse("pod: addr 2001:db8::172/64 dev eth0 dynamic")
	if err != nil {
		t.Fatal(err)
	}
	c.View.Snapshot.Put(netstate.Pod, late)
	if ops, err := c.Ops(); err != nil || len(ops) == 0 {
		t.Errorf("ADD does %v, %v for the new address", ops, err)
	}
	c.View.Checking = true
	if ops, err := c.Ops(); err != nil || len(ops) != 0 {
		t.Errorf("CHECK asks for %v, %v", ops, err)
	}
}

// TestAdvertisedDefaults: after ADD, the kernel makes the default routes of router
// advertisements anew. Neither CHECK nor a repeated ADD does anything about those that lose.
func TestAdvertisedDefaults(t *testing.T) {
	for _, tt := range []struct {
		name, golden string
		late         []string
		want         string // of a repeated ADD
		check        string // of CHECK
	}{
		{"of the router that ADD knew", "further-advertised", []string{"pod: -6 route default via fe80::7 dev net1 proto ra metric 2048"}, "", ""},
		{"of another one beside it", "further-advertised", []string{"pod: -6 route default via fe80::6 dev net1 proto ra metric 2048", "pod: -6 route default via fe80::7 dev net1 proto ra metric 2048"}, "", ""},
		{"of another one in its place", "further-advertised", []string{"pod: -6 route default via fe80::6 dev net1 proto ra metric 2048"},
			"pod: ip -6 route replace default via fe80::6 dev net1 table 101 proto ra metric 1024", ""},
		{"by a NIC with a static gateway", "overlay-ptp", []string{"pod: -6 route default via fe80::7 dev net1 proto ra metric 2048", "pod: -6 route default via fe80::8 dev net1 proto ra metric 2048"}, "", ""},
		{"by the first NIC, behind podDefaultRouteNIC", "overlay-default-nic", []string{"pod: -6 route default via fe80::6 dev eth0 proto ra metric 2048"}, "", ""},
		{"by the first NIC, which leads out", "overlay-ptp", []string{"pod: -6 route default via fe80::6 dev eth0 proto ra metric 1024"}, "", ""},
		{"the control: with the kernel's metric", "further-advertised", []string{"pod: -6 route default via fe80::7 dev net1 proto ra metric 1024"},
			"pod: ip -6 route del default via fe80::7 dev net1 proto ra metric 1024", "pod: ip -6 route del default via fe80::7 dev net1 proto ra metric 1024"},
		{"the control: the setting is lost", "further-advertised", []string{"pod: sysctl net/ipv6/conf/net1/ra_defrtr_metric=1024"},
			"pod: sysctl -w net/ipv6/conf/net1/ra_defrtr_metric=2048", "pod: sysctl -w net/ipv6/conf/net1/ra_defrtr_metric=2048"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := suite.Case(t, tt.golden)
			c.Add(t)
			for _, line := range tt.late {
				ns, late, err := netstate.Parse(line)
				if err != nil {
					t.Fatal(err)
				}
				c.View.Snapshot.Put(ns, late)
			}
			for checking, want := range map[bool]string{false: tt.want, true: tt.check} {
				c.View.Checking = checking
				ops, err := c.Ops()
				var got []string
				for _, op := range ops {
					got = append(got, op.String())
				}
				if err != nil || strings.Join(got, "\n") != want {
					t.Errorf("with CHECK %t: %q, %v, want %q", checking, got, err, want)
				}
			}
		})
	}
}

// TestSeveralRouters: routers that advertised themselves before ADD, beside each other or
// beside a static gateway, are no reason for ADD to fail. A NIC's own table takes one.
func TestSeveralRouters(t *testing.T) {
	for route, want := range map[string]string{
		"pod: -6 route default via fe80::8 dev net1 proto ra metric 1024":           "pod: ip -6 route add default via fe80::7 dev net1 table 101 proto ra metric 1024",
		"pod: -6 route default via fe80::6 dev eth0 proto ra metric 512":            "pod: ip -6 route add default via fd00:6::1 dev eth0 table 99 metric 512",
		"pod: -6 route default via fd00:7::9 dev net1 proto 42 metric 1024":         "pod: ip -6 route add default via fd00:7::9 dev net1 table 101 proto 42 metric 1024",
		"pod: -6 route default via fe80::6 dev net1 proto ra metric 2048":           "pod: ip -6 route add default via fe80::7 dev net1 table 101 proto ra metric 1024",
		"pod: -6 route default via fe80::6 dev eth0 proto ra metric 2048":           "pod: ip -6 route add default via fd00:6::1 dev eth0 table 99 metric 512",
		"pod: -6 route default via fe80::6 dev net1 table 101 proto ra metric 1024": "pod: ip -6 route add default via fe80::7 dev net1 table 102 proto ra metric 1024",
	} {
		c := suite.Case(t, "further-advertised")
		ns, more, err := netstate.Parse(route)
		if err != nil {
			t.Fatal(err)
		}
		c.View.Snapshot.Put(ns, more)
		ops, err := c.Ops()
		_, nic, _ := strings.Cut(want, " dev ")
		nic, _, _ = strings.Cut(nic, " ")
		var got []string
		for _, op := range ops {
			if line := op.String(); strings.Contains(line, "-6 route add default") && strings.Contains(line, " dev "+nic+" table ") {
				got = append(got, line)
			}
		}
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("beside %s: %q, %v, want %q", route, got, err, want)
		}
	}
}
