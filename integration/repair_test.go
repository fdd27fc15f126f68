// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestRepairOfHealthyNode uses pods of every kind.
func TestRepairOfHealthyNode(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *fixture.Site{
		"underlay": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, fixture.ThreeLANs(), fixture.Chained) },
		"after a NIC was unplugged": func(t *testing.T) *fixture.Site {
			s := fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Unplug(t, "net1")
			return s
		},
		"podDefaultRouteNIC": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Plug(t, 0, "eth0")
			s.Plug(t, 1, "net1", with(`"podDefaultRouteNIC": "net1"`))
			return s
		},
		"hostLink macvlan": func(t *testing.T) *fixture.Site {
			return fixture.NewSite(t, fixture.TwoLANs["dual"], with(`"hostLink": "macvlan"`))
		},
		"overlay": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			s.Overlay(t, "calico")
			s.Plug(t, 1, "net1")
			s.Plug(t, 2, "net2")
			return s
		},
		"veth": func(t *testing.T) *fixture.Site {
			return fixture.NewSite(t, fixture.TwoLANs["v4"], `{"type": "veth", "service_cidr": "10.96.0.0/12"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t).Healthy(t, t.TempDir())
		})
	}
}

// TestRepair breaks what living pods rely on, as it happens on a node: repair prints
// what it would do, does it, and traffic works again.
func TestRepair(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, s *fixture.Site){
		"rules in the pod are flushed": func(t *testing.T, s *fixture.Site) {
			fixture.Sh(t, s.Web.Netns, "for v in -4 -6; do for p in 32763 32764; do while ip $v rule del pref $p 2>/dev/null; do :; done; done; done")
		},
		"rules and routes on the node are flushed": func(t *testing.T, s *fixture.Site) {
			fixture.Sh(t, s.Node.Netns, "for v in -4 -6; do ip $v rule del pref 1000; ip $v route flush table 500; done")
		},
		"tables in the pod are flushed": func(t *testing.T, s *fixture.Site) {
			fixture.Sh(t, s.Web.Netns, "for v in -4 -6; do for n in 99 100 101; do ip $v route flush table $n; done; done")
		},
		"the node has other addresses": func(t *testing.T, s *fixture.Site) {
			lan := s.LANs[0]
			fixture.Sh(t, s.Node.Netns, "ip addr flush dev ens192 scope global")
			lan.Node = fixture.PrefixesOf("10.6.168.124/16", "fd00:6::124/64")
			if err := s.Node.AddAddrs(lan.NIC, lan.Node...); err != nil {
				t.Fatal(err)
			}
			for _, r := range lan.Router {
				fixture.Sh(t, s.Node.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", fixture.IPFamily(r.Addr()), r.Addr(), lan.NIC))
			}
			s.SetServices(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Verify(t, fixture.ByTCP(s.Checks())...)
			harm(t, s)
			if results := lab.RunAll(fixture.ByTCP(s.Checks())); !anyFailed(results) {
				t.Error("the control: the damage breaks no traffic")
			}
			dir := t.TempDir()
			broken := s.State(t)
			if got := s.Repair(t, dir, "--dry-run"); !strings.Contains(got, " to be done\n") {
				t.Errorf("repair --dry-run says %q", got)
			}
			fixture.Same(t, "repair --dry-run", broken, s.State(t))
			if got := s.Repair(t, dir); strings.Contains(got, "nothing") {
				t.Errorf("repair says %q", got)
			}
			s.Check(t)
			s.Verify(t, s.Checks()...)
			s.Healthy(t, dir)
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

// TestRepairWithOtherCIDRs changes the configuration on the node: repair updates living
// pods.
func TestRepairWithOtherCIDRs(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["v4"], fixture.Chained)
	other := strings.Replace(fixture.Chained, "10.96.0.0/12", "10.112.0.0/12", 1)
	dir := t.TempDir()
	for i, lan := range s.LANs {
		if err := os.WriteFile(filepath.Join(dir, lan.NIC+".conflist"), []byte(lan.Conflist(other)), 0o644); err != nil {
			t.Fatal(err)
		}
		s.NICs[i].Network = s.NetworkIn(t, i, other)
	}
	app := s.App.Addrs(lab.NIC)[0].Addr()
	service := netip.MustParseAddrPort("10.112.0.10:80")
	if err := s.Node.SetServices(testbed.Service{ClusterIP: service, Endpoint: netip.AddrPortFrom(app, fixture.AppPort)}); err != nil {
		t.Fatal(err)
	}
	var checks []lab.Check
	for _, n := range s.NICs {
		checks = append(checks, lab.Check{
			Name: "ClusterIP from " + n.Name, Coordinator: true,
			From: s.Web.Netns, Source: s.Web.Addrs(n.Name)[0].Addr(), To: service,
			Answers: s.App.Netns, Sees: s.LANs[0].Node[0].Addr(), RequestBy: "veth0",
		})
	}
	s.Refute(t, fixture.Both(checks...)...)
	s.Repair(t, dir)
	s.Verify(t, fixture.Both(checks...)...)
	s.Check(t)
	if got := fixture.Sh(t, s.Web.Netns, "ip route show table all 10.96.0.0/12"); got != "" {
		t.Errorf("objects that the configuration no longer asks for are still there: %s", got)
	}
	s.Healthy(t, dir)
}

// TestRepairOnePod names a pod in each way that show accepts: repair changes that pod,
// and no other.
func TestRepairOnePod(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	dir := t.TempDir()
	const rule = "ip rule | grep -c 'lookup 100' || true"
	for _, what := range []string{s.Web.ContainerID, s.Web.ContainerID[:8], s.Web.Name(), s.Web.NetNS} {
		for _, p := range []*lab.Pod{s.Web, s.App} {
			fixture.Sh(t, p.Netns, "ip rule del pref 32763")
		}
		if got := s.Repair(t, dir, what, "--dry-run"); !strings.Contains(got, s.Web.ContainerID) || strings.Contains(got, s.App.ContainerID) {
			t.Errorf("repair %s --dry-run says:\n%s", what, got)
		}
		s.Repair(t, dir, what)
		if web, app := fixture.Sh(t, s.Web.Netns, rule), fixture.Sh(t, s.App.Netns, rule); web != "1\n" || app != "0\n" {
			t.Errorf("after repair %s: rules of web: %s, of the other pod: %s", what, web, app)
		}
		if got := s.Repair(t, dir, what); got != "nothing to repair\n" {
			t.Errorf("a second repair %s prints:\n%s", what, got)
		}
		s.Repair(t, dir)
	}
	s.Check(t)
	s.Healthy(t, dir)

	// Damage to another pod must not affect this one.
	s.OnNode(t, "for f in /var/lib/cni/results/*-"+s.App.ContainerID+"-*; do : >$f; done")
	if got := s.Repair(t, dir, s.Web.Name()); got != "nothing to repair\n" {
		t.Errorf("with a damaged result of another pod, repair prints:\n%s", got)
	}
	for what, want := range map[string]string{
		s.App.ContainerID[:8]: "/var/lib/cni/results/macvlan-ens192-" + s.App.ContainerID + "-eth0",
		s.App.Name():          "no record says what it should have",
		"nowhere":             "no namespace, process or container",
		"":                    "no namespace, process or container",
	} {
		stdout, stderr, status := s.Multihome(t, "repair", "--conf-dir", dir, what)
		if status != 1 || !strings.Contains(stderr, want) || stdout != "" {
			t.Errorf("repair %q: status %d, want 1 and %q: %s%s", what, status, want, stdout, stderr)
		}
	}
}
