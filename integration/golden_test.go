// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestGoldens compares the output of ip(8) and nft(8) for a pod and its node after ADD
// with testdata/underlay-*.txtar.
func TestGoldens(t *testing.T) {
	for name, lan := range map[string]lab.LAN{
		"underlay-v4": fixture.Only(0), "underlay-v6": fixture.Only(1), "underlay-dual": lab.Ens192(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewScene(t, lan, fixture.Chained)
			got := txtar.Format(pictureOf(t, s, s.Web))
			golden := filepath.Join("testdata", name+".txtar")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
				t.Errorf("%s (-want +got):\n%s", golden, d)
			}
		})
	}
}

// pictureOf returns the state that coordinator made in a pod and, for it, on the node.
func pictureOf(t *testing.T, s *lab.Scene, pod *lab.Pod) *txtar.Archive {
	t.Helper()
	host := pod.HostEnd(lab.NIC)
	var a txtar.Archive
	show := func(part string, n *testbed.Netns, commands ...string) {
		fixture.Settle(t, n)
		for _, command := range commands {
			out := fixture.Tidy(fixture.Sh(t, n, command))
			a.Files = append(a.Files, txtar.File{Name: part + ": " + command, Data: []byte(out)})
		}
	}
	show("pod", pod.Netns, "ip link show veth0", "ip -4 rule", "ip -6 rule",
		"ip -4 route show table all", "ip -6 route show table all", "ip neigh show nud permanent | sort", "nft list ruleset",
		settings("veth0"))
	show("node", s.Node.Netns, "ip link show "+host, "ip -4 rule", "ip -6 rule",
		"ip -4 route show table all", "ip -6 route show table all", "ip neigh show nud permanent dev "+host+" | sort",
		settings(host))
	return &a
}

// settings prints the sysctls of a link that coordinator sets.
func settings(link string) string {
	return "cd /proc/sys/net; grep . ipv4/conf/" + link + "/rp_filter ipv6/conf/" + link + "/accept_ra ipv6/conf/" + link + "/disable_ipv6"
}
