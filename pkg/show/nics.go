// SPDX-License-Identifier: Apache-2.0

package show

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
)

const loopback = "lo"

// podNICs returns all NICs of the pod except its loopback.
func (r *reader) podNICs() []NIC {
	var out []NIC
	for _, l := range all[netstate.Link](r, inPod) {
		if l.Name == loopback {
			continue
		}
		n := r.nic(inPod, l)
		for i := range n.Addresses {
			n.Addresses[i].Source = r.source(l.Name, n.Addresses[i].Prefix)
		}
		n.Parent = r.Parents[l.Name]
		n.Network = r.network(l.Name)
		n.Table = r.ownTable(l.Name)
		if r.leadsToOurs(l.Name) {
			n.Ours, n.Meaning = true, "link to the node"
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b NIC) int { return byNumber(a.Name, b.Name) })
	return out
}

// nic describes a link, without the fields that depend on other objects than its
// addresses.
func (r *reader) nic(ns netstate.NS, l netstate.Link) NIC {
	n := NIC{
		Name: l.Name, Type: l.Type, Details: string(l.Details), Parent: l.Parent, Peer: l.Peer.Name, Master: l.Master,
		MTU: l.MTU, Up: l.Up, Ours: l.Owned(),
	}
	if n.Type == "" {
		n.Type = "physical"
	}
	if l.MAC != (netstate.MAC{}) {
		n.MAC = l.MAC.String()
	}
	for _, a := range all[netstate.Addr](r, ns) {
		if a.Dev == l.Name {
			n.Addresses = append(n.Addresses, Address{Prefix: a.Prefix, Dynamic: a.Dynamic, Tentative: a.Tentative})
		}
	}
	return n
}

// source returns where an address of one of the pod's NICs comes from, by the spool.
func (r *reader) source(nic string, prefix netip.Prefix) *Source {
	for _, s := range r.of.Sandboxes {
		for _, a := range s.Addresses {
			if s.Interface == nic && a.Address == prefix {
				return &Source{Pool: a.Pool, Network: a.Space, Claim: s.Namespace + "/" + s.Pod}
			}
		}
	}
	return nil
}

// network returns the CNI network of a NIC of the pod, "" if no attachment names it.
func (r *reader) network(nic string) string {
	i := slices.IndexFunc(r.of.Attachments, func(a inspect.Attachment) bool { return a.IfName == nic })
	if i < 0 {
		return ""
	}
	return r.of.Attachments[i].Network
}

// ownTable returns the routing table of one of the pod's NICs: the table for packets from
// its address, or the table for replies that leave by it. It returns 0 if there is none.
func (r *reader) ownTable(nic string) int {
	for _, rule := range all[netstate.Rule](r, inPod) {
		if rule.From.IsSingleIP() && r.podAddrs[rule.From.Addr()] == nic {
			return rule.Table
		}
	}
	if r.repliesBy == nic && r.network(nic) == "" {
		return r.repliesTable
	}
	return 0
}

// nodeNICs returns the NICs of the node that concern the pod: parents and other ends of
// the pod's NICs, NICs by which the node has routes to the pod, NICs whose addresses the
// pod has routes to, and the parents, masters and bond members of all these.
func (r *reader) nodeNICs() []NIC {
	meanings := map[string][]string{}
	var add func(name, meaning string)
	add = func(name, meaning string) {
		l := r.link(onNode, name)
		if l.Name == "" || slices.Contains(meanings[name], meaning) {
			return
		}
		known := meanings[name] != nil
		meanings[name] = append(meanings[name], meaning)
		if known {
			return
		}
		if l.Parent != "" {
			add(l.Parent, "")
		}
		if l.Master != "" {
			add(l.Master, "")
		}
		if l.Type == "bond" {
			for _, m := range all[netstate.Link](r, onNode) {
				if m.Master == name {
					add(m.Name, "")
				}
			}
		}
	}
	for _, l := range all[netstate.Link](r, inPod) {
		if l.Peer.NS == onNode {
			add(l.Peer.Name, "the other end of "+l.Name)
		}
		add(r.Parents[l.Name], l.Name+" sits on it")
	}
	for _, route := range r.toPod {
		meaning := ""
		if l := r.link(onNode, route.Dev); l.Owned() && l.Type == "macvlan" {
			meaning = "the node's way to pods on " + l.Parent
		}
		add(route.Dev, meaning)
	}
	for _, route := range all[netstate.Route](r, inPod) {
		if route.Dst.IsSingleIP() && route.Owned() {
			add(r.nodeAddrs[route.Dst.Addr()], "")
		}
	}
	var out []NIC
	for _, l := range all[netstate.Link](r, onNode) {
		if words, ok := meanings[l.Name]; ok {
			n := r.nic(onNode, l)
			n.Meaning = strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), ", ")
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b NIC) int { return byNumber(a.Name, b.Name) })
	return out
}
