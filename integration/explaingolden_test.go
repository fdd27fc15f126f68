// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
)

// flush removes every rule and route of ours.
const flush = `
	for v in -4 -6; do
		for pref in 1000 32763 32764; do while ip $v rule del pref $pref 2>/dev/null; do :; done; done
		for table in main 99 100 101 500; do for proto in 109 110; do ip $v route flush table $table proto $proto 2>/dev/null || true; done; done
	done`

// ptpEnd is the node's end of a link that ptp makes; ours have longer names.
var ptpEnd = regexp.MustCompile(`\bveth[0-9a-f]{8}\b`)

// TestExplainScenarios checks that explain prints nothing for a pod in each of the
// lab's scenarios, and testdata/explain-*.txt after its rules and routes were flushed.
func TestExplainScenarios(t *testing.T) { explainScenarios(t, false) }

// TestExplainLinkScenarios does the same for scenarios with links of ifacer, on a
// kernel that has them (hack/test.sh).
func TestExplainLinkScenarios(t *testing.T) { explainScenarios(t, true) }

func explainScenarios(t *testing.T, byIfacer bool) {
	for _, scenario := range lab.Scenarios() {
		if slices.Contains(scenario.Links, "vlan") != byIfacer || byIfacer && scenario.Possible() != nil {
			continue
		}
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			s, err := scenario.Up(t.Context(), fixture.CNIPath()...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := explainAll(t, s); strings.Contains(got, "\nip ") {
				t.Errorf("for a complete pod explain prints\n%s", got)
			}
			fixture.Sh(t, s.Web.Netns, flush)
			fixture.Sh(t, s.Node.Netns, flush)
			got := ptpEnd.ReplaceAllString(explainAll(t, s), "vethbyptp")
			golden := filepath.Join("testdata", "explain-"+scenario.Name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-want +got):\n%s", golden, d)
			}
		})
	}
}

// explainAll returns explain's output for each NIC of web that our plugins handle.
func explainAll(t *testing.T, s *lab.Scene) string {
	t.Helper()
	var pod inspect.Pod
	if err := s.Node.Run(func() (err error) {
		pod, err = inspect.Find(s.Web.ContainerID, inspect.CacheDirs)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, a := range pod.Attachments {
		out.WriteString(fixture.RunOnNode(t, s.Lab, a.Config, "explain", "-", "--netns", s.Web.ContainerID, "--ifname", a.IfName) + "\n")
	}
	return out.String()
}
