// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/multihome/multihome/pkg/netconf"
)

// TestFaults has objects with faults, and all that is said of each: those of
// testdata/faults.yaml, which controlplane/admission gives to an API server, too.
func TestFaults(t *testing.T) {
	text, err := os.ReadFile("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Case, Kind     string
		Metadata, Spec map[string]any
		Faults         []string
	}
	if err := yaml.Unmarshal(text, &table); err != nil || len(table) < 50 {
		t.Fatalf("%d cases: %v", len(table), err)
	}
	for _, tt := range table {
		t.Run(tt.Case, func(t *testing.T) {
			metadata := map[string]any{"name": "net"}
			maps.Copy(metadata, tt.Metadata)
			text, err := json.Marshal(map[string]any{"metadata": metadata, "spec": tt.Spec})
			if err != nil {
				t.Fatal(err)
			}
			var faults []netconf.Fault
			if tt.Kind == netconf.CoordinatorKind {
				_, faults = netconf.DecodeCoordinator(text)
			} else {
				c, found := netconf.Decode(text)
				faults = append(found, c.Validate()...)
			}
			for _, want := range tt.Faults {
				found := false
				for _, f := range faults {
					found = found || strings.HasPrefix(f.String(), want)
				}
				if !found {
					t.Errorf("nothing says %q: %v", want, faults)
				}
			}
			if len(tt.Faults) == 0 && len(faults) > 0 {
				t.Errorf("faults: %v", faults)
			}
			for _, f := range faults {
				if f.Path == "" || f.Message == "" {
					t.Errorf("a fault without words: %q", f)
				}
			}
		})
	}
}

// FuzzDecode reads any object: nothing panics, and what has no faults is rendered to
// JSON that has none either.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"metadata": {"name": "a"}, "spec": {"cniType": "macvlan", "macvlan": {"master": ["ens192"], "vlanID": 5}}}`,
		`{"spec": {"cniType": "sriov", "sriov": {"resourceName": "a/b", "MaxTxRateMbps": 5}}}`,
		`{"spec": {"cniType": "ovs", "ovs": {"bridge": "b", "trunk": [{"maxID": 5}]}}}`,
		`{"spec": {"cniType": "vlan", "vlan": {"master": ["a", "b"], "bond": {}}, "coordinator": {"policyRoutes": [{"dst": "x"}], "hijackCIDR": ["::ffff:1.1.1.1", "1.1.1.1%a"]}, "chainCNIJsonData": ["{"]}}`,
		`{"metadata": [], "spec": 5}`, `[]`, `null`, `{"spec": {"cniType": "ib-sriov", "ibsriov": null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, faults := netconf.Decode(text)
		faults = append(faults, c.Validate()...)
		config := c.Render().Config
		for _, fault := range faults {
			if !fault.Warning {
				return
			}
		}
		if config == "" {
			return
		}
		custom := netconf.Config{Name: "a", Spec: netconf.Spec{CustomCNI: config}}
		if again := custom.Validate(); len(again) > 0 {
			t.Errorf("%s\nbecomes %s\n%v", text, config, again)
		}
	})
}
