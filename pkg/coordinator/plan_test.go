// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
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
