// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/canvas"
	"github.com/multihome/multihome/pkg/netstate"
)

// These are positions and sizes in pixels. The LANs are on the left, the node in the
// middle, the pod on the right, and the rules and tables below.
const (
	pageWidth = 1200
	margin    = 20
	inset     = 14 // of cards in a region
	space     = 12 // between cards
	pad       = 10 // of text in a card

	lanX, lanWidth   = margin, 190
	nodeX, nodeWidth = 230, 456
	podX, podWidth   = 726, 454
	wayX, wayWidth   = podX - 20, 2.5 // of lines between node and pod

	ruleX, ruleWidth   = margin + inset, 400
	tableX, tableWidth = 490, pageWidth - margin - inset - 490

	header = pad + 10 // distance from a card's upper edge to the lines that meet the card
)

// These colours are dark enough to be read on white.
var (
	ink    = canvas.RGB(0x111827)
	grey   = canvas.RGB(0x4b5563)
	wire   = canvas.RGB(0x6b7280)
	bad    = canvas.RGB(0xb91c1c)
	paper  = canvas.RGB(0xffffff)
	lanTop = canvas.RGB(0xfefce8)
	lanRim = canvas.RGB(0xb8a94a)
	nodeBg = canvas.RGB(0xf3f4f6)
	nodeRm = canvas.RGB(0x9ca3af)
	podBg  = canvas.RGB(0xeff6ff)
	podRim = canvas.RGB(0x7aa7e0)

	// palette holds the colours of NICs, which take turns.
	palette = []canvas.Colour{
		canvas.RGB(0x1d4ed8), canvas.RGB(0x7e22ce), canvas.RGB(0xb45309), canvas.RGB(0xbe185d),
		canvas.RGB(0x0e7490), canvas.RGB(0x78350f), canvas.RGB(0x4338ca), canvas.RGB(0x57534e),
	}
	hostLink = canvas.RGB(0x15803d) // the link between pod and node
)

var (
	titleStyle = canvas.Style{Font: canvas.SansBold, Size: 20, Colour: ink}
	partStyle  = canvas.Style{Font: canvas.SansBold, Size: 15, Colour: ink}
	nameStyle  = canvas.Style{Font: canvas.MonoBold, Size: 13, Colour: ink}
	wordsStyle = canvas.Style{Font: canvas.Sans, Size: 12.5, Colour: grey}
	codeStyle  = canvas.Style{Font: canvas.Mono, Size: 12, Colour: ink}
)

func in(s canvas.Style, c canvas.Colour) canvas.Style {
	s.Colour = c
	return s
}

// Picture draws the view: node, pod, their NICs, and the rules and tables that choose
// among them.
func (v View) Picture() *canvas.Canvas {
	p := v.coloured()
	p.Canvas = &canvas.Canvas{Width: pageWidth, Title: v.title()}
	y := p.heading()
	nodeBottom, podBottom := p.wires(y)
	p.ways(y, nodeBottom, podBottom)
	return p.Canvas
}

// picture is a view with the canvas that it is drawn on.
type picture struct {
	*canvas.Canvas
	View
	colours map[place]canvas.Colour // of the pod's NICs, and of the node's NICs that lead to them
}

// place is a NIC in a namespace.
type place struct {
	ns   netstate.NS
	name string
}

// coloured gives each NIC of the pod a colour, and the node's end of a veth the colour of
// the pod's end.
func (v View) coloured() *picture {
	p := &picture{View: v, colours: map[place]canvas.Colour{}}
	next := 0
	for _, n := range p.Pod.NICs {
		c := hostLink
		if !n.Ours {
			c = palette[next%len(palette)]
			next++
		}
		p.colours[place{inPod, n.Name}] = c
		if n.Peer != "" {
			p.colours[place{onNode, n.Peer}] = c
		}
	}
	for _, n := range p.Node.NICs { // a macvlan or bridge by which the node reaches pods
		if p.of(onNode, n.Name) == ink && p.leadsToPod(n.Name) {
			p.colours[place{onNode, n.Name}] = hostLink
		}
	}
	return p
}

// leadsToPod reports whether the node has a route to the pod by this NIC.
func (v View) leadsToPod(nic string) bool {
	return slices.ContainsFunc(v.Node.Tables, func(t Table) bool {
		return slices.ContainsFunc(t.Routes, func(r Route) bool { return r.Dev == nic })
	})
}

// of returns a NIC's colour, ink if it has none.
func (p *picture) of(ns netstate.NS, nic string) canvas.Colour {
	if c, ok := p.colours[place{ns, nic}]; ok {
		return c
	}
	return ink
}

// heading draws the name of the pod. It returns the height at which the rest begins.
func (p *picture) heading() float64 {
	t := p.View.title()
	t = strings.ToUpper(t[:1]) + t[1:]
	y := margin + titleStyle.Size
	p.text(margin, y, titleStyle, t, pageWidth-2*margin)
	y += 22
	p.text(margin, y, wordsStyle, "its network namespace is "+p.Netns, pageWidth-2*margin)
	return y + 18
}

// text writes a line, and cuts it to a width.
func (p *picture) text(x, y float64, s canvas.Style, t string, width float64) {
	p.Add(canvas.Text{X: x, Y: y, Style: s, Words: s.Cut(t, width)})
}

// ways draws the rules and tables of pod and node below the NICs, the legend, and the
// regions of node and pod in the background.
func (p *picture) ways(top, nodeBottom, podBottom float64) {
	lower := max(nodeBottom+space, podBottom)
	bottom := p.routing(lower, "Which way the pod's packets take",
		"The rule with the lowest number is asked first. In the table that it leads to, the most specific route that fits is taken, by the NIC of its colour; "+
			"if none fits, the next rule is asked.", inPod, p.Pod) + inset
	behind := p.regions(top, nodeBottom, lower, bottom)
	bottom += space
	if len(p.Node.Tables)+len(p.Node.Marks) > 0 {
		end := p.routing(bottom, "How the node finds the pod", "", onNode, p.Node)
		end = p.checks(end) + inset
		behind = append(behind, region(margin, bottom, pageWidth-2*margin, end-bottom, nodeBg, nodeRm))
		bottom = end + space
	}
	p.Items = append(behind, p.Items...)
	p.Height = p.legend(bottom) + margin
}

const rim, round = 1, 10 // of regions

// region is the background of a namespace.
func region(x, y, w, h float64, fill, stroke canvas.Colour) canvas.Item {
	return canvas.Box{X: x, Y: y, W: w, H: h, Radius: round, Fill: fill, Stroke: stroke, Thick: rim}
}

// regions returns the backgrounds of the node's NICs and of the pod. The pod's region is an
// L around the node's.
func (p *picture) regions(top, nodeBottom, lower, bottom float64) []canvas.Item {
	return []canvas.Item{
		region(nodeX, top, nodeWidth, nodeBottom-top, nodeBg, nodeRm),
		region(podX, top, podWidth, lower+2*round-top, podBg, podRim),
		region(margin, lower, pageWidth-2*margin, bottom-lower, podBg, podRim),
		canvas.Box{X: podX + rim, Y: lower - round, W: podWidth - 2*rim, H: 3 * round, Fill: podBg},
		canvas.Box{X: margin + round, Y: lower + rim, W: pageWidth - 2*margin - 2*round, H: 2 * round, Fill: podBg},
	}
}

// routing draws a heading, an explanation, and the rules of a namespace with arrows to
// their tables. It returns the height at which it ends.
func (p *picture) routing(y float64, heading, explanation string, ns netstate.NS, s Side) float64 {
	const width = pageWidth - 2*margin - 2*inset
	y += 26
	p.text(ruleX, y, partStyle, heading, width)
	y += 4
	for _, l := range wordsStyle.Wrap(explanation, width) {
		y += lineHeight
		p.text(ruleX, y, wordsStyle, l, width)
	}
	y += 12
	for _, t := range s.Tables {
		at := y
		var ends []float64
		for _, r := range merged(s.Rules) {
			if r.Table == t.ID {
				h := p.ruleCard(at, r)
				ends = append(ends, at+h/2)
				at += h + 8
			}
		}
		h := p.tableCard(y, at-8-y, ns, t)
		for _, e := range ends {
			p.Add(canvas.Line{Points: []canvas.Point{{X: ruleX + ruleWidth, Y: e}, {X: tableX, Y: e}}, Colour: wire, Thick: 1.5, Arrow: true})
		}
		y = max(at-8, y+h) + space
	}
	return y - space
}

// checks draws our tables in the node's netfilter. It returns the height at which it ends.
func (p *picture) checks(y float64) float64 {
	for _, m := range p.Node.Marks {
		s, text := wordsStyle, "netfilter, "+m.Text+": "+m.Meaning
		if m.Damage != "" {
			s, text = in(wordsStyle, bad), "netfilter, "+m.Text+": isn't as it should be: "+m.Damage
		}
		y += space + 10
		p.line(ruleX, y, pageWidth-2*margin-2*inset, line{spans: []span{{s, text}}, ours: true})
	}
	return y
}

// ruleCard draws a rule. It returns the height of the card.
func (p *picture) ruleCard(y float64, r bothFamilies) float64 {
	const width = ruleWidth - 2*pad
	text, _, _ := strings.Cut(r.Text, " lookup ")
	if !strings.Contains(r.families, "+") && !strings.ContainsAny(text, ".:") {
		text += ", " + r.families + " only"
	}
	lines := []line{{spans: []span{{nameStyle, fmt.Sprint(r.Priority)}, {codeStyle, text}}, ours: r.Ours}}
	lines = append(lines, wrapped(wordsStyle, r.Meaning, width)...)
	if r.Ours && strings.Contains(r.Text, "fwmark") {
		lines = append(lines, p.marking(width)...)
	}
	return p.card(ruleX, y, ruleWidth, 0, lines, nodeRm)
}

// marking names the tables or chains that set the mark that a rule asks for, and their
// damage if there is some.
func (p *picture) marking(width float64) (lines []line) {
	var by []string
	for _, m := range p.Pod.Marks {
		by = append(by, m.Text)
		if m.Damage != "" {
			lines = append(lines, wrapped(in(wordsStyle, bad), m.Text+" should set that mark, but isn't as it should be: "+m.Damage, width)...)
		}
	}
	if len(lines) > 0 || len(by) == 0 {
		return lines
	}
	return wrapped(wordsStyle, "netfilter, "+strings.Join(by, " and ")+", sets that mark", width)
}

// tableCard draws a table in a card of a least height. It returns the height of the card.
func (p *picture) tableCard(y, least float64, ns netstate.NS, t Table) float64 {
	lines := []line{{spans: []span{{nameStyle, "table " + t.Name}, {wordsStyle, t.Meaning}}, ours: t.Ours}}
	const room = tableWidth - 2*pad - badge - 6
	column := 0.
	for _, r := range t.Routes {
		if n := codeStyle.Room(r.Text); n < room-120 {
			column = max(column, n+16)
		}
	}
	for _, r := range t.Routes {
		style := in(codeStyle, p.of(ns, r.Dev))
		if n := codeStyle.Room(r.Text); n <= column && column+wordsStyle.Room(r.Meaning) <= room {
			lines = append(lines, line{spans: []span{{style, r.Text}, {wordsStyle, r.Meaning}}, column: column, ours: r.Ours, badged: true})
			continue
		}
		for i, part := range style.Wrap(r.Text, room) {
			lines = append(lines, line{spans: []span{{style, part}}, ours: r.Ours && i == 0, badged: true})
		}
		for _, part := range wordsStyle.Wrap(r.Meaning, room) {
			lines = append(lines, line{spans: []span{{wordsStyle, part}}, badged: true})
		}
	}
	if len(t.Routes) == 0 {
		lines = append(lines, line{spans: []span{{wordsStyle, "is empty"}}, badged: true})
	}
	return p.card(tableX, y, tableWidth, least, lines, nodeRm)
}

// span is a part of a line in one style.
type span struct {
	canvas.Style
	text string
}

// line is a line of a card.
type line struct {
	spans  []span
	column float64 // start of the second span; 0 for right after the first
	ours   bool    // has our badge
	badged bool    // leaves room for a badge
}

const (
	badge      = 12 // size of the sign that marks something as ours
	lineHeight = 17
)

// wrapped breaks a text into lines of a width.
func wrapped(s canvas.Style, text string, width float64) (lines []line) {
	for _, l := range s.Wrap(text, width) {
		lines = append(lines, line{spans: []span{{s, l}}})
	}
	return lines
}

// card draws a box with lines and with a least height. It returns the height of the box.
func (p *picture) card(x, y, w, least float64, lines []line, rim canvas.Colour) float64 {
	h := max(least, float64(len(lines))*lineHeight+2*pad-4)
	p.Add(canvas.Box{X: x, Y: y, W: w, H: h, Radius: 6, Fill: paper, Stroke: rim, Thick: 1.5})
	y += pad + 11
	for _, l := range lines {
		p.line(x+pad, y, w-2*pad, l)
		y += lineHeight
	}
	return h
}

func (p *picture) line(x, y, w float64, l line) {
	end := x + w
	if l.ours {
		p.badge(x, y-badge+2)
	}
	if l.ours || l.badged {
		x += badge + 6
	}
	begin := x
	for i, s := range l.spans {
		if i == 1 && l.column > 0 {
			x = begin + l.column
		}
		if s.text == "" {
			continue
		}
		text := s.Cut(s.text, end-x)
		p.text(x, y, s.Style, text, end-x)
		x += s.Room(text) + 8
	}
}

// badge draws the sign that marks something as ours: a plus, as in the text.
func (p *picture) badge(x, y float64) {
	const c, arm = badge / 2., 3.5
	p.Add(
		canvas.Box{X: x, Y: y, W: badge, H: badge, Radius: 3, Fill: ink},
		canvas.Line{Points: []canvas.Point{{X: x + c - arm, Y: y + c}, {X: x + c + arm, Y: y + c}}, Colour: paper, Thick: 1.8},
		canvas.Line{Points: []canvas.Point{{X: x + c, Y: y + c - arm}, {X: x + c, Y: y + c + arm}}, Colour: paper, Thick: 1.8},
	)
}

// legend explains the signs and colours. It returns the height at which it ends.
func (p *picture) legend(y float64) float64 {
	const swatch = 22
	x := float64(margin)
	entry := func(width float64, draw func(x, y float64), text string) {
		need := width + 6 + wordsStyle.Room(text)
		if x > margin && x+need > pageWidth-margin {
			x, y = margin, y+20
		}
		draw(x, y)
		p.text(x+width+6, y, wordsStyle, text, pageWidth-margin-x-width-6)
		x += need + 14
	}
	y += 12
	entry(badge, func(x, y float64) { p.badge(x, y-badge+2) }, "made by multihome")
	colour := func(c canvas.Colour, text string) {
		entry(swatch, func(x, y float64) {
			p.Add(canvas.Line{Points: []canvas.Point{{X: x, Y: y - 4}, {X: x + swatch, Y: y - 4}}, Colour: c, Thick: 4})
		}, text)
	}
	for _, n := range p.Pod.NICs {
		colour(p.of(inPod, n.Name), "by "+n.Name)
	}
	for _, n := range p.Node.NICs {
		if c := p.of(onNode, n.Name); c != ink && n.Peer == "" {
			colour(c, "by the node's "+n.Name)
		}
	}
	entry(swatch, func(x, y float64) {
		p.Add(canvas.Line{Points: []canvas.Point{{X: x, Y: y - 4}, {X: x + swatch, Y: y - 4}}, Colour: wire, Thick: 1.5, Arrow: true})
	}, "the table that a rule leads to")
	return y
}

// unique returns a list without repetitions.
func unique(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// vlanID returns the ID of a VLAN, "" for other types of links.
func (n NIC) vlanID() string {
	if n.Type != "vlan" {
		return ""
	}
	return netstate.Details(n.Details).Get("id")
}
