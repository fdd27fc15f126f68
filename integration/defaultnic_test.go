// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// with returns coordinator's entry of a conflist, with more keys.
func with(more string) string {
	return strings.TrimSuffix(fixture.Chained, "}") + ", " + more + "}"
}

// routing returns everything that decides where a pod sends its packets, except the
// routes that the kernel makes for addresses with a delay.
func routing(t *testing.T, pod *lab.Pod) string {
	t.Helper()
	fixture.Settle(t, pod.Netns)
	var out []string
	for l := range strings.Lines(fixture.Sh(t, pod.Netns, "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list ruleset")) {
		if !strings.Contains(l, "fe80:") && !strings.Contains(l, "table local") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

// TestDefaultRouteNIC sets podDefaultRouteNIC to net1: traffic that no other rule
// decides leaves by net1, the node and Services stay reachable, and DEL of net1
// restores eth0's default.
func TestDefaultRouteNIC(t *testing.T) {
	for name, lans := range fixture.TwoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, lans, fixture.Chained)
			s.Plug(t, 0, "eth0")
			before := routing(t, s.Web)
			s.Plug(t, 1, "net1", with(`"podDefaultRouteNIC": "net1"`))
			s.Serve(t)
			s.Verify(t, append(s.Checks(), s.Unbound("net1")...)...)
			s.Check(t)
			s.Unplug(t, "net1")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after net1 was removed:\n%s\nstate before it was added:\n%s", after, before)
			}
			s.Check(t)

			s.Plug(t, 1, "net1") // the control
			s.Refute(t, s.Unbound("net1")...)
			s.Verify(t, s.Unbound("eth0")...)
		})
	}
}

// TestDefaultRouteNICThatIsNotThere expects an error before anything is changed.
func TestDefaultRouteNICThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Plug(t, 0, "eth0")
	net1 := s.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16"), netip.MustParseAddr("10.7.0.1"))
	before := s.State(t)
	e := net1.Call("ADD", fixture.Keys{"podDefaultRouteNIC": "net9"}).Fails(t)
	if want := "coordinator: podDefaultRouteNIC: net9: no such link in the pod"; e.Code != 7 || e.Msg != want {
		t.Errorf("ADD says %d, %q, want 7, %q", e.Code, e.Msg, want)
	}
	fixture.Same(t, "ADD that was refused", before, s.State(t))
}
