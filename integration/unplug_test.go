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

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestHotPlug removes net1 and adds net3: net3 gets the table that net1 had, and net2
// keeps its own table and its traffic all the time.
func TestHotPlug(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.ThreeLANs(), fixture.Chained)
	s.Tables(t, map[string]int{"eth0": 99, "net1": 101, "net2": 102})
	s.Verify(t, s.Checks()...)

	s.Unplug(t, "net1")
	s.SetServices(t)
	s.Tables(t, map[string]int{"eth0": 99, "net2": 102})
	s.Verify(t, s.Checks()...)
	s.Check(t)

	s.Plug(t, 1, "net3")
	s.SetServices(t)
	s.Tables(t, map[string]int{"eth0": 99, "net2": 102, "net3": 101})
	s.Verify(t, s.Checks()...)
	s.Check(t)

	for _, name := range []string{"net2", "net3"} {
		s.Unplug(t, name)
		s.SetServices(t)
		s.Verify(t, s.Checks()...)
		s.Check(t)
	}
}

// TestTwoNICsAtOnce adds two NICs of a pod at the same time: each gets its own table.
func TestTwoNICsAtOnce(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
	s.Plug(t, 0, "eth0")
	further := []fixture.NIC{{Name: "net1", Lan: 1, Network: s.NetworkIn(t, 1, fixture.Chained)}, {Name: "net2", Lan: 2, Network: s.NetworkIn(t, 2, fixture.Chained)}}
	s.Serve(t)
	for range 10 {
		pods := make([]*lab.Pod, len(further)) // all are the same pod, but each has its own results, for concurrent calls
		errs := make([]error, len(further))
		var wg sync.WaitGroup
		for i, n := range further {
			pod := *s.Web
			pod.Results = map[string]*types100.Result{}
			pods[i] = &pod
			wg.Go(func() { errs[i] = n.Network.Add(t.Context(), pods[i], n.Name) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i, n := range further {
			s.Web.Results[n.Name] = pods[i].Results[n.Name]
		}
		s.NICs = append(s.NICs[:1], further...)
		s.SetServices(t)
		var got []int
		for _, n := range further {
			got = append(got, fixture.Table(t, s.Web, s.Web.Addrs(n.Name)[0].Addr()))
		}
		slices.Sort(got)
		if got[0] != 101 || got[1] != 102 {
			t.Errorf("net1 and net2 have the tables %v, want 101 and 102", got)
		}
		s.Verify(t, fixture.ByTCP(s.Checks())...)
		s.Check(t)
		for _, n := range further {
			s.Unplug(t, n.Name)
		}
	}
}

// orders are all orders in which three NICs can be removed.
var orders = [][]string{
	{"eth0", "net1", "net2"}, {"eth0", "net2", "net1"}, {"net1", "eth0", "net2"},
	{"net1", "net2", "eth0"}, {"net2", "eth0", "net1"}, {"net2", "net1", "eth0"},
}

// mainDefaults matches the default routes of main: each goes with its NIC, and until
// then another may replace it. The directory of records stays.
var mainDefaults = regexp.MustCompile(`^web: (default|\tnexthop) .* dev \w+( metric 1024 pref medium| weight 1|) ?$|^web: default metric 1024 pref medium$|^node: /run/multihome$`)

// TestDelInEveryOrder deletes the attachments of three NICs: the others keep working,
// and at the end nothing of ours is left.
func TestDelInEveryOrder(t *testing.T) {
	for _, way := range []struct {
		name  string
		del   func(a *fixture.Attachment) fixture.Call
		blind bool
	}{
		{"as it should be", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL") }, false},
		{"without prevResult", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL", fixture.Keys{"prevResult": nil}) }, false},
		{"without the netns", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL", fixture.Keys{"prevResult": nil}).With("CNI_NETNS", "")
		}, true},
	} {
		for i, order := range orders {
			if way.name != "as it should be" && i%2 > 0 {
				continue // half of them are enough
			}
			t.Run(way.name+": "+strings.Join(order, " "), func(t *testing.T) {
				t.Parallel()
				s := fixture.NewSite(t, fixture.ThreeLANs())
				s.AddApp(t)
				before := s.State(t)
				nics := slices.Clone(s.NICs)
				for _, name := range []string{"eth0", "net1", "net2"} {
					s.Attached(name).Add(t)
				}
				for i, name := range order {
					way.del(s.Attached(name)).Fine(t)
					left := order[i+1:]
					if way.blind || !slices.Contains(left, "eth0") {
						continue
					}
					for _, name := range left {
						s.Attached(name).Check(t)
					}
					s.NICs = slices.DeleteFunc(s.NICs, func(n fixture.NIC) bool { return n.Name == name })
					s.SetServices(t)
					// The deleted NICs are still in the pod, and lead to their LANs.
					s.Verify(t, slices.DeleteFunc(fixture.ByTCP(s.Checks()), func(c lab.Check) bool {
						i := slices.IndexFunc(s.LANs, func(l *lab.LAN) bool { return l.Client == c.From })
						return i >= 0 && !slices.ContainsFunc(s.NICs, func(n fixture.NIC) bool { return n.Lan == i })
					})...)
				}
				s.NICs = nics
				s.SetServices(t)
				after := s.State(t)
				if way.blind {
					before, after = before.Without("web"), after.Without("web")
				}
				fixture.Same(t, "three NICs deleted", before.But(mainDefaults).Unnumbered(), after.But(mainDefaults).Unnumbered())
			})
		}
	}
}

// TestGCOfFurtherNIC runs GC for a further NIC's network: the pod's other NICs stay.
func TestGCOfFurtherNIC(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.ThreeLANs())
	s.AddApp(t)
	name := func(nic string) fixture.Keys { return fixture.Keys{"name": "lan-" + nic} }
	s.Attached("eth0").Add(t, name("eth0"))
	s.Attached("net1").Add(t, name("net1"))
	before := s.State(t)
	s.Attached("net2").Add(t, name("net2"))

	gc := func(network string, valid ...types.GCAttachment) {
		t.Helper()
		c := s.Attached("net2").Call("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": append([]types.GCAttachment{}, valid...)}, name(network))
		c.Env = nil
		c.Fine(t)
	}
	alive := s.State(t)
	gc("net2", types.GCAttachment{ContainerID: s.Web.ContainerID, IfName: "net2"})
	gc("net9")
	fixture.Same(t, "GC while all live", alive, s.State(t))
	gc("net2")
	// GC doesn't know where the pod's namespace is.
	fixture.Same(t, "GC of net2", before.Without("web").Unnumbered(), s.State(t).Without("web").Unnumbered())
	for _, nic := range []string{"eth0", "net1"} {
		s.Attached(nic).Call("CHECK", name(nic)).Fine(t)
	}
	s.NICs = s.NICs[:2]
	s.Verify(t, s.Checks()...)
}
