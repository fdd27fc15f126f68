// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestAddAgain repeats ADD: every link keeps its index and MAC, every nftables rule its
// handle, nothing is added twice, and the result is the same.
func TestAddAgain(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lan)
			s.AppNIC.Add(t)
			first := s.WebNIC.Add(t)
			before := s.State(t)
			for range 2 {
				again := s.WebNIC.Add(t)
				if d := cmp.Diff(first, again); d != "" {
					t.Errorf("result of ADD again (-first +again):\n%s", d)
				}
				fixture.Same(t, "ADD again", before, s.State(t))
			}
			s.WebNIC.Check(t)
			s.AppNIC.Check(t)
			fixture.Holds(t, s.Scene)
		})
	}
}

// TestAddAfterDel gives a pod its NIC again, as some runtimes do.
func TestAddAfterDel(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	s.WebNIC.Add(t)
	before := s.State(t)
	s.WebNIC.Del(t)
	s.WebNIC.Add(t)
	fixture.Same(t, "ADD after DEL", before.Unnumbered(), s.State(t).Unnumbered())
	s.WebNIC.Check(t)
	fixture.Holds(t, s.Scene)
}
