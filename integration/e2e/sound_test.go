// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/multihome/multihome/pkg/doctor"
)

// sound returns an error if doctor can't look at all of a node or at one of the pods, or finds a
// problem, or if something is to be repaired. The agents' condition can't say so here: their doctor enters
// the root directory of process 1, which is no node's of cluster.sh.
func sound(t *testing.T, pods ...*pod) error {
	t.Helper()
	for _, node := range []string{"node1", "node2"} {
		multihome := func(args ...string) (out []byte) {
			command := append([]string{"--target", pidOf(t, node), "--mount", "--net", filepath.Join(root, "bin/multihome")}, args...)
			out, _ = exec.Command("nsenter", command...).Output() // it says what is wrong, too
			return out
		}
		says := multihome("doctor", "-o", "json")
		var report doctor.Report
		if err := json.Unmarshal(says, &report); err != nil || len(report.Unseen) > 0 || !report.Healthy() {
			return fmt.Errorf("%s: doctor: %v:\n%s", node, err, says)
		}
		for _, p := range pods {
			if p.node == node && !slices.ContainsFunc(report.Pods, func(seen doctor.Patient) bool { return seen.Name == "default/"+p.name }) {
				return fmt.Errorf("%s: doctor doesn't look at pod %s:\n%s", node, p.name, says)
			}
		}
		if says := multihome("repair", "--dry-run"); string(says) != "nothing to repair\n" {
			return fmt.Errorf("%s: repair:\n%s", node, says)
		}
	}
	return nil
}
