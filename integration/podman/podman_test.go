// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/e2e/answer"
	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// first is the first NIC of a container.
var first = fixture.NIC{Name: "eth0", Lan: 0}

// site returns two containers as a site, the first with NICs.
func (n *node) site(t *testing.T, web, app *lab.Pod, nics ...fixture.NIC) *fixture.Site {
	t.Helper()
	s := &fixture.Site{Lab: n.Lab, Web: web, App: app, NICs: nics}
	s.Serve(t)
	return s
}

// answers checks that the program in a container answers a machine that has an address in each
// family, and sees that address.
func answers(t *testing.T, from *testbed.Netns, addrs []netip.Prefix, to *lab.Pod) {
	t.Helper()
	fixture.Settle(t, to.Netns)
	for _, a := range to.Addrs(first.Name) {
		var got answer.Answer
		at := netip.AddrPortFrom(a.Addr(), 80)
		if err := json.Unmarshal([]byte(fixture.Sh(t, from, fmt.Sprintf("curl -sS --noproxy '*' http://%s/", at))), &got); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if want := fixture.Of(fixture.Addrs(addrs), a.Addr()); got.Client.Addr() != want || !strings.HasPrefix(to.ContainerID, got.Server) {
			t.Errorf("%s answers %s, and sees %s; want %s to see %s", got.Server, at, got.Client, to.ContainerID, want)
		}
	}
}

// inUse checks that a container answers its node and a client in the LAN.
func (n *node) inUse(t *testing.T, web *lab.Pod) {
	t.Helper()
	answers(t, n.Node.Netns, n.LANs[0].Node, web)
	answers(t, n.LANs[0].Client, n.LANs[0].Host, web)
}

// TestTraffic sends between containers and the node, Services, the LAN and each other. The
// control is a network without coordinator. Podman doesn't know a network of CNI 1.1.0.
func TestTraffic(t *testing.T) {
	t.Parallel()
	n := newNode(t, "lan", "bare", "newer")
	n.refused(t, "network not found", "run", "--detach", "--network", "newer", image, "serve")
	web, app := n.up(t, "web", "lan"), n.up(t, "app", "lan")
	s := n.site(t, web, app, first)
	s.Verify(t, s.Checks()...)
	n.inUse(t, web)
	answers(t, app.Netns, app.Addrs(first.Name), web)

	n.podman(t, "rm", "--force", "--time", "0", "web")
	bare := n.up(t, "bare", "bare")
	s.Web = bare
	fixture.Serve(t, bare.Netns)
	s.SetServices(t)
	s.Refute(t, slices.DeleteFunc(fixture.ByTCP(s.Checks()), func(c lab.Check) bool {
		return c.From == n.LANs[1].Client // a NIC answers the other LAN also alone
	})...)
	answers(t, n.LANs[0].Client, n.LANs[0].Host, bare)
}

// TestLife restarts, stops and kills a container and removes its network. What the container
// has is the same after each start, and nothing of it is left after each end.
func TestLife(t *testing.T) {
	for _, network := range []string{"lan", "bridged"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, network)
			at := network + ":ip=10.6.168.20,ip=fd00:6::1020,mac=02:00:00:00:06:20"
			n.up(t, "earlier", at) // what pods share stays
			n.podman(t, "rm", "--force", "--time", "0", "earlier")
			without := n.state(t)

			web := n.up(t, "web", at)
			n.inUse(t, web)
			with := n.state(t)
			if len(with) <= len(without) {
				t.Fatalf("the node has nothing of a container:\n%s", strings.Join(with, "\n"))
			}
			same := func(what string) {
				t.Helper()
				was := web.NetNS
				if web = n.pod(t, "web"); web.NetNS == was {
					t.Errorf("%s: the namespace is the same", what)
				}
				n.inUse(t, web)
				fixture.Same(t, what, with, n.state(t))
			}

			n.podman(t, "restart", "--time", "0", "web")
			same("podman restart")

			n.podman(t, "stop", "--time", "0", "web")
			n.becomes(t, "podman stop", without)
			n.podman(t, "start", "web")
			same("podman start")

			n.kill(t, "web", "Pid")
			n.becomes(t, "a killed container", without)
			n.podman(t, "start", "web")
			same("the start of a killed container")

			n.refused(t, "network is being used", "network", "rm", network)
			n.inUse(t, web)
			fixture.Same(t, "a refused podman network rm", with, n.state(t))

			n.kill(t, "web", "ConmonPid", "Pid")
			fixture.Same(t, "a killed container that nobody noticed", with, n.state(t))
			n.podman(t, "rm", "--force", "web")
			fixture.Same(t, "podman rm of a killed container", without, n.state(t))

			n.inUse(t, n.up(t, "another", at))
			n.podman(t, "network", "rm", "--force", "--time", "0", network)
			fixture.Same(t, "podman network rm", without, n.state(t))
			n.refused(t, "network not found", "run", "--network", network, image, "serve")
		})
	}
}

// kill kills processes of a container by SIGKILL, in turn.
func (n *node) kill(t *testing.T, name string, processes ...string) {
	t.Helper()
	argv := []string{"kill", "-KILL"}
	for _, p := range processes {
		argv = append(argv, n.podman(t, "inspect", "--format", "{{.State."+p+"}}", name))
	}
	n.run(t, argv...)
}

// TestMultihome checks that our command knows podman's containers: it shows them, restores what
// they lack, and removes what is left of those that podman has forgotten.
func TestMultihome(t *testing.T) {
	t.Parallel()
	n := newNode(t, "lan", "bridged")
	n.up(t, "earlier", "bridged:ip=10.6.168.30,ip=fd00:6::1030")
	n.podman(t, "rm", "--force", "--time", "0", "earlier")
	without := n.state(t)
	web := n.up(t, "web", "lan")
	n.inUse(t, web)

	if got := n.multihome(t, "show"); !strings.Contains(got, " web ") || !strings.Contains(got, web.NetNS) || !strings.Contains(got, "eth0 (lan)") {
		t.Errorf("show says:\n%s", got)
	}
	if got := n.multihome(t, "repair"); got != "nothing to repair" {
		t.Errorf("repair of a healthy node says:\n%s", got)
	}
	const rules = "ip rule; ip -6 rule; ip route; ip -6 route"
	healthy := fixture.Sh(t, web.Netns, rules)
	fixture.Sh(t, web.Netns, "ip rule del pref 32763; ip -6 rule del pref 32763; ip route del 10.96.0.0/12")
	damaged := fixture.Sh(t, web.Netns, rules)
	n.multihome(t, "repair")
	if got := fixture.Sh(t, web.Netns, rules); got != healthy || got == damaged {
		t.Errorf("repair makes of\n%s\nthis:\n%s\nwant:\n%s", damaged, got, healthy)
	}
	n.podman(t, "rm", "--force", "--time", "0", "web")

	lost := n.up(t, "lost", "bridged")
	n.inUse(t, lost)
	n.kill(t, "lost", "ConmonPid", "Pid")
	n.run(t, "sh", "-c", "umount /run/containers/graph/vfs-containers/*/userdata/shm; rm -r /run/containers/graph/libpod")
	if got := n.podman(t, "ps", "--all", "--quiet"); got != "" {
		t.Fatalf("podman still knows %s", got)
	}
	with := n.state(t)
	n.multihome(t, "doctor", "--fix")
	fixture.Same(t, "doctor --fix of a namespace that is there", with, n.state(t))
	n.run(t, "sh", "-c", "ip netns delete $(ls /run/netns)")
	if out, _, err := n.try(t, fixture.Plugins+"/multihome", "doctor"); err == nil || !strings.Contains(out, "eth0 of "+lost.ContainerID+" in network bridged") {
		t.Errorf("doctor doesn't find what is left: %v:\n%s", err, out)
	}
	n.multihome(t, "doctor", "--fix")
	n.run(t, "sh", "-c", "rm /var/lib/cni/networks/bridged/*:* /var/lib/cni/networks/bridged/10.* /var/lib/cni/results/*")
	n.becomes(t, "doctor --fix", without)
}

// TestSeveralNetworks starts a container with two networks in both orders. Podman chooses one
// of them at random; podman network connect adds one network alone. Both NICs are named: without
// names podman gives eth0 to the second network in one start of eight or so.
func TestSeveralNetworks(t *testing.T) {
	t.Parallel()
	n := newNode(t, "lan", "storage", "further")
	app := n.up(t, "app", "lan")
	const eth0 = "lan:interface_name=eth0,ip=10.6.168.20,ip=fd00:6::1020,mac=02:00:00:00:06:20"
	var without fixture.State // after the first
	for _, order := range []struct {
		name  string
		start []string
		then  []string
	}{
		{"both at once", []string{eth0, "storage:interface_name=eth1"}, nil},
		{"eth0 first", []string{eth0}, []string{"storage"}},
		{"eth1 first", []string{"storage:interface_name=eth1"}, []string{"lan", "--ip", "10.6.168.20", "--ip6", "fd00:6::1020", "--mac-address", "02:00:00:00:06:20"}},
	} {
		t.Run(order.name, func(t *testing.T) {
			n.up(t, "web", order.start...)
			if order.then != nil {
				n.connect(t, "web", order.then...)
			}
			web := n.pod(t, "web")
			s := n.site(t, web, app, first)
			checks := s.Checks()
			for _, a := range web.Addrs("eth1") {
				checks = append(checks, n.byRoute(web, a.Addr())...)
			}
			s.Verify(t, checks...)
			n.podman(t, "rm", "--force", "--time", "0", "web")
			if without == nil {
				without = n.state(t)
			}
			fixture.Same(t, "podman rm", without, n.state(t))
		})
	}

	// The control: coordinator in both networks needs the order.
	n.refused(t, "eth0: no such device: it is the pod's first NIC", "run", "--detach", "--name", "web", "--network", "further:interface_name=eth1", image, "serve")
	fixture.Same(t, "a refused container", without, n.state(t))
	n.podman(t, "rm", "web")
	n.up(t, "web", "lan")
	n.connect(t, "web", "further")
	s := n.site(t, n.pod(t, "web"), app, first, fixture.NIC{Name: "eth1", Lan: 1})
	s.Verify(t, s.Checks()...)
}

// byRoute returns the checks of an address of eth1, which is in the second LAN and has a table
// by plugin route.
func (n *node) byRoute(web *lab.Pod, addr netip.Addr) []lab.Check {
	to := netip.AddrPortFrom(addr, fixture.AppPort)
	own := n.LANs[1]
	host := fixture.Of(fixture.Addrs(own.Host), addr)
	out := []lab.Check{{
		Name: "eth1 to LAN",
		From: web.Netns, Source: addr, To: netip.AddrPortFrom(host, fixture.AppPort), Answers: own.Client, Sees: addr, RequestBy: "eth1",
	}, {
		Name: "node to eth1",
		From: n.Node.Netns, To: to, Answers: web.Netns, Sees: fixture.Of(fixture.Addrs(own.Node), addr), RequestBy: "ens224.host", ReplyBy: "eth1",
	}}
	for _, lan := range n.LANs {
		out = append(out, lab.Check{
			Name: "host in " + lan.NIC + " to eth1",
			From: lan.Client, To: to, Answers: web.Netns, Sees: fixture.Of(fixture.Addrs(lan.Host), addr), RequestBy: "eth0", ReplyBy: "eth1",
		})
	}
	return fixture.Both(out...)
}
