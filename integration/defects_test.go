// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestFailingAddSparesWhatPodsShare makes a pod's ADD fail right after it made the host
// rule; in between, another pod's ADD relies on that rule.
func TestFailingAddSparesWhatPodsShare(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	next := fixture.RequestForHostRule(t, s) + 1

	failed := make(chan fixture.Outcome)
	go func() {
		failed <- s.WebNIC.Call("ADD").Held("sendto", next, "error=ENOMEM:delay_enter=10s").Run(t)
	}()
	for !strings.Contains(fixture.Sh(t, s.Node.Netns, "ip rule"), "1000:") {
		select {
		case out := <-failed:
			t.Fatalf("ADD never made the host rule: %s", out.Stdout)
		default:
		}
	}
	s.AppNIC.Add(t)
	if out := <-failed; out.State.Success() {
		t.Errorf("ADD of the other pod did not fail: %s", out.Stdout)
	}
	s.AppNIC.Check(t)
}

// TestNodeTakesNoRoutesFromPod sends router advertisements to the host end, which has
// an IPv6 link-local address even if pods have only IPv4. The node must ignore them.
func TestNodeTakesNoRoutesFromPod(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	if err := s.Node.SetSysctl("ipv6/conf/all/forwarding", "0"); err != nil { // as on a node without IPv6
		t.Fatal(err)
	}
	s.WebNIC.Add(t)
	v, err := s.Node.Sysctl("ipv6/conf/" + s.WebNIC.Host() + "/accept_ra")
	if err != nil || v != "0" {
		t.Errorf("accept_ra of the host end is %s (%v), want 0", v, err)
	}
}

// TestFirstDatagram sends one datagram to a pod right after its ADD, and waits for the
// answer; it doesn't send again. Other changes of links on the node at the same time
// delay the kernel's linkwatch.
func TestFirstDatagram(t *testing.T) {
	for i := range 2 {
		t.Run(fmt.Sprintf("node %d", i), func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, fixture.Only(0))
			web := netip.AddrPortFrom(s.Web.Addrs(lab.NIC)[0].Addr(), 8080)
			for range 50 {
				s.WebNIC.Add(t)
				if _, err := s.Node.Ask("udp", web, fixture.Nothing); err != nil {
					t.Error(err)
				}
				s.WebNIC.Del(t)
			}
		})
	}
}
