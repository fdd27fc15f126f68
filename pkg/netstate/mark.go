// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"strings"
)

// MarkTable is the name of the nftables table, of family inet, that holds the
// reply marks of a pod.
const MarkTable = "multihome"

// Backend is the part of the kernel's netfilter that holds reply marks.
type Backend int

// The backends. Both treat packets the same way.
const (
	Nftables Backend = iota // a table of our own, for both address families
	Iptables                // chains of our own in table mangle, of one address family
)

// Mark makes replies leave by the link that their connection entered by. New
// connections that enter by Dev get Bits in their conntrack mark. Packets in the
// reply direction of such a connection get Bits in their packet mark before they
// are routed. No other bit is touched, so that the marks of a service mesh or an
// application survive.
type Mark struct {
	Backend Backend
	Family  Family // with Iptables; 0 with Nftables
	Dev     string
	From    MAC // not zero: only connections whose packets come from this MAC
	Bits    uint32
	// Damage says how the table or chains with our names differ from the other
	// fields, which then hold the wanted values, not the found ones.
	Damage string
}

func (m Mark) Kind() Kind {
	switch {
	case m.Backend == Nftables:
		return KindNft
	case m.Family == IPv6:
		return KindIP6tables
	}
	return KindIptables
}

func (m Mark) Key() Object    { return Mark{Backend: m.Backend, Family: m.Family} }
func (m Mark) Device() string { return "" }

// Owned returns true: the table or the chains have our name.
func (m Mark) Owned() bool { return true }

func (m Mark) String() string {
	table := "table inet " + MarkTable
	if m.Backend == Iptables {
		table = "table " + MangleTable
	}
	switch {
	case m.Damage != "":
		return fmt.Sprintf("%s damaged %q", table, m.Damage)
	case m.Dev == "": // a key
		return table
	}
	from := ""
	if m.From != (MAC{}) {
		from = " from " + m.From.String()
	}
	return fmt.Sprintf("%s iifname %s%s mark %#x", table, m.Dev, from, m.Bits)
}

// Ruleset returns the table as nft(8) lists it, or the chains as
// iptables-save(8) does.
func (m Mark) Ruleset() string {
	if m.Backend == Iptables {
		return m.saved()
	}
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("table inet %s {", MarkTable)
	p("\tchain prerouting {")
	p("\t\ttype filter hook prerouting priority mangle; policy accept;")
	from := ""
	if m.From != (MAC{}) {
		from = " ether saddr " + m.From.String()
	}
	p("\t\tiifname %q%s ct state new ct mark set ct mark | %#08x", m.Dev, from, m.Bits)
	p("\t\tct direction reply ct mark & %#08x != 0x00000000 meta mark set meta mark | %#08x", m.Bits, m.Bits)
	p("\t}")
	p("")
	p("\tchain output {")
	p("\t\ttype route hook output priority mangle; policy accept;")
	p("\t\tct direction reply ct mark & %#08x != 0x00000000 meta mark set meta mark | %#08x", m.Bits, m.Bits)
	p("\t}")
	p("}")
	return b.String()
}
