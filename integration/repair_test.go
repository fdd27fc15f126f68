// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// repair runs `multihome repair` on the node, with configurations that its
// directory holds beside the ones that the runtime keeps.
func (s *site) repair(t *testing.T, confDir string, args ...string) string {
	t.Helper()
	args = append([]string{"repair", "--conf-dir", confDir}, args...)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(plugins, "multihome"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := s.Node.Run(cmd.Run); err != nil || stderr.Len() > 0 {
		t.Fatalf("multihome %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// healthy fails unless there is nothing to repair, and nothing is changed.
func (s *site) healthy(t *testing.T, confDir string) {
	t.Helper()
	before := s.state(t)
	if got := s.repair(t, confDir); got != "nothing to repair\n" {
		t.Errorf("on a healthy node repair says:\n%s", got)
	}
	same(t, "repair of a healthy node", before, s.state(t))
}

// TestRepairOfHealthyNode has pods of every kind.
func TestRepairOfHealthyNode(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *site{
		"underlay": func(t *testing.T) *site { return newSite(t, threeLANs(), chained) },
		"after a NIC was unplugged": func(t *testing.T) *site {
			s := newSite(t, twoLANs["dual"], chained)
			s.unplug(t, "net1")
			return s
		},
		"podDefaultRouteNIC": func(t *testing.T) *site {
			s := emptySite(t, twoLANs["dual"], chained)
			s.plug(t, 0, "eth0")
			s.plug(t, 1, "net1", with(`"podDefaultRouteNIC": "net1"`))
			return s
		},
		"hostLink macvlan": func(t *testing.T) *site { return newSite(t, twoLANs["dual"], with(`"hostLink": "macvlan"`)) },
		"overlay": func(t *testing.T) *site {
			s := emptySite(t, threeLANs(), chained)
			s.overlay(t, "calico")
			s.plug(t, 1, "net1")
			s.plug(t, 2, "net2")
			return s
		},
		"veth": func(t *testing.T) *site {
			return newSite(t, twoLANs["v4"], `{"type": "veth", "service_cidr": "10.96.0.0/12"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t).healthy(t, t.TempDir())
		})
	}
}

// TestRepair breaks what living pods rely on, in the ways that happen to a node:
// repair says what it would do, does it, and traffic is as ever.
func TestRepair(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, s *site){
		"rules in the pod are flushed": func(t *testing.T, s *site) {
			sh(t, s.web.Netns, "for v in -4 -6; do for p in 32763 32764; do while ip $v rule del pref $p 2>/dev/null; do :; done; done; done")
		},
		"rules and routes on the node are flushed": func(t *testing.T, s *site) {
			sh(t, s.Node.Netns, "for v in -4 -6; do ip $v rule del pref 1000; ip $v route flush table 500; done")
		},
		"tables in the pod are flushed": func(t *testing.T, s *site) {
			sh(t, s.web.Netns, "for v in -4 -6; do for n in 99 100 101; do ip $v route flush table $n; done; done")
		},
		"the node has other addresses": func(t *testing.T, s *site) {
			lan := s.LANs[0]
			sh(t, s.Node.Netns, "ip addr flush dev ens192 scope global")
			lan.Node = prefixesOf("10.6.168.124/16", "fd00:6::124/64")
			if err := s.Node.AddAddrs(lan.NIC, lan.Node...); err != nil {
				t.Fatal(err)
			}
			for _, r := range lan.Router {
				sh(t, s.Node.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", ipFamily(r.Addr()), r.Addr(), lan.NIC))
			}
			s.setServices(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, twoLANs["dual"], chained)
			s.verify(t, byTCP(s.checks())...)
			harm(t, s)
			if results := lab.RunAll(byTCP(s.checks())); !anyFailed(results) {
				t.Error("the control: nothing is broken")
			}
			dir := t.TempDir()
			broken := s.state(t)
			if got := s.repair(t, dir, "--dry-run"); !strings.Contains(got, " to be done\n") {
				t.Errorf("repair --dry-run says %q", got)
			}
			same(t, "repair --dry-run", broken, s.state(t))
			if got := s.repair(t, dir); strings.Contains(got, "nothing") {
				t.Errorf("repair says %q", got)
			}
			s.check(t)
			s.verify(t, s.checks()...)
			s.healthy(t, dir)
		})
	}
}

func anyFailed(results []lab.Result) bool {
	for _, r := range results {
		if r.Err != nil {
			return true
		}
	}
	return false
}

// TestRepairWithOtherCIDRs changes the configuration on the node: living pods
// follow.
func TestRepairWithOtherCIDRs(t *testing.T) {
	t.Parallel()
	s := newSite(t, twoLANs["v4"], chained)
	other := strings.Replace(chained, "10.96.0.0/12", "10.112.0.0/12", 1)
	dir := t.TempDir()
	for i, lan := range s.LANs {
		if err := os.WriteFile(filepath.Join(dir, lan.NIC+".conflist"), []byte(lan.Conflist(other)), 0o644); err != nil {
			t.Fatal(err)
		}
		s.nics[i].network = s.network(t, i, other)
	}
	app := s.app.Addrs(lab.NIC)[0].Addr()
	service := netip.MustParseAddrPort("10.112.0.10:80")
	if err := s.Node.SetServices(nettest.Service{ClusterIP: service, Endpoint: netip.AddrPortFrom(app, appPort)}); err != nil {
		t.Fatal(err)
	}
	var checks []lab.Check
	for _, n := range s.nics {
		checks = append(checks, lab.Check{
			Name: "ClusterIP from " + n.name, Coordinator: true,
			From: s.web.Netns, Source: s.web.Addrs(n.name)[0].Addr(), To: service,
			Answers: s.app.Netns, Sees: s.LANs[0].Node[0].Addr(), RequestBy: "veth0",
		})
	}
	s.refute(t, both(checks...)...)
	s.repair(t, dir)
	s.verify(t, both(checks...)...)
	s.check(t)
	if got := sh(t, s.web.Netns, "ip route show table all 10.96.0.0/12"); got != "" {
		t.Errorf("what nothing asks for any more is still there: %s", got)
	}
	s.healthy(t, dir)
}

// TestRepairOnePod names a pod in each way that show takes: that one is repaired, and
// no other.
func TestRepairOnePod(t *testing.T) {
	t.Parallel()
	s := newSite(t, twoLANs["dual"], chained)
	dir := t.TempDir()
	const rule = "ip rule | grep -c 'lookup 100' || true"
	for _, what := range []string{s.web.ContainerID, s.web.ContainerID[:8], s.web.Name(), s.web.NetNS} {
		for _, p := range []*lab.Pod{s.web, s.app} {
			sh(t, p.Netns, "ip rule del pref 32763")
		}
		if got := s.repair(t, dir, what, "--dry-run"); !strings.Contains(got, s.web.ContainerID) || strings.Contains(got, s.app.ContainerID) {
			t.Errorf("repair %s --dry-run says:\n%s", what, got)
		}
		s.repair(t, dir, what)
		if web, app := sh(t, s.web.Netns, rule), sh(t, s.app.Netns, rule); web != "1\n" || app != "0\n" {
			t.Errorf("after repair %s: rules of web: %s, of the other pod: %s", what, web, app)
		}
		if got := s.repair(t, dir, what); got != "nothing to repair\n" {
			t.Errorf("repair %s once more says:\n%s", what, got)
		}
		s.repair(t, dir)
	}
	s.check(t)
	s.healthy(t, dir)

	// Another pod's damage is none of this one's.
	s.onNode(t, "for f in /var/lib/cni/results/*-"+s.app.ContainerID+"-*; do : >$f; done")
	if got := s.repair(t, dir, s.web.Name()); got != "nothing to repair\n" {
		t.Errorf("beside a pod whose result is damaged, repair says:\n%s", got)
	}
	for what, want := range map[string]string{
		s.app.ContainerID[:8]: "/var/lib/cni/results/macvlan-ens192-" + s.app.ContainerID + "-eth0",
		s.app.Name():          "nobody noted what it should have",
		"nowhere":             "no namespace, process or container",
		"":                    "no namespace, process or container",
	} {
		stdout, stderr, status := s.multihome(t, "repair", "--conf-dir", dir, what)
		if status != 1 || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("repair %q: status %d, want 1 and %q: %s%s", what, status, want, stdout, stderr)
		}
	}
}
