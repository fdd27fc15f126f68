// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// Plugins that chains have behind a NIC.
const (
	bySource = `{"type": "route", "sbr": true}`
	older    = `{"type": "veth", "service_cidr": ["10.96.0.0/12", "fd00:10:96::/108"]}`
)

// routeBy returns route's entry with the macvlan of the node on a LAN's NIC.
func routeBy(lan int, more string) string {
	master := fixture.ThreeLANs()[lan].NIC
	return fmt.Sprintf(`{"type": "route", "master": %q, "bridge": "%s.host"%s}`, master, master, more)
}

// TestTwoPluginsBehindAnOverlay uses a pod whose eth0 an overlay made, with net1 by
// coordinator and net2 by route with sbr, in every order: each NIC works as if it were
// alone.
func TestTwoPluginsBehindAnOverlay(t *testing.T) {
	chains := map[string]string{"net1": fixture.Chained, "net2": bySource}
	lan := map[string]int{"net1": 1, "net2": 2}
	for _, add := range [][]string{{"net1", "net2"}, {"net2", "net1"}} {
		for _, first := range add {
			t.Run(fmt.Sprintf("%s first, DEL of %s", add[0], first), func(t *testing.T) {
				t.Parallel()
				s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
				s.Overlay(t, "calico")
				before := s.Ours(t)
				for _, name := range add {
					s.Plug(t, lan[name], name, chains[name])
					s.CheckOurs(t)
				}
				s.Ways(t)
				s.Serve(t)
				s.Verify(t, fixture.ByTCP(s.Answers())...)
				s.Unplug(t, first)
				s.CheckOurs(t)
				s.Ways(t)
				s.Verify(t, fixture.ByTCP(s.Answers())...)
				s.Calm(t)
				s.Unplug(t, s.NICs[0].Name)
				if got := s.Ours(t); got != before {
					t.Errorf("left:\n%s", got)
				}
			})
		}
	}
}

// TestCoordinatorAndRoute uses eth0 by coordinator and net1 by route, and the reverse
// where that is possible.
func TestCoordinatorAndRoute(t *testing.T) {
	for name, chains := range map[string][]string{
		"sbr":                       {fixture.Chained, bySource},
		"sbr, veth":                 {older, bySource},
		"sbr and a bridge":          {fixture.Chained, routeBy(1, `, "sbr": true`)},
		"a bridge":                  {fixture.Chained, routeBy(1, "")},
		"sbr, hostLink macvlan":     {with(`"hostLink": "macvlan"`), bySource},
		"a table":                   {fixture.Chained, `{"type": "route", "sbr": true, "table": 5000}`},
		"sbr, then coordinator":     {fixture.Chained, bySource, fixture.Chained},
		"coordinator, then sbr":     {fixture.Chained, fixture.Chained, bySource},
		"sbr, then veth":            {older, bySource, older},
		"sbr, then hostLink":        {with(`"hostLink": "macvlan"`), bySource, with(`"hostLink": "macvlan"`)},
		"veth, then coordinator":    {older, fixture.Chained, older},
		"coordinator, then veth":    {fixture.Chained, older, fixture.Chained},
		"veth, coordinator and sbr": {older, fixture.Chained, bySource},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			before := s.Ours(t)
			for i, chain := range chains {
				s.Plug(t, i, fixture.NICName(i), chain)
				s.CheckOurs(t)
			}
			s.Serve(t)
			s.Ways(t)
			s.Verify(t, fixture.ByTCP(s.Answers())...)
			s.Calm(t)
			for _, i := range []int{1, 2} {
				if i >= len(chains) {
					continue
				}
				s.Unplug(t, fixture.NICName(i))
				s.SetServices(t)
				s.CheckOurs(t)
				s.Ways(t)
				s.Verify(t, fixture.ByTCP(s.Answers())...)
			}
			s.Unplug(t, "eth0")
			if got := s.Ours(t); got != before {
				t.Errorf("left:\n%s", got)
			}
		})
	}
}

// TestBothBehindOneNIC chains coordinator and route behind one NIC: route may have a
// bridge there, but tables by both are refused, in either order.
func TestBothBehindOneNIC(t *testing.T) {
	for name, tt := range map[string]struct {
		first, chain []string
		refused      string
	}{
		"eth0, coordinator and sbr":        {nil, []string{fixture.Chained, bySource}, "coordinator already routes packets from its addresses"},
		"eth0, sbr and coordinator":        {nil, []string{bySource, fixture.Chained}, "plugin route has given 10.6."},
		"net1, coordinator and sbr":        {[]string{fixture.Chained}, []string{fixture.Chained, bySource}, "coordinator already routes packets from its addresses"},
		"net1, sbr and coordinator":        {[]string{fixture.Chained}, []string{bySource, fixture.Chained}, "plugin route has given 10.7."},
		"net1, untuned and sbr":            {[]string{fixture.Chained}, []string{with(`"tunePodRoutes": false`), bySource}, ""},
		"net1, sbr and untuned":            {[]string{fixture.Chained}, []string{bySource, with(`"tunePodRoutes": false`)}, ""},
		"net1, coordinator and a bridge":   {[]string{fixture.Chained}, []string{fixture.Chained, routeBy(1, "")}, ""},
		"net1, a bridge and coordinator":   {[]string{fixture.Chained}, []string{routeBy(1, ""), fixture.Chained}, ""},
		"eth0, hostLink and a bridge":      {nil, []string{with(`"hostLink": "macvlan"`), routeBy(0, "")}, ""},
		"eth0, a bridge and hostLink":      {nil, []string{routeBy(0, ""), with(`"hostLink": "macvlan"`)}, ""},
		"net1, coordinator and an s table": {[]string{fixture.Chained}, []string{fixture.Chained, `{"type": "route", "sbr": true, "table": 5000}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			if tt.first != nil {
				s.Plug(t, 0, lab.NIC, tt.first...)
			}
			i := len(s.NICs)
			before := s.Ours(t)
			n := s.NetworkIn(t, i, tt.chain...)
			if tt.refused != "" {
				if err := n.Add(t.Context(), s.Web, fixture.NICName(i)); err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("ADD: %v, want an error with %q", err, tt.refused)
				}
				if err := n.Del(t.Context(), s.Web, fixture.NICName(i)); err != nil {
					t.Error(err)
				}
			} else {
				s.Plug(t, i, fixture.NICName(i), tt.chain...)
				s.CheckOurs(t)
				s.Ways(t)
				s.Serve(t)
				s.Verify(t, fixture.ByTCP(s.Answers())...)
				s.Calm(t)
				s.Unplug(t, fixture.NICName(i))
			}
			s.CheckOurs(t)
			if got := s.Ours(t); got != before {
				t.Errorf("before:\n%s\nleft:\n%s", before, got)
			}
		})
	}
}

// TestTablesOfOthers lets other software use the tables that we prefer, in every
// possible way: we take other tables, and theirs stay as they are.
func TestTablesOfOthers(t *testing.T) {
	others := map[string]string{
		"rules":                      "ip rule add pref 9 from 10.99.0.1 lookup %[1]d; ip -6 rule add pref 9 from fd00:99::1 lookup %[1]d",
		"rules with more conditions": "ip rule add pref 9 iif lo ipproto 99 lookup %[1]d",
		"routes":                     "ip route add 10.99.0.0/16 dev lo table %[1]d; ip -6 route add fd00:99::/64 dev lo table %[1]d",
		"a route by the first NIC":   "ip route add 10.99.0.0/16 dev eth0 table %[1]d",
		"a default by the first NIC": "ip route add default dev eth0 table %[1]d; ip rule add pref 9 from 10.99.0.1 lookup %[1]d",
		"a copy of main, and a rule": "ip route add 10.6.0.0/16 dev eth0 proto kernel scope link table %[1]d; ip rule add pref 9 from 10.99.0.1 lookup %[1]d",
	}
	for name, other := range others {
		for kind, chain := range map[string]string{"coordinator": fixture.Chained, "veth": older, "hostLink macvlan": with(`"hostLink": "macvlan"`), "overlay": fixture.Chained, "sbr": bySource} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
				switch kind {
				case "overlay":
					s.Overlay(t, "flannel")
				default:
					s.Chained = nil
					s.Plug(t, 0, lab.NIC) // with macvlan alone
					s.NICs = nil
				}
				for _, table := range []int{98, 99, 100, 101, 102} {
					fixture.Sh(t, s.Web.Netns, fmt.Sprintf(other, table))
				}
				theirs := func() string {
					return fixture.Sh(t, s.Web.Netns, "ip rule show pref 9; ip -6 rule show pref 9; for n in 98 99 100 101 102; do ip route show table $n; ip -6 route show table $n; done 2>/dev/null || true")
				}
				before, none := theirs(), s.Ours(t)
				eth0 := fixture.Attachment{Pod: s.Web, NIC: lab.NIC, Node: s.Lab, Prev: s.Web.Results[lab.NIC]}
				conf := func(verb string) fixture.Call {
					c := eth0.Call(verb, fixture.KeysOf(t, chain))
					c.Plugin = map[string]string{"veth": "veth"}[kind]
					return c
				}
				if kind != "overlay" && kind != "sbr" {
					eth0.Keep(t, conf("ADD").Fine(t))
				}
				s.Plug(t, 1, "net1", chain)
				s.Plug(t, 2, "net2", chain)
				s.CheckOurs(t)
				s.Ways(t)
				if kind != "overlay" && kind != "sbr" {
					conf("CHECK").Fine(t)
				}
				if got := theirs(); got != before {
					t.Errorf("others' state was\n%s\nand is now\n%s", before, got)
				}
				if kind == "overlay" || kind == "sbr" { // otherwise no runtime knows eth0, and repair says so
					s.Calm(t)
				}
				s.Unplug(t, "net1")
				s.CheckOurs(t)
				s.Unplug(t, "net2")
				if kind != "overlay" && kind != "sbr" {
					conf("DEL").Fine(t)
				}
				if got := theirs(); got != before {
					t.Errorf("others' state was\n%s\nand after DEL is\n%s", before, got)
				}
				if got := s.Ours(t); got != none {
					t.Errorf("left:\n%s", got)
				}
			})
		}
	}
}

var together = flag.Uint64("together", 0, "the seed of TestTogether's only pod; 0: some pods")

// TestTogether draws pods with NICs of any of the plugins, and adds and deletes them at
// random. At any time each attachment's CHECK passes, its packets go where they belong,
// repair finds nothing to do, and GC removes nothing; at the end nothing is left. Run a
// failed seed again with -together.
func TestTogether(t *testing.T) {
	seeds := []uint64{*together}
	if *together == 0 {
		seeds = nil
		for range 6 {
			seeds = append(seeds, rand.Uint64()%1e6+1)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			liveTogether(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// sortsOfPods are the ways to make a pod's eth0, and the plugins that may follow.
var sortsOfPods = map[string]struct {
	first   string // "": made by an overlay
	further func(lan int) [][]string
}{
	"veth": {fixture.Chained, func(lan int) [][]string {
		return [][]string{{fixture.Chained}, {older}, {bySource}, {routeBy(lan, "")}, {routeBy(lan, `, "sbr": true`)}, {fixture.Chained, routeBy(lan, "")}, {with(`"tunePodRoutes": false`)}, {with(`"tunePodRoutes": false`), bySource}}
	}},
	"older": {older, func(lan int) [][]string {
		return [][]string{{fixture.Chained}, {older}, {bySource}, {routeBy(lan, "")}}
	}},
	"hostLink macvlan": {with(`"hostLink": "macvlan"`), func(lan int) [][]string {
		return [][]string{{with(`"hostLink": "macvlan"`)}, {bySource}, {routeBy(lan, "")}, {with(`"hostLink": "macvlan"`), routeBy(lan, "")}}
	}},
	"overlay": {"", func(lan int) [][]string {
		return [][]string{{fixture.Chained}, {bySource}, {routeBy(lan, "")}, {routeBy(lan, `, "sbr": true`)}, {with(`"tunePodRoutes": false`)}}
	}},
}

func liveTogether(t *testing.T, r *rand.Rand) {
	t.Helper()
	names := []string{"hostLink macvlan", "older", "overlay", "veth"}
	name := names[r.IntN(len(names))]
	sort := sortsOfPods[name]
	lans := append(fixture.ThreeLANs(), fixture.OtherLAN(9))
	s := fixture.EmptySite(t, lans, fixture.Chained)
	before := s.Ours(t)
	did := []string{name}
	if sort.first == "" {
		s.Overlay(t, []string{"calico", "flannel", "ptp"}[r.IntN(3)])
	} else {
		s.Plug(t, 0, lab.NIC, sort.first)
	}
	furthers := func() []string {
		var out []string
		for _, n := range s.NICs {
			if n.Name != lab.NIC {
				out = append(out, n.Name)
			}
		}
		return out
	}
	for range 14 {
		free := slices.DeleteFunc([]int{1, 2}, func(lan int) bool { return slices.Contains(furthers(), fixture.NICName(lan)) })
		switch living := furthers(); {
		case len(free) > 0 && (len(living) == 0 || r.IntN(3) > 0):
			lan := free[r.IntN(len(free))]
			chains := sort.further(lan)
			chain := chains[r.IntN(len(chains))]
			did = append(did, fmt.Sprintf("ADD of net%d by %s", lan, chain))
			s.Plug(t, lan, fixture.NICName(lan), chain...)
		case r.IntN(4) == 0:
			did = append(did, "GC")
			s.Collect(t)
		default:
			name := living[r.IntN(len(living))]
			did = append(did, "DEL of "+name)
			s.Unplug(t, name)
		}
		s.CheckOurs(t)
		s.Ways(t)
		if r.IntN(4) == 0 {
			s.Calm(t)
		}
		if t.Failed() {
			t.Fatalf("after\n%s\nthere is\n%s", strings.Join(did, "\n"), s.Ours(t))
		}
	}
	if len(furthers()) == 0 { // an overlay's pod would have nothing to be asked
		s.Plug(t, 1, fixture.NICName(1), sort.further(1)[0]...)
	}
	s.Serve(t)
	s.Verify(t, fixture.ByTCP(s.Answers())...)
	for _, name := range shuffled(r, furthers()) {
		s.Unplug(t, name)
	}
	if sort.first != "" {
		s.Unplug(t, lab.NIC)
	}
	if got := s.Ours(t); got != before {
		t.Errorf("after\n%s\nleft:\n%s", strings.Join(did, "\n"), got)
	}
}

func shuffled(r *rand.Rand, names []string) []string {
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}
