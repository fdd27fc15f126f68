// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fault"
	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// struck is an attachment that a matrix is run on.
type struck struct {
	*fixture.Attachment
	call   func(verb string, over ...fixture.Keys) fixture.Call // of the plugin in its mode
	living []types.GCAttachment                                 // beside it
	// leaves has for a verb a script that takes away on the node what that rightly
	// leaves, for pods share it, and restore sets in the pod what ADD changes for
	// good.
	leaves  map[string]string
	restore string
}

// modes are those of all plugins that work on this kernel; those of ifacer are in
// integration/uml.
var modes = map[string]func(t *testing.T) struck{
	"coordinator":                   func(t *testing.T) struck { return first(t, "coordinator", nil) },
	"coordinator, hostLink macvlan": func(t *testing.T) struck { return first(t, "coordinator", fixture.Keys{"hostLink": "macvlan"}) },
	"coordinator, iptables":         func(t *testing.T) struck { return first(t, "coordinator", fixture.InIptables) },
	"coordinator, further NIC": func(t *testing.T) struck {
		s := fixture.EmptySite(t, fixture.TwoLANs["dual"])
		s.Plug(t, 0, lab.NIC, fixture.Chained)
		return further(t, s, nil)
	},
	"coordinator, overlay": func(t *testing.T) struck {
		s := fixture.EmptySite(t, fixture.TwoLANs["dual"])
		s.Overlay(t, "calico")
		out := further(t, s, fixture.Keys{"mode": "overlay"})
		out.leaves, out.living = map[string]string{"DEL": fixture.RemoveRules}, []types.GCAttachment{}
		return out
	},
	"veth": func(t *testing.T) struck {
		return first(t, "veth", fixture.Keys{"type": "veth", "serviceCIDR": nil, "service_cidr": []string{"10.96.0.0/12", "fd00:10:96::/108"}})
	},
	"route": func(t *testing.T) struck {
		return first(t, "route", fixture.Keys{"type": "route", "serviceCIDR": nil, "master": "ens192", "bridge": fixture.Bridge, "removeUnused": true})
	},
	"route, sbr": func(t *testing.T) struck {
		p := fixture.NewSBRPod(t)
		return struck{
			Attachment: &fixture.Attachment{Pod: p.Pod, Node: p.Node},
			call: func(verb string, over ...fixture.Keys) fixture.Call {
				prev := p.Prev(fixture.Keys{"address": "192.168.1.209/24", "gateway": "192.168.1.1", "interface": 0})
				prev["cniVersion"] = "1.1.0"
				return p.Call(verb, nil, append([]fixture.Keys{{"cniVersion": "1.1.0", "prevResult": prev}}, over...)...)
			},
		}
	},
}

// first is a pod's first NIC.
func first(t *testing.T, plugin string, option fixture.Keys) struck {
	t.Helper()
	a := fixture.NewStage(t, lab.Ens192()).WebNIC
	leaves := map[string]string{"ADD": fixture.RemoveBridge, "DEL": fixture.RemoveRules + ";" + fixture.RemoveBridge, "GC": fixture.RemoveBridge}
	if plugin == "route" {
		delete(leaves, "GC") // see removeUnused
	}
	return struck{Attachment: a, leaves: leaves, restore: fixture.Strict, call: func(verb string, over ...fixture.Keys) fixture.Call {
		c := a.Call(verb, append([]fixture.Keys{option}, over...)...)
		c.Plugin = plugin
		return c
	}}
}

// further is a second NIC, of a pod whose first one is there.
func further(t *testing.T, s *fixture.Site, option fixture.Keys) struck {
	t.Helper()
	if err := s.NetworkIn(t, 1).Add(t.Context(), s.Web, "net1"); err != nil {
		t.Fatal(err)
	}
	a := &fixture.Attachment{Pod: s.Web, NIC: "net1", Node: s.Lab, Prev: s.Web.Results["net1"]}
	return struck{
		Attachment: a, restore: fixture.Strict,
		living: []types.GCAttachment{{ContainerID: s.Web.ContainerID, IfName: lab.NIC}},
		call: func(verb string, over ...fixture.Keys) fixture.Call {
			return a.Call(verb, append([]fixture.Keys{option}, over...)...)
		},
	}
}

// warning is what macvlan says of a setting that it can't read, before it goes on
// (pkg/ipam/ipam_linux.go of containernetworking/plugins).
var warning = regexp.MustCompile(`(?m)^ipam_linux: failed to read sysctl .*\n`)

// run runs a verb as a matrix wants it.
func (s struck) run(t *testing.T, verb string, by ...string) (*types.Error, error) {
	t.Helper()
	c := s.call(verb)
	if verb == "GC" {
		c = s.call(verb, fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": s.living})
		c.Env = nil
	}
	c.Under = by
	out, err := c.Start(t.Context())
	out.Stderr = warning.ReplaceAllString(out.Stderr, "")
	switch {
	case err != nil:
		return nil, err
	case out.State.ExitCode() == fault.KilledStatus:
		return nil, fault.ErrKilled
	case out.State.Success() && out.Stderr == "":
		return nil, nil
	}
	return out.AsError()
}

// state is all of the node and the pod, in an order that lasts.
func (s struck) state(t *testing.T) []string {
	t.Helper()
	out := append(fixture.StateOf(t, s.Node, s.Netns).Unlike(fixture.Passing).Unnumbered(), fixture.Mangle(t, s.Netns)...)
	return slices.DeleteFunc(out, func(line string) bool { return line == "" })
}

// TestFaults lets every plugin, in every mode, fail and die at each of its system
// calls in turn.
func TestFaults(t *testing.T) {
	t.Run("multihome-ipam", ipamFaults)
	t.Run("static-macvlan-cni", staticMacvlanFaults)
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mode(t)
			tidy := func(verb string) {
				fixture.Sh(t, s.Node.Node.Netns, s.leaves[verb])
				if verb == "DEL" {
					fixture.Sh(t, s.Netns, s.restore)
				}
			}
			tidy("DEL")
			fault.Matrix(t, fixture.Inject(), fault.Subject{
				Run:   func(verb string, by ...string) (*types.Error, error) { return s.run(t, verb, by...) },
				State: func() []string { return s.state(t) },
				Tidy:  tidy,
			})
		})
	}
}

// TestGCOfKilledAdd kills ADDs of pods that are gone after that, and leaves it to
// GC alone.
func TestGCOfKilledAdd(t *testing.T) {
	for name, mode := range map[string]func(t *testing.T) struck{
		"coordinator":                   modes["coordinator"],
		"coordinator, hostLink macvlan": modes["coordinator, hostLink macvlan"],
		"route":                         modes["route"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mode(t)
			addrs := s.Addrs(lab.NIC)
			if _, err := s.run(t, "ADD"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.run(t, "GC"); err != nil {
				t.Fatal(err)
			}
			fixture.Sh(t, s.Node.Node.Netns, s.leaves["DEL"])
			state := func() fixture.State { return fixture.StateOf(t, s.Node).Unlike(fixture.Passing).Unnumbered() }
			before := state()
			const apart = 12 // calls
			for n := 1; ; n += apart {
				s.Netns = s.pod(t, addrs)
				_, err := s.run(t, "ADD", fixture.Inject(), "-kill", strconv.Itoa(n))
				if err != nil && !errors.Is(err, fault.ErrKilled) {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if e, err := s.run(t, "GC"); e != nil || err != nil {
					t.Errorf("GC after ADD killed at call %d: %v %v", n, e, err)
				}
				fixture.Sh(t, s.Node.Node.Netns, s.leaves["GC"])
				fixture.Same(t, fmt.Sprintf("GC after ADD killed at call %d", n), before, state())
				if err == nil || t.Failed() {
					return
				}
			}
		})
	}
}

// pod is one that has the addresses of web.
func (s struck) pod(t *testing.T, addrs []netip.Prefix) *testbed.Netns {
	t.Helper()
	n, err := testbed.NewNetns("gone")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Node.Node.AddMacvlan("ens192", n, lab.NIC); err != nil {
		t.Fatal(err)
	}
	if err := n.AddAddrs(lab.NIC, addrs...); err != nil {
		t.Fatal(err)
	}
	return n
}

// restrict sets what ADD will change in the pod, so that there is something to
// put back.
func restrict(t *testing.T, s *fixture.Stage) {
	t.Helper()
	for _, link := range []string{"all", lab.NIC} {
		if err := s.Web.SetSysctl("ipv4/conf/"+link+"/rp_filter", "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResultCannotBePrinted: an ADD whose result nobody gets has failed.
func TestResultCannotBePrinted(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	restrict(t, s)
	before := s.State(t)
	c := s.WebNIC.Call("ADD")
	c.Full = true
	if out := c.Run(t); out.State.Success() {
		t.Errorf("ADD succeeds without a word: %v", out.State)
	}
	fixture.Same(t, "ADD into a full device", before, s.State(t))
}

// TestHostRuleMadeInBetween holds up a pod's ADD before it makes the host rule,
// until another pod's ADD has made it: both need it and neither is wrong.
func TestHostRuleMadeInBetween(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	request := fixture.RequestForHostRule(t, s)

	held := make(chan fixture.Outcome)
	go func() {
		held <- s.WebNIC.Call("ADD").Held("sendto", request, "delay_enter=10s").Run(t)
	}()
	const podRule = "32763:" // is made right before it
	for !strings.Contains(fixture.Sh(t, s.Web.Netns, "ip rule"), podRule) {
		select {
		case out := <-held:
			t.Fatalf("ADD never made the pod's rule: %s", out.Stdout)
		default:
		}
	}
	s.AppNIC.Add(t)
	if out := <-held; !out.State.Success() {
		t.Errorf("ADD that was held up: %s", out.Stdout)
	}
	s.AppNIC.Check(t)
	s.WebNIC.Check(t)
	if rules := fixture.Sh(t, s.Node.Netns, "ip rule"); strings.Count(rules, "1000:") != 1 {
		t.Errorf("want one host rule:\n%s", rules)
	}
}
