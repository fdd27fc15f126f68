// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// patient waits longer than a plugin may run: a plugin that ends with it has not
// waited.
var patient = fixture.Keys{"detectOptions": fixture.Keys{"retries": 10, "interval": "5s", "timeout": "5s"}}

// TestIPConflict gives an address of the pod to a host in the LAN: ADD must say
// so at once, and leave everything as it was.
func TestIPConflict(t *testing.T) {
	detect := fixture.Keys{"detectIPConflict": true}
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lan)
			client := s.LANs[0].Client
			has, err := client.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range s.Web.Addrs(lab.NIC) {
				if err := client.AddAddrs("eth0", netip.PrefixFrom(a.Addr(), a.Addr().BitLen())); err != nil {
					t.Fatal(err)
				}
				before := s.State(t)
				e := s.WebNIC.Call("ADD", detect, patient).Fails(t)
				if want := fmt.Sprintf("coordinator: pod: addr %s dev eth0: %s has it already", a.Addr(), has); e.Msg != want {
					t.Errorf("ADD says %q, want %q", e.Msg, want)
				}
				fixture.Same(t, "ADD that found a conflict", before, s.State(t))
				fixture.Sh(t, client, "ip addr del "+a.Addr().String()+" dev eth0")
			}
			s.WebNIC.Add(t, detect)
			s.AppNIC.Add(t, detect)
			s.WebNIC.Add(t, detect) // and again, while it is in use
			s.WebNIC.Call("CHECK", detect).Fine(t)
			fixture.Holds(t, s.Scene)
		})
	}
}

// TestIPConflictWithItself gives a pod two NICs in one subnet, each of which answers
// ARP for the other (arp_ignore 0): this is no conflict.
func TestIPConflictWithItself(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	s.WebNIC.Add(t)
	c := s.Further(t, "ADD", fixture.Keys{"detectIPConflict": true})
	answers, err := s.Web.Capture(lab.NIC)
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	c.Fine(t)
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

// TestDetectWithoutARP uses a NIC that resolves no addresses, like an ipvlan in mode
// l3: where detection can't work, ADD must not claim that it did. What the node's defaults want, they want of other NICs.
func TestDetectWithoutARP(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	fixture.Sh(t, s.Web.Netns, "ip link set eth0 arp off")
	for _, option := range []string{"detectIPConflict", "detectGateway"} {
		e := s.WebNIC.Call("ADD", fixture.Keys{option: true}).Fails(t)
		if want := "coordinator: pod: probe link eth0: it is no Ethernet link with ARP"; e.Msg != want {
			t.Errorf("%s: ADD says %q, want %q", option, e.Msg, want)
		}
	}
	withDefaults(t, s.Lab, `{"detectIPConflict": true, "detectGateway": true}`)
	_ = s.WebNIC.Call("ADD", fixture.Keys{"detectGateway": true}).Fails(t)
	s.WebNIC.Call("ADD").Fine(t)
	fixture.Sh(t, s.Web.Netns, "ip link set eth0 arp on")
	fixture.Sh(t, s.Router, "ip addr flush dev "+s.LANs[0].NIC)
	_ = s.WebNIC.Call("ADD").Fails(t)
}

// TestGateway silences gateways, one by one: ADD must name each silent gateway, and
// leave everything as it was. If all answer, ADD doesn't wait.
func TestGateway(t *testing.T) {
	detect := fixture.Keys{"detectGateway": true}
	impatient := fixture.Keys{"detectOptions": fixture.Keys{"retries": 2, "interval": "100ms", "timeout": "1s"}} // every host that answers does so in this time
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lan)
			var silent []string
			for _, a := range s.LANs[0].Router {
				fixture.Sh(t, s.Router, fmt.Sprintf("ip addr del %s dev %s", a, s.LANs[0].NIC))
				silent = append(silent, fmt.Sprintf("pod: gateway %s dev eth0: no answer", a.Addr()))
				before := s.State(t)
				e := s.WebNIC.Call("ADD", detect, impatient).Fails(t)
				if want := "coordinator: " + strings.Join(silent, "; "); e.Msg != want {
					t.Errorf("ADD says %q, want %q", e.Msg, want)
				}
				fixture.Same(t, "ADD that found no gateway", before, s.State(t))
			}
			if err := s.Router.AddAddrs(s.LANs[0].NIC, s.LANs[0].Router...); err != nil {
				t.Fatal(err)
			}
			s.WebNIC.Add(t, detect, patient)
			s.AppNIC.Add(t, detect, patient)
			s.WebNIC.Add(t, detect, patient)
			s.WebNIC.Call("CHECK", detect, patient).Fine(t)
			fixture.Holds(t, s.Scene)
		})
	}
}

// TestProbes counts the probes on the wire: as many as the options say, without a
// sender address, so that no host caches the pod's MAC; and none without detection, or
// on CHECK.
func TestProbes(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	quiet(t, s.Web.Netns)
	client := s.LANs[0].Client
	from := mac(t, s.Web.Netns)
	detect := fixture.Keys{"detectIPConflict": true, "detectOptions": fixture.Keys{"retries": 4, "interval": "10ms", "timeout": "10ms"}}
	for _, tt := range []struct {
		name string
		call fixture.Call
		want int
	}{
		{"ADD without detection", s.WebNIC.Call("ADD"), 0},
		{"ADD", s.WebNIC.Call("ADD", detect), 4},
		{"CHECK", s.WebNIC.Call("CHECK", detect), 0},
	} {
		seen, err := client.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		tt.call.Fine(t)
		arp, ndp := probes(t, seen, from)
		if arp != tt.want || ndp != tt.want {
			t.Errorf("%s: %d ARP probes and %d neighbour solicitations, want %d of each", tt.name, arp, ndp, tt.want)
		}
		seen.Close()
	}
	for _, a := range s.Web.Addrs(lab.NIC) {
		if got := fixture.Sh(t, client, "ip neigh show "+a.Addr().String()); got != "" {
			t.Errorf("the client's cache holds %s", got)
		}
	}
}

// probes counts the ARP requests of a NIC, and its neighbour solicitations without a
// source address, in a capture.
func probes(t *testing.T, c *testbed.Capture, from string) (arp, ndp int) {
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
