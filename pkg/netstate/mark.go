// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"strings"
)

// MarkTable is the name of the nftables table, of family inet, that holds the
// reply marks of a pod.
const MarkTable = "multihome"

// Mark makes replies leave by the link their connection entered by: new
// connections that enter by Dev get Bits in their conntrack mark, and packets in
// the reply direction of such a connection get Bits in their own mark before
// they are routed. No other bit is touched, so that the marks of a service mesh
// or an application survive.
type Mark struct {
	Dev  string
	From MAC // not zero: only connections whose packets come from it
	Bits uint32
	// Damaged is set when a table of our name is there, and is not what Dev
	// and Bits say it should be.
	Damaged bool
}

func (m Mark) Kind() Kind     { return KindMark }
func (m Mark) Key() Object    { return Mark{} }
func (m Mark) Device() string { return "" }

// Owned is true: the table has our name.
func (m Mark) Owned() bool { return true }

func (m Mark) String() string {
	if m.Damaged {
		return "table inet " + MarkTable + " damaged"
	}
	from := ""
	if m.From != (MAC{}) {
		from = " from " + m.From.String()
	}
	return fmt.Sprintf("table inet %s iifname %s%s mark %#x", MarkTable, m.Dev, from, m.Bits)
}

// Ruleset is the table as nft(8) lists it.
func (m Mark) Ruleset() string {
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
