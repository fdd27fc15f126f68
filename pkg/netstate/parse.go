// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Line returns an object as a line of text: its namespace, "-6" if the text of
// the object does not tell its family, its kind, and the object.
func Line(ns NS, o Object) string {
	family := ""
	switch t := o.(type) {
	case Rule:
		if t.Family == IPv6 {
			family = "-6 "
		}
	case Route:
		if t.IPv6() {
			family = "-6 "
		}
	}
	return string(ns) + ": " + family + string(o.Kind()) + " " + o.String()
}

// Parse reads a line that [Line] printed.
func Parse(line string) (NS, Object, error) {
	head, rest, ok := strings.Cut(line, ": ")
	ns := NS(head)
	if !ok || ns != Host && ns != Pod {
		return "", nil, fmt.Errorf("%q: want a line that begins with the namespace, host or pod", line)
	}
	f := fields{words: splitQuoted(rest), family: IPv4}
	if f.peek() == "-6" {
		f.family = IPv6
		f.next()
	}
	kind := Kind(f.next())
	var o Object
	switch kind {
	case KindLink:
		o = f.link()
	case KindAddr:
		o = f.addr()
	case KindRoute:
		o = f.route()
	case KindRule:
		o = f.rule()
	case KindNeigh:
		o = f.neigh()
	case KindSysctl:
		o = f.sysctl()
	case KindNft:
		if len(f.words) > 2 && f.words[2] == SourceTable {
			o = f.sourceCheck()
		} else {
			o = f.mark(Mark{}, "inet", MarkTable)
		}
	case KindIptables:
		o = f.mark(Mark{Backend: Iptables, Family: IPv4}, MangleTable)
	case KindIP6tables:
		o = f.mark(Mark{Backend: Iptables, Family: IPv6}, MangleTable)
	default:
		return "", nil, fmt.Errorf("%q: no such kind of object: %q", line, kind)
	}
	if f.err == nil && len(f.words) > 0 {
		f.err = fmt.Errorf("unknown word %q", f.peek())
	}
	if f.err == nil && !namesItsLinks(o) {
		f.err = fmt.Errorf("the name of a link is missing")
	}
	if f.err != nil {
		return "", nil, fmt.Errorf("%q: %w", line, f.err)
	}
	return ns, o, nil
}

// namesItsLinks reports whether an object names all links that it must name.
func namesItsLinks(o Object) bool {
	switch t := o.(type) {
	case Link:
		return t.Peer == End{} || t.Peer.Name != "" && (t.Peer.NS == Host || t.Peer.NS == Pod)
	case Rule:
		return true
	case Sysctl:
		return t.Dev != "" && t.Name != ""
	case Mark:
		return t.Damage != "" || t.Dev != ""
	case SourceCheck:
		return true
	}
	return o.Device() != ""
}

// splitQuoted splits a line at spaces. A word in double quotes, as strconv.Quote
// writes it, may contain spaces.
func splitQuoted(s string) []string {
	var words []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		word, err := strconv.QuotedPrefix(s)
		if err != nil || s[0] != '"' {
			word, _, _ = strings.Cut(s, " ")
		}
		words = append(words, word)
		s = s[len(word):]
	}
	return words
}

// fields reads the words of an object one by one and keeps the first error.
type fields struct {
	words  []string
	family Family
	err    error
}

func (f *fields) peek() string {
	if len(f.words) == 0 {
		return ""
	}
	return f.words[0]
}

func (f *fields) next() string {
	w := f.peek()
	if len(f.words) > 0 {
		f.words = f.words[1:]
	} else {
		f.fail(fmt.Errorf("a word is missing at the end"))
	}
	return w
}

// name reads a name. It refuses quotes: only an alias may be quoted.
func (f *fields) name() string {
	w := f.next()
	if w == "" || strings.Contains(w, `"`) {
		f.fail(fmt.Errorf("%q is no name", w))
	}
	return w
}

func (f *fields) fail(err error) {
	if err != nil && f.err == nil {
		f.err = err
	}
}

// each calls set with every remaining keyword. set reads the keyword's values, and
// returns false for an unknown keyword.
func (f *fields) each(set func(word string) bool) {
	for len(f.words) > 0 && f.err == nil {
		if w := f.next(); !set(w) {
			f.fail(fmt.Errorf("unknown word %q", w))
		}
	}
}

func (f *fields) number() int {
	n, err := strconv.Atoi(f.next())
	f.fail(err)
	return n
}

func (f *fields) ip() netip.Addr {
	a, err := netip.ParseAddr(f.next())
	f.fail(err)
	return a
}

func (f *fields) mac() MAC {
	m, err := ParseMAC(f.next())
	f.fail(err)
	return m
}

func (f *fields) prefix() netip.Prefix {
	w := f.next()
	if w == "default" {
		if f.family == IPv6 {
			return Default(netip.IPv6Unspecified())
		}
		return Default(netip.IPv4Unspecified())
	}
	if a, err := netip.ParseAddr(w); err == nil {
		return Single(a)
	}
	p, err := netip.ParsePrefix(w)
	f.fail(err)
	return p
}

func (f *fields) table() int {
	switch f.peek() {
	case "main", "local", "default":
		return map[string]int{"main": TableMain, "local": TableLocal, "default": TableDefault}[f.next()]
	}
	return f.number()
}

func (f *fields) protocol() Protocol {
	w := f.next()
	for p, name := range protoNames {
		if name == w {
			return p
		}
	}
	n, err := strconv.ParseUint(w, 10, 8)
	f.fail(err)
	return Protocol(n)
}

func (f *fields) link() Link {
	l := Link{Name: f.name()}
	f.each(func(w string) bool {
		switch w {
		case "link":
			l.Parent = f.name()
		case "address":
			l.MAC = f.mac()
		case "mtu":
			l.MTU = f.number()
		case "txqueuelen":
			l.TxQueueLen = f.number()
		case "group":
			l.Group = f.number()
		case "up":
			l.Up = true
		case "master":
			l.Master = f.name()
		case "alias":
			alias, err := strconv.Unquote(f.next())
			f.fail(err)
			l.Alias = alias
		case "altname":
			l.AltNames = strings.TrimSpace(l.AltNames + " " + f.name())
		case "type":
			l.Type = f.name()
			if HasDetails(l.Type) {
				l.Details = f.details()
			}
		case "peer":
			l.Peer = f.peer()
		default:
			return false
		}
		return true
	})
	return l
}

// details reads all remaining words.
func (f *fields) details() Details {
	var words []string
	for len(f.words) > 0 && f.err == nil {
		words = append(words, f.name(), f.name())
	}
	return NewDetails(words...)
}

func (f *fields) peer() End {
	var e End
	f.each(func(w string) bool {
		switch w {
		case "name":
			e.Name = f.name()
		case "netns":
			e.NS = NS(f.name())
		case "address":
			e.MAC = f.mac()
		default:
			return false
		}
		return true
	})
	return e
}

func (f *fields) addr() Addr {
	var a Addr
	p, err := netip.ParsePrefix(f.next())
	f.fail(err)
	a.Prefix = p
	f.each(func(w string) bool {
		switch w {
		case "dev":
			a.Dev = f.name()
		case "dynamic":
			a.Dynamic = true
		case "tentative":
			a.Tentative = true
		default:
			return false
		}
		return true
	})
	return a
}

func (f *fields) route() Route {
	r := Route{Table: TableMain, Dst: f.prefix(), Proto: protoBoot}
	f.each(func(w string) bool {
		switch w {
		case "via":
			r.Via = f.ip()
		case "dev":
			r.Dev = f.name()
		case "table":
			r.Table = f.table()
		case "proto":
			r.Proto = f.protocol()
		case "scope":
			switch s := f.next(); s {
			case "link":
				r.Scope = ScopeLink
			case "host":
				r.Scope = ScopeHost
			default:
				n, err := strconv.ParseUint(s, 10, 8)
				f.fail(err)
				r.Scope = Scope(n)
			}
		case "src":
			r.Src = f.ip()
		case "metric":
			r.Metric = f.number()
		case "onlink":
			r.Onlink = true
		case "mtu":
			r.MTU = f.number()
		case "advmss":
			r.AdvMSS = f.number()
		default:
			return false
		}
		return true
	})
	return r
}

func (f *fields) rule() Rule {
	r := Rule{Family: f.family}
	f.each(func(w string) bool {
		switch w {
		case "pref":
			r.Priority = f.number()
		case "from":
			if f.peek() == "all" {
				f.next()
			} else {
				r.From = f.prefix()
			}
		case "to":
			r.To = f.prefix()
		case "fwmark":
			mark, mask, _ := strings.Cut(f.next(), "/")
			r.Mark, r.Mask = f.bits(mark), f.bits(mask)
		case "lookup":
			r.Table = f.table()
		case "proto":
			r.Proto = f.protocol()
		case "...":
			r.Rest = true
		default:
			return false
		}
		return true
	})
	return r
}

func (f *fields) bits(w string) uint32 {
	n, err := strconv.ParseUint(w, 0, 32)
	f.fail(err)
	return uint32(n)
}

func (f *fields) neigh() Neigh {
	n := Neigh{Dst: f.ip()}
	f.each(func(w string) bool {
		switch w {
		case "dev":
			n.Dev = f.name()
		case "lladdr":
			n.MAC = f.mac()
		case "nud":
			n.Permanent = f.next() == "permanent"
		default:
			return false
		}
		return true
	})
	return n
}

func (f *fields) sysctl() Sysctl {
	var s Sysctl
	path, value, ok := strings.Cut(f.name(), "=")
	parts := strings.Split(path, "/")
	if !ok || len(parts) != 5 || parts[0] != "net" || parts[2] != "conf" {
		f.fail(fmt.Errorf("want net/ipv4/conf/<dev>/<name>=<value>"))
		return s
	}
	v, err := strconv.Atoi(value)
	f.fail(err)
	s = Sysctl{Family: IPv4, Dev: parts[3], Name: parts[4], Value: v}
	if parts[1] == "ipv6" {
		s.Family = IPv6
	}
	return s
}

// tableNamed reads the words that name a table of netfilter.
func (f *fields) tableNamed(name ...string) {
	for _, want := range append([]string{"table"}, name...) {
		if w := f.next(); w != want {
			f.fail(fmt.Errorf("%q: want %q", w, want))
		}
	}
}

// damage reads a quoted text.
func (f *fields) damage() string {
	text, err := strconv.Unquote(f.next())
	f.fail(err)
	return text
}

func (f *fields) sourceCheck() SourceCheck {
	f.tableNamed("inet", SourceTable)
	var c SourceCheck
	f.each(func(w string) bool {
		if w == "damaged" {
			c.Damage = f.damage()
		}
		return w == "damaged"
	})
	return c
}

func (f *fields) mark(m Mark, table ...string) Mark {
	f.tableNamed(table...)
	f.each(func(w string) bool {
		switch w {
		case "iifname":
			m.Dev = f.name()
		case "from":
			m.From = f.mac()
		case "mark":
			m.Bits = f.bits(f.next())
		case "damaged":
			m.Damage = f.damage()
		default:
			return false
		}
		return true
	})
	return m
}
