// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
)

// columns is the width of the text. Long names and addresses may exceed it.
const columns = 100

// WriteText writes the view as tables, in the syntax of ip(8).
func (v View) WriteText(w io.Writer, s report.Style) error {
	p := &page{style: s}
	p.head(v.title(), v.Netns)
	p.line("  " + s.Ours("+") + " is made by multihome; the node is shown only as far as it concerns this pod")
	p.side("pod", v.Pod)
	p.side("node", v.Node)
	for _, of := range v.Settings {
		p.head(of.IfName+": settings of "+of.Plugin, "network "+of.Network)
		if of.Damage != "" {
			p.line("    " + of.Damage)
		}
		for _, line := range of.Lines() {
			p.line("    " + line)
		}
	}
	if len(v.Records) > 0 {
		p.head("records in /run/multihome", "")
		p.table(records(v.Records))
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// title names the pod and its container.
func (v View) title() string {
	switch {
	case v.ContainerID == "":
		return "pod " + v.Name
	case v.Name == v.ContainerID:
		return "container " + short(v.ContainerID)
	}
	return "pod " + v.Name + ", container " + short(v.ContainerID)
}

// short returns the first twelve characters of a container ID, as people write it.
func short(id string) string { return id[:min(len(id), 12)] }

// page collects the lines of a text.
type page struct {
	strings.Builder
	style report.Style
}

func (p *page) line(text string) { p.WriteString(strings.TrimRight(text, " ") + "\n") }

// head begins a section.
func (p *page) head(what, about string) {
	if p.Len() > 0 {
		p.line("")
	}
	if about != "" {
		about = ": " + about
	}
	p.line(p.style.Head(what) + about)
}

func (p *page) side(name string, s Side) {
	p.head(name+": NICs", "")
	if len(s.NICs) > 0 {
		p.table(nicRows(s.NICs))
	} else {
		p.line("    none")
	}
	if len(s.Rules) > 0 {
		p.head(name+": rules", "the lowest number is asked first")
		p.table(ruleRows(s.Rules))
	}
	for _, t := range s.Tables {
		p.head(name+": table "+t.Name, t.Meaning)
		p.table(routeRows(t.Routes))
	}
	if len(s.Marks) > 0 {
		p.head(name+": netfilter", "")
		p.table(markRows(s.Marks, p.style))
	}
	if len(s.Neighbours) > 0 {
		p.head(name+": neighbours", "")
		p.table(neighbourRows(s.Neighbours))
	}
}

// row is a row of a table. Its last cell says what the object in the others is for.
type row struct {
	header bool
	ours   bool
	cells  []string
	below  []string // further lines
}

// wide is the length of the longest cell that makes its column wider.
const wide = 62

// table writes rows in columns, and leaves out empty columns. It writes the last cell of a
// row below the others if it doesn't fit beside them.
func (p *page) table(rows []row) {
	widths := make([]int, len(rows[0].cells)-1)
	for _, r := range rows {
		for i := range widths {
			if n := utf8.RuneCountInString(r.cells[i]); n <= wide && !r.header {
				widths[i] = max(widths[i], n)
			}
		}
	}
	for i, n := range widths {
		if n > 0 && rows[0].header {
			widths[i] = max(n, len(rows[0].cells[i]))
		}
	}
	for _, r := range rows {
		p.row(r, widths)
	}
}

func (p *page) row(r row, widths []int) {
	sign, colour := "  ", func(s string) string { return s }
	switch {
	case r.header:
		colour = p.style.Faint
	case r.ours:
		sign, colour = "+ ", p.style.Ours
	}
	var b strings.Builder
	for i, n := range widths {
		if n > 0 {
			fmt.Fprintf(&b, "%-*s  ", n, r.cells[i])
		}
	}
	last := r.cells[len(r.cells)-1]
	body := b.String()
	if n := utf8.RuneCountInString(body + last); last == "" || 4+n <= columns {
		p.line("  " + colour(sign+strings.TrimRight(body, " ")) + trailing(body) + last)
	} else {
		p.line("  " + colour(sign+strings.TrimRight(body, " ")))
		p.line(strings.Repeat(" ", 4+widths[0]+2) + last)
	}
	for _, l := range r.below {
		p.line(strings.Repeat(" ", 4+widths[0]+2) + l)
	}
}

// trailing returns the spaces at the end of a text.
func trailing(s string) string { return s[len(strings.TrimRight(s, " ")):] }

func nicRows(nics []NIC) []row {
	rows := []row{{header: true, cells: []string{"NAME", "TYPE", "ON", "MAC", "MTU", "TABLE", "FOR"}}}
	for _, n := range nics {
		r := row{ours: n.Ours, cells: []string{n.Name, n.kind(), n.on(), n.MAC, fmt.Sprint(n.MTU), n.tableName(), cmp.Or(n.Meaning, n.Network)}}
		for _, a := range n.Addresses {
			r.below = append(r.below, a.text()+a.Source.text())
		}
		rows = append(rows, r)
	}
	return rows
}

// kind returns the type of a NIC with the ID of a VLAN or the mode of a bond, and DOWN if
// the NIC is down.
func (n NIC) kind() string {
	words := []string{n.Type}
	details := netstate.Details(n.Details)
	switch n.Type {
	case "vlan":
		words = append(words, details.Get("id"))
	case "bond":
		words = append(words, details.Get("mode"))
	}
	if !n.Up {
		words = append(words, "DOWN")
	}
	return strings.Join(words, " ")
}

// on returns the link that a NIC sits on, is a port of, or has its other end at.
func (n NIC) on() string {
	switch {
	case n.Master != "" && n.Peer != "":
		return n.Peer + ", in " + n.Master
	case n.Master != "":
		return "in " + n.Master
	}
	return cmp.Or(n.Parent, n.Peer)
}

func (n NIC) tableName() string {
	if n.Table == 0 {
		return ""
	}
	return tableName(n.Table)
}

func (a Address) text() string {
	s := a.Prefix.String()
	if a.Dynamic {
		s += " dynamic"
	}
	if a.Tentative {
		s += " tentative"
	}
	return s
}

// text says where an address comes from, "" if that isn't known.
func (s *Source) text() string {
	if s == nil {
		return ""
	}
	network := ""
	if s.Network != "" {
		network = ", network " + s.Network
	}
	return fmt.Sprintf("  from pool %s%s, claim %s", s.Pool, network, s.Claim)
}

// bothFamilies is a rule with its address family, or with both.
type bothFamilies struct {
	Rule
	families string
}

// merged joins rules that differ only in their family.
func merged(rules []Rule) []bothFamilies {
	var out []bothFamilies
	for _, r := range rules {
		i := slices.IndexFunc(out, func(b bothFamilies) bool {
			b.Family = r.Family
			return b.Rule == r
		})
		if i >= 0 {
			out[i].families += "+" + fmt.Sprint(r.Family)
		} else {
			out = append(out, bothFamilies{r, fmt.Sprintf("IPv%d", r.Family)})
		}
	}
	return out
}

func ruleRows(rules []Rule) (rows []row) {
	for _, r := range merged(rules) {
		rows = append(rows, row{ours: r.Ours, cells: []string{fmt.Sprint(r.Priority), r.families, r.Text, r.Meaning}})
	}
	return rows
}

func routeRows(routes []Route) (rows []row) {
	for _, r := range routes {
		rows = append(rows, row{ours: r.Ours, cells: []string{r.Text, r.Meaning}})
	}
	return rows
}

func markRows(marks []Mark, s report.Style) (rows []row) {
	for _, m := range marks {
		meaning := m.Meaning
		if m.Damage != "" {
			meaning = s.Bad("isn't as it should be: " + m.Damage)
		}
		rows = append(rows, row{ours: true, cells: []string{m.Text, meaning}})
	}
	return rows
}

func neighbourRows(neighbours []Neighbour) (rows []row) {
	for _, n := range neighbours {
		kind := "learnt"
		if n.Permanent {
			kind = "permanent"
		}
		rows = append(rows, row{cells: []string{n.Addr.String(), "dev " + n.Dev, "lladdr " + n.MAC, kind, n.Meaning}})
	}
	return rows
}

func records(list []Record) []row {
	rows := []row{{header: true, cells: []string{"NIC", "NETWORK", "TABLE", "DEVICE", "LINKS", "ADDRESSES"}}}
	for _, r := range list {
		var addrs []string
		for _, a := range r.Addresses {
			addrs = append(addrs, a.String())
		}
		table := ""
		if r.Table != 0 {
			table = tableName(r.Table)
		}
		rows = append(rows, row{ours: true, cells: []string{r.IfName, r.Network, table, r.Device, strings.Join(r.Links, " "), strings.Join(addrs, " ")}})
	}
	return rows
}
