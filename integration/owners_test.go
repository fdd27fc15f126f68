// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/lab"
)

// What chains behind a NIC.
const (
	bySource = `{"type": "route", "sbr": true}`
	older    = `{"type": "veth", "service_cidr": ["10.96.0.0/12", "fd00:10:96::/108"]}`
)

// routeBy is route with the macvlan of the node on a LAN's NIC.
func routeBy(lan int, more string) string {
	master := threeLANs()[lan].NIC
	return fmt.Sprintf(`{"type": "route", "master": %q, "bridge": "%s.host"%s}`, master, master, more)
}

// ours are the rules, routes and marks in web that are of this suite.
func (s *site) ours(t *testing.T) string {
	t.Helper()
	return sh(t, s.web.Netns, `
		for v in -4 -6; do
			ip $v rule | grep -E 'proto (109|110|multihome)' || true
			for p in 109 110; do ip $v route show table all proto $p; done
		done
		nft list tables
		ip neigh show nud permanent`)
}

// calm fails if repair finds anything to do.
func (s *site) calm(t *testing.T) {
	t.Helper()
	before := s.ours(t)
	if got := s.repair(t, t.TempDir()); got != "nothing to repair\n" {
		t.Errorf("on a healthy node repair says:\n%s", got)
	}
	if got := s.ours(t); got != before {
		t.Errorf("repair made of\n%s\nthis:\n%s", before, got)
	}
}

// checkOurs asks our plugins' CHECK for each of web's NICs. That of macvlan wants to see
// in main what route with sbr has moved.
func (s *site) checkOurs(t *testing.T) {
	t.Helper()
	for _, n := range s.nics {
		for _, chain := range n.chain {
			c := s.attached(n.name).call("CHECK", keysOf(t, chain), keys{"name": "macvlan-" + s.LANs[n.lan].NIC})
			c.plugin = keysOf(t, chain)["type"].(string)
			if out := c.run(t); !out.state.Success() {
				t.Errorf("CHECK of %s by %s: %s%s", n.name, chain, out.stdout, out.stderr)
			}
		}
	}
}

// ways fails unless what comes from each NIC's address goes to its LAN by the NIC, and
// what coordinator has made of it to a Service by the way to the node.
func (s *site) ways(t *testing.T) {
	t.Helper()
	for _, n := range s.nics {
		for _, a := range s.web.Addrs(n.name) {
			for _, way := range s.waysOf(n, a.Addr()) {
				got := sh(t, s.web.Netns, fmt.Sprintf("ip route get %s from %s", way.to, a.Addr()))
				if !strings.Contains(got, " dev "+way.by+" ") {
					t.Errorf("from %s to %s: %s, want it by %s", a.Addr(), way.to, strings.TrimSpace(got), way.by)
				}
			}
		}
	}
}

type way struct {
	to netip.Addr
	by string
}

func (s *site) waysOf(n nic, from netip.Addr) []way {
	var out []way
	// With a table of its own, an address is answered by its NIC whoever asked.
	for i, lan := range s.LANs {
		if host := of(addrs(lan.Host), from); n.hasTable() || i == n.lan {
			out = append(out, way{host, n.name})
		}
	}
	if n.isCoordinated() {
		out = append(out, way{of(services, from), s.way()})
	}
	return out
}

// isCoordinated reports whether coordinator gives the NIC a table of its own, with ways
// to the node.
func (n nic) isCoordinated() bool {
	return n.name != lab.NIC && slices.ContainsFunc(n.chain, func(c string) bool {
		return (strings.Contains(c, `"coordinator"`) || strings.Contains(c, `"veth"`)) && !strings.Contains(c, "tunePodRoutes")
	})
}

// hasTable reports whether the NIC is a further one with a table of its own.
func (n nic) hasTable() bool { return n.isCoordinated() || n.isBySource() }

// isBySource reports whether route gives the NIC's addresses tables of their own.
func (n nic) isBySource() bool {
	return slices.ContainsFunc(n.chain, func(c string) bool { return strings.Contains(c, `"sbr": true`) && !strings.Contains(c, `"table"`) })
}

// TestTwoPluginsBehindAnOverlay has net1 by coordinator and net2 by route with sbr, in
// a pod whose eth0 an overlay made, in every order: each is as if it was alone.
func TestTwoPluginsBehindAnOverlay(t *testing.T) {
	chains := map[string]string{"net1": chained, "net2": bySource}
	lan := map[string]int{"net1": 1, "net2": 2}
	for _, add := range [][]string{{"net1", "net2"}, {"net2", "net1"}} {
		for _, first := range add {
			t.Run(fmt.Sprintf("%s first, DEL of %s", add[0], first), func(t *testing.T) {
				t.Parallel()
				s := emptySite(t, threeLANs(), chained)
				s.overlay(t, "calico")
				before := s.ours(t)
				for _, name := range add {
					s.plug(t, lan[name], name, chains[name])
					s.checkOurs(t)
				}
				s.ways(t)
				s.serve(t)
				s.verify(t, byTCP(s.answers())...)
				s.unplug(t, first)
				s.checkOurs(t)
				s.ways(t)
				s.verify(t, byTCP(s.answers())...)
				s.calm(t)
				s.unplug(t, s.nics[0].name)
				if got := s.ours(t); got != before {
					t.Errorf("left:\n%s", got)
				}
			})
		}
	}
}

// answers are that each NIC with a table of its own answers by itself whoever asks,
// and that the node reaches the NICs that it has a way to.
func (s *site) answers() []lab.Check {
	var out []lab.Check
	for _, n := range s.nics {
		for _, web := range s.web.Addrs(n.name) {
			for _, c := range s.checksOf(n, web.Addr(), netip.AddrPort{}) {
				switch {
				case strings.HasPrefix(c.Name, "NIC to LAN"):
				case strings.HasPrefix(c.Name, "host in") && !strings.Contains(c.Name, "NodePort") && n.hasTable():
				case strings.HasPrefix(c.Name, "NIC to ClusterIP") && n.isCoordinated():
				default:
					continue
				}
				out = append(out, c)
			}
		}
	}
	return both(out...)
}

// TestCoordinatorAndRoute has eth0 by coordinator and net1 by route, and the other way
// round where that is possible.
func TestCoordinatorAndRoute(t *testing.T) {
	for name, chains := range map[string][]string{
		"sbr":                       {chained, bySource},
		"sbr, veth":                 {older, bySource},
		"sbr and a bridge":          {chained, routeBy(1, `, "sbr": true`)},
		"a bridge":                  {chained, routeBy(1, "")},
		"sbr, hostLink macvlan":     {with(`"hostLink": "macvlan"`), bySource},
		"a table":                   {chained, `{"type": "route", "sbr": true, "table": 5000}`},
		"sbr, then coordinator":     {chained, bySource, chained},
		"coordinator, then sbr":     {chained, chained, bySource},
		"sbr, then veth":            {older, bySource, older},
		"sbr, then hostLink":        {with(`"hostLink": "macvlan"`), bySource, with(`"hostLink": "macvlan"`)},
		"veth, then coordinator":    {older, chained, older},
		"coordinator, then veth":    {chained, older, chained},
		"veth, coordinator and sbr": {older, chained, bySource},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, threeLANs(), chained)
			before := s.ours(t)
			for i, chain := range chains {
				s.plug(t, i, nicName(i), chain)
				s.checkOurs(t)
			}
			s.serve(t)
			s.ways(t)
			s.verify(t, byTCP(s.answers())...)
			s.calm(t)
			for _, i := range []int{1, 2} {
				if i >= len(chains) {
					continue
				}
				s.unplug(t, nicName(i))
				s.setServices(t)
				s.checkOurs(t)
				s.ways(t)
				s.verify(t, byTCP(s.answers())...)
			}
			s.unplug(t, "eth0")
			if got := s.ours(t); got != before {
				t.Errorf("left:\n%s", got)
			}
		})
	}
}

// TestBothBehindOneNIC chains coordinator and route behind one NIC: a bridge goes
// with it, and tables by both are refused, whoever comes first.
func TestBothBehindOneNIC(t *testing.T) {
	for name, tt := range map[string]struct {
		first, chain []string
		refused      string
	}{
		"eth0, coordinator and sbr":        {nil, []string{chained, bySource}, "coordinator routes what comes from its addresses"},
		"eth0, sbr and coordinator":        {nil, []string{bySource, chained}, "plugin route has given 10.6."},
		"net1, coordinator and sbr":        {[]string{chained}, []string{chained, bySource}, "coordinator routes what comes from its addresses"},
		"net1, sbr and coordinator":        {[]string{chained}, []string{bySource, chained}, "plugin route has given 10.7."},
		"net1, untuned and sbr":            {[]string{chained}, []string{with(`"tunePodRoutes": false`), bySource}, ""},
		"net1, sbr and untuned":            {[]string{chained}, []string{bySource, with(`"tunePodRoutes": false`)}, ""},
		"net1, coordinator and a bridge":   {[]string{chained}, []string{chained, routeBy(1, "")}, ""},
		"net1, a bridge and coordinator":   {[]string{chained}, []string{routeBy(1, ""), chained}, ""},
		"eth0, hostLink and a bridge":      {nil, []string{with(`"hostLink": "macvlan"`), routeBy(0, "")}, ""},
		"eth0, a bridge and hostLink":      {nil, []string{routeBy(0, ""), with(`"hostLink": "macvlan"`)}, ""},
		"net1, coordinator and an s table": {[]string{chained}, []string{chained, `{"type": "route", "sbr": true, "table": 5000}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, threeLANs(), chained)
			if tt.first != nil {
				s.plug(t, 0, lab.NIC, tt.first...)
			}
			i := len(s.nics)
			before := s.ours(t)
			n := s.network(t, i, tt.chain...)
			if tt.refused != "" {
				if err := n.Add(t.Context(), s.web, nicName(i)); err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("ADD: %v, want an error with %q", err, tt.refused)
				}
				if err := n.Del(t.Context(), s.web, nicName(i)); err != nil {
					t.Error(err)
				}
			} else {
				s.plug(t, i, nicName(i), tt.chain...)
				s.checkOurs(t)
				s.ways(t)
				s.serve(t)
				s.verify(t, byTCP(s.answers())...)
				s.calm(t)
				s.unplug(t, nicName(i))
			}
			s.checkOurs(t)
			if got := s.ours(t); got != before {
				t.Errorf("before:\n%s\nleft:\n%s", before, got)
			}
		})
	}
}

// TestTablesOfOthers has somebody else use the tables that ours would be, in every way
// there is: ours are others then, and theirs stay as they are.
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
		for kind, chain := range map[string]string{"coordinator": chained, "veth": older, "hostLink macvlan": with(`"hostLink": "macvlan"`), "overlay": chained, "sbr": bySource} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := emptySite(t, threeLANs(), chained)
				switch kind {
				case "overlay":
					s.overlay(t, "flannel")
				default:
					s.chained = nil
					s.plug(t, 0, lab.NIC) // by macvlan alone
					s.nics = nil
				}
				for _, table := range []int{98, 99, 100, 101, 102} {
					sh(t, s.web.Netns, fmt.Sprintf(other, table))
				}
				theirs := func() string {
					return sh(t, s.web.Netns, "ip rule show pref 9; ip -6 rule show pref 9; for n in 98 99 100 101 102; do ip route show table $n; ip -6 route show table $n; done 2>/dev/null || true")
				}
				before, none := theirs(), s.ours(t)
				eth0 := attachment{s.web, lab.NIC, s.Lab, s.web.Results[lab.NIC]}
				conf := func(verb string) call {
					c := eth0.call(verb, keysOf(t, chain))
					c.plugin = map[string]string{"veth": "veth"}[kind]
					return c
				}
				if kind != "overlay" && kind != "sbr" {
					eth0.keep(t, conf("ADD").fine(t))
				}
				s.plug(t, 1, "net1", chain)
				s.plug(t, 2, "net2", chain)
				s.checkOurs(t)
				s.ways(t)
				if kind != "overlay" && kind != "sbr" {
					conf("CHECK").fine(t)
				}
				if got := theirs(); got != before {
					t.Errorf("theirs was\n%s\nand is\n%s", before, got)
				}
				s.calm(t)
				s.unplug(t, "net1")
				s.checkOurs(t)
				s.unplug(t, "net2")
				if kind != "overlay" && kind != "sbr" {
					conf("DEL").fine(t)
				}
				if got := theirs(); got != before {
					t.Errorf("theirs was\n%s\nand after DEL is\n%s", before, got)
				}
				if got := s.ours(t); got != none {
					t.Errorf("left:\n%s", got)
				}
			})
		}
	}
}

var together = flag.Uint64("together", 0, "the seed of TestTogether's only pod; 0: some pods")

// TestTogether draws pods with NICs by any of the plugins, that come and go: whatever
// is there, each attachment's CHECK passes, and what comes from it goes where it
// belongs; repair finds nothing to do, GC takes nothing; and in the end nothing is
// left. A seed that failed is run again by -together.
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

// sortsOfPods are what a pod's eth0 is, and what there may be behind the others.
var sortsOfPods = map[string]struct {
	first   string // "": an overlay's
	further func(lan int) [][]string
}{
	"veth": {chained, func(lan int) [][]string {
		return [][]string{{chained}, {older}, {bySource}, {routeBy(lan, "")}, {routeBy(lan, `, "sbr": true`)}, {chained, routeBy(lan, "")}, {with(`"tunePodRoutes": false`)}, {with(`"tunePodRoutes": false`), bySource}}
	}},
	"older": {older, func(lan int) [][]string { return [][]string{{chained}, {older}, {bySource}, {routeBy(lan, "")}} }},
	"hostLink macvlan": {with(`"hostLink": "macvlan"`), func(lan int) [][]string {
		return [][]string{{with(`"hostLink": "macvlan"`)}, {bySource}, {routeBy(lan, "")}, {with(`"hostLink": "macvlan"`), routeBy(lan, "")}}
	}},
	"overlay": {"", func(lan int) [][]string {
		return [][]string{{chained}, {bySource}, {routeBy(lan, "")}, {routeBy(lan, `, "sbr": true`)}, {with(`"tunePodRoutes": false`)}}
	}},
}

func liveTogether(t *testing.T, r *rand.Rand) {
	t.Helper()
	names := []string{"hostLink macvlan", "older", "overlay", "veth"}
	name := names[r.IntN(len(names))]
	sort := sortsOfPods[name]
	lans := append(threeLANs(), otherLAN(9))
	s := emptySite(t, lans, chained)
	before := s.ours(t)
	did := []string{name}
	if sort.first == "" {
		s.overlay(t, []string{"calico", "flannel", "ptp"}[r.IntN(3)])
	} else {
		s.plug(t, 0, lab.NIC, sort.first)
	}
	furthers := func() []string {
		var out []string
		for _, n := range s.nics {
			if n.name != lab.NIC {
				out = append(out, n.name)
			}
		}
		return out
	}
	for range 14 {
		free := slices.DeleteFunc([]int{1, 2}, func(lan int) bool { return slices.Contains(furthers(), nicName(lan)) })
		switch living := furthers(); {
		case len(free) > 0 && (len(living) == 0 || r.IntN(3) > 0):
			lan := free[r.IntN(len(free))]
			chains := sort.further(lan)
			chain := chains[r.IntN(len(chains))]
			did = append(did, fmt.Sprintf("ADD of net%d by %s", lan, chain))
			s.plug(t, lan, nicName(lan), chain...)
		case r.IntN(4) == 0:
			did = append(did, "GC")
			s.collect(t)
		default:
			name := living[r.IntN(len(living))]
			did = append(did, "DEL of "+name)
			s.unplug(t, name)
		}
		s.checkOurs(t)
		s.ways(t)
		if r.IntN(4) == 0 {
			s.calm(t)
		}
		if t.Failed() {
			t.Fatalf("after\n%s\nthere is\n%s", strings.Join(did, "\n"), s.ours(t))
		}
	}
	s.serve(t)
	s.verify(t, byTCP(s.answers())...)
	for _, name := range shuffled(r, furthers()) {
		s.unplug(t, name)
	}
	if sort.first != "" {
		s.unplug(t, lab.NIC)
	}
	if got := s.ours(t); got != before {
		t.Errorf("after\n%s\nleft:\n%s", strings.Join(did, "\n"), got)
	}
}

func shuffled(r *rand.Rand, names []string) []string {
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

// collect has every network of the site collect what it knows to be dead, which is
// nothing.
func (s *site) collect(t *testing.T) {
	t.Helper()
	valid := []types.GCAttachment{{ContainerID: s.app.ContainerID, IfName: lab.NIC}}
	for _, n := range s.nics {
		valid = append(valid, types.GCAttachment{ContainerID: s.web.ContainerID, IfName: n.name})
	}
	for _, n := range s.nics {
		if err := n.network.GC(t.Context(), valid...); err != nil {
			t.Error(err)
		}
	}
}

// keysOf are a chain's as a call has them.
func keysOf(t *testing.T, chain string) keys {
	t.Helper()
	out := keys{"serviceCIDR": nil}
	if err := json.Unmarshal([]byte(chain), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
