// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"testing"

	"github.com/multihome/multihome/pkg/plantest"
)

var suite = plantest.Suite{Names: []plantest.Name{{Name: "ifacer", Load: Load}}, Remove: remove}

func TestPlans(t *testing.T) { suite.Plans(t) }

// FuzzPlan plans for any configuration on several nodes.
func FuzzPlan(f *testing.F) {
	for _, config := range []string{
		`{"interfaces": "ens192", "vlanID": 100, "mtu": 1400}`,
		`{"interfaces": ["ens192", "ens224"], "bond": {"name": "bond0", "mode": 4, "options": "lacp_rate=fast"}, "vlanID": 200, "mtu": 9000}`,
		`{"interfaces": ["ens192", "ens224"], "bond": {"name": "bond0"}, "BOND": {"name": "bond1"}}`,
	} {
		f.Add(config)
	}
	suite.Fuzz(f, "vlan", "bond", "bond-vlan", "bond-there")
}

func TestDocs(t *testing.T) { plantest.Keys(t, "../../docs/ifacer.md", "keys/config.go") }
