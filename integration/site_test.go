// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// site is a node with a NIC in several LANs, and a pod that has one in each, or
// more in one.
type site struct {
	*lab.Lab
	chained []string // behind macvlan, unless a NIC says otherwise
	nics    []nic    // of web
	web     *lab.Pod
	app     *lab.Pod // with a NIC in the first LAN alone; it serves a ClusterIP
}

// nic is one of web's NICs, in the LAN of that index, by a network.
type nic struct {
	name    string
	lan     int
	network *lab.Network
	chain   []string // behind macvlan
}

// The ports of a site.
const (
	appPort     = 8080
	servicePort = 80
)

// services are the ClusterIPs of app.
var services = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10")}

// newSite makes a site, whose networks chain what is given behind macvlan.
func newSite(t *testing.T, lans []lab.LAN, chained ...string) *site {
	t.Helper()
	s := emptySite(t, lans, chained...)
	for i := range lans {
		s.plug(t, i, nicName(i))
	}
	s.serve(t)
	return s
}

// emptySite is a site where web has no NIC yet.
func emptySite(t *testing.T, lans []lab.LAN, chained ...string) *site {
	t.Helper()
	s := &site{Lab: newLab(t, lans...), chained: chained}
	s.web, s.app = s.newPod(t, "web"), s.newPod(t, "app")
	if err := s.network(t, 0, chained...).Add(t.Context(), s.app, lab.NIC); err != nil {
		t.Fatal(err)
	}
	return s
}

// nicName is what Multus calls a pod's i-th NIC.
func nicName(i int) string {
	if i == 0 {
		return lab.NIC
	}
	return fmt.Sprintf("net%d", i)
}

// network is a network in a LAN.
func (s *site) network(t *testing.T, lan int, chained ...string) *lab.Network {
	t.Helper()
	return networkIn(t, s.Lab, s.LANs[lan], chained...)
}

func (s *site) newPod(t *testing.T, name string) *lab.Pod {
	t.Helper()
	pod, err := s.NewPod(name)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// plug gives web a NIC in a LAN, by the site's chain or by another one.
func (s *site) plug(t *testing.T, lan int, name string, chained ...string) {
	t.Helper()
	if len(chained) == 0 {
		chained = s.chained
	}
	n := nic{name, lan, s.network(t, lan, chained...), chained}
	if err := n.network.Add(t.Context(), s.web, name); err != nil {
		t.Fatal(err)
	}
	s.nics = append(s.nics, n)
}

// unplug takes it away.
func (s *site) unplug(t *testing.T, name string) {
	t.Helper()
	i := slices.IndexFunc(s.nics, func(n nic) bool { return n.name == name })
	if err := s.nics[i].network.Del(t.Context(), s.web, name); err != nil {
		t.Fatal(err)
	}
	s.nics = slices.Delete(s.nics, i, i+1)
}

// check asks CHECK for each of web's NICs.
func (s *site) check(t *testing.T) {
	t.Helper()
	for _, n := range s.nics {
		if n.network == nil {
			continue // not by a runtime
		}
		if err := n.network.Check(t.Context(), s.web, n.name); err != nil {
			t.Error(err)
		}
	}
}

func (s *site) state(t *testing.T) state {
	t.Helper()
	return stateOf(t, s.Lab, s.web.Netns, s.app.Netns)
}

// serve starts servers on everything that is asked, and sets up the Services: a
// ClusterIP of app, and a NodePort for each address of web.
func (s *site) serve(t *testing.T) {
	t.Helper()
	at := []*nettest.Netns{s.web.Netns, s.app.Netns, s.Node.Netns, s.Outside}
	for _, lan := range s.LANs {
		at = append(at, lan.Client)
	}
	for _, n := range at {
		serve(t, n)
	}
	s.setServices(t)
}

func serve(t *testing.T, n *nettest.Netns) {
	t.Helper()
	server, err := n.Serve(appPort, nothing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
}

// setServices is to be called anew when web has got another address.
func (s *site) setServices(t *testing.T) {
	t.Helper()
	var list []nettest.Service
	for _, app := range s.app.Addrs(lab.NIC) {
		list = append(list, nettest.Service{
			ClusterIP: netip.AddrPortFrom(of(services, app.Addr()), servicePort),
			Endpoint:  netip.AddrPortFrom(app.Addr(), appPort),
		})
	}
	for i, n := range s.nics {
		for k, web := range s.web.Addrs(n.name) {
			list = append(list, nettest.Service{NodePort: s.nodePort(i, k, web.Addr()), Endpoint: netip.AddrPortFrom(web.Addr(), appPort)})
		}
	}
	if err := s.Node.SetServices(list...); err != nil {
		t.Fatal(err)
	}
}

// nodePort leads to the k-th address of web's i-th NIC, by the node's address in
// the first LAN.
func (s *site) nodePort(i, k int, web netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(of(addrs(s.LANs[0].Node), web), uint16(30000+10*i+k))
}

// of returns the address that is of the same family as another.
func of(in []netip.Addr, other netip.Addr) netip.Addr {
	for _, a := range in {
		if a.Is4() == other.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func addrs(in []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range in {
		out = append(out, p.Addr())
	}
	return out
}

// way is how web talks with its node: veth0, or with an overlay its eth0.
func (s *site) way() string {
	for _, r := range s.web.Results {
		for _, i := range r.Interfaces {
			if i.Name == "veth0" {
				return "veth0"
			}
		}
	}
	return lab.NIC
}

// checks are what must hold for each address of each NIC of web, in both
// protocols: whoever calls it, the reply leaves by the NIC that the request came
// by, and what comes from it goes where it belongs.
func (s *site) checks() []lab.Check {
	var out []lab.Check
	for i, n := range s.nics {
		for k, web := range s.web.Addrs(n.name) {
			out = append(out, s.checksOf(n, web.Addr(), s.nodePort(i, k, web.Addr()))...)
		}
	}
	return both(out...)
}

// both has each check by TCP and by UDP.
func both(checks ...lab.Check) []lab.Check {
	var out []lab.Check
	for _, c := range checks {
		for _, c.Network = range []string{"tcp", "udp"} {
			out = append(out, c)
		}
	}
	return out
}

// byTCP is for where one protocol will do.
func byTCP(checks []lab.Check) []lab.Check {
	return slices.DeleteFunc(checks, func(c lab.Check) bool { return c.Network != "tcp" })
}

func (s *site) checksOf(n nic, web netip.Addr, nodePort netip.AddrPort) []lab.Check {
	i, nic := n.lan, n.name
	way, to := s.way(), netip.AddrPortFrom(web, appPort)
	name := func(format string, a ...any) string {
		return fmt.Sprintf(format, a...) + fmt.Sprintf(" (%s, %s)", nic, web)
	}
	node := func(lan *lab.LAN) netip.Addr { return of(addrs(lan.Node), web) }
	out := []lab.Check{
		{
			Name: name("node to NIC"), Coordinator: true,
			From: s.Node.Netns, To: to, Answers: s.web.Netns, Sees: node(s.LANs[i]), ReplyBy: way,
		}, {
			Name: name("NIC to ClusterIP"), Coordinator: true,
			From: s.web.Netns, Source: web, To: netip.AddrPortFrom(of(services, web), servicePort),
			Answers: s.app.Netns, Sees: node(s.LANs[0]), RequestBy: way, ReplyBy: "veth0",
		}, {
			Name: name("NIC to LAN"),
			From: s.web.Netns, Source: web, To: netip.AddrPortFrom(of(addrs(s.LANs[i].Host), web), appPort),
			Answers: s.LANs[i].Client, Sees: web, RequestBy: nic,
		},
	}
	for j, lan := range s.LANs {
		client := of(addrs(lan.Host), web)
		if !client.IsValid() {
			continue
		}
		out = append(out, lab.Check{
			Name: name("NIC to node's address in %s", lan.NIC), Coordinator: true,
			From: s.web.Netns, Source: web, To: netip.AddrPortFrom(node(lan), appPort),
			Answers: s.Node.Netns, Sees: web, RequestBy: way,
		}, lab.Check{
			Name: name("host in %s to NIC", lan.NIC), Coordinator: i != j,
			From: lan.Client, To: to, Answers: s.web.Netns, Sees: client, RequestBy: "eth0", ReplyBy: nic,
		})
		if j == 0 {
			out = append(out, lab.Check{
				Name: name("host in %s to NodePort", lan.NIC), Coordinator: true,
				From: lan.Client, To: nodePort, Answers: s.web.Netns, Sees: client, ReplyBy: way,
			})
		}
	}
	return out
}

// verify runs checks when the links are ready; all must hold.
func (s *site) verify(t *testing.T, checks ...lab.Check) {
	t.Helper()
	for _, n := range []*nettest.Netns{s.Node.Netns, s.web.Netns, s.app.Netns} {
		settle(t, n)
	}
	if len(checks) == 0 {
		t.Error("no checks")
	}
	for some := range slices.Chunk(checks, 32) { // each watches two namespaces
		for _, r := range lab.RunAll(some) {
			if r.Err != nil {
				t.Errorf("%s, %s: %v; %s", r.Name, r.Network, r.Err, r.Evidence)
			}
		}
	}
}

// refute is the control: what is said to need coordinator must fail.
func (s *site) refute(t *testing.T, checks ...lab.Check) {
	t.Helper()
	checks = slices.DeleteFunc(checks, func(c lab.Check) bool { return !c.Coordinator })
	if len(checks) == 0 {
		t.Error("no checks")
	}
	for _, r := range lab.RunAll(checks) {
		if r.Err == nil {
			t.Errorf("%s, %s: it holds without coordinator; %s", r.Name, r.Network, r.Evidence)
		}
	}
}

// family is each LAN with one of its address families: 0 is IPv4, 1 is IPv6.
func family(f int, lans ...lab.LAN) []lab.LAN {
	out := slices.Clone(lans)
	for i := range out {
		l := &out[i]
		l.Node, l.Router, l.Host, l.Pods = l.Node[f:f+1], l.Router[f:f+1], l.Host[f:f+1], l.Pods[f:f+1]
	}
	return out
}

// otherLAN is another one like lab.Ens224.
func otherLAN(n int) lab.LAN {
	four := func(host string) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.%d.%s/16", n, host)) }
	six := func(host string) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%s/64", n, host)) }
	return lab.LAN{
		NIC:    fmt.Sprintf("ens%d", 1000+n),
		Node:   []netip.Prefix{four("168.123"), six("123")},
		Router: []netip.Prefix{four("0.1"), six("1")},
		Host:   []netip.Prefix{four("0.50"), six("50")},
		Pods: []lab.AddrRange{
			{First: four("168.171").Addr(), Last: four("168.250").Addr()},
			{First: six("171").Addr(), Last: six("250").Addr()},
		},
	}
}

// line returns the one line of a command's output that contains a text.
func line(t *testing.T, n *nettest.Netns, command, text string) string {
	t.Helper()
	var found []string
	for l := range strings.Lines(sh(t, n, command)) {
		if strings.Contains(l, text) {
			found = append(found, strings.TrimSpace(l))
		}
	}
	if len(found) != 1 {
		t.Errorf("%s: %s: %d lines with %q, want 1:\n%s", n.Name(), command, len(found), text, sh(t, n, command))
		return ""
	}
	return found[0]
}

// ipFamily is the option that ip(8) has for an address's family.
func ipFamily(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}
