// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/ipam"
)

func ptr[T any](v T) *T { return &v }

// spec is a pool of 10.6.0.0/16, or of fd00:6::/64 if its addresses are IPv6.
func spec(ips ...string) ipam.PoolSpec {
	subnet := "10.6.0.0/16"
	if len(ips) > 0 && strings.Contains(ips[0], ":") {
		subnet = "fd00:6::/64"
	}
	return ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet, IPs: ips}}
}

// pool is a pool that is as old as its UID is great.
func pool(name string, age int, s ipam.PoolSpec, change ...func(*ipam.Pool)) ipam.Pool {
	p := ipam.Pool{Name: name, UID: "u-" + name, Created: time.Unix(int64(1000-age), 0), Spec: s}
	for _, c := range change {
		c(&p)
	}
	return p
}

func inUse(p *ipam.Pool)    { p.InUse = true }
func deleting(p *ipam.Pool) { p.Deleting = true }
func disabled(p *ipam.Pool) { p.Spec.Disable = ptr(true) }
func in(network string) func(*ipam.Pool) {
	return func(p *ipam.Pool) { p.Spec.Network = network }
}
func gateway(a string) func(*ipam.Pool) {
	return func(p *ipam.Pool) { p.Spec.Gateway = &a }
}

func subnet(name string, age int, s ipam.SubnetSpec) ipam.Subnet {
	return ipam.Subnet{Name: name, UID: "u-" + name, Created: time.Unix(int64(1000-age), 0), Spec: s}
}

// TestUsable has who hands out what. want is, for each pool, its state, what is free, and
// what the reason and the notes say.
func TestUsable(t *testing.T) {
	lan := ipam.SubnetSpec{
		Subnet: "10.6.0.0/16", IPs: []string{"10.6.1.1-10.6.1.20"}, ExcludeIPs: []string{"10.6.1.5"},
		Gateway: ptr("10.6.0.1"), Routes: []ipam.Route{{Dst: "10.7.1.1/16", Gw: "10.6.0.2"}, {Dst: "10.8.0.0/16", Gw: "10.6.0.3"}},
	}
	type want struct{ state, free, says string }
	for _, tt := range []struct {
		name     string
		pools    []ipam.Pool
		subnets  []ipam.Subnet
		reserved []ipam.ReservedSpec
		want     map[string]want
	}{
		{"one", []ipam.Pool{pool("a", 1, spec("10.6.1.1-10.6.1.3", "10.6.1.9"))}, nil, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.1-10.6.1.3 10.6.1.9", ""}}},
		{"D00001: the older has the addresses", []ipam.Pool{pool("a", 1, spec("10.6.1.1-10.6.1.3")), pool("b", 2, spec("10.6.1.3-10.6.1.9"))}, nil, nil,
			map[string]want{
				"a": {ipam.Conflict, "", "spec.ips: SpiderIPPool b has 10.6.1.3 too, and came first: want other addresses, or another network"},
				"b": {ipam.Active, "10.6.1.3-10.6.1.9", ""},
			}},
		{"a pool with addresses in use keeps them", []ipam.Pool{pool("a", 1, spec("10.6.1.1-10.6.1.3"), inUse), pool("b", 2, spec("10.6.1.3-10.6.1.9"))}, nil, nil,
			map[string]want{
				"a": {ipam.Active, "10.6.1.1-10.6.1.3", ""},
				"b": {ipam.Conflict, "", "SpiderIPPool a has 10.6.1.3 too, and has addresses in use"},
			}},
		{"equally old: the lower UID", []ipam.Pool{pool("b", 1, spec("10.6.1.1")), pool("a", 1, spec("10.6.1.1"))}, nil, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.1", ""}, "b": {ipam.Conflict, "", "SpiderIPPool a has 10.6.1.1 too"}}},
		{"who loses takes nothing from a third", []ipam.Pool{pool("a", 3, spec("10.6.1.1-10.6.1.3")), pool("b", 2, spec("10.6.1.3-10.6.1.5")), pool("c", 1, spec("10.6.1.5"))}, nil, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.1-10.6.1.3", ""}, "b": {ipam.Conflict, "", "a has 10.6.1.3"}, "c": {ipam.Active, "10.6.1.5", ""}}},
		{"with two others", []ipam.Pool{pool("a", 3, spec("10.6.1.1-10.6.1.3")), pool("b", 2, spec("10.6.1.5")), pool("c", 1, spec("10.6.1.2-10.6.1.9"))}, nil, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.1-10.6.1.3", ""}, "b": {ipam.Active, "10.6.1.5", ""},
				"c": {ipam.Conflict, "", "SpiderIPPool a has 10.6.1.2-10.6.1.3 too, and came first; SpiderIPPool b has 10.6.1.5 too, and came first: want"}}},
		{"equal addresses in two networks", []ipam.Pool{pool("a", 1, spec("10.6.1.1"), in("storage")), pool("b", 2, spec("10.6.1.1"))}, nil, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.1", ""}, "b": {ipam.Active, "10.6.1.1", ""}}},
		{"network vlan100 and vlan 100 are one", []ipam.Pool{pool("a", 1, spec("10.6.1.1"), in("vlan100")), pool("b", 2, spec("10.6.1.1"), func(p *ipam.Pool) { p.Spec.VLAN = ptr(100) })}, nil, nil,
			map[string]want{"a": {ipam.Conflict, "", "b has"}, "b": {ipam.Active, "10.6.1.1", ""}}},
		{"D00005: a disabled pool keeps its addresses", []ipam.Pool{pool("a", 2, spec("10.6.1.1"), disabled), pool("b", 1, spec("10.6.1.1"))}, nil, nil,
			map[string]want{"a": {ipam.Disabled, "", "spec.disable is true"}, "b": {ipam.Conflict, "", "a has"}}},
		{"D00004: one that is being deleted keeps them while some are in use", []ipam.Pool{
			pool("a", 2, spec("10.6.1.1"), deleting, inUse), pool("b", 1, spec("10.6.1.1")),
			pool("c", 2, spec("10.6.1.2"), deleting), pool("d", 1, spec("10.6.1.2")),
		}, nil, nil,
			map[string]want{"a": {ipam.Deleting, "", "it is being deleted: it is gone when its last address is back"}, "b": {ipam.Conflict, "", "a has"},
				"c": {ipam.Deleting, "", "it is"}, "d": {ipam.Active, "10.6.1.2", ""}}},
		{"one with a fault keeps nothing", []ipam.Pool{pool("a", 2, spec("10.6.1.1"), gateway("10.6.1.1")), pool("b", 1, spec("10.6.1.1"))}, nil, nil,
			map[string]want{"a": {ipam.Invalid, "", `spec.gateway: "10.6.1.1": it is in ips`}, "b": {ipam.Active, "10.6.1.1", ""}}},
		{"S00001, S00002: neither excluded nor reserved", []ipam.Pool{pool("a", 1, spec("10.6.1.1-10.6.1.5"), func(p *ipam.Pool) { p.Spec.ExcludeIPs = []string{"10.6.1.2"} })}, nil,
			[]ipam.ReservedSpec{{IPs: []string{"10.6.1.4", "fd00::1", "no address"}}},
			map[string]want{"a": {ipam.Active, "10.6.1.1 10.6.1.3 10.6.1.5", ""}}},
		{"nothing but reserved ones", []ipam.Pool{pool("a", 1, spec("10.6.1.4"))}, nil, []ipam.ReservedSpec{{IPs: []string{"10.6.1.4"}}},
			map[string]want{"a": {ipam.Empty, "", "nobody can get 10.6.1.4: they are reserved"}}},
		{"nothing", []ipam.Pool{pool("a", 1, spec())}, nil, nil,
			map[string]want{"a": {ipam.Empty, "", "it has no address: spec.ips is empty"}}},
		{"the network's and the broadcast address", []ipam.Pool{
			pool("a", 1, spec("10.6.0.0-10.6.255.255"), gateway("10.6.0.1"), func(p *ipam.Pool) { p.Spec.ExcludeIPs = []string{"10.6.0.1-10.6.255.0"} }),
			pool("b", 1, ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.9.0.0/31", IPs: []string{"10.9.0.0-10.9.0.1"}}}),
			pool("c", 1, ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "fd00::/126", IPs: []string{"fd00::-fd00::3"}}}),
		}, nil, nil,
			map[string]want{
				"a": {ipam.Active, "10.6.255.1-10.6.255.254", `spec.ips[0]: "10.6.0.0-10.6.255.255": nobody gets 10.6.0.0 and 10.6.255.255: hosts can't have the first address of a subnet`},
				"b": {ipam.Active, "10.9.0.0-10.9.0.1", ""}, "c": {ipam.Active, "fd00::1-fd00::3", "nobody gets fd00::"},
			}},
		{"X13: a whole /64", []ipam.Pool{pool("a", 1, spec("fd00:6::1-fd00:6::ffff:ffff:ffff:ffff"), gateway("fd00:6::1"), func(p *ipam.Pool) { p.Spec.ExcludeIPs = []string{"fd00:6::1"} })}, nil, nil,
			map[string]want{"a": {ipam.Active, "fd00:6::2-fd00:6::ffff:ffff:ffff:ffff", ""}}},
		{"I00004, S00004: of a subnet, what it has and doesn't exclude", []ipam.Pool{pool("a", 1, spec("10.6.1.4-10.6.1.6", "10.6.2.1")), pool("b", 1, spec("10.6.1.7"), in("storage"))},
			[]ipam.Subnet{subnet("lan", 1, lan)}, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.4 10.6.1.6", "spec.ips: SpiderSubnet lan doesn't have 10.6.1.5, 10.6.2.1, so nobody gets them"}, "b": {ipam.Active, "10.6.1.7", ""}}},
		{"what a subnet in it excludes", []ipam.Pool{pool("a", 1, spec("10.6.1.4-10.6.1.6"), func(p *ipam.Pool) { p.Spec.Subnet = "10.6.0.0/15" })},
			[]ipam.Subnet{subnet("lan", 1, lan)}, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.4 10.6.1.6", ""}}},
		{"I00004: what subnets exclude that don't count", []ipam.Pool{pool("a", 1, spec("10.6.1.1-10.6.1.6"))},
			[]ipam.Subnet{
				subnet("fault", 3, ipam.SubnetSpec{Subnet: "10.6.0.0/16", Gateway: ptr("10.7.0.1"), ExcludeIPs: []string{"10.6.1.1"}}),
				subnet("late", 1, ipam.SubnetSpec{Subnet: "10.6.1.0/24", ExcludeIPs: []string{"10.6.1.6"}}), subnet("lan", 2, lan),
			}, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.2-10.6.1.4", "10.6.1.5"}}},
		{"a subnet that another one overlaps", []ipam.Pool{pool("a", 1, spec("10.6.1.4-10.6.1.6"))},
			[]ipam.Subnet{subnet("late", 1, ipam.SubnetSpec{Subnet: "10.6.1.0/24"}), subnet("lan", 2, lan)}, nil,
			map[string]want{"a": {ipam.Active, "10.6.1.4 10.6.1.6", "10.6.1.5"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ipam.Usable(tt.pools, tt.subnets, tt.reserved)
			for name, want := range tt.want {
				s := got[name]
				said := strings.Join(append(s.Notes, s.Reason), "; ")
				if free := strings.Join(ipam.Text(s.Free), " "); s.State != want.state || free != want.free || !strings.Contains(said, want.says) || want.says == "" && said != "; " && said != "" {
					t.Errorf("%s: %s, free %q, %q: want %+v", name, s.State, free, said, want)
				}
				if (s.Reason == "") != (s.State == ipam.Active) {
					t.Errorf("%s: %s for the reason %q", name, s.State, s.Reason)
				}
			}
		})
	}
}

// TestD00008Inheritance has what pools take from their subnet.
func TestD00008Inheritance(t *testing.T) {
	lan := subnet("lan", 1, ipam.SubnetSpec{
		Subnet: "10.6.0.9/16", IPs: []string{"10.6.1.0-10.6.1.255"},
		Gateway: ptr("10.6.0.1"), Routes: []ipam.Route{{Dst: "10.7.1.1/16", Gw: "10.6.0.2"}, {Dst: "10.8.0.0/16", Gw: "10.6.1.1"}},
	})
	for _, tt := range []struct {
		name            string
		pool            ipam.Pool
		subnets         []ipam.Subnet
		gateway, routes string
	}{
		{"all of it", pool("a", 1, spec("10.6.1.4")), []ipam.Subnet{lan}, "10.6.0.1", "10.7.0.0/16 10.6.0.2, 10.8.0.0/16 10.6.1.1"},
		{"D00002: its own gateway, written later", pool("a", 1, spec("10.6.1.4"), gateway("10.6.0.9")), []ipam.Subnet{lan}, "10.6.0.9", "10.7.0.0/16 10.6.0.2, 10.8.0.0/16 10.6.1.1"},
		{"a list without routes", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Spec.Routes = []ipam.Route{} }), []ipam.Subnet{lan}, "10.6.0.1", ""},
		{"D00002: its own routes, written later", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Spec.Routes = []ipam.Route{{Dst: "10.9.0.0/16", Gw: "10.6.0.3"}} }), []ipam.Subnet{lan}, "10.6.0.1", "10.9.0.0/16 10.6.0.3"},
		{"a smaller subnet takes what it can reach", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Spec.Subnet = "10.6.1.0/24" }), []ipam.Subnet{lan}, "invalid IP", "10.8.0.0/16 10.6.1.1"},
		{"a wider one isn't in it", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Spec.Subnet = "10.6.0.0/15" }), []ipam.Subnet{lan}, "invalid IP", ""},
		{"another network", pool("a", 1, spec("10.6.1.4"), in("storage")), []ipam.Subnet{lan}, "invalid IP", ""},
		{"I00005: what it inherited before the subnet was changed", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Inherited = &ipam.Inherited{Subnet: "lan", UID: "u-lan", Gateway: "10.6.0.7"} }),
			[]ipam.Subnet{lan}, "10.6.0.7", ""},
		{"what it inherited is in its ips", pool("a", 1, spec("10.6.1.4-10.6.1.5"), func(p *ipam.Pool) { p.Inherited = &ipam.Inherited{Subnet: "lan", UID: "u-lan", Gateway: "10.6.1.5"} }),
			[]ipam.Subnet{lan}, "10.6.1.5", ""},
		{"the subnet is gone", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Inherited = &ipam.Inherited{Subnet: "lan", UID: "u-lan", Gateway: "10.6.0.7"} }),
			nil, "10.6.0.7", ""},
		{"another one is there instead", pool("a", 1, spec("10.6.1.4"), func(p *ipam.Pool) { p.Inherited = &ipam.Inherited{Subnet: "lan", UID: "u-old", Gateway: "10.6.0.7"} }),
			[]ipam.Subnet{lan}, "10.6.0.1", "10.7.0.0/16 10.6.0.2, 10.8.0.0/16 10.6.1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := ipam.Usable([]ipam.Pool{tt.pool}, tt.subnets, nil)["a"]
			var routes []string
			for _, r := range s.Routes {
				routes = append(routes, r.Dst+" "+r.Gw)
			}
			if s.Gateway.String() != tt.gateway || strings.Join(routes, ", ") != tt.routes {
				t.Errorf("%s, %q: want %s, %q", s.Gateway, routes, tt.gateway, tt.routes)
			}
			if s.Free.Contains(s.Gateway) {
				t.Error("the gateway is free")
			}
		})
	}
}

// TestSubnets has which subnets count.
func TestSubnets(t *testing.T) {
	got := ipam.Subnets([]ipam.Subnet{
		subnet("a", 1, ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.1-10.6.0.9"}}),
		subnet("b", 2, ipam.SubnetSpec{Subnet: "10.6.1.0/24"}),
		subnet("c", 1, ipam.SubnetSpec{Subnet: "10.6.1.0/24", VLAN: ptr(7), IPs: []string{"10.6.1.1-10.6.1.9"}}),
		subnet("d", 9, ipam.SubnetSpec{Subnet: "10.6.1.0"}),
	}, []ipam.Pool{
		pool("p", 1, ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.1.0/24", VLAN: ptr(7), IPs: []string{"10.6.1.5-10.6.1.6", "10.6.1.9-10.6.1.11"}}}),
	})
	for name, want := range map[string]string{
		"a": `Conflict "spec.subnet: 10.6.0.0/16 overlaps with SpiderSubnet b, which came first: want another subnet, or another network" []`,
		"b": `Active "" []`,
		"c": `Active "" [10.6.1.5-10.6.1.6 10.6.1.9]`,
		"d": `Invalid "spec.subnet: \"10.6.1.0\": want a CIDR, such as 10.6.0.0/16" []`,
	} {
		if s := got[name]; fmt.Sprintf("%s %q %v", s.State, s.Reason, ipam.Text(s.InPools)) != want {
			t.Errorf("%s: %s %q %v: want %s", name, s.State, s.Reason, ipam.Text(s.InPools), want)
		}
	}
}

// BenchmarkUsable has as many pools as a cluster with an application for each, in one subnet.
func BenchmarkUsable(b *testing.B) {
	lan := subnet("lan", 1, ipam.SubnetSpec{Subnet: "10.0.0.0/8", IPs: []string{"10.0.0.1-10.255.255.253"}, Gateway: ptr("10.255.255.254")})
	var pools []ipam.Pool
	for i := range 2000 {
		s := ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.0.0.0/8", IPs: []string{fmt.Sprintf("10.%d.%d.1-10.%[1]d.%[2]d.9", i/200, i%200)}}}
		pools = append(pools, pool(fmt.Sprint("p", i), i, s))
	}
	for b.Loop() {
		if s := ipam.Usable(pools, []ipam.Subnet{lan}, nil)["p0"]; s.State != ipam.Active {
			b.Fatal(s.Reason)
		}
	}
}

// model decides by single addresses what Usable decides by intervals, for pools in subnet
// 10.6.0.0/28.
func model(pools []ipam.Pool, reserved []ipam.ReservedSpec) map[string][]string {
	expand := func(list []string) map[netip.Addr]bool {
		out := map[netip.Addr]bool{}
		for _, text := range list {
			r, err := ipam.ParseRange(text)
			if err != nil {
				panic(err)
			}
			for a := r.From(); !r.To().Less(a); a = a.Next() {
				out[a] = true
			}
		}
		return out
	}
	total := func(p ipam.Pool) map[netip.Addr]bool {
		out := expand(p.Spec.IPs)
		for a := range expand(p.Spec.ExcludeIPs) {
			delete(out, a)
		}
		return out
	}
	better := func(a, b ipam.Pool) bool {
		if a.InUse != b.InUse {
			return a.InUse
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID)) < 0
	}
	keeps := map[string]bool{}
	var decide func(p ipam.Pool) bool // whether no better pool that keeps its addresses has one of p's
	decide = func(p ipam.Pool) bool {
		if k, known := keeps[p.Name]; known {
			return k
		}
		keeps[p.Name] = p.InUse || !p.Deleting
		for _, o := range pools {
			if !better(o, p) || o.Spec.Space() != p.Spec.Space() || !decide(o) {
				continue
			}
			for a := range total(o) {
				if total(p)[a] {
					keeps[p.Name] = false
				}
			}
		}
		return keeps[p.Name]
	}
	out := map[string][]string{}
	for _, p := range pools {
		if !decide(p) || p.Deleting || p.Spec.Disable != nil && *p.Spec.Disable {
			continue
		}
		for a := range total(p) {
			kept := a.String() == "10.6.0.0" || a.String() == "10.6.0.15" || p.Spec.Gateway != nil && a.String() == *p.Spec.Gateway
			for _, r := range reserved {
				kept = kept || expand(r.IPs)[a]
			}
			if !kept {
				out[p.Name] = append(out[p.Name], a.String())
			}
		}
		slices.Sort(out[p.Name])
	}
	return out
}

// FuzzUsable compares Usable with the model.
func FuzzUsable(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		list := func(most int) (out []string) { // disjoint ranges
			for at := r.IntN(8); at < 16 && len(out) < most; at += 2 + r.IntN(6) {
				last := min(15, at+r.IntN(3))
				out = append(out, fmt.Sprintf("10.6.0.%d-10.6.0.%d", at, last))
				at = last
			}
			return out
		}
		var pools []ipam.Pool
		for i := range r.IntN(6) {
			p := pool(fmt.Sprint("p", i), r.IntN(3), ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/28", IPs: list(4), ExcludeIPs: list(r.IntN(3))}})
			p.UID = fmt.Sprint(r.IntN(1000), i)
			p.InUse, p.Deleting = r.IntN(3) == 0, r.IntN(5) == 0
			p.Spec.Network = []string{"", "", "x"}[r.IntN(3)]
			if r.IntN(4) == 0 {
				p.Spec.Disable = ptr(true)
			}
			if a := fmt.Sprintf("10.6.0.%d", 1+r.IntN(14)); r.IntN(2) == 0 && !p.Spec.Total().Contains(netip.MustParseAddr(a)) {
				p.Spec.Gateway = &a
			}
			pools = append(pools, p)
		}
		reserved := []ipam.ReservedSpec{{IPs: list(2)}}
		want := model(pools, reserved)
		for name, s := range ipam.Usable(pools, nil, reserved) {
			var got []string
			for _, free := range s.Free.Ranges() {
				for a := free.From(); !free.To().Less(a); a = a.Next() {
					got = append(got, a.String())
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want[name]) {
				t.Errorf("%s (%s: %s): %q: want %q\n%+v", name, s.State, s.Reason, got, want[name], pools)
			}
		}
	})
}

// TestSubnetBesideApplications: a subnet may lose what an application's pool has, which gets others for
// it, but not what another pool has.
func TestSubnetBesideApplications(t *testing.T) {
	was := ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.10-10.6.0.30"}}
	now := was
	now.ExcludeIPs = []string{"10.6.0.11"}
	p := pool("a", 1, ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.10-10.6.0.11"}}})
	for _, auto := range []*ipam.AutoPool{nil, {Application: testApp, Interface: "net1", Subnet: "s"}} {
		p.Auto = auto
		var got []string
		for _, f := range (ipam.Subnet{Name: "s", Spec: now}).Beside(&was, nil, []ipam.Pool{p}) {
			got = append(got, f.String())
		}
		if refused := len(got) > 0; refused != (auto == nil) {
			t.Errorf("%v: %q", auto, got)
		}
	}
}

// TestBesideGateways: a pool that hands another one's router out, or names one that another one hands
// out, is warned of. A pod may be a router, so it isn't refused.
func TestBesideGateways(t *testing.T) {
	lan := pool("lan", 1, spec("10.6.1.1-10.6.1.9"), gateway("10.6.0.1"))
	routed := func(ips string) ipam.Pool { return pool("new", 2, spec(ips), gateway("10.6.1.5")) }
	const out, given = "spec.ips: 10.6.0.1: it is the gateway of SpiderIPPool lan: want other addresses, unless a pod is its router",
		"spec.gateway: 10.6.1.5: SpiderIPPool lan hands it out: want it in the excludeIPs of that one, unless a pod is the router"
	same := spec("10.6.0.1-10.6.0.5")
	for _, tt := range []struct {
		name   string
		p      ipam.Pool
		former *ipam.PoolSpec
		want   []string
	}{
		{"a new pool has the router", pool("new", 2, spec("10.6.0.1-10.6.0.5")), nil, []string{out}},
		{"a changed pool has it now", pool("new", 2, spec("10.6.0.1-10.6.0.5")), ptr(spec("10.6.0.2-10.6.0.5")), []string{out}},
		{"a changed pool had it before", pool("new", 2, spec("10.6.0.1-10.6.0.9")), &same, nil},
		{"it excludes the router", pool("new", 2, ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.1-10.6.0.5"}, ExcludeIPs: []string{"10.6.0.1"}}}), nil, nil},
		{"it has the same router, and never hands it out", pool("new", 2, spec("10.6.0.1-10.6.0.5"), gateway("10.6.0.1")), nil, nil},
		{"another network", pool("new", 2, spec("10.6.0.1-10.6.0.5"), in("dmz")), nil, nil},
		{"a new pool's router is handed out", routed("10.6.0.2"), nil, []string{given}},
		{"a changed pool's router is, from now on", routed("10.6.0.2"), ptr(spec("10.6.0.2")), []string{given}},
		{"a changed pool's router is, as before", routed("10.6.0.2-10.6.0.3"), ptr(routed("10.6.0.2").Spec), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range tt.p.Beside(tt.former, []ipam.Pool{lan}, nil) {
				if !f.Warning {
					t.Errorf("refused: %s", f)
				}
				got = append(got, f.Path+": "+f.Message)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestStocks: what a subnet hands out to applications and to pods without one.
func TestStocks(t *testing.T) {
	lan := ipam.Subnet{Name: "lan", UID: "1", Spec: ipam.SubnetSpec{
		Subnet: "10.6.0.0/24", IPs: []string{"10.6.0.0-10.6.0.20"}, ExcludeIPs: []string{"10.6.0.1", "10.6.0.3"}, Gateway: ptr("10.6.0.1"),
	}}
	later := ipam.Subnet{Name: "later", UID: "2", Spec: ipam.SubnetSpec{Subnet: "10.6.0.0/25", IPs: []string{"10.6.0.5"}, ExcludeIPs: []string{"10.6.0.7"}}}
	elsewhere := ipam.Subnet{Name: "elsewhere", UID: "3", Spec: ipam.SubnetSpec{Subnet: "10.6.0.0/24", ExcludeIPs: []string{"10.6.0.9"}, Network: "storage"}}
	pool := ipam.Pool{Name: "pool", UID: "4", Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/24", IPs: []string{"10.6.0.11-10.6.0.13"}, ExcludeIPs: []string{"10.6.0.12"}}}}
	reserved := []ipam.ReservedSpec{{IPs: []string{"10.6.0.15"}}}
	subnets := []ipam.Subnet{lan, later, elsewhere}
	got := ipam.Stocks([]ipam.Pool{pool}, subnets, reserved, ipam.Usable([]ipam.Pool{pool}, subnets, reserved))
	if free := strings.Join(ipam.Text(got["lan"].Free), " "); free != "10.6.0.2 10.6.0.4-10.6.0.6 10.6.0.8-10.6.0.10 10.6.0.12 10.6.0.14 10.6.0.16-10.6.0.20" {
		t.Errorf("lan has %s", free)
	}
	if len(got["later"].Free.Ranges()) > 0 || got["later"].Reason == "" {
		t.Errorf("later, which overlaps with lan, has %v: %s", ipam.Text(got["later"].Free), got["later"].Reason)
	}
}
