// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/testbed"
)

// TestExplainedCommands runs by hand, on one of two equal nodes, the commands that
// `multihome explain` prints for ADD. The result is the same as that of ADD on the
// other node, and explain changes nothing.
func TestExplainedCommands(t *testing.T) {
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	for _, conf := range []string{
		vlan100,
		bond200,
		bonding("4", "lacp_rate=fast;xmit_hash_policy=layer3+4"),
		bonding("1", "active_slave=ens224"),
	} {
		added, byHand := alike(t), alike(t)
		added.add(conf)
		before := byHand.state()
		script := byHand.explain(conf, pod)
		byHand.same("explain", before)
		byHand.sh(script)
		if d := cmp.Diff(added.withoutRecords(), byHand.withoutRecords()); d != "" {
			t.Errorf("ADD and these commands differ:\n%s (-ADD +commands):\n%s", script, d)
		}
		if again := byHand.explain(conf, pod); !strings.Contains(again, "nothing to do: everything is as it should be") {
			t.Errorf("after the commands explain still prints\n%s", again)
		}
	}
}

// alike makes a node with two NICs, the second one down, with the same MACs on every
// such node.
func alike(t *testing.T) *node {
	t.Helper()
	n := two(t)
	n.sh("ip link set ens192 down address 02:00:00:00:00:01; ip link set ens224 down address 02:00:00:00:00:02; ip link set ens192 up")
	return n
}

func (n *node) explain(conf string, pod *testbed.Netns) string {
	n.t.Helper()
	multihome, err := filepath.Abs("../../bin/multihome")
	if err != nil {
		n.t.Fatal(err)
	}
	conf = `{"cniVersion": "1.1.0", "name": "net", "type": "ifacer", ` + strings.TrimPrefix(conf, "{")
	return n.sh(multihome + " explain - --container-id a --netns " + pod.Path() + " <<'END'\n" + conf + "\nEND\n")
}

// withoutRecords returns the state without files, because commands write none.
func (n *node) withoutRecords() []string {
	n.t.Helper()
	return slices.DeleteFunc(n.state(), func(line string) bool { return strings.HasPrefix(line, "/run/") })
}
