// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/ipam"
)

func stock(ranges ...string) ipam.Stock { return ipam.Stock{Free: ipam.Addresses(ranges)} }

func key(addr string) ipam.Key { return ipam.Key{Addr: netip.MustParseAddr(addr)} }

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// applicant returns a pod with a need for each list of pools; the number says how old it is.
func applicant(id string, age int, pools ...string) ipam.Applicant {
	a := ipam.Applicant{ID: id, Since: start.Add(-time.Duration(age) * time.Second)}
	for i, p := range pools {
		a.Needs = append(a.Needs, ipam.Need{Interface: fmt.Sprintf("net%d", i+1), Pools: strings.Fields(p)})
	}
	return a
}

// got returns what was granted as text: a: net1 10.0.0.1, net2 10.0.1.1; b: nothing.
func got(granted map[string][]ipam.Grant, line ...ipam.Applicant) string {
	var out []string
	for _, a := range line {
		var parts []string
		for _, g := range granted[a.ID] {
			parts = append(parts, g.Interface+" "+g.Key.Addr.String())
		}
		out = append(out, a.ID+": "+strings.Join(parts, ", "))
	}
	return strings.Join(out, "; ")
}

func TestAllocate(t *testing.T) {
	for _, test := range []struct {
		name  string
		pools map[string]ipam.Stock
		taken []string
		line  []ipam.Applicant
		want  string
	}{
		{"lowest first", map[string]ipam.Stock{"a": stock("10.0.0.5-10.0.0.9", "10.0.0.2")}, []string{"10.0.0.2"},
			[]ipam.Applicant{applicant("x", 2, "a"), applicant("y", 1, "a")}, "x: net1 10.0.0.5; y: net1 10.0.0.6"},
		{"X11: two NICs on one pool", map[string]ipam.Stock{"a": stock("10.0.0.1-10.0.0.2")}, nil,
			[]ipam.Applicant{applicant("x", 1, "a", "a")}, "x: net1 10.0.0.1, net2 10.0.0.2"},
		{"X10: the second pool when the first is empty, before the third", map[string]ipam.Stock{"a": stock("10.0.0.1"), "b": stock("10.0.1.1"), "c": stock("10.0.2.1")}, []string{"10.0.0.1"},
			[]ipam.Applicant{applicant("x", 1, "a b c")}, "x: net1 10.0.1.1"},
		{"A00016: all or nothing", map[string]ipam.Stock{"a": stock("10.0.0.1"), "b": stock("10.0.1.1")}, []string{"10.0.1.1"},
			[]ipam.Applicant{applicant("x", 2, "a", "b"), applicant("y", 1, "a")}, "x: ; y: net1 10.0.0.1"},
		{"the oldest first", map[string]ipam.Stock{"a": stock("10.0.0.1")}, nil,
			[]ipam.Applicant{applicant("young", 1, "a"), applicant("old", 2, "a")}, "young: ; old: net1 10.0.0.1"},
		{"IPv6 of any size", map[string]ipam.Stock{"a": stock("fd00::-fd00:0:0:0:ffff:ffff:ffff:ffff")}, []string{"fd00::"},
			[]ipam.Applicant{applicant("x", 1, "a")}, "x: net1 fd00::1"},
		{"no such pool", nil, nil, []ipam.Applicant{applicant("x", 1, "a")}, "x: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, about := range test.line {
				l := ipam.NewLedger()
				l.SetPools(test.pools)
				for _, a := range test.taken {
					l.Set(key(a), ipam.Object)
				}
				granted, lacks := l.Allocate(start, test.line, about.ID)
				if got := got(granted, test.line...); got != test.want {
					t.Errorf("granted %s, want %s", got, test.want)
				}
				if (len(granted[about.ID]) == 0) != (len(lacks) > 0) {
					t.Errorf("%s: granted %v, and lacks %v", about.ID, granted[about.ID], lacks)
				}
			}
		})
	}
}

// TestPatience: a pod that waits for an empty pool doesn't keep what its other pool has; after
// five minutes it does.
func TestPatience(t *testing.T) {
	l := ipam.NewLedger()
	l.SetPools(map[string]ipam.Stock{"a": stock("10.0.0.1"), "b": stock("10.0.1.1-10.0.1.2")})
	l.Set(key("10.0.0.1"), ipam.Object)
	old, young, last := applicant("old", 3, "a", "b"), applicant("young", 2, "b"), applicant("last", 1, "b")
	granted, _ := l.Allocate(start, []ipam.Applicant{old, young}, "")
	if got, want := got(granted, old, young), "old: ; young: net1 10.0.1.1"; got != want {
		t.Fatalf("at first: %s, want %s", got, want)
	}
	granted, lacks := l.Allocate(start.Add(ipam.Patience), []ipam.Applicant{old, last}, "old")
	if got, want := got(granted, old, last), "old: ; last: "; got != want {
		t.Fatalf("after five minutes: %s, want %s", got, want)
	}
	if got, want := lacks[0].Message, "no IPv4 address for net1: pool a: 1 of 1 addresses are in use"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	l.Clear(key("10.0.0.1"), ipam.Object)
	granted, _ = l.Allocate(start.Add(ipam.Patience), []ipam.Applicant{old, last}, "old")
	if got, want := got(granted, old, last), "old: net1 10.0.0.1, net2 10.0.1.2; last: "; got != want {
		t.Fatalf("at last: %s, want %s", got, want)
	}
}

// TestTurn: an address that came back is handed out after those that never were, and then the
// one that came back first.
func TestTurn(t *testing.T) {
	l := ipam.NewLedger()
	l.SetPools(map[string]ipam.Stock{"a": stock("10.0.0.1-10.0.0.4")})
	next := func() string {
		granted, _ := l.Allocate(start, []ipam.Applicant{applicant("x", 1, "a")}, "")
		if len(granted["x"]) == 0 {
			return "none"
		}
		return granted["x"][0].Key.Addr.String()
	}
	var order []string
	for range 3 {
		order = append(order, next())
	}
	l.Clear(key("10.0.0.2"), ipam.Promise)
	l.Clear(key("10.0.0.1"), ipam.Promise)
	for range 4 {
		order = append(order, next())
	}
	want := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.2", "10.0.0.1", "none"}
	if !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// FuzzPassedOver compares two ledgers. In one of them each need has one more pool, which has an address that it may not
// hand out. So it doesn't pass over a pod whose pools have nothing before it tries: the same pods get addresses of the
// same pools.
func FuzzPassedOver(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		ledgers := []*ipam.Ledger{ipam.NewLedger(), ipam.NewLedger()}
		for _, l := range ledgers {
			l.SetPools(map[string]ipam.Stock{"a": stock("10.0.0.1-10.0.0.3"), "b": stock("10.0.1.1-10.0.1.2"), "app": {Auto: true, Free: ipam.Addresses([]string{"10.0.2.1-10.0.2.3"})}})
			l.Keep(key("10.0.3.1"), "never", ipam.Kept)
			for i := range 3 {
				l.Keep(key(fmt.Sprintf("10.0.2.%d", i+1)), "app", ipam.Kept)
			}
		}
		var taken [2][]ipam.Key // the same pods' of the same pools
		var line []ipam.Applicant
		now := start
		for i := range 60 {
			now = now.Add(time.Duration(r.IntN(100)) * time.Second)
			if i := r.IntN(len(taken[0]) + 2); i < len(taken[0]) {
				for n, l := range ledgers {
					l.Clear(taken[n][i], ipam.Promise)
					taken[n] = slices.Delete(taken[n], i, i+1)
				}
			}
			var needs []string
			for range 1 + r.IntN(3) {
				needs = append(needs, []string{"a", "b", "app", "a b", "app a"}[r.IntN(5)])
			}
			line = append(line, applicant(fmt.Sprint(i), r.IntN(5), needs...))
			about := line[r.IntN(len(line))].ID
			var out [2]string
			for n, l := range ledgers {
				asked := slices.Clone(line)
				if n == 1 {
					for j, a := range asked {
						asked[j].Needs = slices.Clone(a.Needs)
						for k := range a.Needs {
							asked[j].Needs[k].Pools = append(slices.Clone(a.Needs[k].Pools), "never")
						}
					}
				}
				granted, lacks := l.Allocate(now, asked, about)
				for _, a := range line {
					out[n] += a.ID + ":"
					for _, g := range granted[a.ID] {
						out[n] += " " + g.Pool
						taken[n] = append(taken[n], g.Key)
					}
				}
				for _, lack := range lacks {
					out[n] += "; " + strings.TrimSuffix(lack.Message, ", pool never: 0 of 1 addresses are in use")
				}
				if n == 1 {
					line = slices.DeleteFunc(line, func(a ipam.Applicant) bool { return granted[a.ID] != nil })
				}
			}
			if out[0] != out[1] {
				t.Fatalf("round %d: %s, want %s", i, out[0], out[1])
			}
		}
	})
}

// FuzzLedger holds the ledger to a plain model: a set of addresses for each pool, and a list
// of what is taken.
func FuzzLedger(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := ipam.NewLedger()
		sizes := map[string]int{"a": 1 + r.IntN(4), "b": 1 + r.IntN(4), "c": r.IntN(3)}
		addr := func(pool string, i int) string { return fmt.Sprintf("10.0.%d.%d", pool[0]-'a', i+1) }
		pools := func() map[string]ipam.Stock {
			out := map[string]ipam.Stock{}
			for name, n := range sizes {
				var ranges []string
				for i := range n {
					ranges = append(ranges, addr(name, i))
				}
				out[name] = stock(ranges...)
			}
			return out
		}
		l.SetPools(pools())
		taken := map[ipam.Key]int{} // how many reasons
		for range 200 {
			switch r.IntN(5) {
			case 0: // a claim names an address, or does so no more
				k := key(addr(string("abc"[r.IntN(3)]), r.IntN(5)))
				if taken[k] == 0 {
					l.Name(k)
					taken[k]++
				}
			case 1, 2:
				for k := range taken {
					if taken[k] > 0 {
						l.Unname(k)
						l.Clear(k, ipam.Promise)
						taken[k] = 0
						break
					}
				}
			case 3:
				sizes[string("abc"[r.IntN(3)])] = r.IntN(5)
				l.SetPools(pools())
			case 4:
				var line []ipam.Applicant
				for i := range 1 + r.IntN(4) {
					var needs []string
					for range 1 + r.IntN(3) {
						needs = append(needs, []string{"a", "b", "c", "a b", "c a"}[r.IntN(5)])
					}
					line = append(line, applicant(fmt.Sprint(i), r.IntN(5), needs...))
				}
				about := line[r.IntN(len(line))].ID
				now := start.Add(time.Duration(r.IntN(600)) * time.Second)
				granted, lacks := l.Allocate(now, line, about)
				for _, a := range line {
					for _, g := range granted[a.ID] {
						if taken[g.Key] > 0 {
							t.Fatalf("%v is granted to %s and was taken", g.Key, a.ID)
						}
						taken[g.Key] = 1
						if !slices.Contains(g.Pools, g.Pool) || !ipam.Addresses([]string{addr(g.Pool, 0) + "-" + addr(g.Pool, max(0, sizes[g.Pool]-1))}).Contains(g.Key.Addr) {
							t.Fatalf("%v isn't of the pools %v", g.Key, g.Pools)
						}
					}
					if n := len(granted[a.ID]); n != 0 && n != len(a.Needs) || a.ID == about && (n == 0) != (len(lacks) > 0) {
						t.Fatalf("%s: %d of %d needs, lacks %v", a.ID, n, len(a.Needs), lacks)
					}
				}
			}
			for name, n := range sizes {
				used := 0
				for i := range n {
					if taken[key(addr(name, i))] > 0 {
						used++
					}
				}
				if total, u := l.Counts(name); total != int64(n) || u != int64(used) {
					t.Fatalf("pool %s: %d of %d, want %d of %d", name, u, total, used, n)
				}
			}
		}
		// Nothing is lost: all that is free is granted in the end.
		for name, n := range sizes {
			free := 0
			for i := range n {
				if taken[key(addr(name, i))] == 0 {
					free++
				}
			}
			for i := range free {
				if granted, _ := l.Allocate(start, []ipam.Applicant{applicant("last", 1, name)}, ""); len(granted) == 0 {
					t.Fatalf("pool %s: %d of %d free addresses are granted", name, i, free)
				}
			}
		}
	})
}
