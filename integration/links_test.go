// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/lab"
)

// byMacvlan is coordinator with the node's macvlan.
var byMacvlan = keys{"hostLink": "macvlan"}

// bothReached fails unless node and pod reach each other by every address of the pod's.
func (s *stage) bothReached(t *testing.T, pods ...*attachment) {
	t.Helper()
	for _, p := range pods {
		for i, a := range p.Addrs(lab.NIC) {
			if err := s.Node.Ping(a.Addr(), nothing); err != nil {
				t.Errorf("from the node to %s: %v", p.Name(), err)
			}
			if err := p.Ping(s.LANs[0].Node[i].Addr(), nothing); err != nil {
				t.Errorf("from %s to the node: %v", p.Name(), err)
			}
		}
	}
}

// macvlans fails unless the node has that many of its own.
func (s *stage) macvlans(t *testing.T, want int) {
	t.Helper()
	if got := sh(t, s.Node.Netns, "ip -o link show type macvlan"); strings.Count(got, "\n") != want {
		t.Errorf("the node has other macvlans of its own than %d:\n%s", want, got)
	}
}

// TestOneBridgeOfManyNames: a parent has one macvlan of the node's, whatever it is
// called by the plugins, or by the node by then. DEL and GC of who calls it by one
// name leave it to who calls it by another.
func TestOneBridgeOfManyNames(t *testing.T) {
	mine := keys{"bridge": "mybr"}
	for name, tt := range map[string]struct {
		first, second func(*attachment, string) call
		between       string
	}{
		"coordinator, then route": {
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) },
			func(a *attachment, verb string) call { return a.route(verb, mine) }, "true",
		},
		"route, then coordinator": {
			func(a *attachment, verb string) call { return a.route(verb, mine) },
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) }, "true",
		},
		"route twice": {
			func(a *attachment, verb string) call { return a.route(verb, mine) },
			func(a *attachment, verb string) call { return a.route(verb, keys{"bridge": "other"}) }, "true",
		},
		"renamed": {
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) },
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) },
			"ip link set ens192.host down; ip link set ens192.host name shim; ip link set shim up",
		},
		"the parent has another MAC": {
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) },
			func(a *attachment, verb string) call { return a.route(verb, mine) },
			"ip link set ens192 address 02:00:5e:00:53:01",
		},
		"somebody took the mark off": {
			func(a *attachment, verb string) call { return a.call(verb, byMacvlan) },
			func(a *attachment, verb string) call { return a.route(verb, mine) },
			"ip link set ens192.host alias '' group 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			tt.first(s.web, "ADD").fine(t)
			sh(t, s.Node.Netns, tt.between)
			tt.second(s.app, "ADD").fine(t)
			s.macvlans(t, 1)
			if !strings.Contains(name, "renamed") { // with which its routes went
				tt.first(s.web, "CHECK").fine(t)
				s.bothReached(t, s.web)
			}
			tt.second(s.app, "CHECK").fine(t)
			s.bothReached(t, s.app)
			tt.first(s.web, "DEL").fine(t)
			s.gcOfRoute(t, keys{"bridge": "mybr", "removeUnused": true})
			tt.second(s.app, "CHECK").fine(t)
			s.bothReached(t, s.app)
			tt.second(s.app, "DEL").fine(t)
			s.gcOfRoute(t, keys{"bridge": "third", "removeUnused": true})
			if ours := !strings.Contains(name, "mark"); ours {
				s.macvlans(t, 0)
			}
		})
	}
}

// gcOfRoute is GC of a network that chains route and has no pod, with coordinator's
// pods in another one.
func (s *stage) gcOfRoute(t *testing.T, over keys) {
	t.Helper()
	c := s.web.route("GC", keys{"name": "none", "prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{}}, over)
	c.env = nil
	c.fine(t)
}

// TestBridgeOfRenamedParent: the node's NIC gets another name while pods are on it.
func TestBridgeOfRenamedParent(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.web.call("ADD", byMacvlan).fine(t)
	sh(t, s.Node.Netns, "ip link set ens192 down; ip link set ens192 name uplink; ip link set uplink up; ip -6 addr add fd00:6::123/64 dev uplink nodad || true")
	settle(t, s.Node.Netns)
	s.app.call("ADD", byMacvlan).fine(t)
	s.macvlans(t, 1)
	s.app.call("CHECK", byMacvlan).fine(t)
	s.bothReached(t, s.app)
	s.web.call("ADD", byMacvlan).fine(t) // as repair does
	s.bothReached(t, s.web)
	s.macvlans(t, 1)
}

// TestBridgesAddedAtOnce by two names: one ADD makes it, and the other finds it.
func TestBridgesAddedAtOnce(t *testing.T) {
	for range 5 {
		s := newStage(t, only(0))
		calls := map[*lab.Pod]call{s.Web: s.web.call("ADD", byMacvlan), s.App: s.app.route("ADD", keys{"bridge": "mybr"})}
		if err := atOnce(s.Pods(), func(p *lab.Pod) error {
			out, err := calls[p].start(t.Context())
			if err == nil && !out.state.Success() {
				t.Error(out.stdout)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		s.macvlans(t, 1)
	}
}

// TestSomebodyElsesMacvlan on the parent is left as it is, and in nobody's way, as long
// as it has neither our name nor our MAC.
func TestSomebodyElsesMacvlan(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	sh(t, s.Node.Netns, "ip link add shim link ens192 type macvlan mode bridge; ip addr add 10.6.200.1/32 dev shim; ip link set shim up; sysctl -qw net.ipv4.conf.shim.arp_ignore=0")
	s.web.call("ADD", byMacvlan).fine(t)
	s.bothReached(t, s.web)
	s.macvlans(t, 2)
	if got := sh(t, s.Node.Netns, "sysctl -n net.ipv4.conf.shim.arp_ignore; ip -o link show shim"); !strings.HasPrefix(got, "0\n") || strings.Contains(got, "multihome") {
		t.Errorf("the other macvlan is not as it was: %s", got)
	}
}

// TestModesOfMacvlan: a NIC that the node's macvlan doesn't reach is refused by every
// plugin that has one, and nothing is changed.
func TestModesOfMacvlan(t *testing.T) {
	for _, mode := range []string{"private", "vepa", "passthru"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			for _, a := range []*attachment{s.web, s.app} {
				sh(t, a.Netns, "ip link del eth0")
			}
			sh(t, s.Node.Netns, "ip link add tmp link ens192 type macvlan mode "+mode)
			sh(t, s.Node.Netns, "ip link set tmp netns "+s.Web.Path()+" name eth0")
			for _, a := range s.Web.Addrs(lab.NIC) {
				sh(t, s.Web.Netns, "ip addr add "+a.String()+" dev eth0 nodad")
			}
			sh(t, s.Web.Netns, "ip link set eth0 up")
			settle(t, s.Web.Netns)
			before := s.state(t)
			for _, verb := range []string{"ADD", "CHECK"} {
				for _, c := range []call{s.web.call(verb, byMacvlan), s.web.route(verb)} {
					e := c.fails(t)
					for _, words := range []string{"link eth0", "mode " + mode, "want mode bridge"} {
						if !strings.Contains(e.Msg, words) {
							t.Errorf("%s does not say %q: %s", verb, words, e.Msg)
						}
					}
					if e.Code != types.ErrInvalidNetworkConfig {
						t.Errorf("%s: code %d", verb, e.Code)
					}
				}
			}
			same(t, mode, before, slices.DeleteFunc(s.state(t), isLock))
			s.web.call("ADD").fine(t) // by veth it goes
			s.bothReached(t, s.web)
		})
	}
}

// TestUplinkBridges: the node's addresses are on a bridge over its NIC, which has a name
// of a container network's, and pods sit on the bridge.
func TestUplinkBridges(t *testing.T) {
	for _, name := range []string{"cni-uplink", "docker-ext", "dummy0", "virbr-lan", "cali-lan", "veth-lan", "br0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, lab.Ens192())
			bridgeOver(t, l, name)
			l.LANs[0].NIC = name // which networks are made for
			s, err := l.NewScene(t.Context(), newNetwork(t, l, chained))
			if err != nil {
				t.Fatal(err)
			}
			holds(t, s)
			if err := s.Network.Check(t.Context(), s.Web, lab.NIC); err != nil {
				t.Error(err)
			}
		})
	}
}

// bridgeOver moves what the node has on its NIC to a bridge over it.
func bridgeOver(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	lan := l.LANs[0]
	sh(t, l.Node.Netns, "ip addr flush dev ens192 scope global; ip link add "+name+" type bridge; ip link set ens192 master "+name+"; ip link set "+name+" up")
	for i, a := range lan.Node {
		sh(t, l.Node.Netns, "ip addr add "+a.String()+" dev "+name+" nodad; ip route replace default via "+lan.Router[i].Addr().String()+" dev "+name)
	}
}

// TestUplinkBridgeOfAnotherLAN: pods that don't sit on the bridge reach the node's address
// there by the default route that leaves by it, and no address of a container network's
// bridge is given to them.
func TestUplinkBridgeOfAnotherLAN(t *testing.T) {
	t.Parallel()
	l := newLab(t, lab.Ens192(), lab.Ens224())
	bridgeOver(t, l, "docker-ext")
	sh(t, l.Node.Netns, "ip link add cni0 type bridge; ip link add veth1 type veth peer name veth2; ip link set veth1 master cni0; ip addr add 10.244.0.1/24 dev cni0; ip link set cni0 up; ip link set veth1 up; ip link set veth2 up")
	l.LANs[0], l.LANs[1] = l.LANs[1], l.LANs[0]
	s, err := l.NewScene(t.Context(), newNetwork(t, l, chained))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range l.LANs[1].Node {
		if err := s.Web.Ping(a.Addr(), nothing); err != nil {
			t.Errorf("the node at %s: %v", a, err)
		}
	}
	if got := sh(t, s.Web.Netns, "ip route show dev veth0"); strings.Contains(got, "10.244.0.1 ") {
		t.Errorf("the pod takes an address of cni0 for the node's own:\n%s", got)
	}
}

// TestGCWithoutNftables: what a kernel without nf_tables can't have isn't there to be
// removed, be there pods of ours or none.
func TestGCWithoutNftables(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	gc := func(plugin string, over keys, living ...types.GCAttachment) call {
		c := s.web.withoutNftables(t, "GC", keys{"type": plugin, "serviceCIDR": nil, "prevResult": nil, "cni.dev/valid-attachments": append([]types.GCAttachment{}, living...)}, over)
		c.env, c.plugin = map[string]string{"PATH": "/nowhere"}, plugin
		return c
	}
	all := func(living ...types.GCAttachment) {
		t.Helper()
		gc("coordinator", nil, living...).fine(t)
		gc("veth", nil, living...).fine(t)
		gc("route", keys{"master": "ens192", "bridge": bridge, "removeUnused": true}, living...).fine(t)
	}
	before := s.state(t)
	all()
	same(t, "GC", before, s.state(t))
	s.web.withoutNftables(t, "ADD", byMacvlan).fine(t)
	all(types.GCAttachment{ContainerID: s.web.ContainerID, IfName: lab.NIC})
	s.web.withoutNftables(t, "CHECK", byMacvlan).fine(t)
	s.web.withoutNftables(t, "DEL", byMacvlan).fine(t)
	all()
}

// TestAltNames: links are called by other names, on the node and in the pod, and each
// plugin takes them for what they are.
func TestAltNames(t *testing.T) {
	t.Parallel()
	const onNode, inPod = "enp130s0f1np1-second-card", "enp1s0-first-port-of-it"
	s := newStage(t, lab.Ens192())
	sh(t, s.Node.Netns, "ip link property add dev ens192 altname enp11s0; ip link property add dev ens192 altname "+onNode)
	sh(t, s.Web.Netns, "ip link property add dev eth0 altname "+inPod)
	first := keys{"podDefaultCNINIC": inPod}
	s.web.add(t, first)
	s.web.call("CHECK", first).fine(t)
	s.bothReached(t, s.web)
	s.web.call("DEL", first).fine(t)
	s.web.call("ADD", first, byMacvlan).fine(t)
	s.web.call("CHECK", first, byMacvlan).fine(t)
	s.bothReached(t, s.web)
	for _, name := range []string{"enp11s0", onNode, "ens192"} {
		over := keys{"master": name, "bridge": "mybr"}
		s.app.route("ADD", over).fine(t)
		s.app.route("CHECK", over).fine(t)
		s.bothReached(t, s.app)
		s.app.route("DEL", over).fine(t)
		s.macvlans(t, 1)
	}
	for _, line := range s.state(t) {
		if name, ok := strings.CutPrefix(line, "node: /run/multihome/.locks/"); ok && name != "ens192" {
			t.Errorf("a lock is called %s, and not as the link is", name)
		}
	}
	if e := s.app.route("ADD", keys{"master": "enp99s0-nowhere-to-be-found"}).fails(t); !strings.Contains(e.Msg, "enp99s0-nowhere-to-be-found") {
		t.Errorf("an unknown name: %s", e.Msg)
	}
	sh(t, s.Node.Netns, "ip link property add dev ens192 altname taken; ip link del ens192.host")
	if e := s.app.route("ADD", keys{"bridge": "taken"}).fails(t); !strings.Contains(e.Msg, "link is ens192") {
		t.Errorf("a bridge with another link's name: %s", e.Msg)
	}
}
