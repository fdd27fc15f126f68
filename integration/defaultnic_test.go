// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
)

// with is coordinator as a conflist has it, with more keys.
func with(more string) string {
	return strings.TrimSuffix(chained, "}") + ", " + more + "}"
}

// routing is all that says where a pod sends its packets, but for what the kernel
// makes of addresses, some time after it has them.
func routing(t *testing.T, pod *lab.Pod) string {
	t.Helper()
	settle(t, pod.Netns)
	var out []string
	for l := range strings.Lines(sh(t, pod.Netns, "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list ruleset")) {
		if !strings.Contains(l, "fe80:") && !strings.Contains(l, "table local") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

// TestDefaultRouteNIC has podDefaultRouteNIC net1: what nothing else decides
// leaves by it, the node and Services are reached as ever, and with net1 its
// default goes and eth0's is back as it was.
func TestDefaultRouteNIC(t *testing.T) {
	for name, lans := range twoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, lans, chained)
			s.plug(t, 0, "eth0")
			before := routing(t, s.web)
			s.plug(t, 1, "net1", with(`"podDefaultRouteNIC": "net1"`))
			s.serve(t)
			s.verify(t, append(s.checks(), s.unbound("net1")...)...)
			s.check(t)
			s.unplug(t, "net1")
			if after := routing(t, s.web); after != before {
				t.Errorf("after net1 was unplugged there is\n%s\nbefore it was plugged there was\n%s", after, before)
			}
			s.check(t)

			s.plug(t, 1, "net1") // the control
			s.refute(t, s.unbound("net1")...)
			s.verify(t, s.unbound("eth0")...)
		})
	}
}

// unbound are checks of what web sends without saying from which address: to the
// outside by one NIC, and to Services as ever.
func (s *site) unbound(by string) []lab.Check {
	var out []lab.Check
	for _, n := range s.nics {
		for _, web := range s.web.Addrs(n.name) {
			if n.name != by {
				continue
			}
			to := of([]netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:2::10")}, web.Addr())
			out = append(out, lab.Check{
				Name: fmt.Sprintf("unbound to %s", to), Coordinator: true,
				From: s.web.Netns, To: netip.AddrPortFrom(to, appPort), Answers: s.Outside, Sees: web.Addr(), RequestBy: by,
			})
		}
	}
	return both(out...)
}

// TestDefaultRouteNICThatIsNotThere is refused before anything is changed.
func TestDefaultRouteNICThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], chained)
	s.plug(t, 0, "eth0")
	net1 := s.byHand(t, 1, "net1", prefixesOf("10.7.168.201/16"), netip.MustParseAddr("10.7.0.1"))
	before := s.state(t)
	e := net1.call("ADD", keys{"podDefaultRouteNIC": "net9"}).fails(t)
	if want := "coordinator: podDefaultRouteNIC: net9: no such link in the pod"; e.Code != 7 || e.Msg != want {
		t.Errorf("ADD says %d, %q, want 7, %q", e.Code, e.Msg, want)
	}
	same(t, "ADD that was refused", before, s.state(t))
}
