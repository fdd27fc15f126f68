// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
	"github.com/multihome/multihome/pkg/trace"
)

// TestProbe compares what is seen of real packets with what was traced.
func TestProbe(t *testing.T) {
	s := up(t, "underlay")
	host := s.Web.HostEnd(lab.NIC)
	for _, c := range []struct {
		line     string
		seen     []string
		answered bool
	}{
		{"--to 10.6.168.123", byNode(host, "10.6.168.171", "10.6.168.123"), true},
		{"--to fd00:6::123", byNode(host, "fd00:6::171", "fd00:6::123"), true},
		{"--to 10.6.168.123:8080", byNode(host, "10.6.168.171", "10.6.168.123"), true},
		{"--to 10.6.168.123 --in veth0", fromNode(host, "10.6.168.123", "10.6.168.171"), true},
		{"--to 10.6.0.50", []string{
			"request pod out eth0 10.6.168.171 > 10.6.0.50", "request node out ens192 10.6.168.171 > 10.6.0.50",
			"reply node in ens192 10.6.0.50 > 10.6.168.171", "reply pod in eth0 10.6.0.50 > 10.6.168.171",
		}, true},
		{"--to 10.6.0.77", nil, false}, // nobody has its MAC
	} {
		t.Run(c.line, func(t *testing.T) {
			got := probe(t, s, c.line)
			var seen []string
			for _, p := range got.Probe.Seen {
				seen = append(seen, fmt.Sprintf("%s %s %s %s %s", word(p.Reply, "reply", "request"), p.Where, word(p.Out, "out", "in"), p.Link, p.Packet))
			}
			if diff := cmp.Diff(c.seen, seen); diff != "" {
				t.Errorf("seen (-want +got):\n%s", diff)
			}
			if got.Probe.Answered != c.answered {
				t.Errorf("answered %t: %s", got.Probe.Answered, got.Probe.Error)
			}
			if c.answered && got.Probe.Differs != "" {
				t.Errorf("not as traced: %s", got.Probe.Differs)
			}
		})
	}
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// byNode is what is seen of a packet of the pod to the node.
func byNode(host, pod, node string) []string {
	there, back := pod+" > "+node, node+" > "+pod
	return []string{"request pod out veth0 " + there, "request node in " + host + " " + there, "reply node out " + host + " " + back, "reply pod in veth0 " + back}
}

// fromNode is the same the other way round.
func fromNode(host, node, pod string) []string {
	there, back := node+" > "+pod, pod+" > "+node
	return []string{"request node out " + host + " " + there, "request pod in veth0 " + there, "reply pod out veth0 " + back, "reply node in " + host + " " + back}
}

// TestProbeOfPodsElsewhere asks an address of the other CNI's pods, for which the node has a route to another
// node: that answers the pod in its LAN, not by the pod's node.
func TestProbeOfPodsElsewhere(t *testing.T) {
	s := up(t, "underlay")
	for _, err := range []error{
		s.LANs[0].Client.AddAddrs("lo", netip.MustParsePrefix("10.96.128.5/32")),
		s.Node.AddRoutes(testbed.Route{Dst: netip.MustParsePrefix("10.96.128.0/24"), Via: netip.MustParseAddr("10.6.0.50"), Dev: "ens192"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := probe(t, s, "--to 10.96.128.5")
	if want := "the ways part: sent by veth0 (pref 32766 from all lookup main), answered by eth0"; got.Verdict != want {
		t.Errorf("traced %q, want %q", got.Verdict, want)
	}
	if !got.Probe.Answered || got.Probe.Differs != "" {
		t.Errorf("probed: %+v", got.Probe)
	}
}

// TestProbeFindsWhatTraceCannotSee has a filter in the node that drops what the routes
// would let through.
func TestProbeFindsWhatTraceCannotSee(t *testing.T) {
	s := up(t, "underlay")
	if err := s.Node.SetSysctl("ipv4/icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	got := probe(t, s, "--to 10.6.168.123")
	if !got.Symmetric || got.Probe.Answered || got.Probe.Differs != "no answer came" || len(got.Probe.Seen) != 2 {
		t.Errorf("traced %q, probed %+v", got.Verdict, got.Probe)
	}
}

// unanswered are cases that are traced as far as the wire, where nobody answers: the
// router knows no Services.
var unanswered = map[string]string{"host-macvlan": "--to 10.96.0.10:80"}

// TestPacketsGoAsTraced sends what is traced in every scenario that this kernel can
// do, where it is sent by the pod or the node.
func TestPacketsGoAsTraced(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		if scenario.Possible() != nil {
			continue
		}
		t.Run(scenario.Name, func(t *testing.T) {
			s, err := scenario.Up(t.Context(), cniPath...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, line := range cases[scenario.Name] {
				if strings.Contains(line, "--in") || strings.Contains(line, "--mark") {
					continue
				}
				got := probe(t, s, line)
				answered := got.Symmetric && unanswered[scenario.Name] != line
				if got.Probe.Answered != answered || answered && got.Probe.Differs != "" {
					t.Errorf("%s: %s; probed: %+v", line, got.Verdict, got.Probe)
				}
			}
		})
	}
}

// probe traces what a command line says, and sends it.
func probe(t *testing.T, s *lab.Scene, line string) *trace.Trace {
	t.Helper()
	q := query(t, s.Web.Name(), line)
	var got *trace.Trace
	err := s.Node.Do(func() error {
		k, err := kernel.Look(s.Web.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		if got, err = trace.Follow(k, q); err != nil {
			return err
		}
		return got.Send(s.Web.Path(), q)
	})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return got
}
