// SPDX-License-Identifier: Apache-2.0

// Package show puts what a pod and its node hold into words and pictures: the pod's
// NICs, the rules and routing tables that choose among them, and on the node what
// leads to the pod, with what each is there for and which of it this suite made.
package show

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
)

// View is a pod, and of its node what concerns that pod.
type View struct {
	Name        string   `json:"name"`
	ContainerID string   `json:"containerID,omitempty"`
	Netns       string   `json:"netns"`
	Pod         Side     `json:"pod"`
	Node        Side     `json:"node"`
	Records     []Record `json:"records,omitempty"`
}

// Side is what one of the two network namespaces holds.
type Side struct {
	NICs       []NIC       `json:"nics"`
	Rules      []Rule      `json:"rules,omitempty"`  // as they are asked
	Tables     []Table     `json:"tables,omitempty"` // in the order of the rules that lead there
	Marks      []Mark      `json:"marks,omitempty"`
	Neighbours []Neighbour `json:"neighbours,omitempty"`
}

// NIC is a network interface.
type NIC struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"` // of ip-link(8), or "physical"
	Details   string    `json:"details,omitempty"`
	Parent    string    `json:"parent,omitempty"` // that it sits on; it is the node's, and so is
	Peer      string    `json:"peer,omitempty"`   // the other end of a pod's veth, and the other way round
	Master    string    `json:"master,omitempty"` // the bridge or bond that it is a port of
	MAC       string    `json:"mac,omitempty"`
	MTU       int       `json:"mtu"` // bytes
	Up        bool      `json:"up"`
	Addresses []Address `json:"addresses,omitempty"`
	Network   string    `json:"network,omitempty"` // the CNI network that it was made for
	Table     int       `json:"table,omitempty"`   // that is its own
	Meaning   string    `json:"meaning,omitempty"`
	Ours      bool      `json:"ours,omitempty"`
}

// Address is one of a NIC's.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`
	Dynamic   bool         `json:"dynamic,omitempty"`   // of a router advertisement or DHCP
	Tentative bool         `json:"tentative,omitempty"` // not usable yet
}

// Rule is an entry of the routing policy database.
type Rule struct {
	Family   netstate.Family `json:"family"`
	Priority int             `json:"priority"`
	Text     string          `json:"text"` // of ip-rule(8), without priority and protocol
	Table    int             `json:"table"`
	Meaning  string          `json:"meaning,omitempty"`
	Ours     bool            `json:"ours,omitempty"`
}

// Table is a routing table: in a pod all of it, on the node what leads to the pod.
// One of ours may hold routes that were copied or moved there, which keep their
// protocol.
type Table struct {
	ID      int     `json:"id"`
	Name    string  `json:"name"`
	Meaning string  `json:"meaning,omitempty"`
	Ours    bool    `json:"ours,omitempty"`
	Routes  []Route `json:"routes,omitempty"` // the most specific ones first, as they are asked
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
	Text     string          `json:"text"` // of ip-route(8), without what is plain
	Meaning  string          `json:"meaning,omitempty"`
	Ours     bool            `json:"ours,omitempty"`
}

// Mark is a table or are chains of ours in netfilter.
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

// Record is what we noted of an attachment on the node.
type Record struct {
	Network   string       `json:"network"`
	IfName    string       `json:"ifName"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Table     int          `json:"table,omitempty"`
	Device    string       `json:"device,omitempty"`
	Links     []string     `json:"links,omitempty"` // of the node, that the attachment uses
}

// Of puts what was read of a pod into words. It reads nothing itself.
func Of(pod inspect.Pod, state inspect.State) View {
	r := newReader(pod, state)
	v := View{Name: pod.Name, ContainerID: pod.ContainerID, Netns: pod.Netns, Pod: r.pod(), Node: r.node()}
	for _, record := range pod.Records {
		v.Records = append(v.Records, Record{record.Network, record.IfName, record.Addresses, record.Table, record.Device, record.Links})
	}
	return v
}
