// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// rules returns the rules of a namespace that ok accepts, in the order in which the kernel
// asks them.
func (r *reader) rules(ns netstate.NS, ok func(netstate.Rule) bool) []Rule {
	list := slices.DeleteFunc(all[netstate.Rule](r, ns), func(rule netstate.Rule) bool { return !ok(rule) })
	slices.SortStableFunc(list, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Family, b.Family))
	})
	var out []Rule
	for _, rule := range list {
		bare := rule
		bare.Proto = 0
		_, text, _ := strings.Cut(bare.String(), " from ")
		out = append(out, Rule{
			Family: rule.Family, Priority: rule.Priority, Text: "from " + text, Table: rule.Table,
			Meaning: r.ruleMeaning(ns, rule), Ours: rule.Owned(),
		})
	}
	return out
}

// ruleMeaning says which packets a rule is for, "" if that is unknown.
func (r *reader) ruleMeaning(ns netstate.NS, rule netstate.Rule) string {
	forAll := !rule.From.IsValid() && !rule.To.IsValid() && rule.Mask == 0
	switch {
	case rule.Table == netstate.TableLocal:
		return "addresses of its own"
	case rule.Table == netstate.TableMain && forAll:
		return "everything else"
	case rule.Table == netstate.TableDefault && forAll:
		return "empty unless somebody uses it"
	case ns == onNode && rule.Owned() && forAll:
		return "packets to pods' addresses"
	case ns == onNode:
		return ""
	case rule.Owned() && rule.Mask != 0 && rule.Table == r.repliesTable:
		return r.repliesMeaning()
	case rule.From.IsSingleIP() && r.podAddrs[rule.From.Addr()] != "":
		return "packets from " + r.podAddrs[rule.From.Addr()] + "'s address"
	case rule.To.IsValid() && r.podAddrs[rule.To.Addr()] != "": // our rules keep the host bits of the address
		return "packets to " + r.podAddrs[rule.To.Addr()] + "'s network"
	}
	return ""
}

// repliesMeaning says which replies the rule for marked packets is for.
func (r *reader) repliesMeaning() string {
	words := "replies to packets via " + r.repliesBy
	if !r.leadsToOurs(r.repliesBy) {
		words = "replies to packets from the node" // other senders use this NIC as well
	}
	if len(all[netstate.Mark](r, inPod)) == 0 {
		words += ", but nothing marks them"
	}
	return words
}

// leadsToOurs reports whether a link of the pod is an end of a veth of ours.
func (r *reader) leadsToOurs(nic string) bool {
	peer := r.link(inPod, nic).Peer
	return r.link(peer.NS, peer.Name).Owned()
}

// replies returns the values of the fields repliesBy and repliesTable.
func (r *reader) replies() (by string, table int) {
	for _, rule := range all[netstate.Rule](r, inPod) {
		if rule.Owned() && rule.Mask != 0 {
			table = rule.Table
		}
	}
	by = "?"
	for _, route := range all[netstate.Route](r, inPod) {
		if table != 0 && route.Table == table && route.Dst.Bits() == 0 {
			by = route.Dev
		}
	}
	return by, table
}

// tables returns the tables that the rules lead to and the tables of the routes, in the
// order in which the kernel asks them. It leaves out table local, and tables that are
// empty and not ours.
func (r *reader) tables(ns netstate.NS, rules []Rule, routes []netstate.Route) []Table {
	var out []Table
	at := func(id int) *Table {
		if i := slices.IndexFunc(out, func(t Table) bool { return t.ID == id }); i >= 0 {
			return &out[i]
		}
		out = append(out, Table{ID: id, Name: tableName(id)})
		return &out[len(out)-1]
	}
	for _, rule := range rules {
		if rule.Table == netstate.TableLocal {
			continue
		}
		t := at(rule.Table)
		t.Ours = t.Ours || rule.Ours
		t.Meaning = cmp.Or(t.Meaning, strings.Replace(rule.Meaning, "'s address", "'s addresses", 1))
	}
	slices.SortStableFunc(routes, func(a, b netstate.Route) int {
		return cmp.Or(cmp.Compare(netstate.FamilyOf(a.Dst.Addr()), netstate.FamilyOf(b.Dst.Addr())),
			cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Metric, b.Metric))
	})
	for _, route := range routes {
		t := at(route.Table)
		t.Routes = append(t.Routes, r.route(ns, route))
	}
	return slices.DeleteFunc(out, func(t Table) bool { return len(t.Routes) == 0 && !t.Ours })
}

func tableName(id int) string {
	switch id {
	case netstate.TableMain:
		return "main"
	case netstate.TableDefault:
		return "default"
	}
	return fmt.Sprint(id)
}

// route describes a route of a namespace.
func (r *reader) route(ns netstate.NS, route netstate.Route) Route {
	out := Route{
		Family: netstate.FamilyOf(route.Dst.Addr()), Dst: route.Dst, Via: route.Via, Dev: route.Dev, Src: route.Src,
		Metric: route.Metric, Protocol: route.Proto.String(), Text: text(route), Ours: route.Owned(),
	}
	if ns == onNode {
		if nic := r.podAddrs[route.Dst.Addr()]; nic != "" {
			out.Meaning = "to " + nic
		}
		return out
	}
	out.Meaning = r.routeMeaning(route)
	return out
}

// text returns a route in the syntax of ip-route(8). It leaves out the table, which is in
// the heading, our protocol, the scope that follows from the route, and the default metric
// of IPv6 routes.
func text(route netstate.Route) string {
	like := netstate.NewRoute(route.Proto, route.Table, route.Dst, route.Via, route.Dev, route.Src)
	route.Table = netstate.TableMain
	if route.Scope == like.Scope {
		route.Scope = netstate.ScopeGlobal
	}
	if route.Metric == like.Metric {
		route.Metric = 0
	}
	s := route.String()
	if route.Owned() {
		s = strings.Replace(s, " proto "+route.Proto.String(), "", 1)
	}
	return s
}

// routeMeaning says what a route of the pod leads to, "" if that is unknown.
func (r *reader) routeMeaning(route netstate.Route) string {
	switch {
	case route.Dst.Bits() == 0 && route.Table == r.repliesTable:
		return "back by the node"
	case route.Dst.Bits() == 0:
		return "everything else"
	case r.nodeAddrs[route.Dst.Addr()] != "" && route.Dst.IsSingleIP():
		return "the node itself"
	}
	for _, p := range r.purposes {
		if p.dst == route.Dst && route.Owned() {
			return p.words
		}
	}
	switch {
	case route.Owned():
		return "by the node"
	case r.hasAddr(route.Dev, route.Dst):
		return "hosts in " + route.Dev + "'s network"
	}
	return ""
}

// hasAddr reports whether a NIC of the pod has an address in a network.
func (r *reader) hasAddr(nic string, network netip.Prefix) bool {
	for a, dev := range r.podAddrs {
		if dev == nic && network.Contains(a) {
			return true
		}
	}
	return false
}

// podNeighbours returns all neighbours of the pod.
func (r *reader) podNeighbours() []Neighbour {
	return r.neighbours(inPod, func(n netstate.Neigh) (meaning string, ok bool) {
		if r.nodeAddrs[n.Dst] != "" {
			meaning = "the node"
		}
		return meaning, true
	})
}

// nodeNeighbours returns the node's neighbours that are addresses of the pod.
func (r *reader) nodeNeighbours() []Neighbour {
	return r.neighbours(onNode, func(n netstate.Neigh) (meaning string, ok bool) {
		nic := r.podAddrs[n.Dst]
		return "the pod, " + nic, nic != ""
	})
}

// neighbours returns the neighbours of a namespace for which meaning returns ok.
func (r *reader) neighbours(ns netstate.NS, meaning func(netstate.Neigh) (string, bool)) []Neighbour {
	var out []Neighbour
	for _, n := range all[netstate.Neigh](r, ns) {
		if words, ok := meaning(n); ok {
			out = append(out, Neighbour{n.Dst, n.Dev, n.MAC.String(), n.Permanent, words})
		}
	}
	slices.SortStableFunc(out, func(a, b Neighbour) int { return cmp.Or(byNumber(a.Dev, b.Dev), a.Addr.Compare(b.Addr)) })
	return out
}

// podMarks returns the tables or chains of netfilter that mark the pod's replies.
func (r *reader) podMarks() []Mark {
	var out []Mark
	for _, m := range all[netstate.Mark](r, inPod) {
		text := "table inet " + netstate.MarkTable
		if m.Backend == netstate.Iptables {
			text = string(m.Kind()) + " table " + netstate.MangleTable
		}
		out = append(out, Mark{Text: text, Meaning: markMeaning(m), Damage: m.Damage})
	}
	return out
}

func markMeaning(m netstate.Mark) string {
	switch {
	case m.Damage != "":
		return ""
	case m.From != netstate.MAC{}:
		return fmt.Sprintf("replies to packets via %s from %s get mark %#x", m.Dev, m.From, m.Bits)
	}
	return fmt.Sprintf("replies to packets via %s get mark %#x", m.Dev, m.Bits)
}

// nodeMarks returns the tables of netfilter that check the sources of pods' packets on the
// node.
func (r *reader) nodeMarks() []Mark {
	var out []Mark
	for _, c := range all[netstate.SourceCheck](r, onNode) {
		m := Mark{Text: "table inet " + netstate.SourceTable, Damage: c.Damage}
		if c.Damage == "" {
			m.Meaning = "drops packets from pods with source addresses that aren't theirs"
		}
		out = append(out, m)
	}
	return out
}
