// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

// agreed runs ADD of an attachment. It fails the test unless explain printed before
// each source that ADD gives a route, and CHECK, explain and a repeated ADD (which
// repair does) find nothing to do afterwards.
func (w situation) agreed(t *testing.T, s *fixture.Site, a *fixture.Attachment) {
	t.Helper()
	e := explained{Attachment: a, add: w.call(a, "ADD")}
	said := e.explain(t, "--netns", a.Path())
	e.add.Fine(t)
	for _, p := range a.Addrs(a.NIC) {
		dst := p.Addr().String() + " "
		family := "ip " + fixture.IPFamily(p.Addr()) + " route show table "
		_, made, _ := strings.Cut(fixture.Line(t, s.Node.Netns, family+"500; "+family+"main", dst), " src ")
		src, _, _ := strings.Cut(made, " ")
		if i := strings.Index(said, " route add "+dst); i < 0 || src != "" && !strings.Contains(strings.Split(said[i:], "\n")[0], " src "+src+" ") {
			t.Errorf("ADD made a route to %swith source %q, but explain printed\n%s", dst, src, said)
		}
	}
	out := w.call(a, "CHECK").Run(t)
	if !out.State.Success() {
		t.Errorf("CHECK right after ADD: %s", out.Stdout)
	}
	before := fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns)))
	var left struct{ Operations []any }
	if text := e.explain(t, "--netns", a.Path(), "-o", "json"); json.Unmarshal([]byte(text), &left) != nil || len(left.Operations) > 0 {
		t.Errorf("after ADD explain prints\n%s", text)
	}
	e.add.Fine(t)
	fixture.Same(t, "ADD again", before, fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns))))
}

// TestSourceWithTunnels uses nodes whose rules lead elsewhere before our rule exists,
// and pods in a subnet of the node and in another one, in drawn situations: the verbs
// agree. The seed is fixed, so that a failure can be repeated.
func TestSourceWithTunnels(t *testing.T) {
	const draws = 3
	for i, kind := range slices.Sorted(maps.Keys(fixture.Tunnels)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(11, uint64(i)))
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Tunnelled(t, kind)
			ways := situations()
			names := slices.Sorted(maps.Keys(ways))
			for n := range draws {
				name := names[r.IntN(len(names))]
				w := ways[name]
				subnet := []int{6 + w.lan, 9}[r.IntN(2)]
				more := []string{"true", "ip addr replace 10.9.9.9/32 dev lo", "ip addr replace 9.1.0.1/24 dev ens224", "ip addr replace fd00:6::1:1/64 dev ens192 nodad preferred_lft 0"}[r.IntN(4)]
				first := r.IntN(2) == 0
				t.Logf("%s, subnet %d, %q, before any rule: %v", name, subnet, more, first)
				fixture.Sh(t, s.Node.Netns, more)
				o := s.Of(s.AddPod(t, fmt.Sprintf("pod%d", n)))
				a := w.begin(t, o, 20+n, fixture.PrefixesOf(fmt.Sprintf("10.%d.170.%d/16", subnet, 120+n), fmt.Sprintf("fd00:%d::170:%d/64", subnet, 120+n)))
				if first {
					fixture.Sh(t, s.Node.Netns, "ip rule del pref 1000; ip -6 rule del pref 1000")
				}
				w.agreed(t, o, a)
				fixture.Sh(t, s.Node.Netns, "for f in -4 -6; do ip $f rule show | grep -q ^1000: || ip $f rule add pref 1000 lookup 500 proto 109; done")
			}
		})
	}
}
