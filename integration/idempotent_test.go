// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
)

// TestAddAgain repeats ADD: every link keeps its index and MAC, every nftables
// rule its handle, nothing comes twice, and the result is the same.
func TestAddAgain(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lan)
			s.app.add(t)
			first := s.web.add(t)
			before := s.state(t)
			for range 2 {
				again := s.web.add(t)
				if d := cmp.Diff(first, again); d != "" {
					t.Errorf("result of ADD again (-first +again):\n%s", d)
				}
				same(t, "ADD again", before, s.state(t))
			}
			s.web.check(t)
			s.app.check(t)
			holds(t, s.Scene)
		})
	}
}

// TestAddAfterDel is what a runtime does that gives a pod its NIC back.
func TestAddAfterDel(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.app.add(t)
	s.web.add(t)
	before := s.state(t)
	s.web.del(t)
	s.web.add(t)
	same(t, "ADD after DEL", before.unnumbered(), s.state(t).unnumbered())
	s.web.check(t)
	holds(t, s.Scene)
}
