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

// rules returns those of a namespace that ok wants, in the order in which the kernel
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
		return "what goes to a pod's address"
	case ns == onNode:
		return ""
	case rule.Owned() && rule.Mask != 0 && rule.Table == r.repliesTable:
		return r.repliesMeaning()
	case rule.From.IsSingleIP() && r.podAddrs[rule.From.Addr()] != "":
		return "what " + r.podAddrs[rule.From.Addr()] + "'s address sends"
	case rule.To.IsValid() && r.podAddrs[rule.To.Addr()] != "": // ours keep the bits of the address
		return "what goes to " + r.podAddrs[rule.To.Addr()] + "'s network"
	}
	return ""
}

// repliesMeaning says which replies are led their own way.
func (r *reader) repliesMeaning() string {
	words := "replies to what came by " + r.repliesBy
	if !r.leadsToOurs(r.repliesBy) {
		words = "replies to what the node sent" // others come by this NIC as well
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

// replies finds what is in the fields of their name.
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

// tables returns those that the rules lead to and those that hold routes, the ones
// that are asked first first. The kernel's own are left out where they are empty.
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
		t.Meaning = cmp.Or(t.Meaning, strings.Replace(rule.Meaning, "'s address sends", "'s addresses send", 1))
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

// text is a route as ip(8) prints it, without its table, which a heading says, and
// without what is plain: that it is ours, the scope that follows from it, and the
// metric that IPv6 routes have when nobody gives them one.
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

// hasAddr reports whether one of the pod's NICs has an address in a network.
func (r *reader) hasAddr(nic string, network netip.Prefix) bool {
	for a, dev := range r.podAddrs {
		if dev == nic && network.Contains(a) {
			return true
		}
	}
	return false
}

// podNeighbours returns all that the pod knows.
func (r *reader) podNeighbours() []Neighbour {
	return r.neighbours(inPod, func(n netstate.Neigh) (meaning string, ok bool) {
		if r.nodeAddrs[n.Dst] != "" {
			meaning = "the node"
		}
		return meaning, true
	})
}

// nodeNeighbours returns the pod's addresses.
func (r *reader) nodeNeighbours() []Neighbour {
	return r.neighbours(onNode, func(n netstate.Neigh) (meaning string, ok bool) {
		nic := r.podAddrs[n.Dst]
		return "the pod, " + nic, nic != ""
	})
}

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

// podMarks returns what of netfilter marks the pod's replies.
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
		return fmt.Sprintf("replies to what came by %s from %s get mark %#x", m.Dev, m.From, m.Bits)
	}
	return fmt.Sprintf("replies to what came by %s get mark %#x", m.Dev, m.Bits)
}

// nodeMarks returns what of netfilter looks at what pods send to the node.
func (r *reader) nodeMarks() []Mark {
	var out []Mark
	for _, c := range all[netstate.SourceCheck](r, onNode) {
		m := Mark{Text: "table inet " + netstate.SourceTable, Damage: c.Damage}
		if c.Damage == "" {
			m.Meaning = "drops what pods send from addresses that aren't theirs"
		}
		out = append(out, m)
	}
	return out
}
