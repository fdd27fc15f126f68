// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/nettest"
)

// Scenario is a scene in one of the ways that pods are attached to underlay
// networks.
type Scenario struct {
	Name  string
	About string   // one sentence for people
	Links []string // types of links, as ip(8) names them, whose drivers the kernel must have

	lans     []LAN
	behind   []netip.Prefix             // the node, for the router
	networks func(lans []*LAN) []string // conflists of each pod's NICs: eth0, net1
}

const (
	coordinator = `{
      "type": "coordinator",
      "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"]
    }`
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
	// cluster is an overlay network's part on this node.
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
		Name:     "underlay",
		About:    "pods in the node's LAN by macvlan, linked to the node by coordinator",
		Links:    []string{"macvlan"},
		lans:     []LAN{Ens192()},
		networks: inFirst(coordinator),
	},
	{
		Name:  "multi-nic",
		About: "pods with a NIC in each of two LANs, which are answered by the NIC that they asked",
		Links: []string{"macvlan"},
		lans:  []LAN{Ens192(), Ens224()},
		networks: func(lans []*LAN) []string {
			return []string{lans[0].Conflist(coordinator), lans[1].Conflist(coordinator)}
		},
	},
	{
		Name:   "overlay",
		About:  "pods of a cluster network, with a further NIC in the node's LAN",
		Links:  []string{"macvlan"},
		lans:   []LAN{Ens192()},
		behind: prefixes("10.244.1.0/24", "fd00:244:1::/64"),
		networks: func(lans []*LAN) []string {
			return []string{cluster, lans[0].Conflist(coordinatorOverlay)}
		},
	},
	{
		Name:     "host-macvlan",
		About:    "pods in the node's LAN, which they reach the node by as well, by a macvlan of its own that route makes",
		Links:    []string{"macvlan"},
		lans:     []LAN{Ens192()},
		networks: inFirst(route),
	},
	{
		Name:     "vlan",
		About:    "pods in a VLAN that the node is not in, whose link ifacer makes",
		Links:    []string{"macvlan", "vlan"},
		lans:     []LAN{vlan(100, "ens192.100", "ens192"), ens160()},
		networks: inFirst(coordinator),
	},
	{
		Name:     "bond",
		About:    "pods in a VLAN of a bond of two NICs; ifacer makes both",
		Links:    []string{"macvlan", "vlan", "bond"},
		lans:     []LAN{vlan(200, "bond0.200", "ens192", "ens224"), ens160()},
		networks: inFirst(coordinator),
	},
}

// inFirst is for pods with one NIC, in the first LAN.
func inFirst(plugin string) func([]*LAN) []string {
	return func(lans []*LAN) []string { return []string{lans[0].Conflist(plugin)} }
}

// Scenarios returns all there are, the simplest first.
func Scenarios() []Scenario { return scenarios }

// FindScenario returns the one with a name.
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

// drivers are what the kernel calls the drivers of links.
var drivers = map[string]string{"macvlan": "macvlan", "vlan": "8021q", "bond": "bonding"}

// Possible is an error that names the drivers that this kernel lacks for it.
func (s Scenario) Possible() error {
	var errs []error
	for _, kind := range s.Links {
		known, err := nettest.KnowsLinks(kind)
		if err != nil {
			return err
		}
		if !known {
			errs = append(errs, fmt.Errorf("scenario %s: this kernel lacks the driver %s, for links of type %s", s.Name, drivers[kind], kind))
		}
	}
	return errors.Join(errs...)
}

// Up builds the scenario, with plugins of the directories of cniPath. What is not
// Possible is refused before.
func (s Scenario) Up(ctx context.Context, cniPath ...string) (*Scene, error) {
	if err := s.Possible(); err != nil {
		return nil, err
	}
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
		if err := l.Router.AddRoutes(nettest.Route{Dst: subnet, Via: via, Dev: l.nodeLAN().NIC}); err != nil {
			return nil, err
		}
	}
	return l.NewScene(ctx, networks...)
}

// ens160 is the LAN of a node whose other NICs are for pods.
func ens160() LAN {
	return LAN{
		NIC:    "ens160",
		Node:   prefixes("10.5.168.123/16", "fd00:5::123/64"),
		Router: prefixes("10.5.0.1/16", "fd00:5::1/64"),
		Host:   prefixes("10.5.0.50/16", "fd00:5::50/64"),
	}
}

// vlan is a VLAN that the node has no address in.
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
