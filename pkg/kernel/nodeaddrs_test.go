// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCommonBits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"fd00:6::1", "fd00:6::1", 128},
		{"fd00:6::2", "fd00:6::3", 127},
		{"fd00:6::", "fd00:7::", 31},
		{"::", "8000::", 0},
	} {
		if got := commonBits(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)); got != tt.want {
			t.Errorf("commonBits(%s, %s) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestAddrsOfLinkThatIsGone: links of others come and go while they are looked
// through one by one.
func TestAddrsOfLinkThatIsGone(t *testing.T) {
	k, err := OpenHost()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const nobodys = 1 << 30
	if addrs, err := k.Host.Addrs(nobodys); len(addrs) > 0 || err != nil {
		t.Errorf("addresses %v, error %v, want none", addrs, err)
	}
}

// owns are addresses of a node on links 2, 3, …; a word behind one is a flag of it.
func owns(lines ...string) (out []ownAddr) {
	for _, l := range lines {
		f := strings.Fields(l)
		o := ownAddr{Prefix: netip.MustParsePrefix(f[0])}
		for _, w := range f[1:] {
			switch w {
			case "deprecated":
				o.deprecated = true
			case "secondary":
				o.secondary = true
			default:
				o.index, _ = strconv.Atoi(w)
			}
		}
		out = append(out, o)
	}
	return out
}

func TestNodeAddrs(t *testing.T) {
	for name, tt := range map[string]struct {
		pod   []string
		own   []string
		route map[string]string // what the kernel sends from; others are not asked for
		want  string
	}{
		"in the pod's subnet, whatever the routes are": {
			[]string{"10.6.168.10/16", "fd00:6::a/64"}, []string{"10.1.0.5/16 2", "10.6.0.5/16 3", "fd00:1::5/64 2", "fd00:6::5/64 3"},
			nil, "10.6.0.5 fd00:6::5 10.1.0.5 fd00:1::5",
		},
		"not a floating address that is lower": {
			[]string{"10.6.168.10/16"}, []string{"10.6.0.1/16 2 secondary", "10.6.0.2/32 2", "10.6.0.5/16 2"},
			nil, "10.6.0.5 10.6.0.1 10.6.0.2",
		},
		"not a deprecated one": {
			[]string{"fd00:6::a/64"}, []string{"fd00:6::8/64 2 deprecated", "fd00:6::1:5/64 2"},
			nil, "fd00:6::1:5 fd00:6::8",
		},
		"the smallest subnet": {
			[]string{"10.6.168.10/16"}, []string{"10.6.0.5/16 2", "10.6.168.1/24 3"},
			nil, "10.6.168.1 10.6.0.5",
		},
		"a pod's address without a subnet": {
			[]string{"10.6.168.10/32"}, []string{"10.1.0.5/16 2", "10.6.0.5/16 3"},
			nil, "10.6.0.5 10.1.0.5",
		},
		"by the kernel's choice, as it is in no subnet of the node": {
			[]string{"10.9.0.10/16", "fd00:9::a/64"}, []string{"10.1.0.5/16 2", "10.6.0.5/16 3"},
			map[string]string{"10.9.0.10": "10.6.0.5", "fd00:9::a": "fd00::1"}, "10.6.0.5 fd00::1 10.1.0.5",
		},
		"there is no way": {
			[]string{"10.9.0.10/16"}, []string{"10.6.0.5/16 3", "10.1.0.5/16 2"},
			map[string]string{"10.9.0.10": ""}, "10.1.0.5 10.6.0.5",
		},
		"a further address of the pod": {
			[]string{"10.6.168.10/16", "10.7.168.10/16", "10.8.168.10/16"}, []string{"10.6.0.5/16 2"},
			map[string]string{"10.7.168.10": "10.7.0.5", "10.8.168.10": "100.64.0.1"}, "10.6.0.5 10.7.0.5",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var pod []netip.Prefix
			for _, p := range tt.pod {
				pod = append(pod, netip.MustParsePrefix(p))
			}
			got, err := nodeAddrs(pod, owns(tt.own...), func(a netip.Addr) (netip.Addr, error) {
				src, ok := tt.route[a.String()]
				if !ok {
					t.Errorf("the kernel is asked for %s", a)
				}
				addr, _ := netip.ParseAddr(src)
				return addr, nil
			})
			var text []string
			for _, a := range got {
				text = append(text, a.String())
			}
			if s := strings.Join(text, " "); err != nil || s != tt.want {
				t.Errorf("%s, %v, want %s", s, err, tt.want)
			}
		})
	}
}

// FuzzNodeAddrs makes nodes, pods and whatever the kernel may say of the way there:
// with routes to the pod that have the source which a plan gives them, or without
// some of them, the node's addresses are the same.
func FuzzNodeAddrs(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r := rand.New(rand.NewPCG(a, b))
		prefix := func() netip.Prefix {
			if r.IntN(2) == 0 {
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(2)), byte(r.IntN(4))}), []int{8, 16, 24, 30, 32}[r.IntN(5)])
			}
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 6: byte(r.IntN(3)), 15: byte(r.IntN(4))}), []int{32, 56, 64, 126, 128}[r.IntN(5)])
		}
		var pod []netip.Prefix
		for range 1 + r.IntN(4) {
			p := prefix()
			if !slices.ContainsFunc(pod, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
				pod = append(pod, p)
			}
		}
		var own []ownAddr
		for range r.IntN(5) {
			own = append(own, ownAddr{prefix(), 2 + r.IntN(3), r.IntN(4) == 0, r.IntN(4) == 0})
		}
		routes := map[netip.Addr]netip.Addr{}
		for _, p := range pod {
			for range 3 {
				if src := prefix().Addr(); src.Is4() == p.Addr().Is4() { // on a link that isn't the node's own, say a VPN's
					routes[p.Addr()] = src
				}
			}
		}
		towards := func(a netip.Addr) (netip.Addr, error) { return routes[a], nil }
		before, _ := nodeAddrs(pod, own, towards)
		for _, p := range pod {
			if r.IntN(4) > 0 { // else a rule before ours leads there
				routes[p.Addr()] = sourceOf(before, p)
			}
		}
		after, _ := nodeAddrs(pod, own, towards)
		for _, list := range [][]netip.Addr{before, after} { // a plan looks at one family at a time
			slices.SortStableFunc(list, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
		}
		if !slices.Equal(before, after) {
			t.Errorf("pod %v, node %v: first %v, and then %v", pod, own, before, after)
		}
	})
}

// sourceOf is the source of the route to a pod's address in a plan: the first of the
// node's addresses in its subnet, or the first of all.
func sourceOf(node []netip.Addr, p netip.Prefix) netip.Addr {
	of := slices.DeleteFunc(slices.Clone(node), func(n netip.Addr) bool { return n.Is4() != p.Addr().Is4() })
	if i := slices.IndexFunc(of, p.Contains); i >= 0 {
		return of[i]
	}
	if len(of) == 0 {
		return netip.Addr{}
	}
	return of[0]
}
