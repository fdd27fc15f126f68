// SPDX-License-Identifier: Apache-2.0

package fib_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/survey"
	"github.com/multihome/multihome/pkg/testbed"
)

// oddities is a namespace with what no plugin makes: rules and routes of every kind,
// in all their combinations, two NICs in one subnet, links that are down, and
// settings that change what may come in. What is put there is drawn by lot.
type oddities struct {
	*rand.Rand
	t  *testing.T
	ns *testbed.Netns
}

// links are those of the namespace. All but the last two are up and have a peer that
// is; of them, the first is down, and the peer of the second.
var links = []string{"a0", "b0", "c0", "down0", "still0"}

func newOddities(t *testing.T, seed uint64) oddities {
	ns, err := testbed.NewNetns("odd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	far, err := testbed.NewNetns("far")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	o := oddities{rand.New(rand.NewPCG(seed, 2)), t, ns}
	for _, l := range links {
		if err := testbed.ConnectVeth(ns, l, far, l); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range links[:3] {
		o.ip("addr add 10.%d.0.2/16 dev %s", i+1, l)
		o.ip("addr add fd00:%d::2/64 dev %s nodad", i+1, l)
	}
	o.ip("addr add 10.1.9.9/16 dev b0") // a second NIC in the subnet of a0
	o.ip("addr add fd00:1::9/64 dev b0 nodad")
	o.ip("addr add 10.1.0.3/16 dev a0") // a second address of a subnet
	o.ip("addr add 10.4.0.2/24 dev still0")
	o.ip("addr add 10.5.0.2 peer 10.5.1.1/24 dev c0")
	o.ip("addr add 2001:db8::2/64 dev c0 nodad preferred_lft 0")
	// Addresses of several labels and scopes on one link (RFC 6724, section 2.1).
	for _, a := range []string{"2001:0:1::2", "2001:10::2", "2002:1::2", "2001:db8:1::2", "fec0::2"} {
		o.ip("addr add %s/64 dev a0 nodad", a)
	}
	o.ip("addr add 169.254.7.7/16 dev c0 scope link")
	if err := far.SetDown("still0"); err != nil {
		t.Fatal(err)
	}
	o.sysctls()
	var lines []string
	for range 30 {
		lines = append(lines, o.route())
	}
	for range 12 {
		lines = append(lines, o.rule())
	}
	o.try(lines...)
	// After the routes, so that some are dead.
	if err := ns.SetDown("down0"); err != nil {
		t.Fatal(err)
	}
	o.settle()
	return o
}

// settle waits until the kernel has seen that a link has lost its carrier, for which
// it takes its time (net/core/link_watch.c).
func (o oddities) settle() {
	for range 12_000 {
		if out, err := o.run("route show 10.4.0.0/24 dev still0"); err != nil || strings.Contains(string(out), "linkdown") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	o.t.Fatal("still0 keeps its carrier")
}

func (o oddities) sysctls() {
	for _, dev := range append([]string{"all"}, links...) {
		for _, name := range []string{"forwarding", "rp_filter", "accept_local", "route_localnet", "src_valid_mark", "send_redirects", "ignore_routes_with_linkdown"} {
			value := o.IntN(4) / 3
			switch name {
			case "forwarding":
				value = min(o.IntN(3), 1)
			case "rp_filter":
				value = o.IntN(3) * value
			}
			if err := o.ns.SetSysctl("ipv4/conf/"+dev+"/"+name, fmt.Sprint(value)); err != nil {
				o.t.Fatal(err)
			}
		}
		if err := o.ns.SetSysctl("ipv6/conf/"+dev+"/ignore_routes_with_linkdown", fmt.Sprint(o.IntN(2))); err != nil {
			o.t.Fatal(err)
		}
	}
	if err := o.ns.SetSysctl("ipv6/conf/all/forwarding", fmt.Sprint(o.IntN(2))); err != nil {
		o.t.Fatal(err)
	}
}

// one returns one of several words.
func (o oddities) one(of ...string) string { return of[o.IntN(len(of))] }

func (o oddities) route() string {
	table := o.one("main", "main", "100", "100", "101", "101", "102", "102", "local")
	metric := o.one("", "", " metric 7", " metric 7", " metric 2000")
	link := o.one(links...)
	if o.IntN(2) == 0 {
		dst := o.one("default", "default", "10.0.0.0/8", "10.1.0.0/16", "10.96.0.0/12", "10.1.0.128/25", "10.1.0.3", "198.51.100.0/24", "127.1.0.0/16")
		gateway := func() string { return fmt.Sprintf("10.%d.0.%d", 1+o.IntN(3), 1+o.IntN(9)) }
		switch o.IntN(7) {
		case 0:
			return fmt.Sprintf("route add %s %s table %s%s", o.one("blackhole", "unreachable", "prohibit", "throw"), dst, table, metric)
		case 1:
			return fmt.Sprintf("route add %s dev %s table %s%s", dst, link, table, metric)
		case 2:
			return fmt.Sprintf("route add %s dev %s table %s src 10.%d.0.2%s", dst, link, table, 1+o.IntN(3), metric)
		case 3:
			return fmt.Sprintf("route add %s table %s%s nexthop via %s dev a0 nexthop via %s dev b0 onlink", dst, table, metric, gateway(), gateway())
		case 4:
			// Not one that makes gateways local: what those are is decided when a route
			// by them is made, and nothing tells it later.
			return fmt.Sprintf("route add local %s dev lo table %s", o.one("10.96.0.0/12", "198.51.100.0/24"), table)
		case 5:
			return fmt.Sprintf("route append %s via %s dev %s onlink table %s%s", dst, gateway(), link, table, metric)
		}
		return fmt.Sprintf("route add %s via %s dev %s onlink table %s%s", dst, gateway(), link, table, metric)
	}
	dst := o.one("default", "default", "fd00::/16", "fd00:1::/64", "fd00:10:96::/108", "fd00:1::9", "2001:db8:1::/48", "fe80::/64")
	gateway := func() string { return fmt.Sprintf("fd00:%d::%d", 1+o.IntN(3), 1+o.IntN(9)) }
	switch o.IntN(8) {
	case 0:
		return fmt.Sprintf("-6 route add %s %s table %s%s", o.one("blackhole", "unreachable", "prohibit", "throw"), dst, table, metric)
	case 1:
		return fmt.Sprintf("-6 route append %s dev %s table %s%s", dst, link, table, metric)
	case 2:
		return fmt.Sprintf("-6 route add %s dev %s table %s src fd00:%d::2%s", dst, link, table, 1+o.IntN(3), metric)
	case 3:
		return fmt.Sprintf("-6 route add %s table %s%s nexthop via %s dev a0 nexthop via %s dev b0", dst, table, metric, gateway(), gateway())
	case 4:
		return fmt.Sprintf("-6 route add local %s dev lo table %s", dst, table)
	case 5:
		// Where there is a route for all sources as well: without, the kernel finds it
		// or doesn't, by what else was there when it was made (fib6_node_lookup_1
		// compares with a leaf that may be another node's).
		return fmt.Sprintf("-6 route add fd00:%d::/64 from fd00:%d::/64 dev %s%s", 1+o.IntN(3), 1+o.IntN(3), link, metric)
	case 6:
		return fmt.Sprintf("-6 route add %s via %s dev %s table %s%s pref %s", dst, gateway(), link, table, metric, o.one("low", "medium", "high"))
	}
	return fmt.Sprintf("-6 route append %s via %s dev %s onlink table %s%s", dst, gateway(), link, table, metric)
}

func (o oddities) rule() string {
	words := []string{"rule add"}
	from := []string{"from all", "from 10.1.0.0/16", "from 10.2.0.2", "to 10.96.0.0/12", "to 10.1.0.0/16"}
	if o.IntN(2) == 0 {
		words = []string{"-6 rule add"}
		from = []string{"from all", "from fd00:1::/64", "from fd00:2::2", "to fd00:10:96::/108", "to fd00:1::/64"}
	}
	words = append(words, fmt.Sprintf("pref %d", 100*(1+o.IntN(20))), o.one("", "", "", "not"), o.one(from...),
		o.one("", "", "", "", "fwmark 0x1/0x1", "fwmark 0x10000000/0x10000000"),
		o.one("", "", "", "", "", "", "iif lo", "iif a0", "iif nowhere0", "oif b0"),
		o.one("", "", "", "", "uidrange 0-999"), o.one("", "", "", "", "", "", "ipproto tcp", "ipproto udp dport 53", "ipproto tcp sport 1-30000"))
	if o.IntN(5) == 0 {
		return strings.Join(append(words, o.one("blackhole", "unreachable", "prohibit", "nop", "goto 1500")), " ")
	}
	return strings.Join(append(words, "lookup", o.one("main", "100", "100", "101", "101", "102", "102", "103"),
		o.one("", "", "", "", "suppress_prefixlength 0", "suppress_prefixlength 16", "suppress_ifgroup 0")), " ")
}

// ip runs ip(8).
func (o oddities) ip(format string, a ...any) {
	o.t.Helper()
	if out, err := o.run(fmt.Sprintf(format, a...)); err != nil {
		o.t.Fatalf("ip %s: %v: %s", fmt.Sprintf(format, a...), err, out)
	}
}

// try does what the kernel may refuse: that it is there already, for instance.
func (o oddities) try(lines ...string) {
	_ = o.ns.Do(func() error {
		for _, family := range []string{"-4", "-6"} {
			c := exec.Command("ip", family, "-force", "-batch", "-")
			var batch strings.Builder
			for _, line := range lines {
				if rest, ipv6 := strings.CutPrefix(line, "-6 "); ipv6 == (family == "-6") {
					batch.WriteString(rest + "\n")
				}
			}
			c.Stdin = strings.NewReader(batch.String())
			_ = c.Run()
		}
		return nil
	})
}

func (o oddities) run(line string) (out []byte, err error) {
	err = o.ns.Do(func() (err error) {
		out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput()
		return err
	})
	return out, err
}

var rounds = flag.Uint64("rounds", 24, "how many namespaces of oddities are drawn")

func TestAgreesOnOddities(t *testing.T) {
	seen := outcomes{}
	for seed := range *rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			o := newOddities(t, seed)
			err := o.ns.Do(func() error {
				k, err := kernel.OpenHost()
				if err != nil {
					return err
				}
				defer k.Close()
				seen.add(compare(t, k.Host, seed))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				o.log("rule", "-6 rule", "route show table all", "-6 route show table all", "addr")
			}
		})
	}
	seen.want(t, 20, "IPv4 output: unicast", "IPv4 output: local", "IPv4 output: broadcast", "IPv4 output: multicast",
		"IPv4 output: network is unreachable", "IPv4 output: invalid argument", "IPv4 output: no route to host", "IPv4 output: permission denied",
		"IPv4 input: unicast", "IPv4 input: local", "IPv4 input: broadcast",
		"IPv4 input: network is unreachable", "IPv4 input: invalid argument", "IPv4 input: no route to host",
		"IPv6 output: unicast", "IPv6 output: local", "IPv6 output: multicast",
		"IPv6 output: network is unreachable", "IPv6 output: invalid argument", "IPv6 output: no route to host", "IPv6 output: permission denied",
		"IPv6 input: unicast", "IPv6 input: local", "IPv6 input: network is unreachable",
		"IPv4 table 100", "IPv4 table 101", "IPv4 table 102", "IPv6 table 100", "IPv6 table 101", "IPv6 table 102")
	t.Logf("%d tuples: %v", seen["tuples"], seen)
}

// log logs what ip(8) says.
func (o oddities) log(lines ...string) {
	for _, line := range lines {
		out, _ := o.run(line)
		o.t.Logf("ip %s\n%s", line, out)
	}
}

// TestAgreesOnGatewaysThatDoNotAnswer: of IPv6 gateways, those that are known not to
// answer are the last that the kernel takes, where it isn't a router.
func TestAgreesOnGatewaysThatDoNotAnswer(t *testing.T) {
	for _, forwarding := range []string{"0", "1"} {
		o := newOddities(t, 0)
		o.try("-6 rule flush", "-6 route flush table 100", "-6 rule add pref 0 lookup local", "-6 rule add pref 1 lookup 100", "-6 rule add pref 32766 lookup main")
		o.ip("-6 route add default via fd00:1::5 dev a0 metric 7 table 100")
		o.ip("-6 route add default via fd00:2::5 dev b0 metric 2000 table 100")
		o.ip("-6 neigh replace fd00:1::5 dev a0 nud failed extern_learn")
		if err := o.ns.SetSysctl("ipv6/conf/all/forwarding", forwarding); err != nil {
			t.Fatal(err)
		}
		err := o.ns.Do(func() error {
			k, err := kernel.OpenHost()
			if err != nil {
				return err
			}
			defer k.Close()
			compare(t, k.Host, 1)
			want := map[string]string{"0": "b0", "1": "a0"}[forwarding]
			got, err := survey.Decide(k.Host, fib.Flow{Dst: netip.MustParseAddr("2a00::1")})
			if got.Dev != want {
				t.Errorf("forwarding %s: the kernel goes by %v, want %s: what this is about is not there", forwarding, got, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
