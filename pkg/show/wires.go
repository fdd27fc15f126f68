// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/canvas"
)

// group holds NICs of the node that sit on each other, the lowest first, or a NIC of the
// pod that sits on no NIC of the node.
type group struct {
	node []leaf
	pod  []NIC
}

// leaf is a NIC of the node in a group.
type leaf struct {
	NIC
	below string // name of the NIC that it sits on
	depth int
	pod   []NIC // NICs of the pod that sit on it, or have their other end there
}

// groups divides all NICs into groups, in the order of the pod's NICs.
func (v View) groups() []group {
	below := func(n NIC) string {
		if n.Master != "" && v.nodeNIC(n.Master).Type != "bond" {
			return n.Master
		}
		return n.Parent
	}
	used := func(n NIC) (out []NIC) {
		for _, p := range v.Pod.NICs {
			if p.Parent == n.Name || p.Peer == n.Name {
				out = append(out, p)
			}
		}
		return out
	}
	var out []group
	var grow func(g *group, n NIC, depth int)
	grow = func(g *group, n NIC, depth int) {
		g.node = append(g.node, leaf{n, below(n), depth, used(n)})
		for _, o := range v.Node.NICs {
			if below(o) == n.Name {
				grow(g, o, depth+1)
			}
		}
	}
	for _, n := range v.Node.NICs {
		if below(n) == "" && v.nodeNIC(n.Master).Type != "bond" {
			var g group
			grow(&g, n, 0)
			out = append(out, g)
		}
	}
	for _, n := range v.Pod.NICs {
		if v.nodeNIC(cmp.Or(n.Parent, n.Peer)).Name == "" {
			out = append(out, group{pod: []NIC{n}})
		}
	}
	slices.SortStableFunc(out, func(a, b group) int { return cmp.Compare(v.first(a), v.first(b)) })
	return out
}

// nodeNIC returns the node's NIC of a name, the zero NIC if the view has none.
func (v View) nodeNIC(name string) NIC {
	i := slices.IndexFunc(v.Node.NICs, func(n NIC) bool { return n.Name == name })
	if i < 0 {
		return NIC{}
	}
	return v.Node.NICs[i]
}

// first returns the index in the pod's NICs of the first one in a group.
func (v View) first(g group) int {
	all := slices.Clone(g.pod)
	for _, l := range g.node {
		all = append(all, l.pod...)
	}
	first := len(v.Pod.NICs)
	for _, n := range all {
		first = min(first, slices.IndexFunc(v.Pod.NICs, func(o NIC) bool { return o.Name == n.Name }))
	}
	return first
}

// wires draws LANs, the node's NICs, the pod's NICs and the lines between them, below y. It
// returns the heights at which node and pod end.
func (p *picture) wires(y float64) (nodeBottom, podBottom float64) {
	p.text(nodeX+inset, y+24, partStyle, "Node", nodeWidth-2*inset)
	p.text(podX+inset, y+24, partStyle, "Pod", podWidth-2*inset)
	p.text(lanX, y+24, partStyle, "Outside", lanWidth)
	y += 36
	atNode, atPod := y, y
	for _, g := range p.groups() {
		y = max(atNode, atPod)
		atNode, atPod = y, y
		top, bottoms := y, map[string]float64{}
		for _, l := range g.node {
			y := atNode
			if len(l.pod) > 0 {
				y = max(atNode, atPod)
				atPod = y
			}
			x := nodeX + inset + 20*float64(l.depth)
			if l.depth > 0 {
				p.Add(canvas.Line{Points: []canvas.Point{{X: x - 10, Y: bottoms[l.below]}, {X: x - 10, Y: y + header}, {X: x, Y: y + header}}, Colour: wire, Thick: 2})
			}
			bottoms[l.Name] = y + p.nodeCard(x, y, l)
			atNode = bottoms[l.Name] + space
			var at []float64
			for _, n := range l.pod {
				at = append(at, atPod+header)
				atPod += p.podCard(atPod, n) + space
			}
			p.connect(y+header, at, l.pod)
		}
		for _, n := range g.pod {
			p.Add(canvas.Line{Points: []canvas.Point{{X: lanX + lanWidth, Y: y + header}, {X: podX + inset, Y: y + header}}, Colour: p.of(inPod, n.Name), Thick: wayWidth, Dashed: true})
			atPod += p.podCard(atPod, n) + space
		}
		if lines := p.lan(g); len(lines) > 0 {
			h := p.lanCard(top, lines)
			if len(g.node) > 0 {
				p.Add(canvas.Line{Points: []canvas.Point{{X: lanX + lanWidth, Y: top + header}, {X: nodeX + inset, Y: top + header}}, Colour: wire, Thick: wayWidth})
			}
			atNode = max(atNode, top+h+space)
		}
	}
	return atNode + 2, atPod + 2
}

// connect draws the lines from a NIC of the node, at height y, to NICs of the pod, at the
// heights in at.
func (p *picture) connect(y float64, at []float64, nics []NIC) {
	const from, to = nodeX + nodeWidth - inset, podX + inset
	stem := float64(from)
	if len(nics) > 1 {
		stem = wayX
		p.Add(canvas.Line{Points: []canvas.Point{{X: from, Y: y}, {X: wayX, Y: y}, {X: wayX, Y: at[len(at)-1]}}, Colour: wire, Thick: wayWidth})
	}
	for i, n := range nics {
		p.Add(canvas.Line{Points: []canvas.Point{{X: stem, Y: at[i]}, {X: to, Y: at[i]}}, Colour: p.of(inPod, n.Name), Thick: wayWidth})
	}
}

// podCard draws a NIC of the pod. It returns the height of the card.
func (p *picture) podCard(y float64, n NIC) float64 {
	const w = podWidth - 2*inset
	c := p.of(inPod, n.Name)
	kind := n.kind()
	switch {
	case n.Parent != "":
		kind += " on " + n.Parent
	case n.Peer != "":
		kind += ", other end on the node"
	}
	lines := []line{{spans: []span{{in(nameStyle, c), n.Name}, {wordsStyle, kind}}, ours: n.Ours}}
	lines = append(lines, n.details(w-2*pad)...)
	if mac := p.nodeBy(n.Name); mac != "" && n.Peer == "" {
		lines = append(lines, wrapped(wordsStyle, "knows the node by the MAC "+mac, w-2*pad)...)
	}
	return p.card(podX+inset, y, w, 0, lines, c)
}

// nodeBy returns the MAC that the pod has for the node's addresses on a NIC, as a permanent
// entry; "" if there is none.
func (v View) nodeBy(nic string) string {
	for _, n := range v.Pod.Neighbours {
		if n.Dev == nic && n.Permanent && n.Meaning != "" {
			return n.MAC
		}
	}
	return ""
}

// nodeCard draws a NIC of the node. It returns the height of the card.
func (p *picture) nodeCard(x, y float64, l leaf) float64 {
	w := nodeX + nodeWidth - inset - x
	c, rim := p.of(onNode, l.Name), nodeRm
	if c != ink {
		rim = c
	}
	lines := []line{{spans: []span{{in(nameStyle, c), l.Name}, {wordsStyle, l.kind()}}, ours: l.Ours}}
	if members := p.members(l.Name); len(members) > 0 {
		lines = append(lines, wrapped(wordsStyle, "members "+strings.Join(members, ", "), w-2*pad)...)
	}
	n := l.NIC
	if len(l.pod) > 0 {
		n.Meaning = "" // the lines to the pod's NICs show it
	}
	lines = append(lines, n.details(w-2*pad)...)
	return p.card(x, y, w, 0, lines, rim)
}

// members returns the node's NICs that are members of a bond.
func (v View) members(bond string) (out []string) {
	if v.nodeNIC(bond).Type != "bond" {
		return nil
	}
	for _, n := range v.Node.NICs {
		if n.Master == bond {
			out = append(out, n.Name)
		}
	}
	return out
}

// details returns lines with a NIC's addresses, network, table, meaning, MTU and MAC.
func (n NIC) details(width float64) (lines []line) {
	for _, a := range n.Addresses {
		lines = append(lines, wrapped(codeStyle, a.text(), width)...)
	}
	if n.Network != "" {
		lines = append(lines, line{spans: []span{{wordsStyle, "network " + n.Network}}})
	}
	var more []string
	if n.Table != 0 {
		more = append(more, "table "+n.tableName())
	}
	if n.Meaning != "" {
		more = append(more, n.Meaning)
	}
	more = append(more, fmt.Sprintf("MTU %d", n.MTU))
	if n.MAC != "" {
		more = append(more, n.MAC)
	}
	return append(lines, wrapped(wordsStyle, strings.Join(more, " · "), width)...)
}

// lan returns lines about the networks of a group's NICs: prefixes and VLANs. It returns
// none if the NICs lead to no LAN.
func (p *picture) lan(g group) (lines []line) {
	if len(g.node) > 0 && (g.node[0].Peer != "" || g.node[0].Type == "bridge") {
		return nil
	}
	lines = append(lines, line{spans: []span{{nameStyle, "LAN"}}})
	networks := func(nics ...NIC) {
		var out []string
		for _, n := range nics {
			for _, a := range n.Addresses {
				if !a.Prefix.IsSingleIP() {
					out = append(out, a.Prefix.Masked().String())
				}
			}
		}
		for _, n := range unique(out) {
			lines = append(lines, line{spans: []span{{codeStyle, n}}})
		}
	}
	networks(g.pod...)
	for _, l := range g.node {
		if id := l.vlanID(); id != "" {
			lines = append(lines, line{spans: []span{{wordsStyle, "VLAN " + id}}})
		}
		networks(append([]NIC{l.NIC}, l.pod...)...)
	}
	if len(lines) == 1 && len(g.node) > 0 && len(g.node[0].Addresses) > 0 {
		return nil // the NIC has addresses for its own use, but no network
	}
	return lines
}

func (p *picture) lanCard(y float64, lines []line) float64 {
	h := float64(len(lines))*lineHeight + 2*pad - 4
	p.Add(canvas.Box{X: lanX, Y: y, W: lanWidth, H: h, Radius: 6, Fill: lanTop, Stroke: lanRim, Thick: 1.5})
	for _, l := range lines {
		p.line(lanX+pad, y+pad+11, lanWidth-2*pad, l)
		y += lineHeight
	}
	return h
}
