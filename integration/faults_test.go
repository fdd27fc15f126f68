// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fault"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// struck is an attachment that a matrix is run on.
type struck struct {
	*attachment
	call   func(verb string, over ...keys) call // of the plugin in its mode
	living []types.GCAttachment                 // beside it
	// leaves has for a verb a script that takes away on the node what that rightly
	// leaves, for pods share it, and restore sets in the pod what ADD changes for
	// good.
	leaves  map[string]string
	restore string
}

// The scripts of most modes.
const (
	removeRules  = "ip rule del priority 1000 2>/dev/null || true; ip -6 rule del priority 1000 2>/dev/null || true;" + removeCheck
	removeBridge = "ip link del " + bridge + " 2>/dev/null || true;" + removeCheck
	removeCheck  = "nft delete table inet multihome-sources 2>/dev/null || true"
	strict       = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done"
)

// modes are those of all plugins that work on this kernel; those of ifacer are in
// integration/uml.
var modes = map[string]func(t *testing.T) struck{
	"coordinator":                   func(t *testing.T) struck { return first(t, "coordinator", nil) },
	"coordinator, hostLink macvlan": func(t *testing.T) struck { return first(t, "coordinator", keys{"hostLink": "macvlan"}) },
	"coordinator, iptables":         func(t *testing.T) struck { return first(t, "coordinator", inIptables) },
	"coordinator, further NIC": func(t *testing.T) struck {
		s := emptySite(t, twoLANs["dual"])
		s.plug(t, 0, lab.NIC, chained)
		return further(t, s, nil)
	},
	"coordinator, overlay": func(t *testing.T) struck {
		s := emptySite(t, twoLANs["dual"])
		s.overlay(t, "calico")
		out := further(t, s, keys{"mode": "overlay"})
		out.leaves, out.living = map[string]string{"DEL": removeRules}, []types.GCAttachment{}
		return out
	},
	"veth": func(t *testing.T) struck {
		return first(t, "veth", keys{"type": "veth", "serviceCIDR": nil, "service_cidr": []string{"10.96.0.0/12", "fd00:10:96::/108"}})
	},
	"route": func(t *testing.T) struck {
		return first(t, "route", keys{"type": "route", "serviceCIDR": nil, "master": "ens192", "bridge": bridge, "removeUnused": true})
	},
	"route, sbr": func(t *testing.T) struck {
		p := newSBRPod(t)
		return struck{
			attachment: &attachment{Pod: p.Pod, node: p.node},
			call: func(verb string, over ...keys) call {
				prev := p.prev(keys{"address": "192.168.1.209/24", "gateway": "192.168.1.1", "interface": 0})
				prev["cniVersion"] = "1.1.0"
				return p.call(verb, nil, append([]keys{{"cniVersion": "1.1.0", "prevResult": prev}}, over...)...)
			},
		}
	},
}

// first is a pod's first NIC.
func first(t *testing.T, plugin string, option keys) struck {
	t.Helper()
	a := newStage(t, lab.Ens192()).web
	leaves := map[string]string{"ADD": removeBridge, "DEL": removeRules + ";" + removeBridge, "GC": removeBridge}
	if plugin == "route" {
		delete(leaves, "GC") // see removeUnused
	}
	return struck{attachment: a, leaves: leaves, restore: strict, call: func(verb string, over ...keys) call {
		c := a.call(verb, append([]keys{option}, over...)...)
		c.plugin = plugin
		return c
	}}
}

// further is a second NIC, of a pod whose first one is there.
func further(t *testing.T, s *site, option keys) struck {
	t.Helper()
	if err := s.network(t, 1).Add(t.Context(), s.web, "net1"); err != nil {
		t.Fatal(err)
	}
	a := &attachment{Pod: s.web, nic: "net1", node: s.Lab, prev: s.web.Results["net1"]}
	return struck{
		attachment: a, restore: strict,
		living: []types.GCAttachment{{ContainerID: s.web.ContainerID, IfName: lab.NIC}},
		call:   func(verb string, over ...keys) call { return a.call(verb, append([]keys{option}, over...)...) },
	}
}

// run runs a verb as a matrix wants it.
func (s struck) run(t *testing.T, verb string, by ...string) (*types.Error, error) {
	t.Helper()
	c := s.call(verb)
	if verb == "GC" {
		c = s.call(verb, keys{"prevResult": nil, "cni.dev/valid-attachments": s.living})
		c.env = nil
	}
	c.under = by
	out, err := c.start(t.Context())
	switch {
	case err != nil:
		return nil, err
	case out.state.ExitCode() == fault.KilledStatus:
		return nil, fault.ErrKilled
	case out.state.Success() && out.stderr == "":
		return nil, nil
	}
	return out.asError()
}

// state is all of the node and the pod, in an order that lasts.
func (s struck) state(t *testing.T) []string {
	t.Helper()
	out := append(stateOf(t, s.node, s.Netns).unlike(passing).unnumbered(), mangle(t, s.Netns)...)
	return slices.DeleteFunc(out, func(line string) bool { return line == "" })
}

// TestFaults lets every plugin, in every mode, fail and die at each of its system
// calls in turn.
func TestFaults(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mode(t)
			tidy := func(verb string) {
				sh(t, s.node.Node.Netns, s.leaves[verb])
				if verb == "DEL" {
					sh(t, s.Netns, s.restore)
				}
			}
			tidy("DEL")
			fault.Matrix(t, inject(), fault.Subject{
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
			sh(t, s.node.Node.Netns, s.leaves["DEL"])
			state := func() state { return stateOf(t, s.node).unlike(passing).unnumbered() }
			before := state()
			const apart = 12 // calls
			for n := 1; ; n += apart {
				s.Netns = s.pod(t, addrs)
				_, err := s.run(t, "ADD", inject(), "-kill", strconv.Itoa(n))
				if err != nil && !errors.Is(err, fault.ErrKilled) {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if e, err := s.run(t, "GC"); e != nil || err != nil {
					t.Errorf("GC after ADD killed at call %d: %v %v", n, e, err)
				}
				sh(t, s.node.Node.Netns, s.leaves["GC"])
				same(t, fmt.Sprintf("GC after ADD killed at call %d", n), before, state())
				if err == nil || t.Failed() {
					return
				}
			}
		})
	}
}

// pod is one that has the addresses of web.
func (s struck) pod(t *testing.T, addrs []netip.Prefix) *nettest.Netns {
	t.Helper()
	n, err := nettest.NewNetns("gone")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.node.Node.AddMacvlan("ens192", n, lab.NIC); err != nil {
		t.Fatal(err)
	}
	if err := n.AddAddrs(lab.NIC, addrs...); err != nil {
		t.Fatal(err)
	}
	return n
}

// restrict sets what ADD will change in the pod, so that there is something to
// put back.
func restrict(t *testing.T, s *stage) {
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
	s := newStage(t, lab.Ens192())
	restrict(t, s)
	before := s.state(t)
	c := s.web.call("ADD")
	c.full = true
	if out := c.run(t); out.state.Success() {
		t.Errorf("ADD succeeds without a word: %v", out.state)
	}
	same(t, "ADD into a full device", before, s.state(t))
}

// TestHostRuleMadeInBetween holds up a pod's ADD before it makes the host rule,
// until another pod's ADD has made it: both need it and neither is wrong.
func TestHostRuleMadeInBetween(t *testing.T) {
	t.Parallel()
	s := newStage(t, only(0))
	request := requestForHostRule(t, s)

	held := make(chan outcome)
	go func() {
		held <- s.web.call("ADD").held("sendto", request, "delay_enter=10s").run(t)
	}()
	const podRule = "32763:" // is made right before it
	for !strings.Contains(sh(t, s.Web.Netns, "ip rule"), podRule) {
		select {
		case out := <-held:
			t.Fatalf("ADD never made the pod's rule: %s", out.stdout)
		default:
		}
	}
	s.app.add(t)
	if out := <-held; !out.state.Success() {
		t.Errorf("ADD that was held up: %s", out.stdout)
	}
	s.app.check(t)
	s.web.check(t)
	if rules := sh(t, s.Node.Netns, "ip rule"); strings.Count(rules, "1000:") != 1 {
		t.Errorf("want one host rule:\n%s", rules)
	}
}

// held is the call with something done to its n-th system call of a name by strace,
// which counts for each thread; coordinator stays on one.
func (c call) held(name string, n int, inject string) call {
	c.under = []string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + name, "-e", fmt.Sprintf("inject=%s:%s:when=%d", name, inject, n)}
	return c
}

// requestForHostRule counts the requests of an ADD up to the one that makes the
// host rule.
func requestForHostRule(t *testing.T, s *stage) int {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	c := s.web.call("ADD")
	c.under = []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=sendto", "-e", "signal=none"}
	c.fine(t)
	s.web.del(t)
	sh(t, s.Node.Netns, "ip rule del priority 1000")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, "RTM_NEWRULE") && strings.Contains(line, "FRA_PRIORITY}, 1000]") {
			return i + 1
		}
	}
	t.Fatalf("ADD makes no host rule:\n%s", b)
	return 0
}
