// SPDX-License-Identifier: Apache-2.0

package owntable

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

// TestTable: a NIC keeps its table, and takes none that somebody uses.
func TestTable(t *testing.T) {
	full := ""
	for table := 100; table < netstate.TableDefault; table++ {
		full += fmt.Sprintf("pod: rule pref 9 from 10.9.0.9 lookup %d\n", table)
	}
	for _, tt := range []struct {
		name, state string
		taken       []int
		want        int // 0: an error
	}{
		{"nothing there", "", nil, 100},
		{"taken", "", []int{100, 101}, 102},
		{"another's rule and route", "pod: rule pref 9 from 10.9.0.9 lookup 100\npod: route default via 10.9.0.1 dev eth1 table 101", nil, 102},
		{"its own rule", "pod: rule pref 32764 from 10.6.0.172 lookup 104 proto multihome", nil, 104},
		{"a rule like ours", "pod: rule pref 32764 from 10.6.0.172 lookup 104", nil, 100},
		{"a rule of another priority", "pod: rule pref 32765 from 10.6.0.172 lookup 104 proto multihome", nil, 100},
		{"its own rule, but taken", "pod: rule pref 32764 from 10.6.0.172 lookup 104 proto multihome", []int{104}, 100},
		{"its own rule, but another program has the default route", "pod: rule pref 32764 from 10.6.0.172 lookup 104 proto multihome\npod: rule pref 9 from all fwmark 0x111/0xfff lookup 104\npod: route default via 10.6.0.1 dev eth0", nil, 100},
		{"its own rule, and another's, and its default route", "pod: rule pref 32764 from 10.6.0.172 lookup 104 proto multihome\npod: rule pref 9 from all fwmark 0x111/0xfff lookup 104\npod: route default via 10.6.0.1 dev eth0 table 104", nil, 104},
		{"its own rule, and another's, without a default route", "pod: rule pref 32764 from 10.6.0.172 lookup 104 proto multihome\npod: rule pref 9 from all fwmark 0x111/0xfff lookup 104", nil, 104},
		{"its own rule, below the first", "pod: rule pref 32764 from 10.6.0.172 lookup 99 proto multihome", nil, 99},
		{"the rule of another plugin of ours", "pod: rule pref 32764 from 10.6.0.172 lookup 100 proto multihome-route", nil, 101},
		{"the rule of an address it had", "pod: rule pref 32764 from 10.6.0.171 lookup 104 proto multihome\npod: route default via 10.6.0.1 dev eth0 table 104", nil, 104},
		{"the rule of an address that another NIC had", "pod: rule pref 32764 from 10.7.0.171 lookup 104 proto multihome\npod: route default via 10.7.0.1 dev eth1 table 104", nil, 100},
		{"the rule of an address that another NIC has", "pod: addr 10.7.0.171/16 dev eth1\npod: rule pref 32764 from 10.7.0.171 lookup 104 proto multihome\npod: route default via 10.6.0.1 dev eth0 table 104", nil, 100},
		{"its own routes alone: a copy", "pod: route default via 10.6.0.1 dev eth0 table 106\npod: route 10.6.0.0/16 dev eth0 table 103 proto kernel scope link", nil, 103},
		{"its own routes alone: a copy of what somebody made", "pod: route 169.254.1.1 dev eth0 scope link\npod: route 169.254.1.1 dev eth0 table 103 scope link", nil, 103},
		{"its own routes alone: one of the plugin's", "pod: route 10.6.0.0/16 dev eth0 table 103 scope link\npod: route 10.96.0.0/12 via 10.6.168.123 dev veth0 table 103 proto multihome", nil, 103},
		{"its own routes, but taken", "pod: route 10.6.0.0/16 dev eth0 table 103 proto kernel scope link", []int{103}, 100},
		{"another's table with a route by it", "pod: route default via 10.6.0.1 dev eth0 table 100", nil, 101},
		{"another's table with a copy, and a rule", "pod: route 10.6.0.0/16 dev eth0 table 100 proto kernel scope link\npod: rule pref 9 from 10.9.0.9 lookup 100", nil, 101},
		{"another's table with a copy, and another NIC's route", "pod: route 10.6.0.0/16 dev eth0 table 100 proto kernel scope link\npod: route 10.9.0.0/16 dev eth1 table 100 scope link", nil, 101},
		{"another's rule with more conditions", "pod: rule pref 9 from all lookup 100 ...", nil, 101},
		{"no table is free", full, nil, 0},
	} {
		s := netstate.NewSnapshot()
		for line := range strings.Lines(tt.state) {
			ns, o, err := netstate.Parse(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			s.Put(ns, o)
		}
		nic := NIC{Owner: netstate.ProtoCoordinator, Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.6.0.172")}, Gateway: func(netstate.Family) netip.Addr { return netip.Addr{} }}
		got, err := nic.Table(s, 100, 100, tt.taken...)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: table %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
}
