// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
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

// explained is a NIC of a pod for which ADD is explained: the call, and its lab.
type explained struct {
	*fixture.Attachment
	add  fixture.Call
	name string // of the pod's namespace, for commands
}

// explain runs `multihome explain` on the node for the call.
func (e explained) explain(t *testing.T, args ...string) string {
	t.Helper()
	prev := filepath.Join(t.TempDir(), "prev.json")
	result, err := json.Marshal(e.Prev)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prev, result, 0o644); err != nil {
		t.Fatal(err)
	}
	return fixture.RunOnNode(t, e.Node, e.add.Stdin, append([]string{"explain", "-", "--ifname", e.NIC,
		"--container-id", e.ContainerID, "--prev-result", prev}, args...)...)
}

// onNode runs a script on a node, with its files.
func onNode(t *testing.T, l *lab.Lab, script string) {
	t.Helper()
	if err := l.Node.Run(func() error { _, err := fixture.Shell(script); return err }); err != nil {
		t.Fatal(err)
	}
}

// counted matches the packet counters of iptables rules.
var counted = regexp.MustCompile(`(counter) packets \d+ bytes \d+`)

// state returns all state except files, because commands write no records.
func (e explained) state(t *testing.T) fixture.State {
	t.Helper()
	return slices.DeleteFunc(fixture.StateOf(t, e.Node, e.Netns).Unlike(counted).Unnumbered(), func(line string) bool {
		return strings.HasPrefix(line, "node: /run")
	})
}

// settled gives NICs the same MACs in every lab, and tunes the pod.
func (e explained) settled(t *testing.T) {
	t.Helper()
	for i, lan := range e.Node.LANs {
		fixture.Sh(t, e.Node.Node.Netns, fmt.Sprintf("ip link set %s address 02:00:00:00:01:%02x", lan.NIC, i))
	}
	fixture.Sh(t, e.Netns, `
		i=0
		for nic in eth0 net1; do
			i=$((i+1))
			! ip link show $nic >/dev/null 2>&1 || ip link set $nic address 02:00:00:00:02:0$i
		done`)
	e.tune(t)
}

// tune gives settings values that differ from those that the plugins want.
func (e explained) tune(t *testing.T) {
	t.Helper()
	fixture.Sh(t, e.Netns, "for dev in all eth0; do echo 2 >/proc/sys/net/ipv4/conf/$dev/rp_filter; done")
}

// TestExplainedCommands runs by hand, in one of two equal labs, the commands that
// explain prints for ADD. The result is the same as that of ADD in the other lab;
// explain then has nothing more to print; and it never changes anything itself.
func TestExplainedCommands(t *testing.T) {
	first := func(over ...fixture.Keys) func(t *testing.T) explained {
		return func(t *testing.T) explained {
			s := fixture.NewStage(t, lab.Ens192())
			return explained{Attachment: s.WebNIC, add: s.WebNIC.Call("ADD", over...)}
		}
	}
	second := func(prepare func(t *testing.T, s *fixture.Site), over ...fixture.Keys) func(t *testing.T) explained {
		return func(t *testing.T) explained {
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			prepare(t, s)
			s.Chained = nil
			n := s.NetworkIn(t, 1)
			if err := n.Add(t.Context(), s.Web, "net1"); err != nil {
				t.Fatal(err)
			}
			a := s.Attached("net1")
			return explained{Attachment: a, add: a.Call("ADD", over...)}
		}
	}
	underlay := func(more ...string) func(t *testing.T, s *fixture.Site) {
		return func(t *testing.T, s *fixture.Site) { s.Plug(t, 0, "eth0", more...) }
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T) explained
		path bool
	}{
		"underlay, first NIC":            {make: first()},
		"underlay, first NIC, by a path": {make: first(), path: true},
		"reply marks by iptables":        {make: first(fixture.Keys{"markBackend": "iptables"})},
		"all options": {make: first(fixture.Keys{
			"podMACPrefix": "0a:1b", "txQueueLen": 500, "vethLinkAddress": "169.254.200.1", "vethMTU": 1400,
			"policyRoutes": []fixture.Keys{{"dst": "192.168.0.0/16", "gw": "10.6.0.2"}},
			"logOptions":   fixture.Keys{"logFile": "/run/multihome.log", "logLevel": "debug"}, "multusNicPrefix": "net",
		})},
		"underlay, second NIC":                        {make: second(underlay())},
		"underlay, second NIC, which has the default": {make: second(underlay(), fixture.Keys{"podDefaultRouteNIC": "net1"})},
		"overlay":      {make: second(func(t *testing.T, s *fixture.Site) { s.Overlay(t, "calico") })},
		"host macvlan": {make: first(fixture.Keys{"hostLink": "macvlan"})},
		"route with a bridge": {make: func(t *testing.T) explained {
			s := fixture.NewStage(t, lab.Ens192())
			return explained{Attachment: s.WebNIC, add: s.WebNIC.Route("ADD")}
		}},
		"route with sbr": {make: func(t *testing.T) explained {
			s := fixture.NewStage(t, lab.Ens192())
			return explained{Attachment: s.WebNIC, add: s.WebNIC.Route("ADD", fixture.Keys{"master": nil, "bridge": nil, "sbr": true})}
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
			fixture.Same(t, "two labs", other.state(t), e.state(t))

			before := other.state(t)
			other.add.Fine(t)
			added := other.state(t)
			if slices.Equal(before, added) {
				t.Fatal("ADD does nothing")
			}

			whole := fixture.StateOf(t, e.Node, e.Netns)
			script := e.explain(t, "--netns", e.name)
			fixture.Same(t, "explain", whole, fixture.StateOf(t, e.Node, e.Netns))
			onNode(t, e.Node, script)
			fixture.Same(t, "by ADD, and by hand with\n"+script, added, e.state(t))

			var left struct{ Operations []any }
			if out := e.explain(t, "--netns", e.name, "-o", "json"); json.Unmarshal([]byte(out), &left) != nil || len(left.Operations) > 0 {
				t.Errorf("after the commands explain still prints %s", out)
			}
		})
	}
}

// TestExplainOfLivingPod checks that explain prints nothing for a complete pod, whether
// or not a runtime has cached its NICs, and the missing objects for an incomplete one.
func TestExplainOfLivingPod(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *fixture.Site{
		"underlay": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained) },
		"hostLink macvlan": func(t *testing.T) *fixture.Site {
			return fixture.NewSite(t, fixture.TwoLANs["dual"], with(`"hostLink": "macvlan"`))
		},
		"veth": func(t *testing.T) *fixture.Site {
			return fixture.NewSite(t, fixture.TwoLANs["v4"], `{"type": "veth", "service_cidr": "10.96.0.0/12"}`)
		},
		"overlay": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Overlay(t, "calico")
			s.Plug(t, 1, "net1")
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			for _, n := range s.NICs {
				for from, args := range map[string][]string{
					"what the runtime noted": {"--netns", s.Web.ContainerID[:8]},
					"the pod alone":          {"--netns", s.Web.Path(), "--cache-dir", "/nowhere"},
				} {
					if got := s.ExplainNIC(t, n.Name, n.Lan, args...); len(got) > 0 {
						t.Errorf("%s, by %s: %q", n.Name, from, got)
					}
				}
			}
			fixture.Sh(t, s.Web.Netns, "ip rule del pref 32764")
			fixture.Sh(t, s.Node.Netns, "ip rule del pref 1000")
			last := s.NICs[len(s.NICs)-1]
			got := s.ExplainNIC(t, last.Name, last.Lan, "--netns", s.Web.ContainerID)
			if len(got) != 2 || !strings.Contains(got[0]+got[1], "host: ip rule add pref 1000 ") || !strings.Contains(got[0]+got[1], "rule add pref 32764 ") {
				t.Errorf("for the flushed objects explain prints %q", got)
			}
		})
	}
}

// TestExplainOfChain checks that explain shows each plugin in the state that the
// plugins before it leave. A second coordinator has nothing to do.
func TestExplainOfChain(t *testing.T) {
	t.Parallel()
	plugins := []string{fixture.Chained, fixture.Chained, `{"type": "route", "sbr": true, "table": 5000}`}
	with := func(chained ...string) explained {
		s := fixture.EmptySite(t, fixture.TwoLANs["dual"][:1])
		s.Plug(t, 0, "eth0", chained...)
		e := explained{Attachment: s.Attached("eth0")}
		e.settled(t)
		return e
	}
	e, other := with(), with(plugins...)
	script := fixture.RunOnNode(t, e.Node, []byte(e.Node.LANs[0].Conflist(plugins...)), "explain", "-", "--netns", e.Name())
	if n := strings.Count(script, "nothing to do: everything is as it should be"); n != 1 {
		t.Errorf("%d of the plugins have nothing to do, want 1:\n%s", n, script)
	}
	onNode(t, e.Node, script)
	e.tune(t)
	fixture.Same(t, "by ADD, and by hand with\n"+script, other.state(t), e.state(t))
}

// TestExplainOfSnapshot checks that explain prints the same for a pod and for its
// snapshot.
func TestExplainOfSnapshot(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	e := explained{Attachment: s.WebNIC, add: s.WebNIC.Call("ADD"), name: s.WebNIC.Name()}
	e.tune(t)
	var state inspect.State
	if err := e.Node.Node.Run(func() (err error) {
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
		t.Errorf("explain prints different text for a pod and its snapshot (-pod +snapshot):\n%s", d)
	}
}
