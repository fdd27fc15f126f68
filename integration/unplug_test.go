// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/lab"
)

// threeLANs are those of a pod with two further NICs.
func threeLANs() []lab.LAN { return []lab.LAN{lab.Ens192(), lab.Ens224(), otherLAN(8)} }

// tables fails unless web's NICs have these tables.
func (s *site) tables(t *testing.T, want map[string]int) {
	t.Helper()
	for name, number := range want {
		for _, a := range s.web.Addrs(name) {
			if got := table(t, s.web, a.Addr()); got != number {
				t.Errorf("%s of %s has table %d, want %d", a, name, got, number)
			}
		}
	}
}

// TestHotPlug takes net1 away and adds net3: it gets the table that net1 had, and
// net2 keeps its own, and its traffic, all the while.
func TestHotPlug(t *testing.T) {
	t.Parallel()
	s := newSite(t, threeLANs(), chained)
	s.tables(t, map[string]int{"eth0": 99, "net1": 101, "net2": 102})
	s.verify(t, s.checks()...)

	s.unplug(t, "net1")
	s.setServices(t)
	s.tables(t, map[string]int{"eth0": 99, "net2": 102})
	s.verify(t, s.checks()...)
	s.check(t)

	s.plug(t, 1, "net3")
	s.setServices(t)
	s.tables(t, map[string]int{"eth0": 99, "net2": 102, "net3": 101})
	s.verify(t, s.checks()...)
	s.check(t)

	for _, name := range []string{"net2", "net3"} {
		s.unplug(t, name)
		s.setServices(t)
		s.verify(t, s.checks()...)
		s.check(t)
	}
}

// TestTwoNICsAtOnce adds two NICs of a pod at the same time: each gets a table of
// its own.
func TestTwoNICsAtOnce(t *testing.T) {
	t.Parallel()
	s := emptySite(t, threeLANs(), chained)
	s.plug(t, 0, "eth0")
	further := []nic{{name: "net1", lan: 1, network: s.network(t, 1, chained)}, {name: "net2", lan: 2, network: s.network(t, 2, chained)}}
	s.serve(t)
	for range 10 {
		pods := make([]*lab.Pod, len(further)) // the one pod, but its results are not for two at once
		errs := make([]error, len(further))
		var wg sync.WaitGroup
		for i, n := range further {
			pod := *s.web
			pod.Results = map[string]*types100.Result{}
			pods[i] = &pod
			wg.Go(func() { errs[i] = n.network.Add(t.Context(), pods[i], n.name) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i, n := range further {
			s.web.Results[n.name] = pods[i].Results[n.name]
		}
		s.nics = append(s.nics[:1], further...)
		s.setServices(t)
		var got []int
		for _, n := range further {
			got = append(got, table(t, s.web, s.web.Addrs(n.name)[0].Addr()))
		}
		slices.Sort(got)
		if got[0] != 101 || got[1] != 102 {
			t.Errorf("net1 and net2 have the tables %v, want 101 and 102", got)
		}
		s.verify(t, byTCP(s.checks())...)
		s.check(t)
		for _, n := range further {
			s.unplug(t, n.name)
		}
	}
}

// orders are all in which three NICs can be taken away.
var orders = [][]string{
	{"eth0", "net1", "net2"}, {"eth0", "net2", "net1"}, {"net1", "eth0", "net2"},
	{"net1", "net2", "eth0"}, {"net2", "eth0", "net1"}, {"net2", "net1", "eth0"},
}

// mainDefaults are what main holds of those: with its NIC each goes, and until then
// another one may stand in for it. The directory of records stays.
var mainDefaults = regexp.MustCompile(`^web: (default|\tnexthop) .* dev \w+( metric 1024 pref medium| weight 1|) ?$|^web: default metric 1024 pref medium$|^node: /run/multihome$`)

// but returns the state without the lines that a pattern matches.
func (s state) but(pattern *regexp.Regexp) state {
	return slices.DeleteFunc(slices.Clone(s), pattern.MatchString)
}

// TestDelInEveryOrder takes away what coordinator made for each of three NICs:
// the others keep working, and in the end nothing of ours is left.
func TestDelInEveryOrder(t *testing.T) {
	for _, way := range []struct {
		name  string
		del   func(a *attachment) call
		blind bool
	}{
		{"as it should be", func(a *attachment) call { return a.call("DEL") }, false},
		{"without prevResult", func(a *attachment) call { return a.call("DEL", keys{"prevResult": nil}) }, false},
		{"without the netns", func(a *attachment) call { return a.call("DEL", keys{"prevResult": nil}).with("CNI_NETNS", "") }, true},
	} {
		for i, order := range orders {
			if way.name != "as it should be" && i%2 > 0 {
				continue // half of them will do
			}
			t.Run(way.name+": "+strings.Join(order, " "), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, threeLANs())
				s.addApp(t)
				before := s.state(t)
				nics := slices.Clone(s.nics)
				for _, name := range []string{"eth0", "net1", "net2"} {
					s.attached(name).add(t)
				}
				for i, name := range order {
					way.del(s.attached(name)).fine(t)
					left := order[i+1:]
					if way.blind || !slices.Contains(left, "eth0") {
						continue
					}
					for _, name := range left {
						s.attached(name).check(t)
					}
					s.nics = slices.DeleteFunc(s.nics, func(n nic) bool { return n.name == name })
					s.setServices(t)
					// The deleted NICs themselves are still there, and lead to their LANs.
					s.verify(t, slices.DeleteFunc(byTCP(s.checks()), func(c lab.Check) bool {
						i := slices.IndexFunc(s.LANs, func(l *lab.LAN) bool { return l.Client == c.From })
						return i >= 0 && !slices.ContainsFunc(s.nics, func(n nic) bool { return n.lan == i })
					})...)
				}
				s.nics = nics
				s.setServices(t)
				after := s.state(t)
				if way.blind {
					before, after = before.without("web"), after.without("web")
				}
				same(t, "three NICs deleted", before.but(mainDefaults).unnumbered(), after.but(mainDefaults).unnumbered())
			})
		}
	}
}

// TestGCOfFurtherNIC collects the garbage of a further NIC's network: the pod's
// other NICs stay.
func TestGCOfFurtherNIC(t *testing.T) {
	t.Parallel()
	s := newSite(t, threeLANs())
	s.addApp(t)
	name := func(nic string) keys { return keys{"name": "lan-" + nic} }
	s.attached("eth0").add(t, name("eth0"))
	s.attached("net1").add(t, name("net1"))
	before := s.state(t)
	s.attached("net2").add(t, name("net2"))

	gc := func(network string, valid ...types.GCAttachment) {
		t.Helper()
		c := s.attached("net2").call("GC", keys{"prevResult": nil, "cni.dev/valid-attachments": append([]types.GCAttachment{}, valid...)}, name(network))
		c.env = nil
		c.fine(t)
	}
	alive := s.state(t)
	gc("net2", types.GCAttachment{ContainerID: s.web.ContainerID, IfName: "net2"})
	gc("net9")
	same(t, "GC while all live", alive, s.state(t))
	gc("net2")
	// Nobody tells GC where the pod's namespace is.
	same(t, "GC of net2", before.without("web").unnumbered(), s.state(t).without("web").unnumbered())
	for _, nic := range []string{"eth0", "net1"} {
		s.attached(nic).call("CHECK", name(nic)).fine(t)
	}
	s.nics = s.nics[:2]
	s.verify(t, s.checks()...)
}
