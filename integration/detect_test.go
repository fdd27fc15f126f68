// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// patient waits for longer than a plugin may run: who ends with it has not
// waited.
var patient = keys{"detectOptions": keys{"retries": 10, "interval": "5s", "timeout": "5s"}}

// TestIPConflict gives an address of the pod to a host in the LAN: ADD must say
// so at once, and leave everything as it was.
func TestIPConflict(t *testing.T) {
	detect := keys{"detectIPConflict": true}
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lan)
			client := s.LANs[0].Client
			has, err := client.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range s.Web.Addrs(lab.NIC) {
				if err := client.AddAddrs("eth0", netip.PrefixFrom(a.Addr(), a.Addr().BitLen())); err != nil {
					t.Fatal(err)
				}
				before := s.state(t)
				e := s.web.call("ADD", detect, patient).fails(t)
				if want := fmt.Sprintf("coordinator: pod: addr %s dev eth0: %s has it already", a.Addr(), has); e.Msg != want {
					t.Errorf("ADD says %q, want %q", e.Msg, want)
				}
				same(t, "ADD that found a conflict", before, s.state(t))
				sh(t, client, "ip addr del "+a.Addr().String()+" dev eth0")
			}
			s.web.add(t, detect)
			s.app.add(t, detect)
			s.web.add(t, detect) // and once more, while it is in use
			s.web.call("CHECK", detect).fine(t)
			holds(t, s.Scene)
		})
	}
}

// TestIPConflictWithItself has two NICs of a pod in one subnet, of which each
// answers for the other (arp_ignore 0): that is no conflict.
func TestIPConflictWithItself(t *testing.T) {
	t.Parallel()
	s := newStage(t, only(0))
	s.web.add(t)
	c := s.further(t, "ADD", keys{"detectIPConflict": true})
	answers, err := s.Web.Capture(lab.NIC)
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	c.fine(t)
	frames, err := answers.Frames()
	if err != nil {
		t.Fatal(err)
	}
	answered := false
	for _, f := range frames {
		answered = answered || f.Outgoing && f.EtherType == unix.ETH_P_ARP
	}
	if !answered {
		t.Error("eth0 didn't answer for net1: nothing was tested")
	}
}

// TestDetectWithoutARP has a NIC that resolves no addresses, as an ipvlan in mode
// l3 does: what can't be detected must not pass for detected.
func TestDetectWithoutARP(t *testing.T) {
	t.Parallel()
	s := newStage(t, only(0))
	sh(t, s.Web.Netns, "ip link set eth0 arp off")
	for _, option := range []string{"detectIPConflict", "detectGateway"} {
		e := s.web.call("ADD", keys{option: true}).fails(t)
		if want := "coordinator: pod: probe link eth0: it is no Ethernet link with ARP"; e.Msg != want {
			t.Errorf("%s: ADD says %q, want %q", option, e.Msg, want)
		}
	}
}

// TestGateway lets gateways fall silent, one by one: ADD must name each that
// does not answer, and leave everything as it was. Where all answer it waits for
// nothing.
func TestGateway(t *testing.T) {
	detect := keys{"detectGateway": true}
	impatient := keys{"detectOptions": keys{"retries": 2, "interval": "100ms", "timeout": "1s"}} // whoever answers does so in this time
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lan)
			var silent []string
			for _, a := range s.LANs[0].Router {
				sh(t, s.Router, fmt.Sprintf("ip addr del %s dev %s", a, s.LANs[0].NIC))
				silent = append(silent, fmt.Sprintf("pod: gateway %s dev eth0: no answer", a.Addr()))
				before := s.state(t)
				e := s.web.call("ADD", detect, impatient).fails(t)
				if want := "coordinator: " + strings.Join(silent, "; "); e.Msg != want {
					t.Errorf("ADD says %q, want %q", e.Msg, want)
				}
				same(t, "ADD that found no gateway", before, s.state(t))
			}
			if err := s.Router.AddAddrs(s.LANs[0].NIC, s.LANs[0].Router...); err != nil {
				t.Fatal(err)
			}
			s.web.add(t, detect, patient)
			s.app.add(t, detect, patient)
			s.web.add(t, detect, patient)
			s.web.call("CHECK", detect, patient).fine(t)
			holds(t, s.Scene)
		})
	}
}

// TestProbes looks at what is sent: as many probes as the options say, in nobody's
// name, so that no cache holds the pod's MAC after them; and nothing at all where
// no detection is wanted, or on CHECK.
func TestProbes(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	quiet(t, s.Web.Netns)
	client := s.LANs[0].Client
	from := mac(t, s.Web.Netns)
	detect := keys{"detectIPConflict": true, "detectOptions": keys{"retries": 4, "interval": "10ms", "timeout": "10ms"}}
	for _, tt := range []struct {
		name string
		call call
		want int
	}{
		{"ADD without detection", s.web.call("ADD"), 0},
		{"ADD", s.web.call("ADD", detect), 4},
		{"CHECK", s.web.call("CHECK", detect), 0},
	} {
		seen, err := client.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		tt.call.fine(t)
		arp, ndp := probes(t, seen, from)
		if arp != tt.want || ndp != tt.want {
			t.Errorf("%s: %d ARP probes and %d neighbour solicitations, want %d of each", tt.name, arp, ndp, tt.want)
		}
		seen.Close()
	}
	for _, a := range s.Web.Addrs(lab.NIC) {
		if got := sh(t, client, "ip neigh show "+a.Addr().String()); got != "" {
			t.Errorf("the client's cache holds %s", got)
		}
	}
}

// probes counts the ARP requests of a NIC, and its neighbour solicitations that
// have no source, in a capture.
func probes(t *testing.T, c *nettest.Capture, from string) (arp, ndp int) {
	t.Helper()
	frames, err := c.Frames()
	if err != nil {
		t.Fatal(err)
	}
	const solicitation = 135
	for _, f := range frames {
		switch {
		case f.SrcMAC.String() != from:
		case f.EtherType == unix.ETH_P_ARP:
			arp++
		case f.ICMPType == solicitation && f.Src.Addr().IsUnspecified():
			ndp++
		}
	}
	return arp, ndp
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
}
