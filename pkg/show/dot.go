// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/canvas"
	"github.com/multihome/multihome/pkg/netstate"
)

// WriteDot writes the view as a graph for dot(1). It has the contents of [View.Picture],
// and arrows from each table to the NICs of its routes.
func (v View) WriteDot(w io.Writer) error {
	g := &graph{picture: v.coloured()}
	g.add(`digraph pod {`)
	g.add(`graph [label=%s, labelloc=t, rankdir=LR, fontname="Helvetica"]`, quoted(v.title()))
	g.add(`node [shape=box, fontname="Helvetica", fontsize=11, style="rounded,filled", fillcolor=white]`)
	g.add(`edge [fontname="Helvetica", color=%q]`, wire)
	for i, group := range v.groups() {
		g.wires(i, group)
	}
	g.side(onNode, "node", v.Node, nodeBg)
	g.side(inPod, "pod", v.Pod, podBg)
	g.add(`}`)
	_, err := io.WriteString(w, g.String())
	return err
}

// graph collects the text of a graph in the DOT language.
type graph struct {
	strings.Builder
	*picture
}

func (g *graph) add(format string, a ...any) { fmt.Fprintf(&g.Builder, format+"\n", a...) }

// quoted returns a string in the quotes of the DOT language.
func quoted(s string) string { return strconv.Quote(s) }

// wires adds the LAN of a group, and the lines between the LAN and the group's NICs.
func (g *graph) wires(i int, group group) {
	lan := fmt.Sprintf("lan/%d", i)
	lines := g.lan(group)
	if len(lines) > 0 {
		var text []string
		for _, l := range lines {
			text = append(text, l.spans[0].text)
		}
		g.add(`%q [label=%s, fillcolor=%q]`, lan, quoted(strings.Join(text, "\n")), lanTop)
	}
	for _, l := range group.node {
		switch {
		case l.below != "":
			g.wire("node/"+l.below, "node/"+l.Name, wire)
		case len(lines) > 0:
			g.wire(lan, "node/"+l.Name, wire)
		}
		for _, n := range l.pod {
			g.wire("node/"+l.Name, "pod/"+n.Name, g.of(inPod, n.Name))
		}
	}
	for _, n := range group.pod {
		g.wire(lan, "pod/"+n.Name, g.of(inPod, n.Name))
	}
}

func (g *graph) wire(from, to string, c canvas.Colour) {
	g.add(`%q -> %q [dir=none, penwidth=2, color=%q]`, from, to, c)
}

// side adds the NICs, rules and tables of a namespace.
func (g *graph) side(ns netstate.NS, id string, s Side, background canvas.Colour) {
	g.add(`subgraph "cluster_%s" {`, id)
	g.add(`label=%q; style="rounded,filled"; fillcolor=%q`, strings.ToUpper(id[:1])+id[1:], background)
	for _, n := range s.NICs {
		if g.nodeNIC(n.Master).Type == "bond" && ns == onNode {
			continue // the bond's card lists it
		}
		g.nic(id, n, g.of(ns, n.Name))
	}
	for i, r := range merged(s.Rules) {
		if t := slices.IndexFunc(s.Tables, func(t Table) bool { return t.ID == r.Table }); t >= 0 {
			rule := fmt.Sprintf("%s/rule/%d", id, i)
			g.add(`%q [label=%s]`, rule, quoted(strings.TrimSpace(signed(fmt.Sprint(r.Priority, " ", r.Text), r.Ours)+"\n"+r.Meaning)))
			g.add(`%q -> "%s/table/%d"`, rule, id, r.Table)
		}
	}
	for _, t := range s.Tables {
		g.table(ns, id, t)
	}
	g.add(`}`)
}

// signed returns a text with a plus before it, if it describes something of ours.
func signed(text string, ours bool) string {
	if ours {
		return "+ " + text
	}
	return text
}

func (g *graph) nic(id string, n NIC, c canvas.Colour) {
	lines := []string{signed(n.Name+" "+n.kind(), n.Ours)}
	if members := g.members(n.Name); id == "node" && len(members) > 0 {
		lines = append(lines, "members "+strings.Join(members, ", "))
	}
	for _, a := range n.Addresses {
		lines = append(lines, a.text())
	}
	g.add(`%q [label=%s, color=%q, penwidth=2]`, id+"/"+n.Name, quoted(strings.Join(lines, "\n")), c)
}

// table adds a card with a line for each route of a table.
func (g *graph) table(ns netstate.NS, id string, t Table) {
	var b strings.Builder
	cell := func(c canvas.Colour, text string) {
		fmt.Fprintf(&b, `<tr><td align="left"><font color=%q>%s</font></td></tr>`, c, html.EscapeString(text))
	}
	fmt.Fprintf(&b, `<tr><td align="left"><b>%s</b></td></tr>`, html.EscapeString(signed("table "+t.Name, t.Ours)))
	var devs []string
	for _, r := range t.Routes {
		cell(g.of(ns, r.Dev), signed(r.Text, r.Ours))
		devs = append(devs, r.Dev)
	}
	table := fmt.Sprintf("%s/table/%d", id, t.ID)
	g.add(`%q [label=<<table border="0" cellborder="0" cellspacing="0">%s</table>>]`, table, b.String())
	for _, dev := range unique(devs) {
		g.add(`%q -> %q [color=%q]`, table, id+"/"+dev, g.of(ns, dev))
	}
}
