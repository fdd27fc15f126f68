// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
)

// explained is a NIC of a pod on which ADD is explained: what is called, and where.
type explained struct {
	*attachment
	add  call
	name string // of the pod's namespace, as commands call it
}

// explain runs `multihome explain` on the node for the call, in the given format.
func (e explained) explain(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "plugin.conf")
	prev := filepath.Join(dir, "prev.json")
	result, err := json.Marshal(e.prev)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{conf: e.add.stdin, prev: result} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return runOnNode(t, e.node, append([]string{"explain", conf, "--netns", e.name, "--ifname", e.nic,
		"--container-id", e.ContainerID, "--prev-result", prev}, args...)...)
}

// runOnNode runs multihome on a node.
func runOnNode(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), filepath.Join(plugins, "multihome"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := l.Node.Run(cmd.Run); err != nil || stderr.Len() > 0 {
		t.Fatalf("multihome %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// onNode runs a script on a node, with its files.
func onNode(t *testing.T, l *lab.Lab, script string) {
	t.Helper()
	if err := l.Node.Run(func() error { _, err := shell(script); return err }); err != nil {
		t.Fatal(err)
	}
}

// counted are the packets that rules of iptables have met.
var counted = regexp.MustCompile(`(counter) packets \d+ bytes \d+`)

// state is all but files, for commands write no records.
func (e explained) state(t *testing.T) state {
	t.Helper()
	return slices.DeleteFunc(stateOf(t, e.node, e.Netns).unlike(counted).unnumbered(), func(line string) bool {
		return strings.HasPrefix(line, "node: /run")
	})
}

// podName is the pod's namespace as ip-netns(8) knows it on its node.
const podName = "web"

// settled gives the pod's namespace a name, NICs the same MACs in every lab, and
// settings values that the plugins want otherwise.
func (e explained) settled(t *testing.T) {
	t.Helper()
	onNode(t, e.node, fmt.Sprintf("mkdir -p /run/netns; : >/run/netns/%[1]s; mount --bind %[2]s /run/netns/%[1]s", podName, e.Path()))
	for i, lan := range e.node.LANs {
		sh(t, e.node.Node.Netns, fmt.Sprintf("ip link set %s address 02:00:00:00:01:%02x", lan.NIC, i))
	}
	sh(t, e.Netns, `
		i=0
		for nic in eth0 net1; do
			i=$((i+1))
			! ip link show $nic >/dev/null 2>&1 || ip link set $nic address 02:00:00:00:02:0$i
		done
		for dev in all eth0; do echo 2 >/proc/sys/net/ipv4/conf/$dev/rp_filter; done`)
}

// TestExplainedCommands does by hand, in one of two labs that are alike, what explain
// says that ADD would do. The outcome is what ADD makes in the other; explain has then
// nothing more to say; and it has never changed anything itself.
func TestExplainedCommands(t *testing.T) {
	first := func(over ...keys) func(t *testing.T) explained {
		return func(t *testing.T) explained {
			s := newStage(t, lab.Ens192())
			return explained{attachment: s.web, add: s.web.call("ADD", over...)}
		}
	}
	second := func(prepare func(t *testing.T, s *site), over ...keys) func(t *testing.T) explained {
		return func(t *testing.T) explained {
			s := emptySite(t, twoLANs["dual"], chained)
			prepare(t, s)
			s.chained = nil
			n := s.network(t, 1)
			if err := n.Add(t.Context(), s.web, "net1"); err != nil {
				t.Fatal(err)
			}
			a := s.attached("net1")
			return explained{attachment: a, add: a.call("ADD", over...)}
		}
	}
	underlay := func(more ...string) func(t *testing.T, s *site) {
		return func(t *testing.T, s *site) { s.plug(t, 0, "eth0", more...) }
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T) explained
		path bool
	}{
		"underlay, first NIC":            {make: first()},
		"underlay, first NIC, by a path": {make: first(), path: true},
		"reply marks by iptables":        {make: first(keys{"markBackend": "iptables"})},
		"all options": {make: first(keys{
			"podMACPrefix": "0a:1b", "txQueueLen": 500, "vethLinkAddress": "169.254.200.1", "vethMTU": 1400,
			"policyRoutes": []keys{{"dst": "192.168.0.0/16", "gw": "10.6.0.2"}},
		})},
		"underlay, second NIC":                        {make: second(underlay())},
		"underlay, second NIC, which has the default": {make: second(underlay(), keys{"podDefaultRouteNIC": "net1"})},
		"overlay":      {make: second(func(t *testing.T, s *site) { s.overlay(t, "calico") })},
		"host macvlan": {make: first(keys{"hostLink": "macvlan"})},
		"route with a bridge": {make: func(t *testing.T) explained {
			s := newStage(t, lab.Ens192())
			return explained{attachment: s.web, add: s.web.route("ADD")}
		}},
		"route with sbr": {make: func(t *testing.T) explained {
			s := newStage(t, lab.Ens192())
			return explained{attachment: s.web, add: s.web.route("ADD", keys{"master": nil, "bridge": nil, "sbr": true})}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, other := tt.make(t), tt.make(t)
			e.settled(t)
			other.settled(t)
			if e.name = e.Path(); !tt.path {
				e.name = podName
			}
			same(t, "two labs", other.state(t), e.state(t))

			before := other.state(t)
			other.add.fine(t)
			added := other.state(t)
			if slices.Equal(before, added) {
				t.Fatal("ADD does nothing")
			}

			whole := stateOf(t, e.node, e.Netns)
			script := e.explain(t)
			same(t, "explain", whole, stateOf(t, e.node, e.Netns))
			onNode(t, e.node, script)
			same(t, "by ADD, and by hand with\n"+script, added, e.state(t))

			var left struct{ Operations []any }
			if out := e.explain(t, "-o", "json"); json.Unmarshal([]byte(out), &left) != nil || len(left.Operations) > 0 {
				t.Errorf("when all is done explain says %s", out)
			}
		})
	}
}
