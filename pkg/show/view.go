// SPDX-License-Identifier: Apache-2.0

// Package show describes the networks of a pod in words and pictures: the pod's NICs, the
// rules and routing tables that choose among them, and the NICs, rules and routes of the
// node that lead to the pod. It says what each object is for, and marks the objects that
// this suite made.
//
//	pod, err := inspect.Find("3f1c", inspect.CacheDirs)
//	state, err := pod.Read()
//	view := show.Of(pod, state)
//	err = report.Write(os.Stdout, "text", view) // or view.Picture().WriteSVG(os.Stdout)
//
// Beware: a view leaves out objects that don't concern the pod, such as other pods' routes
// on the node and the kernel's own routes. Its texts are for people and change; programs
// should read the other fields.
package show

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
)

// View describes a pod, and the part of its node that concerns the pod.
type View struct {
	Name        string     `json:"name"`
	ContainerID string     `json:"containerID,omitempty"`
	Netns       string     `json:"netns"`
	Pod         Side       `json:"pod"`
	Node        Side       `json:"node"`
	Settings    []Settings `json:"settings,omitempty"`
	Records     []Record   `json:"records,omitempty"`
}

// Settings are the values of the keys of a coordinator or veth that an attachment has, each
// with its origin: the network's configuration, the node's defaults as they are now, or
// built in.
type Settings struct {
	IfName  string `json:"ifName"`
	Network string `json:"network"`
	Plugin  string `json:"plugin"`
	keys.Settings
	Damage string `json:"damage,omitempty"` // of the node's defaults or the pod's, which are left out then
}

// Side describes one of the two network namespaces.
type Side struct {
	NICs       []NIC       `json:"nics"`
	Rules      []Rule      `json:"rules,omitempty"`  // in the order in which the kernel asks them
	Tables     []Table     `json:"tables,omitempty"` // in the order of the rules that lead there
	Marks      []Mark      `json:"marks,omitempty"`
	Neighbours []Neighbour `json:"neighbours,omitempty"`
}

// NIC is a network interface.
type NIC struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"` // of ip-link(8), or "physical"
	Details   string    `json:"details,omitempty"`
	Parent    string    `json:"parent,omitempty"` // the node's link that it sits on
	Peer      string    `json:"peer,omitempty"`   // the other end of a veth, in the other namespace
	Master    string    `json:"master,omitempty"` // the bridge or bond that it is a port of
	MAC       string    `json:"mac,omitempty"`
	MTU       int       `json:"mtu"` // bytes
	Up        bool      `json:"up"`
	Addresses []Address `json:"addresses,omitempty"`
	Network   string    `json:"network,omitempty"` // the CNI network that it was made for
	Table     int       `json:"table,omitempty"`   // the ID of its own routing table
	Meaning   string    `json:"meaning,omitempty"`
	Ours      bool      `json:"ours,omitempty"`
}

// Address is an address of a NIC.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`
	Dynamic   bool         `json:"dynamic,omitempty"`   // from a router advertisement or DHCP
	Tentative bool         `json:"tentative,omitempty"` // not usable yet
	Source    *Source      `json:"source,omitempty"`    // nil unless multihome-ipam gave it
}

// Source says where an address comes from: docs/addresses.md.
type Source struct {
	Pool    string `json:"pool"`              // the SpiderIPPool
	Network string `json:"network,omitempty"` // spec.network of the pool, or vlanN for spec.vlan N
	Claim   string `json:"claim"`             // NAMESPACE/NAME of the SpiderEndpoint, which is the pod's
}

// Rule is an entry of the routing policy database.
type Rule struct {
	Family   netstate.Family `json:"family"`
	Priority int             `json:"priority"`
	Text     string          `json:"text"` // in the syntax of ip-rule(8), without priority and protocol
	Table    int             `json:"table"`
	Meaning  string          `json:"meaning,omitempty"`
	Ours     bool            `json:"ours,omitempty"`
}

// Table is a routing table: all of it in a pod, and on the node the routes to the pod. A
// table of ours may hold routes that were copied or moved there; they keep their protocol.
type Table struct {
	ID      int     `json:"id"`
	Name    string  `json:"name"`
	Meaning string  `json:"meaning,omitempty"`
	Ours    bool    `json:"ours,omitempty"`
	Routes  []Route `json:"routes,omitempty"` // the most specific first, as the kernel tries them
}

// Route is a unicast route with one next hop.
type Route struct {
	Family   netstate.Family `json:"family"`
	Dst      netip.Prefix    `json:"dst"`
	Via      netip.Addr      `json:"via,omitzero"`
	Dev      string          `json:"dev"`
	Src      netip.Addr      `json:"src,omitzero"`
	Metric   int             `json:"metric,omitempty"`
	Protocol string          `json:"protocol"`
	Text     string          `json:"text"` // in the syntax of ip-route(8), without table and defaults
	Meaning  string          `json:"meaning,omitempty"`
	Ours     bool            `json:"ours,omitempty"`
}

// Mark is a table of ours in nftables, or our chains in iptables.
type Mark struct {
	Text    string `json:"text"`
	Meaning string `json:"meaning,omitempty"`
	Damage  string `json:"damage,omitempty"`
}

// Neighbour is an entry of the ARP or NDP table that leads to a MAC.
type Neighbour struct {
	Addr      netip.Addr `json:"addr"`
	Dev       string     `json:"dev"`
	MAC       string     `json:"mac"`
	Permanent bool       `json:"permanent,omitempty"`
	Meaning   string     `json:"meaning,omitempty"`
}

// Record is a record of ours of an attachment, in /run/multihome.
type Record struct {
	Network   string       `json:"network"`
	IfName    string       `json:"ifName"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Table     int          `json:"table,omitempty"`
	Device    string       `json:"device,omitempty"`
	Links     []string     `json:"links,omitempty"` // links of the node that the attachment uses
}

// Of describes a pod from its state. It reads nothing itself.
func Of(pod inspect.Pod, state inspect.State) View {
	r := newReader(pod, state)
	v := View{Name: pod.Name, ContainerID: pod.ContainerID, Netns: pod.Netns, Pod: r.pod(), Node: r.node(), Settings: r.settings}
	for _, record := range pod.Records {
		v.Records = append(v.Records, Record{record.Network, record.IfName, record.Addresses, record.Table, record.Device, record.Links})
	}
	return v
}
