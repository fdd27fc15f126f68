// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
)

// explained is a NIC of a pod on which ADD is explained: what is called, and where.
type explained struct {
	*attachment
	add  call
	name string // of the pod's namespace, as commands call it
}

// explain runs `multihome explain` on the node for what the call is about.
func (e explained) explain(t *testing.T, args ...string) string {
	t.Helper()
	prev := filepath.Join(t.TempDir(), "prev.json")
	result, err := json.Marshal(e.prev)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prev, result, 0o644); err != nil {
		t.Fatal(err)
	}
	return runOnNode(t, e.node, e.add.stdin, append([]string{"explain", "-", "--ifname", e.nic,
		"--container-id", e.ContainerID, "--prev-result", prev}, args...)...)
}

// runOnNode runs multihome on a node, with something on its standard input.
func runOnNode(t *testing.T, l *lab.Lab, stdin []byte, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), filepath.Join(plugins, "multihome"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
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

// settled gives NICs the same MACs in every lab, and tunes the pod.
func (e explained) settled(t *testing.T) {
	t.Helper()
	for i, lan := range e.node.LANs {
		sh(t, e.node.Node.Netns, fmt.Sprintf("ip link set %s address 02:00:00:00:01:%02x", lan.NIC, i))
	}
	sh(t, e.Netns, `
		i=0
		for nic in eth0 net1; do
			i=$((i+1))
			! ip link show $nic >/dev/null 2>&1 || ip link set $nic address 02:00:00:00:02:0$i
		done`)
	e.tune(t)
}

// tune gives settings values that the plugins want otherwise.
func (e explained) tune(t *testing.T) {
	t.Helper()
	sh(t, e.Netns, "for dev in all eth0; do echo 2 >/proc/sys/net/ipv4/conf/$dev/rp_filter; done")
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
			"logOptions":   keys{"logFile": "/run/multihome.log", "logLevel": "debug"}, "multusNicPrefix": "net",
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
				e.name = e.Name()
			}
			same(t, "two labs", other.state(t), e.state(t))

			before := other.state(t)
			other.add.fine(t)
			added := other.state(t)
			if slices.Equal(before, added) {
				t.Fatal("ADD does nothing")
			}

			whole := stateOf(t, e.node, e.Netns)
			script := e.explain(t, "--netns", e.name)
			same(t, "explain", whole, stateOf(t, e.node, e.Netns))
			onNode(t, e.node, script)
			same(t, "by ADD, and by hand with\n"+script, added, e.state(t))

			var left struct{ Operations []any }
			if out := e.explain(t, "--netns", e.name, "-o", "json"); json.Unmarshal([]byte(out), &left) != nil || len(left.Operations) > 0 {
				t.Errorf("when all is done explain says %s", out)
			}
		})
	}
}

// explainNIC runs explain for a NIC of web, with its network's conflist.
func (s *site) explainNIC(t *testing.T, name string, lan int, args ...string) []string {
	t.Helper()
	before := s.state(t)
	out := runOnNode(t, s.Lab, []byte(s.LANs[lan].Conflist(s.chained...)), append([]string{"explain", "-", "--ifname", name, "-o", "json"}, args...)...)
	same(t, "explain", before, s.state(t))
	var r struct {
		Operations []struct{ Plugin, NS, Command string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range r.Operations {
		lines = append(lines, o.Plugin+", "+o.NS+": "+o.Command)
	}
	return lines
}

// TestExplainOfLivingPod: of a pod that is whole there is nothing to say, whether a
// runtime has noted its NICs or not; of one that is not, what it lacks.
func TestExplainOfLivingPod(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *site{
		"underlay":         func(t *testing.T) *site { return newSite(t, twoLANs["dual"], chained) },
		"hostLink macvlan": func(t *testing.T) *site { return newSite(t, twoLANs["dual"], with(`"hostLink": "macvlan"`)) },
		"veth": func(t *testing.T) *site {
			return newSite(t, twoLANs["v4"], `{"type": "veth", "service_cidr": "10.96.0.0/12"}`)
		},
		"overlay": func(t *testing.T) *site {
			s := emptySite(t, twoLANs["dual"], chained)
			s.overlay(t, "calico")
			s.plug(t, 1, "net1")
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			for _, n := range s.nics {
				for from, args := range map[string][]string{
					"what the runtime noted": {"--netns", s.web.ContainerID[:8]},
					"the pod alone":          {"--netns", s.web.Path(), "--cache-dir", "/nowhere"},
				} {
					if got := s.explainNIC(t, n.name, n.lan, args...); len(got) > 0 {
						t.Errorf("%s, by %s: %q", n.name, from, got)
					}
				}
			}
			sh(t, s.web.Netns, "ip rule del pref 32764")
			sh(t, s.Node.Netns, "ip rule del pref 1000")
			last := s.nics[len(s.nics)-1]
			got := s.explainNIC(t, last.name, last.lan, "--netns", s.web.ContainerID)
			if len(got) != 2 || !strings.Contains(got[0]+got[1], "host: ip rule add pref 1000 ") || !strings.Contains(got[0]+got[1], "rule add pref 32764 ") {
				t.Errorf("of what was flushed it says %q", got)
			}
		})
	}
}

// TestExplainOfChain: a plugin is explained as it finds things behind those before it.
// A second coordinator has nothing to do.
func TestExplainOfChain(t *testing.T) {
	t.Parallel()
	plugins := []string{chained, chained, `{"type": "route", "sbr": true, "table": 5000}`}
	with := func(chained ...string) explained {
		s := emptySite(t, twoLANs["dual"][:1])
		s.plug(t, 0, "eth0", chained...)
		e := explained{attachment: s.attached("eth0")}
		e.settled(t)
		return e
	}
	e, other := with(), with(plugins...)
	script := runOnNode(t, e.node, []byte(e.node.LANs[0].Conflist(plugins...)), "explain", "-", "--netns", e.Name())
	if n := strings.Count(script, "nothing is to be done"); n != 1 {
		t.Errorf("%d of the plugins have nothing to do, want 1:\n%s", n, script)
	}
	onNode(t, e.node, script)
	e.tune(t)
	same(t, "by ADD, and by hand with\n"+script, other.state(t), e.state(t))
}

// TestExplainOfSnapshot: what is said of a pod is said of its description, too.
func TestExplainOfSnapshot(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	e := explained{attachment: s.web, add: s.web.call("ADD"), name: s.web.Name()}
	e.tune(t)
	var state inspect.State
	if err := e.node.Node.Run(func() (err error) {
		state, err = inspect.Pod{Name: e.name, Netns: e.Path()}.Read()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(snapshot, []byte(strings.Join(state.Lines(), "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	of := func(pod ...string) string {
		var r struct{ Operations json.RawMessage }
		if err := json.Unmarshal([]byte(e.explain(t, append(pod, "-o", "json")...)), &r); err != nil {
			t.Fatal(err)
		}
		return string(r.Operations)
	}
	described := regexp.MustCompile(`\bPOD\b`).ReplaceAllString(of("--snapshot", snapshot), e.name)
	if d := cmp.Diff(of("--netns", e.name), described); d != "" {
		t.Errorf("of a pod, and of its description (-pod +description):\n%s", d)
	}
}
