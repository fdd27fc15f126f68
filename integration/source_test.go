// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// tunnels are what a VPN's client makes on a node: a link with an address, a rule
// before table main, and in its table a route for everything. IP stands for ip(8) with its family.
var tunnels = map[string]string{
	"exit node": `
		IP route add default dev tun0 table 52
		IP rule add pref 5270 lookup 52`,
	"before our rule": `
		IP route add default dev tun0 table 52
		IP rule add pref 700 lookup 52`,
	"WireGuard": `
		IP route add default dev tun0 table 51820
		IP rule add pref 32764 not fwmark 0xca6c lookup 51820
		IP rule add pref 32763 lookup main suppress_prefixlength 0`,
	"by iif, oif, uid and mark": `
		IP route add default dev tun0 table 52
		IP rule add pref 100 iif lo lookup 52
		IP rule add pref 101 oif ens224 lookup 52
		IP rule add pref 102 uidrange 0-0 lookup 52
		IP rule add pref 103 fwmark 0x80000/0xff0000 lookup 52`,
	"with local subnets thrown": `
		IP route add default dev tun0 table 52
		IP route add throw NODE table 52
		IP rule add pref 900 lookup 52`,
	"unreachable": `
		IP route add unreachable default table 52
		IP rule add pref 5270 lookup 52`,
	"blackhole": `
		IP route add blackhole POD`,
	"prohibited": `
		IP rule add pref 32000 to POD prohibit`,
}

// tunnelled puts one of them onto the site's node, for both families; the link has
// addresses that are in no pod's subnet.
func (s *site) tunnelled(t *testing.T, kind string) {
	t.Helper()
	script := `
		ip link add tun0 type veth peer name far0
		ip link set tun0 up
		ip link set far0 up
		ip addr add 9.0.0.7/32 dev tun0
		ip addr add fc00:9::7/128 dev tun0 nodad`
	for _, of := range [][]string{{"ip -4", "10.6.0.0/16", "10.9.0.0/16"}, {"ip -6", "fd00:6::/64", "fd00:9::/64"}} {
		script += strings.NewReplacer("IP", of[0], "NODE", of[1], "POD", of[2]).Replace(tunnels[kind])
	}
	sh(t, s.Node.Netns, script)
}

// agreed runs ADD of an attachment, and fails unless explain named each source before
// that ADD gives a route, and CHECK, explain and a repeated ADD, as repair does it,
// find nothing to do behind it.
func (w situation) agreed(t *testing.T, s *site, a *attachment) {
	t.Helper()
	e := explained{attachment: a, add: w.call(a, "ADD")}
	said := e.explain(t, "--netns", a.Path())
	e.add.fine(t)
	for _, p := range a.Addrs(a.nic) {
		dst := p.Addr().String() + " "
		family := "ip " + ipFamily(p.Addr()) + " route show table "
		_, made, _ := strings.Cut(line(t, s.Node.Netns, family+"500; "+family+"main", dst), " src ")
		src, _, _ := strings.Cut(made, " ")
		if i := strings.Index(said, " route add "+dst); i < 0 || src != "" && !strings.Contains(strings.Split(said[i:], "\n")[0], " src "+src+" ") {
			t.Errorf("ADD made a route to %swith source %q, and explain said\n%s", dst, src, said)
		}
	}
	out := w.call(a, "CHECK").run(t)
	if !out.state.Success() {
		t.Errorf("CHECK right after ADD: %s", out.stdout)
	}
	before := noRun(withoutTimers(stateOf(t, s.Lab, a.Netns)))
	var left struct{ Operations []any }
	if text := e.explain(t, "--netns", a.Path(), "-o", "json"); json.Unmarshal([]byte(text), &left) != nil || len(left.Operations) > 0 {
		t.Errorf("behind ADD explain says\n%s", text)
	}
	e.add.fine(t)
	same(t, "ADD again", before, noRun(withoutTimers(stateOf(t, s.Lab, a.Netns))))
}

// TestSourceWithTunnels has nodes whose rules lead elsewhere before there is ours, and
// pods in a subnet of the node and in another one, of situations that are drawn: the
// verbs agree. The seed is fixed, so that a failure can be repeated.
func TestSourceWithTunnels(t *testing.T) {
	const draws = 3
	for i, kind := range slices.Sorted(maps.Keys(tunnels)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(11, uint64(i)))
			s := emptySite(t, twoLANs["dual"], chained)
			s.tunnelled(t, kind)
			ways := situations()
			names := slices.Sorted(maps.Keys(ways))
			for n := range draws {
				name := names[r.IntN(len(names))]
				w := ways[name]
				subnet := []int{6 + w.lan, 9}[r.IntN(2)]
				more := []string{"true", "ip addr replace 10.9.9.9/32 dev lo", "ip addr replace 9.1.0.1/24 dev ens224", "ip addr replace fd00:6::1:1/64 dev ens192 nodad preferred_lft 0"}[r.IntN(4)]
				first := r.IntN(2) == 0
				t.Logf("%s, subnet %d, %q, before any rule: %v", name, subnet, more, first)
				sh(t, s.Node.Netns, more)
				o := s.of(s.newPod(t, fmt.Sprintf("pod%d", n)))
				a := w.begin(t, o, 20+n, prefixesOf(fmt.Sprintf("10.%d.170.%d/16", subnet, 120+n), fmt.Sprintf("fd00:%d::170:%d/64", subnet, 120+n)))
				if first {
					sh(t, s.Node.Netns, "ip rule del pref 1000; ip -6 rule del pref 1000")
				}
				w.agreed(t, o, a)
				sh(t, s.Node.Netns, "for f in -4 -6; do ip $f rule show | grep -q ^1000: || ip $f rule add pref 1000 lookup 500 proto 109; done")
			}
		})
	}
}
