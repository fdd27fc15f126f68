// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// byMacvlan is coordinator with the node's macvlan.
var byMacvlan = fixture.Keys{"hostLink": "macvlan"}

// TestOneBridgeOfManyNames checks that a parent has one macvlan of the node, whatever
// its name in the configurations and on the node. DEL and GC of a network with one name
// for it leave it to networks with another name.
func TestOneBridgeOfManyNames(t *testing.T) {
	mine := fixture.Keys{"bridge": "mybr"}
	for name, tt := range map[string]struct {
		first, second func(*fixture.Attachment, string) fixture.Call
		between       string
	}{
		"coordinator, then route": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) },
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, mine) }, "true",
		},
		"route, then coordinator": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, mine) },
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) }, "true",
		},
		"route twice": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, mine) },
			func(a *fixture.Attachment, verb string) fixture.Call {
				return a.Route(verb, fixture.Keys{"bridge": "other"})
			}, "true",
		},
		"renamed": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) },
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) },
			"ip link set ens192.host down; ip link set ens192.host name shim; ip link set shim up",
		},
		"the parent has another MAC": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) },
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, mine) },
			"ip link set ens192 address 02:00:5e:00:53:01",
		},
		"somebody took the mark off": {
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb, byMacvlan) },
			func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, mine) },
			"ip link set ens192.host alias '' group 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			tt.first(s.WebNIC, "ADD").Fine(t)
			fixture.Sh(t, s.Node.Netns, tt.between)
			tt.second(s.AppNIC, "ADD").Fine(t)
			s.Macvlans(t, 1)
			if !strings.Contains(name, "renamed") { // the rename removed its routes
				tt.first(s.WebNIC, "CHECK").Fine(t)
				s.BothReached(t, s.WebNIC)
			}
			tt.second(s.AppNIC, "CHECK").Fine(t)
			s.BothReached(t, s.AppNIC)
			tt.first(s.WebNIC, "DEL").Fine(t)
			s.GcOfRoute(t, fixture.Keys{"bridge": "mybr", "removeUnused": true})
			tt.second(s.AppNIC, "CHECK").Fine(t)
			s.BothReached(t, s.AppNIC)
			tt.second(s.AppNIC, "DEL").Fine(t)
			s.GcOfRoute(t, fixture.Keys{"bridge": "third", "removeUnused": true})
			if ours := !strings.Contains(name, "mark"); ours {
				s.Macvlans(t, 0)
			}
		})
	}
}

// TestBridgeOfRenamedParent renames the node's NIC while pods are on it.
func TestBridgeOfRenamedParent(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Call("ADD", byMacvlan).Fine(t)
	fixture.Sh(t, s.Node.Netns, "ip link set ens192 down; ip link set ens192 name uplink; ip link set uplink up; ip -6 addr add fd00:6::123/64 dev uplink nodad || true")
	fixture.Settle(t, s.Node.Netns)
	s.AppNIC.Call("ADD", byMacvlan).Fine(t)
	s.Macvlans(t, 1)
	s.AppNIC.Call("CHECK", byMacvlan).Fine(t)
	s.BothReached(t, s.AppNIC)
	s.WebNIC.Call("ADD", byMacvlan).Fine(t) // as repair does
	s.BothReached(t, s.WebNIC)
	s.Macvlans(t, 1)
}

// TestBridgesAddedAtOnce adds pods with two names for the bridge at once: one ADD makes
// it, and the other finds it.
func TestBridgesAddedAtOnce(t *testing.T) {
	for range 5 {
		s := fixture.NewStage(t, fixture.Only(0))
		calls := map[*lab.Pod]fixture.Call{s.Web: s.WebNIC.Call("ADD", byMacvlan), s.App: s.AppNIC.Route("ADD", fixture.Keys{"bridge": "mybr"})}
		if err := fixture.AtOnce(s.Pods(), func(p *lab.Pod) error {
			out, err := calls[p].Start(t.Context())
			if err == nil && !out.State.Success() {
				t.Error(out.Stdout)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		s.Macvlans(t, 1)
	}
}

// TestSomebodyElsesMacvlan checks that another's macvlan on the parent stays as it is
// and blocks nothing, if it has neither our name nor our MAC.
func TestSomebodyElsesMacvlan(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	fixture.Sh(t, s.Node.Netns, "ip link add shim link ens192 type macvlan mode bridge; ip addr add 10.6.200.1/32 dev shim; ip link set shim up; sysctl -qw net.ipv4.conf.shim.arp_ignore=0")
	s.WebNIC.Call("ADD", byMacvlan).Fine(t)
	s.BothReached(t, s.WebNIC)
	s.Macvlans(t, 2)
	if got := fixture.Sh(t, s.Node.Netns, "sysctl -n net.ipv4.conf.shim.arp_ignore; ip -o link show shim"); !strings.HasPrefix(got, "0\n") || strings.Contains(got, "multihome") {
		t.Errorf("the other macvlan has changed: %s", got)
	}
}

// TestModesOfMacvlan checks that every plugin with a macvlan on the node refuses a NIC
// that this macvlan can't reach, and changes nothing.
func TestModesOfMacvlan(t *testing.T) {
	for _, mode := range []string{"private", "vepa", "passthru"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			for _, a := range []*fixture.Attachment{s.WebNIC, s.AppNIC} {
				fixture.Sh(t, a.Netns, "ip link del eth0")
			}
			fixture.Sh(t, s.Node.Netns, "ip link add tmp link ens192 type macvlan mode "+mode)
			fixture.Sh(t, s.Node.Netns, "ip link set tmp netns "+s.Web.Path()+" name eth0")
			for _, a := range s.Web.Addrs(lab.NIC) {
				fixture.Sh(t, s.Web.Netns, "ip addr add "+a.String()+" dev eth0 nodad")
			}
			fixture.Sh(t, s.Web.Netns, "ip link set eth0 up")
			fixture.Settle(t, s.Web.Netns)
			before := s.State(t)
			for _, verb := range []string{"ADD", "CHECK"} {
				for _, c := range []fixture.Call{s.WebNIC.Call(verb, byMacvlan), s.WebNIC.Route(verb)} {
					e := c.Fails(t)
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
			fixture.Same(t, mode, before, slices.DeleteFunc(s.State(t), isLock))
			s.WebNIC.Call("ADD").Fine(t) // it works by veth
			s.BothReached(t, s.WebNIC)
		})
	}
}

// TestUplinkBridges has the node's addresses on a bridge over its NIC, with a name of a
// container network's bridge; pods sit on the bridge.
func TestUplinkBridges(t *testing.T) {
	for _, name := range []string{"cni-uplink", "docker-ext", "dummy0", "virbr-lan", "cali-lan", "veth-lan", "br0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fixture.NewLab(t, lab.Ens192())
			bridgeOver(t, l, name)
			l.LANs[0].NIC = name // the networks use this name
			s, err := l.NewScene(t.Context(), fixture.NewNetwork(t, l, fixture.Chained))
			if err != nil {
				t.Fatal(err)
			}
			fixture.Holds(t, s)
			if err := s.Network.Check(t.Context(), s.Web, lab.NIC); err != nil {
				t.Error(err)
			}
		})
	}
}

// bridgeOver moves the node's addresses and routes from its NIC to a bridge over it.
func bridgeOver(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	lan := l.LANs[0]
	fixture.Sh(t, l.Node.Netns, "ip addr flush dev ens192 scope global; ip link add "+name+" type bridge; ip link set ens192 master "+name+"; ip link set "+name+" up")
	for i, a := range lan.Node {
		fixture.Sh(t, l.Node.Netns, "ip addr add "+a.String()+" dev "+name+" nodad; ip route replace default via "+lan.Router[i].Addr().String()+" dev "+name)
	}
}

// TestUplinkBridgeOfAnotherLAN checks that pods that don't sit on the bridge reach the
// node's address there, because a default route leaves by it, and that they get no
// address of a container network's bridge.
func TestUplinkBridgeOfAnotherLAN(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192(), lab.Ens224())
	bridgeOver(t, l, "docker-ext")
	fixture.Sh(t, l.Node.Netns, "ip link add cni0 type bridge; ip link add veth1 type veth peer name veth2; ip link set veth1 master cni0; ip addr add 10.244.0.1/24 dev cni0; ip link set cni0 up; ip link set veth1 up; ip link set veth2 up")
	l.LANs[0], l.LANs[1] = l.LANs[1], l.LANs[0]
	s, err := l.NewScene(t.Context(), fixture.NewNetwork(t, l, fixture.Chained))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range l.LANs[1].Node {
		if err := s.Web.Ping(a.Addr(), fixture.Nothing); err != nil {
			t.Errorf("the node at %s: %v", a, err)
		}
	}
	if got := fixture.Sh(t, s.Web.Netns, "ip route show dev veth0"); strings.Contains(got, "10.244.0.1 ") {
		t.Errorf("the pod has a route to an address of cni0:\n%s", got)
	}
}

// TestGCWithoutNftables runs GC on a kernel without nf_tables, with and without pods of
// ours: GC must not try to remove the check of sources, which can't be there.
func TestGCWithoutNftables(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	gc := func(plugin string, over fixture.Keys, living ...types.GCAttachment) fixture.Call {
		c := s.WebNIC.WithoutNftables(t, "GC", fixture.Keys{"type": plugin, "serviceCIDR": nil, "prevResult": nil, "cni.dev/valid-attachments": append([]types.GCAttachment{}, living...)}, over)
		c.Env, c.Plugin = map[string]string{"PATH": "/nowhere"}, plugin
		return c
	}
	all := func(living ...types.GCAttachment) {
		t.Helper()
		gc("coordinator", nil, living...).Fine(t)
		gc("veth", nil, living...).Fine(t)
		gc("route", fixture.Keys{"master": "ens192", "bridge": fixture.Bridge, "removeUnused": true}, living...).Fine(t)
	}
	before := s.State(t)
	all()
	fixture.Same(t, "GC", before, s.State(t))
	s.WebNIC.WithoutNftables(t, "ADD", byMacvlan).Fine(t)
	all(types.GCAttachment{ContainerID: s.WebNIC.ContainerID, IfName: lab.NIC})
	s.WebNIC.WithoutNftables(t, "CHECK", byMacvlan).Fine(t)
	s.WebNIC.WithoutNftables(t, "DEL", byMacvlan).Fine(t)
	all()
}

// TestAltNames calls links by their other names, on the node and in the pod; each
// plugin finds them.
func TestAltNames(t *testing.T) {
	t.Parallel()
	const onNode, inPod = "enp130s0f1np1-second-card", "enp1s0-first-port-of-it"
	s := fixture.NewStage(t, lab.Ens192())
	fixture.Sh(t, s.Node.Netns, "ip link property add dev ens192 altname enp11s0; ip link property add dev ens192 altname "+onNode)
	fixture.Sh(t, s.Web.Netns, "ip link property add dev eth0 altname "+inPod)
	first := fixture.Keys{"podDefaultCNINIC": inPod}
	s.WebNIC.Add(t, first)
	s.WebNIC.Call("CHECK", first).Fine(t)
	s.BothReached(t, s.WebNIC)
	s.WebNIC.Call("DEL", first).Fine(t)
	s.WebNIC.Call("ADD", first, byMacvlan).Fine(t)
	s.WebNIC.Call("CHECK", first, byMacvlan).Fine(t)
	s.BothReached(t, s.WebNIC)
	for _, name := range []string{"enp11s0", onNode, "ens192"} {
		over := fixture.Keys{"master": name, "bridge": "mybr"}
		s.AppNIC.Route("ADD", over).Fine(t)
		s.AppNIC.Route("CHECK", over).Fine(t)
		s.BothReached(t, s.AppNIC)
		s.AppNIC.Route("DEL", over).Fine(t)
		s.Macvlans(t, 1)
	}
	for _, line := range s.State(t) {
		if name, ok := strings.CutPrefix(line, "node: /run/multihome/.locks/"); ok && name != "ens192" {
			t.Errorf("a lock is called %s, not like the link", name)
		}
	}
	if e := s.AppNIC.Route("ADD", fixture.Keys{"master": "enp99s0-nowhere-to-be-found"}).Fails(t); !strings.Contains(e.Msg, "enp99s0-nowhere-to-be-found") {
		t.Errorf("an unknown name: %s", e.Msg)
	}
	fixture.Sh(t, s.Node.Netns, "ip link property add dev ens192 altname taken; ip link del ens192.host")
	if e := s.AppNIC.Route("ADD", fixture.Keys{"bridge": "taken"}).Fails(t); !strings.Contains(e.Msg, "link is ens192") {
		t.Errorf("a bridge with another link's name: %s", e.Msg)
	}
}
