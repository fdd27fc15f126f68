// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/netstate"
)

// coordinatorCases are the cases of spiderpool's list for coordinator.
var coordinatorCases = []testCase{
	{name: "C00001", what: "underlay, one NIC", run: underlayOneNIC, sound: true},
	{name: "C00002", what: "overlay, one NIC besides", run: overlayOneNIC, sound: true},
	{name: "C00003", what: "underlay, two NICs", run: underlayTwoNICs, sound: true},
	{name: "C00004", what: "overlay, two NICs besides", run: overlayTwoNICs, sound: true},
	{name: "C00005", what: "overlay, the default route by net1", run: overlayDefaultNet1, sound: true},
	{name: "C00006", what: "underlay, the default route by net1", run: underlayDefaultNet1, sound: true},
	{name: "C00007", what: "an address that another host has is refused until it has it no longer, IPv4 and IPv6", run: conflict},
	{name: "C00008", what: "podMACPrefix", run: macPrefix},
	{name: "C00009", what: "a gateway that does not answer is refused", run: gatewayMissing},
	{name: "C00010", what: "what an earlier pod left on the node does not harm a new one", run: leftovers},
	{name: "C00011", what: "the default route is by eth0 unless configured", run: defaultEth0},
	{name: "C00012", what: "Services and the node are asked from eth0's address", run: sourceEth0},
	{name: "C00013", what: "externalTrafficPolicy Local keeps the client's address, also of a pod with two NICs", run: trafficPolicyLocal, sound: true},
	{name: "C00014", what: "podDefaultRouteNIC that is not there is refused", run: defaultMissing},
	{name: "C00015", what: "NICs of any name", run: anyName, sound: true},
	{name: "C00016", what: "hostRuleTable", run: hostRuleTable, sound: true},
	{name: "C00017", what: "tunePodRoutes false", run: tunePodRoutes, sound: true},
	{name: "C00018", what: "a conflicting address goes back to IPAM, and the pod gets another", run: conflictReleased},
	{name: "C00020", what: "everybody reaches everybody with the default route by net1", run: defaultNet1Traffic, sound: true},
	{name: "C00021", what: "three macvlan NICs and podRPFilter 1", run: threeNICs, sound: true},
	{name: "C00022", what: "podMACPrefix that no MAC can begin with is refused", run: badMACPrefix},
	{name: "C00023", what: "vethMTU, and one that no link can have", run: vethMTU, sound: true},
}

// name returns a pod's name that contains the name of its test.
func name(t *testing.T, suffix string) string {
	_, last, _ := strings.Cut(t.Name(), "/")
	return strings.ToLower(strings.ReplaceAll(last, "/", "-")) + "-" + suffix
}

// pair starts a pod on each node, each with its own NICs.
func pair(t *testing.T, nics func() []nic) (a, b *pod) {
	t.Helper()
	a = &pod{name: name(t, "a"), node: "node1", nics: nics()}
	b = &pod{name: name(t, "b"), node: "node2", nics: nics()}
	a.create(t)
	b.create(t)
	a.wait(t)
	b.wait(t)
	return a, b
}

// one starts a pod.
func one(t *testing.T, nics ...nic) *pod {
	t.Helper()
	return start(t, &pod{name: name(t, "a"), node: "node1", nics: nics})
}

// rules checks that the pod has these rules, in the family of an address.
func (p *pod) rules(t *testing.T, family netip.Addr, want ...string) {
	t.Helper()
	wantIn(t, run(t, p.Netns, "ip", familyOf(family), "rule"), want...)
}

// leavesBy checks that the pod sends to an address by this link, from this source.
func (p *pod) leavesBy(t *testing.T, to, link string, source netip.Addr) {
	t.Helper()
	a := netip.MustParseAddr(to)
	wantIn(t, run(t, p.Netns, "ip", familyOf(a), "route", "get", to), " dev "+link+" ", " src "+source.String()+" ")
}

// familyOf returns the option of ip for the family of an address.
func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}

// faraway are addresses behind the router, without a host.
var faraway = []string{"8.8.8.8", "2001:db8::8"}

func underlayOneNIC(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("eth0", 6, nil)} })
	for _, p := range []*pod{a, b} {
		reachable(t, p)
		for _, addr := range p.first() {
			p.rules(t, addr, "32763:\tfrom all fwmark 0x10000000/0x10000000 lookup 100")
			p.leavesBy(t, of(addr, nodeAddrs(p.node)).String(), "veth0", addr)
			wantIn(t, run(t, machines[p.node], "ip", familyOf(addr), "route", "show", "table", "500"), addr.String()+" dev veth")
		}
	}
	same := start(t, &pod{name: name(t, "c"), node: a.node, nics: []nic{newNIC("eth0", 6, nil)}})
	reachEachOther(t, a, b, same)
}

func overlayOneNIC(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("net1", 7, nil)} })
	for _, p := range []*pod{a, b} {
		reachable(t, p)
		for _, addr := range p.overlay {
			p.rules(t, addr, fmt.Sprintf("32764:\tfrom %s lookup 100", addr))
		}
		for _, addr := range p.nics[0].addrs {
			p.rules(t, addr, fmt.Sprintf("32764:\tfrom %s lookup 101", addr))
			route := addr.String() + " dev cni0"
			if addr.Is6() {
				route = fmt.Sprintf("%s via %s dev cni0", addr, of(addr, p.overlay))
			}
			wantIn(t, run(t, machines[p.node], "ip", familyOf(addr), "route", "show", "table", "500"), route)
		}
	}
	reachEachOther(t, a, b)
}

func underlayTwoNICs(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)} })
	for _, p := range []*pod{a, b} {
		reachable(t, p)
		for i, n := range p.nics {
			for _, addr := range n.addrs {
				p.rules(t, addr, fmt.Sprintf("32764:\tfrom %s lookup %d", addr, []int{99, 101}[i]))
			}
		}
		for _, addr := range p.nics[1].addrs {
			wantIn(t, run(t, p.Netns, "ip", familyOf(addr), "route", "show", "table", "101"), "default via ", " dev net1 ", " dev veth0 ")
		}
	}
	reachEachOther(t, a, b)
}

func overlayTwoNICs(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("net1", 7, nil), newNIC("net2", 8, nil)} })
	for _, p := range []*pod{a, b} {
		reachable(t, p)
		for i, n := range p.nics {
			for _, addr := range n.addrs {
				p.rules(t, addr, fmt.Sprintf("32764:\tfrom %s lookup %d", addr, 101+i))
			}
		}
	}
	reachEachOther(t, a, b)
}

var byNet1 = object{"podDefaultRouteNIC": "net1"}

func overlayDefaultNet1(t *testing.T) {
	p := one(t, newNIC("net1", 7, byNet1))
	for i, to := range faraway {
		p.leavesBy(t, to, "net1", p.nics[0].addrs[i])
	}
}

func underlayDefaultNet1(t *testing.T) {
	p := one(t, newNIC("eth0", 6, byNet1), newNIC("net1", 7, byNet1))
	for i, to := range faraway {
		p.leavesBy(t, to, "net1", p.nics[1].addrs[i])
	}
}

func defaultNet1Traffic(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("eth0", 6, byNet1), newNIC("net1", 7, byNet1)} })
	c := start(t, &pod{name: name(t, "c"), node: a.node, nics: []nic{newNIC("net1", 7, byNet1)}})
	for _, p := range []*pod{a, b, c} {
		reachable(t, p)
	}
	reachEachOther(t, a, b, c)
}

func conflict(t *testing.T) {
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			n := newNIC("eth0", 6, object{"detectIPConflict": true})
			free := taken(t, n.addrs[i], 6)
			p := &pod{name: name(t, "a"), node: "node1", nics: []nic{n}}
			// For an IPv6 address the kernel may know the conflict first, and not the
			// other's MAC.
			refused(t, p, fmt.Sprintf("coordinator: pod: addr %s(/64)? dev eth0: (([0-9a-f]{2}:){5}[0-9a-f]{2} has it already|another host has it)", n.addrs[i]))
			free()
			p.wait(t)
			reachable(t, p)
		})
	}
}

// taken gives an address to the neighbour, until the end of the test or a call of free.
func taken(t *testing.T, a netip.Addr, lan int) (free func()) {
	t.Helper()
	change := func(verb string) {
		run(t, machines["neighbour"], "ip", "addr", verb, netip.PrefixFrom(a, a.BitLen()).String(), "dev", fmt.Sprintf("eth%d", lan))
	}
	change("add")
	if a.Is6() { // the neighbour must have it before the pod does
		within(t, 10*time.Second, func() error {
			if out := run(t, machines["neighbour"], "ip", "-6", "addr", "show", "tentative"); strings.Contains(out, a.String()) {
				return fmt.Errorf("the neighbour's duplicate address detection of %s is not done", a)
			}
			return nil
		})
	}
	has := true
	free = func() {
		if has {
			change("del")
		}
		has = false
	}
	t.Cleanup(free)
	return free
}

func macPrefix(t *testing.T) {
	p := one(t, newNIC("eth0", 6, object{"podMACPrefix": "0a:1b"}))
	ip := p.nics[0].addrs[0].As4()
	wantIn(t, run(t, p.Netns, "ip", "link", "show", "eth0"), fmt.Sprintf("link/ether 0a:1b:%02x:%02x:%02x:%02x ", ip[0], ip[1], ip[2], ip[3]))
	reachable(t, p)
}

func badMACPrefix(t *testing.T) {
	refused(t, &pod{name: name(t, "a"), node: "node1", nics: []nic{newNIC("eth0", 6, object{"podMACPrefix": "01:1b"})}}, "podMACPrefix")
}

func vethMTU(t *testing.T) {
	p := one(t, newNIC("eth0", 6, object{"vethMTU": 1400}))
	wantIn(t, run(t, p.Netns, "ip", "link", "show", "veth0"), " mtu 1400 ")
	reachable(t, p)
	refused(t, &pod{name: name(t, "b"), node: "node1", nics: []nic{newNIC("eth0", 6, object{"vethMTU": 20})}}, "vethMTU")
}

func gatewayMissing(t *testing.T) {
	detect := object{"detectGateway": true}
	n := newNIC("eth0", 6, detect)
	n.ipam = object{"type": "static", "routes": []object{{"dst": "0.0.0.0/0", "gw": "10.6.0.99"}}}
	refused(t, &pod{name: name(t, "a"), node: "node1", nics: []nic{n}}, "coordinator: pod: gateway 10.6.0.99 dev eth0: no answer")
	reachable(t, start(t, &pod{name: name(t, "b"), node: "node1", nics: []nic{newNIC("eth0", 6, detect)}}))
}

func leftovers(t *testing.T) {
	n := newNIC("eth0", 6, nil)
	for _, a := range n.addrs {
		run(t, machines["node1"], "ip", familyOf(a), "route", "add", a.String(), "dev", "ens224", "table", "500", "proto", fmt.Sprintf("%d", netstate.ProtoCoordinator))
		run(t, machines["node1"], "ip", "neigh", "add", a.String(), "dev", "ens224", "lladdr", "02:00:00:00:00:99", "nud", "permanent")
		t.Cleanup(func() { run(t, machines["node1"], "ip", "neigh", "flush", "dev", "ens224", "nud", "permanent") })
	}
	reachable(t, one(t, n))
}

func defaultEth0(t *testing.T) {
	p := one(t, newNIC("eth0", 6, nil), newNIC("net1", 7, nil))
	q := start(t, &pod{name: name(t, "b"), node: "node2", nics: []nic{newNIC("net1", 7, nil)}})
	for i, to := range faraway {
		p.leavesBy(t, to, "eth0", p.first()[i])
		q.leavesBy(t, to, "eth0", of(p.first()[i], q.overlay))
	}
}

func sourceEth0(t *testing.T) {
	p := one(t, newNIC("eth0", 6, nil), newNIC("net1", 7, nil))
	q := start(t, &pod{name: name(t, "b"), node: "node2", nics: []nic{newNIC("net1", 7, nil)}})
	for i, service := range webService {
		p.leavesBy(t, service.String(), "veth0", of(service, p.first()))
		q.leavesBy(t, service.String(), "eth0", of(service, q.overlay))
		p.leavesBy(t, nodeAddrs(p.node)[i].String(), "veth0", p.first()[i])
		q.leavesBy(t, nodeAddrs(q.node)[i].String(), "eth0", of(p.first()[i], q.overlay))
	}
}

func trafficPolicyLocal(t *testing.T) {
	p := start(t, &pod{name: name(t, "a"), node: "node1", app: "local", nics: []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)}})
	s := newService(t, "local", "local", object{"type": "NodePort", "externalTrafficPolicy": "Local"})
	for i, a := range nodeAddrs("node1") {
		settles(t, question{from: machines["client"], to: netip.AddrPortFrom(a, s.nodePort), answers: p.name,
			sees: clientAddrs[i], pod: p, replyBy: "veth0"})
		elsewhere := question{from: machines["client"], to: netip.AddrPortFrom(nodeAddrs("node2")[i], s.nodePort)}
		if _, err := elsewhere.ask(); err == nil {
			t.Errorf("%s answers, but has no such pod", elsewhere.to)
		}
	}
}

func defaultMissing(t *testing.T) {
	for mode, nics := range map[string][]nic{
		"underlay": {newNIC("eth0", 6, nil), newNIC("net1", 7, object{"podDefaultRouteNIC": "net9"})},
		"overlay":  {newNIC("net1", 7, object{"podDefaultRouteNIC": "net9"})},
	} {
		refused(t, &pod{name: name(t, mode), node: "node1", nics: nics}, "podDefaultRouteNIC.*net9|net9.*podDefaultRouteNIC")
	}
}

func anyName(t *testing.T) {
	reachable(t, one(t, newNIC("eth0", 6, nil), newNIC("storage.7", 7, nil), newNIC("x3f9a", 8, nil)))
	reachable(t, start(t, &pod{name: name(t, "b"), node: "node2", nics: []nic{newNIC("x3f9a", 7, nil)}}))
}

func hostRuleTable(t *testing.T) {
	p := one(t, newNIC("eth0", 6, object{"hostRuleTable": 700, "hostRulePriority": 1001}))
	for _, a := range p.first() {
		wantIn(t, run(t, machines["node1"], "ip", familyOf(a), "rule"), "1001:\tfrom all lookup 700")
		wantIn(t, run(t, machines["node1"], "ip", familyOf(a), "route", "show", "table", "700"), a.String()+" dev veth")
	}
	reachable(t, p)
}

func tunePodRoutes(t *testing.T) {
	off := object{"tunePodRoutes": false}
	p := one(t, newNIC("eth0", 6, off), newNIC("net1", 7, off))
	for _, a := range p.addrs() {
		if rules := run(t, p.Netns, "ip", familyOf(a), "rule"); strings.Contains(rules, "32764:") {
			t.Errorf("rules for addresses:\n%s", rules)
		}
		askAll(t, []question{p.question("node1", a, of(a, nodeAddrs("node1")), "veth0")})
	}
}

func conflictReleased(t *testing.T) {
	first, second := addrs("10.6.2.10", "10.6.2.11")[0], addrs("10.6.2.11")[0]
	taken(t, first, 6)
	n := nic{name: "eth0", lan: 6, chain: []object{coordinator(object{"detectIPConflict": true})}, ipam: object{
		"type": "host-local", "ranges": [][]object{{{"subnet": "10.6.0.0/16", "rangeStart": first.String(), "rangeEnd": second.String(), "gateway": "10.6.0.1"}}},
		"routes": []object{{"dst": "0.0.0.0/0"}}}}
	p := one(t, n)
	p.nics[0].addrs = []netip.Addr{second}
	if got := p.status(t).Status.PodIPs; len(got) != 1 || got[0].IP != second {
		t.Errorf("the pod has %v, want %s", got, second)
	}
	askAll(t, p.asked())
	given := fileOf(t, "node1", filepath.Join("/var/lib/cni/networks", n.network(t)))
	if _, err := os.Stat(filepath.Join(given, second.String())); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(given, first.String())); err == nil {
		t.Errorf("%s was not given back", first)
	}
}

func threeNICs(t *testing.T) {
	strict := object{"podRPFilter": 1}
	a, b := pair(t, func() []nic {
		return []nic{newNIC("eth0", 6, strict), newNIC("net1", 7, strict), newNIC("net2", 8, strict)}
	})
	for _, p := range []*pod{a, b} {
		for _, link := range []string{"eth0", "net1", "net2", "veth0"} {
			if got, err := p.Sysctl("ipv4/conf/" + link + "/rp_filter"); err != nil || got != "1" {
				t.Errorf("rp_filter of %s is %s, want 1 (%v)", link, got, err)
			}
		}
		// A strict filter drops replies that come by the LAN to requests that went by
		// the node.
		askAll(t, slices.DeleteFunc(append(p.asked(), p.asking()...), func(q question) bool {
			return q.answers == "web-"+otherNode(p.node)
		}))
	}
	reachEachOther(t, a, b)
}
