// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// routed is route's entry of a conflist, with a bridge.
const routed = `{"type": "route", "master": "ens192", "bridge": "ens192.host"}`

// bridgeChecks returns the paths that work with route, and says which of them work
// without it.
func bridgeChecks(s *lab.Scene, network string) []lab.Check {
	lan := s.LANs[0]
	var out []lab.Check
	for i, web := range s.Web.Addrs(lab.NIC) {
		app, node, client := s.App.Addrs(lab.NIC)[i], lan.Node[i], lan.Host[i]
		to := func(p netip.Prefix) netip.AddrPort { return netip.AddrPortFrom(p.Addr(), 8080) }
		out = append(out,
			lab.Check{Name: "node to pod", Coordinator: true, Network: network, From: s.Node.Netns, To: to(web), Answers: s.Web.Netns, Sees: node.Addr(), RequestBy: fixture.Bridge, ReplyBy: "eth0"},
			lab.Check{Name: "pod to node", Coordinator: true, Network: network, From: s.App.Netns, To: to(node), Answers: s.Node.Netns, Sees: app.Addr(), RequestBy: "eth0", ReplyBy: fixture.Bridge},
			lab.Check{Name: "pod to pod", Network: network, From: s.App.Netns, To: to(web), Answers: s.Web.Netns, Sees: app.Addr(), RequestBy: "eth0", ReplyBy: "eth0"},
			lab.Check{Name: "LAN client to pod", Network: network, From: lan.Client, To: to(web), Answers: s.Web.Netns, Sees: client.Addr(), RequestBy: "eth0", ReplyBy: "eth0"},
			lab.Check{Name: "pod to LAN", Network: network, From: s.App.Netns, To: to(client), Answers: lan.Client, Sees: app.Addr(), RequestBy: "eth0", ReplyBy: "eth0"},
			lab.Check{Name: "LAN client to node", Network: network, From: lan.Client, To: to(node), Answers: s.Node.Netns, Sees: client.Addr(), RequestBy: "eth0", ReplyBy: "ens192"},
		)
	}
	return out
}

// bridgeHolds runs all these checks.
func bridgeHolds(t *testing.T, s *lab.Scene) {
	t.Helper()
	for _, r := range lab.RunAll(slices.Concat(bridgeChecks(s, "tcp"), bridgeChecks(s, "udp"))) {
		if r.Err != nil {
			t.Errorf("%s, %s %s: %v; %s", r.Name, r.Network, r.To, r.Err, r.Evidence)
		}
	}
}

// TestRouteTraffic runs macvlan and route with libcni, and sends traffic on all paths.
func TestRouteTraffic(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewScene(t, lan, routed)
			bridgeHolds(t, s)
			for _, ping := range pings(s) {
				if err := ping(); err != nil {
					t.Error(err)
				}
			}
			if err := s.Network.Check(t.Context(), s.Web, lab.NIC); err != nil {
				t.Error(err)
			}
			if err := s.Del(t.Context()); err != nil {
				t.Error(err)
			}
			if routes := bridgeRoutes(t, s.Lab); routes != "" {
				t.Errorf("after DEL there are routes:\n%s", routes)
			}
		})
	}
}

// TestRouteTrafficWithout is the control: exactly the paths that route makes fail
// without it.
func TestRouteTrafficWithout(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192())
	for _, r := range lab.RunAll(slices.Concat(bridgeChecks(s, "tcp"), bridgeChecks(s, "udp"))) {
		if failed := r.Err != nil; failed != r.Coordinator {
			t.Errorf("%s, %s %s: got error %v, needs route: %t; %s", r.Name, r.Network, r.To, r.Err, r.Coordinator, r.Evidence)
		}
	}
	for _, ping := range pings(s) {
		if ping() == nil {
			t.Error("node and pod ping each other without route")
		}
	}
}

// bridgeRoutes returns the node's routes by the bridge.
func bridgeRoutes(t *testing.T, l *lab.Lab) string {
	t.Helper()
	return fixture.Sh(t, l.Node.Netns, "ip -4 route show dev "+fixture.Bridge+"; ip -6 route show dev "+fixture.Bridge+" | grep -v ^fe80 || true")
}

// TestRouteState checks what `ip link` and `ip route` print on the node.
func TestRouteState(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), routed)
	want := "10.6.168.171 proto 110 scope link \n10.6.168.172 proto 110 scope link \n" +
		"fd00:6::171 proto 110 metric 1024 pref medium\nfd00:6::172 proto 110 metric 1024 pref medium\n"
	if d := cmp.Diff(want, fixture.ByNumber(bridgeRoutes(t, s.Lab))); d != "" {
		t.Errorf("routes by the bridge (-want +got):\n%s", d)
	}
	link := fixture.Sh(t, s.Node.Netns, "ip -d link show "+fixture.Bridge)
	for _, words := range []string{fixture.Bridge + "@ens192:", "UP,LOWER_UP", "macvlan mode bridge", "alias multihome:bridge/ens192"} {
		if !strings.Contains(link, words) {
			t.Errorf("ip link does not say %q:\n%s", words, link)
		}
	}
	var found *types100.Interface
	for _, i := range s.Web.Results[lab.NIC].Interfaces {
		if i.Name == fixture.Bridge && i.Sandbox == "" {
			found = i
		}
	}
	if mac, err := s.Node.MAC(fixture.Bridge); err != nil || found == nil || found.Mac != mac.String() {
		t.Errorf("the result says %v of the bridge, its MAC is %s (%v)", found, mac, err)
	}
}

// TestRouteSparesTheLAN checks that hosts in the LAN find the node at its NIC's MAC
// alone, though the bridge hears their ARP requests as well.
func TestRouteSparesTheLAN(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, fixture.Only(0), routed)
	answers := func() []string {
		t.Helper()
		c, err := s.LANs[0].Client.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fixture.Sh(t, s.LANs[0].Client, "ip neigh flush dev eth0")
		// Broadcasts wait in one queue for all macvlans: when a pod has answered the
		// second, the bridge would have answered the first.
		for _, to := range []netip.Prefix{s.LANs[0].Node[0], s.Web.Addrs(lab.NIC)[0]} {
			if err := s.LANs[0].Client.Ping(to.Addr(), testbed.Socket{}); err != nil {
				t.Error(err)
			}
		}
		frames, err := c.Frames()
		if err != nil {
			t.Fatal(err)
		}
		var from []string
		const arp = 0x0806
		for _, f := range frames {
			if f.EtherType == arp && !f.Outgoing && f.DstMAC[0]&1 == 0 && !slices.Contains(from, f.SrcMAC.String()) {
				from = append(from, f.SrcMAC.String())
			}
		}
		return from
	}
	want := []string{macAt(t, s.Node.Netns, "ens192"), macAt(t, s.Web.Netns, lab.NIC)}
	set := func(key string) {
		if err := s.Node.SetSysctl("ipv4/conf/"+fixture.Bridge+"/"+key, "0"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := answers(); !slices.Equal(got, want) {
			t.Errorf("ARP is answered by %s, want node and pod, %s", got, want)
		}
		set("rp_filter") // it would be enough on its own
	}
	set("arp_ignore")
	if got := answers(); !slices.Contains(got, macAt(t, s.Node.Netns, fixture.Bridge)) {
		t.Errorf("the control: without arp_ignore ARP is answered by %s, and not by the bridge", got)
	}
}

func macAt(t *testing.T, n *testbed.Netns, link string) string {
	t.Helper()
	m, err := n.MAC(link)
	if err != nil {
		t.Fatal(err)
	}
	return m.String()
}

// TestRouteAgain repeats ADD, damages objects that CHECK must name, and lets ADD
// restore them.
func TestRouteAgain(t *testing.T) {
	for name, lan := range lans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lan)
			first := s.WebNIC.Route("ADD").Fine(t)
			before := s.State(t)
			if again := s.WebNIC.Route("ADD").Fine(t); again != first {
				t.Errorf("ADD again prints %s, want %s", again, first)
			}
			fixture.Same(t, "ADD again", before, s.State(t))
			s.WebNIC.Route("CHECK").Fine(t)
			for i, a := range s.Web.Addrs(lab.NIC) {
				pod, node := a.Addr().String(), lan.Node[i].Addr().String()
				for damage, want := range map[string]string{
					"node: ip route del " + pod + " dev " + fixture.Bridge:                    "host: route " + pod + " dev " + fixture.Bridge,
					"node: ip neigh del " + pod + " dev " + fixture.Bridge:                    "host: neigh " + pod + " dev " + fixture.Bridge,
					"pod: ip neigh del " + node + " dev eth0":                                 "pod: neigh " + node + " dev eth0",
					"node: ip link del " + fixture.Bridge:                                     "host: link " + fixture.Bridge,
					"node: echo 0 >/proc/sys/net/ipv4/conf/" + fixture.Bridge + "/arp_ignore": "arp_ignore",
				} {
					where, command, _ := strings.Cut(damage, ": ")
					fixture.Sh(t, map[string]*testbed.Netns{"node": s.Node.Netns, "pod": s.Web.Netns}[where], command)
					if e := s.WebNIC.Route("CHECK").Fails(t); !strings.Contains(e.Msg, want) {
						t.Errorf("after %q CHECK does not name %q: %s", damage, want, e.Msg)
					}
					s.WebNIC.Route("ADD").Fine(t)
					s.WebNIC.Route("CHECK").Fine(t)
				}
			}
			fixture.Same(t, "ADD that repairs", before.Unnumbered(), s.State(t).Unnumbered())
			s.AppNIC.Route("ADD").Fine(t)
			bridgeHolds(t, s.Scene)
		})
	}
}

// TestRouteDel deletes an attachment in every way. All leave only the bridge, which
// other pods use.
func TestRouteDel(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Route("ADD").Fine(t)
	nothing := fixture.Keys{"prevResult": nil}
	before := s.State(t)
	for _, way := range []struct {
		name  string
		del   fixture.Call
		blind bool // DEL can't find the pod, so its contents stay
	}{
		{"as it should be", s.WebNIC.Route("DEL"), false},
		{"without prevResult", s.WebNIC.Route("DEL", nothing), false},
		{"with other keys", s.WebNIC.Route("DEL", fixture.Keys{"bridge": "other", "master": 7}), false},
		{"with empty CNI_NETNS", s.WebNIC.Route("DEL").With("CNI_NETNS", ""), true},
		{"with neither CNI_NETNS nor prevResult", s.WebNIC.Route("DEL", nothing).With("CNI_NETNS", ""), true},
		{"with a path where nothing is", s.WebNIC.Route("DEL").With("CNI_NETNS", filepath.Join(t.TempDir(), "none")), true},
	} {
		way.del.Fine(t)
		fixture.Same(t, "DEL without ADD, "+way.name, before, s.State(t))
		s.WebNIC.Route("ADD").Fine(t)
		if routes := bridgeRoutes(t, s.Lab); strings.Count(routes, "\n") != 4 {
			t.Fatalf("after ADD the node has\n%s", routes)
		}
		for range 2 {
			way.del.Fine(t)
			got, want := s.State(t), before
			if way.blind {
				got, want = got.Without("web"), want.Without("web")
			}
			fixture.Same(t, "DEL "+way.name, want.Unnumbered(), got.Unnumbered())
		}
		s.AppNIC.Route("CHECK").Fine(t)
		s.WebNIC.Route("ADD").Fine(t) // for the next call, and in the pod
		s.WebNIC.Route("DEL").Fine(t)
	}
	s.AppNIC.Route("DEL").Fine(t)
	if link := fixture.Sh(t, s.Node.Netns, "ip link show "+fixture.Bridge); link == "" {
		t.Error("DEL of the last pod removed the bridge")
	}
}

// TestRouteDelSparesNextOwner deletes a pod whose address another pod has by then.
func TestRouteDelSparesNextOwner(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Route("ADD").Fine(t)
	next, err := s.NewPod("next")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Node.AddMacvlan("ens192", next.Netns, lab.NIC); err != nil {
		t.Fatal(err)
	}
	fixture.Sh(t, s.Web.Netns, "ip addr flush dev eth0") // the LAN sees it as dead
	if err := next.AddAddrs(lab.NIC, s.Web.Addrs(lab.NIC)...); err != nil {
		t.Fatal(err)
	}
	n := s.Attachment(&lab.Pod{Netns: next.Netns, ContainerID: next.ContainerID, Results: s.Web.Results})
	n.Route("ADD").Fine(t)
	s.WebNIC.Route("DEL").Fine(t)
	n.Route("CHECK").Fine(t)
	server, err := next.Serve(8080, fixture.Nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, a := range s.Web.Addrs(lab.NIC) {
		fixture.Reached(t, s.Lab, next, a)
	}
	n.Route("DEL").Fine(t)
	if routes := bridgeRoutes(t, s.Lab); routes != "" {
		t.Errorf("DEL of the next owner leaves\n%s", routes)
	}
}

// TestRouteGC uses a dead and a living pod. The bridge goes with the last pod, if the
// configuration says so, the bridge is ours, and nothing else uses it.
func TestRouteGC(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Route("ADD").Fine(t)
	before := s.State(t).Without("web")
	s.WebNIC.Route("ADD").Fine(t)
	alive := s.State(t)
	gc := func(over fixture.Keys, living ...*fixture.Attachment) {
		t.Helper()
		valid := []types.GCAttachment{}
		for _, a := range living {
			valid = append(valid, types.GCAttachment{ContainerID: a.ContainerID, IfName: lab.NIC})
		}
		c := s.WebNIC.Route("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": valid}, over)
		c.Env = nil
		c.Fine(t)
	}
	there := func() bool { return strings.Contains(fixture.Sh(t, s.Node.Netns, "ip link"), fixture.Bridge) }
	remove := fixture.Keys{"removeUnused": true}

	gc(remove, s.WebNIC, s.AppNIC)
	fixture.Same(t, "GC while all live", alive, s.State(t))
	gc(fixture.Keys{"name": "other", "removeUnused": true})
	fixture.Same(t, "GC of another network", alive, s.State(t))
	gc(remove, s.AppNIC)
	fixture.Same(t, "GC of a dead pod", before.Unnumbered(), s.State(t).Without("web").Unnumbered())
	s.AppNIC.Route("CHECK").Fine(t)
	gc(nil)
	if routes := bridgeRoutes(t, s.Lab); routes != "" || !there() {
		t.Errorf("after GC of the last pod the bridge is there: %t, with routes\n%s", there(), routes)
	}
	fixture.Sh(t, s.Node.Netns, "ip addr add 172.30.0.1/24 dev "+fixture.Bridge)
	gc(remove)
	if !there() {
		t.Error("GC removed a bridge that has an address")
	}
	fixture.Sh(t, s.Node.Netns, "ip addr flush dev "+fixture.Bridge+" scope global")
	gc(remove)
	if there() {
		t.Error("with removeUnused GC left a bridge that nothing uses")
	}
	fixture.Sh(t, s.Node.Netns, "ip link add "+fixture.Bridge+" link ens192 type macvlan mode bridge")
	s.WebNIC.Route("ADD").Fine(t)
	s.WebNIC.Route("DEL").Fine(t)
	gc(remove)
	if !there() {
		t.Error("GC removed a bridge that is not ours")
	}
}

// TestRouteSharesBridgeWithCoordinator checks that GC sees the pods that coordinator
// links by the same bridge.
func TestRouteSharesBridgeWithCoordinator(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Call("ADD", fixture.Keys{"hostLink": "macvlan"}).Fine(t)
	s.WebNIC.Route("ADD").Fine(t)
	s.AppNIC.Call("CHECK", fixture.Keys{"hostLink": "macvlan"}).Fine(t)
	s.WebNIC.Route("CHECK").Fine(t)
	c := s.WebNIC.Route("GC", fixture.Keys{"prevResult": nil, "removeUnused": true, "cni.dev/valid-attachments": []string{}})
	c.Env = nil
	c.Fine(t)
	s.AppNIC.Call("CHECK", fixture.Keys{"hostLink": "macvlan"}).Fine(t)
}

// TestRouteOfManyPods adds many pods at once to a node without a bridge.
func TestRouteOfManyPods(t *testing.T) {
	l := fixture.NewLab(t, lab.Ens192())
	network := fixture.NewNetwork(t, l, routed)
	pods := make([]*lab.Pod, 20)
	for i := range pods {
		var err error
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []func(*lab.Pod) error{
		func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) },
		func(p *lab.Pod) error { return network.Check(t.Context(), p, lab.NIC) },
		func(p *lab.Pod) error { return l.Node.Ping(p.Addrs(lab.NIC)[0].Addr(), fixture.Nothing) },
		func(p *lab.Pod) error { return p.Ping(l.LANs[0].Node[1].Addr(), fixture.Nothing) },
		func(p *lab.Pod) error { return network.Del(t.Context(), p, lab.NIC) },
	} {
		if err := fixture.AtOnce(pods, step); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(fixture.Sh(t, l.Node.Netns, "ip -o link show type macvlan"), "\n"); n != 1 {
		t.Errorf("the node has %d macvlans, want one", n)
	}
	if routes := bridgeRoutes(t, l); routes != "" {
		t.Errorf("after DEL there are\n%s", routes)
	}
}

// TestRouteBehindPolicyRules uses rules of the node that lead packets for the pod to
// another link, or drop them. Routes in table main are still seen.
func TestRouteBehindPolicyRules(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	pod := s.Web.Addrs(lab.NIC)[0].Addr().String()
	for _, rule := range []string{"lookup 77", "prohibit"} {
		fixture.Sh(t, s.Node.Netns, "ip route replace 10.6.0.0/16 dev ens192 table 77; ip rule add pref 100 to "+pod+" "+rule)
		s.WebNIC.Route("ADD").Fine(t)
		s.WebNIC.Route("CHECK").Fine(t)
		fixture.Sh(t, s.Node.Netns, "ip route del "+pod+" dev "+fixture.Bridge)
		if e := s.WebNIC.Route("CHECK").Fails(t); !strings.Contains(e.Msg, "host: route "+pod) {
			t.Errorf("without the route CHECK says %s", e.Msg)
		}
		fixture.Sh(t, s.Node.Netns, "ip rule del pref 100")
		s.WebNIC.Route("DEL").Fine(t)
	}
}

// TestRouteRefuses checks that the error names the object in the way and the wanted
// one, and that nothing is changed.
func TestRouteRefuses(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		script string
		over   fixture.Keys
		want   []string
	}{
		"a bridge of that name":         {"ip link add ens192.host type bridge", nil, []string{"host: link is ens192.host type bridge", "want ens192.host link ens192 type macvlan mode bridge"}},
		"a macvlan on another link":     {"ip link add v0 type veth peer name v1; ip link add ens192.host link v0 type macvlan mode bridge", nil, []string{"link v0 type macvlan", "want ens192.host link ens192"}},
		"a macvlan in another mode":     {"ip link add ens192.host link ens192 type macvlan mode vepa", nil, []string{"mode vepa", "mode bridge"}},
		"no such master":                {"true", fixture.Keys{"master": "eno9"}, []string{"want ens192, the parent of link eth0 of the pod"}},
		"the address is another link's": {"ip link add v0 type veth peer name v1; ip link set v0 up; ip route add 10.6.168.171/32 dev v0", nil, []string{"host: route 10.6.168.171 dev v0", "is in the way of 10.6.168.171 dev ens192.host"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			fixture.Sh(t, s.Node.Netns, tt.script)
			before := s.State(t)
			for _, verb := range []string{"ADD", "CHECK"} {
				e := s.WebNIC.Route(verb, tt.over).Fails(t)
				for _, words := range tt.want {
					if !strings.Contains(e.Msg, words) {
						t.Errorf("%s does not say %q: %s", verb, words, e.Msg)
					}
				}
			}
			fixture.Same(t, what, before, slices.DeleteFunc(s.State(t), isLock))
		})
	}
}

// isLock reports whether a line of a state is a lock of a link.
func isLock(line string) bool { return strings.HasPrefix(line, "node: /run/multihome") }

// TestRouteOnTakenMaster uses a port of a bridge and a parent of ipvlans, neither of
// which can carry a macvlan; the kernel's answer is the same for both.
func TestRouteOnTakenMaster(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	fixture.Sh(t, s.Node.Netns, "ip link add v0 type veth peer name v1; ip link add br0 type bridge; ip link set v0 master br0")
	fixture.Sh(t, s.Web.Netns, "ip link del eth0; ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up; ip addr add "+s.Web.Addrs(lab.NIC)[0].String()+" dev eth0")
	e := s.WebNIC.Route("ADD", fixture.Keys{"master": "v0"}).Fails(t)
	for _, words := range []string{"macvlan and ipvlan can't share a parent", "v0 carries ipvlans", "busy"} {
		if !strings.Contains(e.Msg, words) {
			t.Errorf("ADD does not say %q: %s", words, e.Msg)
		}
	}
}

// TestRouteStatus checks that ADD can't work if the master is missing, or if another
// link has the bridge's name.
func TestRouteStatus(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	status := func(over fixture.Keys) fixture.Call {
		c := s.WebNIC.Route("STATUS", fixture.Keys{"prevResult": nil}, over)
		c.Env = nil
		return c
	}
	before := s.State(t)
	status(nil).Fine(t)
	fixture.Same(t, "STATUS", before, s.State(t))
	const notAvailable = 50
	if e := status(fixture.Keys{"master": "eno9"}).Fails(t); e.Code != notAvailable || !strings.Contains(e.Msg, "link eno9: no such device") {
		t.Errorf("without the master: %v", e)
	}
	s.WebNIC.Route("ADD").Fine(t)
	status(nil).Fine(t)
	if e := status(fixture.Keys{"bridge": "ens192"}).Fails(t); e.Code != types.ErrInvalidNetworkConfig {
		t.Errorf("with the master's name: %v", e)
	}
	fixture.Sh(t, s.Node.Netns, "ip link del "+fixture.Bridge+"; ip link add mine type bridge")
	if e := status(fixture.Keys{"bridge": "mine"}).Fails(t); e.Code != notAvailable || !strings.Contains(e.Msg, "want mine link ens192 type macvlan") {
		t.Errorf("with a bridge of that name: %v", e)
	}
}

// TestRouteInEveryVersion checks that the prevResult is passed on in the version of the
// configuration.
func TestRouteInEveryVersion(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	for _, v := range versions {
		prev, err := s.WebNIC.Prev.GetAsVersion(v)
		if err != nil {
			t.Fatal(err)
		}
		out := s.WebNIC.Route("ADD", fixture.Keys{"cniVersion": v, "prevResult": prev}).Fine(t)
		var got struct {
			CNIVersion string           `json:"cniVersion"`
			IPs        []map[string]any `json:"ips"`
			Interfaces []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if n := len(got.Interfaces); got.CNIVersion != v || len(got.IPs) != 2 || n != 2 || got.Interfaces[1].Name != fixture.Bridge {
			t.Errorf("version %s: %s", v, out)
		}
		s.WebNIC.Route("DEL", fixture.Keys{"cniVersion": v, "prevResult": prev}).Fine(t)
	}
}
