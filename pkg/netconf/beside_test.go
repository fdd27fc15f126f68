// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"testing"

	"github.com/multihome/multihome/pkg/netconf"
)

// TestBeside: a link carries macvlans or ipvlans, as the project's documents say, and a NIC of a bond neither;
// a node has one bond of a name.
func TestBeside(t *testing.T) {
	for _, test := range []struct{ name, of, beside, want string }{
		{"one link", `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "ipvlan", "ipvlan": {"master": ["ens192"]}}`,
			"spec.macvlan.master: warning: ens192: SpiderMultusConfig kube-system/b has ipvlans on it, and no node can have both on one link: want ipvlan for both, or a vlanID for one of them"},
		{"the other way round, in the block macvlan", `{"cniType": "ipvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`,
			"spec.macvlan.master: warning: ens192: SpiderMultusConfig kube-system/b has macvlans on it, and no node can have both on one link: want macvlan for both, or a vlanID for one of them"},
		{"one VLAN, in two spellings", `{"cniType": "ipvlan", "ipvlan": {"master": ["ens192"], "vlanID": 100}}`, `{"cniType": "macvlan", "macvlan": {"master": ["ens192.100"]}}`,
			"spec.ipvlan.master: warning: ens192.100: SpiderMultusConfig kube-system/b has macvlans on it, and no node can have both on one link: want macvlan for both, or a vlanID for one of them"},
		{"one bond", `{"cniType": "ipvlan", "ipvlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "macvlan", "macvlan": {"master": ["bond0"]}}`,
			"spec.ipvlan.master: warning: bond0: SpiderMultusConfig kube-system/b has macvlans on it, and no node can have both on one link: want macvlan for both, or a vlanID for one of them"},
		{"one bond, of two modes", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0", "mode": 1}}}`, `{"cniType": "vlan", "vlan": {"master": ["a", "b"], "bond": {"name": "bond0"}, "vlanID": 100}}`,
			"spec.macvlan.bond.mode: warning: bond0: SpiderMultusConfig kube-system/b has it with mode 0, and a bond has one: want mode 0 for both, or another bond of other NICs"},
		{"one bond, of other NICs", `{"cniType": "vlan", "vlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "ipvlan", "macvlan": {"master": ["a", "b", "c"], "bond": {"name": "bond0"}}}`,
			"spec.vlan.master: warning: bond0: SpiderMultusConfig kube-system/b has it of a, b, c, and a node has one bond of a name: want the same NICs for both, or another bond of other NICs"},
		{"one NIC in two bonds", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "macvlan", "macvlan": {"master": ["b", "c"], "bond": {"name": "bond1"}}}`,
			"spec.macvlan.master: warning: b: SpiderMultusConfig kube-system/b has it in bond bond1, and a NIC is in one bond: want other NICs for one of them"},
		{"the NIC of a bond has macvlans", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "macvlan", "macvlan": {"master": ["b"]}}`,
			"spec.macvlan.master: warning: b: SpiderMultusConfig kube-system/b has macvlans on it, and no node can have these on a NIC of a bond: want bond0 for both, or other NICs for one of them"},
		{"ipvlans on the NIC of a bond", `{"cniType": "ipvlan", "ipvlan": {"master": ["b"]}}`, `{"cniType": "vlan", "vlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`,
			"spec.ipvlan.master: warning: b: SpiderMultusConfig kube-system/b has it in bond bond0, and no node can have ipvlans on a NIC of a bond: want bond0 for both, or other NICs for one of them"},
		{"one bond, as it is", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0", "mode": 0}, "vlanID": 100}}`, `{"cniType": "vlan", "vlan": {"master": ["b", "a"], "bond": {"name": "bond0"}, "vlanID": 200}}`, ""},
		{"two bonds", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "macvlan", "macvlan": {"master": ["c", "d"], "bond": {"name": "bond1", "mode": 1}}}`, ""},
		{"a VLAN of a bond's NIC", `{"cniType": "macvlan", "macvlan": {"master": ["a", "b"], "bond": {"name": "bond0"}}}`, `{"cniType": "macvlan", "macvlan": {"master": ["b"], "vlanID": 100}}`, ""},
		{"one type", `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, ""},
		{"two links", `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "ipvlan", "ipvlan": {"master": ["ens224"]}}`, ""},
		{"a link and its VLAN", `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "ipvlan", "ipvlan": {"master": ["ens192"], "vlanID": 100}}`, ""},
		{"VLANs in the pods", `{"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}`, `{"cniType": "vlan", "vlan": {"master": ["ens192"], "vlanID": 100}}`, ""},
		{"without a block", `{"cniType": "macvlan"}`, `{"cniType": "ipvlan"}`, ""},
		{"the node's files", `{}`, `{}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			read := func(name, spec string) netconf.Config {
				c, _ := netconf.Decode([]byte(`{"metadata": {"namespace": "kube-system", "name": "` + name + `"}, "spec": ` + spec + `}`))
				return c
			}
			got := ""
			for _, f := range read("a", test.of).Beside(read("b", test.beside)) {
				got += f.String()
				if !f.Warning {
					t.Errorf("%s refuses it", f)
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
