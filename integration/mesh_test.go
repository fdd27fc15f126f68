// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// ambient does to a pod what Istio's ambient mode does when a running pod joins the mesh: it takes table 100, and
// replaces the default routes that are there.
const ambient = `
	ip rule add fwmark 0x111/0xfff pref 32764 lookup 100
	ip route replace local 0.0.0.0/0 dev lo table 100
	ip -6 rule add fwmark 0x111/0xfff pref 32764 lookup 100
	ip -6 route del default table 100; ip -6 route add local ::/0 dev lo table 100
`

// TestTableTakenByMesh has a mesh take a table of the pod that is in use: the table of replies in underlay mode, that of
// eth0 in overlay mode. The next ADD, which repair and the agent are, too, takes another one, and leaves the mesh its own.
func TestTableTakenByMesh(t *testing.T) {
	for _, mode := range []string{"underlay", "overlay"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, []lab.LAN{lab.Ens192(), lab.Ens224()}, fixture.Chained)
			checks := func() []lab.Check { return fixture.ByTCP(s.Checks()) }
			nics := []string{"eth0", "net1"}
			if mode == "overlay" {
				s.Overlay(t, "calico")
				checks, nics = s.OverlayChecks, nics[1:]
			}
			for _, nic := range nics {
				s.Plug(t, slices.Index([]string{"eth0", "net1"}, nic), nic)
			}
			s.Serve(t)
			before := routing(t, s.Web)
			fixture.Sh(t, s.Web.Netns, ambient)
			if out := s.As("coordinator", nics[0], "CHECK").Run(t); out.State.Success() {
				t.Error("CHECK finds nothing missing")
			}
			for _, nic := range nics {
				s.As("coordinator", nic, "ADD").Fine(t)
			}
			for _, nic := range nics {
				s.As("coordinator", nic, "CHECK").Fine(t)
			}
			s.Verify(t, checks()...)
			left := fixture.Sh(t, s.Web.Netns, "ip rule; ip -6 rule; ip route show table 100; ip -6 route show table 100")
			for line := range strings.Lines(left) {
				if strings.Contains(line, "lookup 100") != strings.Contains(line, "0x111/0xfff") && strings.Contains(line, "from") {
					t.Errorf("only the mesh uses table 100, but there is %s", line)
				}
			}
			if strings.Count(left, "local default dev lo") != 2 || strings.Contains(left, "dev eth0") || strings.Contains(left, "dev veth0") {
				t.Errorf("table 100 isn't the mesh's alone:\n%s", left)
			}
			// The pod leaves the mesh. Nothing of ours is in its table.
			fixture.Sh(t, s.Web.Netns, "ip rule del pref 32764 fwmark 0x111/0xfff; ip -6 rule del pref 32764 fwmark 0x111/0xfff; ip route flush table 100; ip -6 route flush table 100")
			for _, nic := range nics {
				s.As("coordinator", nic, "CHECK").Fine(t)
			}
			if after := routing(t, s.Web); strings.Count(after, "\n") != strings.Count(before, "\n") {
				t.Errorf("rules and routes after the mesh:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}
