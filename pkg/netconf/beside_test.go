// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"testing"

	"github.com/multihome/multihome/pkg/netconf"
)

// TestBeside: a link carries macvlans or ipvlans, as the project's documents say.
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
