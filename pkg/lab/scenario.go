// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/multihome/multihome/pkg/testbed"
)

// Scenario is a scene with one way of attaching pods to underlay networks.
type Scenario struct {
	Name  string
	About string   // one sentence for people
	Links []string // types of links, as ip(8) names them, whose drivers the kernel must have
	Try   []string // things to look at, each a name and a command

	lans     []LAN
	behind   []netip.Prefix             // the node, for the router
	networks func(lans []*LAN) []string // conflists of each pod's NICs: eth0, net1
}

// Coordinator is the plugin's entry of a conflist.
const Coordinator = `{
      "type": "coordinator",
      "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"]
    }`

const (
	coordinatorOverlay = `{
      "type": "coordinator",
      "mode": "overlay",
      "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"]
    }`
	route = `{
      "type": "route",
      "master": "ens192",
      "bridge": "ens192.host"
    }`
	// cluster is the part of an overlay network on this node.
	cluster = `{
  "cniVersion": "1.1.0",
  "name": "cluster",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {
        "type": "host-local",
        "ranges": [
          [{"subnet": "10.244.1.0/24"}],
          [{"subnet": "fd00:244:1::/64"}]
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    }
  ]
}
`
)

var scenarios = []Scenario{
	{
		Name:  "underlay",
		About: "pods in the node's LAN by macvlan, linked to the node by coordinator",
		Links: []string{"macvlan"},
		Try: []string{
			"app curl http://10.96.0.10",
			"client curl http://10.6.168.123:30080",
			"web ip route",
			"web ip route show table 100",
			"node ip route show table 500",
		},
		lans:     []LAN{Ens192()},
		networks: inFirstLAN(Coordinator),
	},
	{
		Name:  "multi-nic",
		About: "pods with a NIC in each of two LANs, each answering what it was asked, linked to the node by coordinator",
		Links: []string{"macvlan"},
		Try: []string{
			"client-ens224 curl http://10.7.168.171:8080",
			"client curl http://10.7.168.171:8080",
			"node curl http://10.7.168.171:8080",
			"web ip rule",
			"web ip route show table 101",
		},
		lans: []LAN{Ens192(), Ens224()},
		networks: func(lans []*LAN) []string {
			return []string{lans[0].Conflist(Coordinator), lans[1].Conflist(Coordinator)}
		},
	},
	{
		Name:  "overlay",
		About: "pods of a cluster network (by ptp), whose further NIC in the node's LAN coordinator makes reachable",
		Links: []string{"macvlan"},
		Try: []string{
			"client curl http://10.6.168.171:8080",
			"node curl http://10.6.168.171:8080",
			"app curl http://10.96.0.10",
			"web ip rule",
			"web ip route show table 101",
		},
		lans:   []LAN{Ens192()},
		behind: prefixes("10.244.1.0/24", "fd00:244:1::/64"),
		networks: func(lans []*LAN) []string {
			return []string{cluster, lans[0].Conflist(coordinatorOverlay)}
		},
	},
	{
		Name:  "host-macvlan",
		About: "pods in the node's LAN by macvlan, which reach the node by a macvlan of its own that route makes",
		Links: []string{"macvlan"},
		Try: []string{
			"app curl http://10.6.168.123:8080",
			"node curl http://10.6.168.171:8080",
			"node ip -d link show ens192.host",
			"node ip route show dev ens192.host",
			"web ip neigh",
		},
		lans:     []LAN{Ens192()},
		networks: inFirstLAN(route),
	},
	{
		Name:  "vlan",
		About: "pods in a VLAN that ifacer makes and the node has no address in, linked to the node by coordinator",
		Links: []string{"macvlan", "vlan"},
		Try: []string{
			"client curl http://172.100.0.171:8080",
			"app curl http://10.96.0.10",
			"node curl http://172.100.0.171:8080",
			"node ip -d link show ens192.100",
		},
		lans:     []LAN{vlan(100, "ens192.100", "ens192"), ens160()},
		networks: inFirstLAN(Coordinator),
	},
	{
		Name:  "bond",
		About: "the same in a VLAN of a bond of two NICs; ifacer makes both",
		Links: []string{"macvlan", "vlan", "bond"},
		Try: []string{
			"client curl http://172.200.0.171:8080",
			"node ip -d link show bond0",
			"switch-bond0.200 ip link set ens192 down",
			"node cat /proc/net/bonding/bond0",
			"client curl http://172.200.0.171:8080",
		},
		lans:     []LAN{vlan(200, "bond0.200", "ens192", "ens224"), ens160()},
		networks: inFirstLAN(Coordinator),
	},
}

// inFirstLAN returns the networks of pods with one NIC, in the first LAN.
func inFirstLAN(plugin string) func([]*LAN) []string {
	return func(lans []*LAN) []string { return []string{lans[0].Conflist(plugin)} }
}

// Scenarios returns all scenarios, the simplest first.
func Scenarios() []Scenario { return scenarios }

// FindScenario returns the scenario of a name.
func FindScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range scenarios {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario %q: there are %v", name, names)
}

// drivers are the drivers whose names differ from their type of links.
var drivers = map[string]string{"vlan": "8021q", "bond": "bonding"}

// Possible returns an error that names the drivers that this kernel lacks.
func (s Scenario) Possible() error {
	var missing []string
	for _, kind := range s.Links {
		known, err := testbed.KnowsLinks(kind)
		if err != nil {
			return err
		}
		if !known {
			missing = append(missing, cmp.Or(drivers[kind], kind))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("scenario %s needs drivers that this kernel lacks: %s", s.Name, strings.Join(missing, ", "))
}

// Up builds the scenario with the plugins in the directories of cniPath. It refuses a
// scenario that is not Possible.
func (s Scenario) Up(ctx context.Context, cniPath ...string) (*Scene, error) {
	if err := s.Possible(); err != nil {
		return nil, err
	}
	scene, err := s.build(ctx, cniPath)
	if err != nil {
		return nil, err
	}
	if err := scene.serve(); err != nil {
		return nil, errors.Join(err, scene.Close())
	}
	return scene, nil
}

// build makes everything but the servers.
func (s Scenario) build(ctx context.Context, cniPath []string) (*Scene, error) {
	l, err := New(s.lans...)
	if err != nil {
		return nil, err
	}
	scene, err := s.attach(ctx, l, cniPath)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return scene, nil
}

func (s Scenario) attach(ctx context.Context, l *Lab, cniPath []string) (*Scene, error) {
	var networks []*Network
	for _, conflist := range s.networks(l.LANs) {
		n, err := l.Network(conflist, cniPath...)
		if err != nil {
			return nil, err
		}
		networks = append(networks, n)
	}
	for _, subnet := range s.behind {
		via := inFamily(l.nodeAddrs(), subnet.Addr()).Addr()
		if err := l.Router.AddRoutes(testbed.Route{Dst: subnet, Via: via, Dev: l.nodeLAN().NIC}); err != nil {
			return nil, err
		}
	}
	return l.newSilentScene(ctx, networks)
}

// ens160 is the node's own LAN; its other NICs are for pods.
func ens160() LAN {
	return LAN{
		NIC:    "ens160",
		Node:   prefixes("10.5.168.123/16", "fd00:5::123/64"),
		Router: prefixes("10.5.0.1/16", "fd00:5::1/64"),
		Host:   prefixes("10.5.0.50/16", "fd00:5::50/64"),
	}
}

// vlan is a VLAN without an address of the node.
func vlan(id int, nic string, uplinks ...string) LAN {
	four := func(host string) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("172.%d.%s/16", id, host)) }
	six := func(host string) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%s/64", id, host)) }
	return LAN{
		NIC:     nic,
		VLAN:    id,
		Uplinks: uplinks,
		Router:  []netip.Prefix{four("0.1"), six("1")},
		Host:    []netip.Prefix{four("0.50"), six("50")},
		Pods: []AddrRange{
			{four("0.171").Addr(), four("0.250").Addr()},
			{six("171").Addr(), six("250").Addr()},
		},
	}
}
