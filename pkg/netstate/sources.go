// SPDX-License-Identifier: Apache-2.0

package netstate

import "fmt"

// SourceTable is the name of the nftables table, of family inet, that holds the
// SourceCheck.
const SourceTable = "multihome-sources"

// SourceCheck drops what comes in by a link of SourceGroup from an address that
// the namespace doesn't reach by that very link: the strict reverse path of RFC
// 3704, for both address families, where the kernel's own rp_filter knows IPv4
// alone. It is one for all links of the group, and holds nothing for each.
type SourceCheck struct {
	// Damage says how what is there under our name differs from what it should
	// be.
	Damage string
}

func (c SourceCheck) Kind() Kind     { return KindNft }
func (c SourceCheck) Key() Object    { return SourceCheck{} }
func (c SourceCheck) Device() string { return "" }

// Owned is true: the table has our name.
func (c SourceCheck) Owned() bool { return true }

func (c SourceCheck) String() string {
	if c.Damage != "" {
		return fmt.Sprintf("table inet %s damaged %q", SourceTable, c.Damage)
	}
	return "table inet " + SourceTable
}

// Ruleset is what nft(8) lists of the table. Its chain comes before connection
// tracking, so that what is dropped leaves no trace there.
func (c SourceCheck) Ruleset() string {
	return fmt.Sprintf("table inet %s {\n"+
		"\tchain prerouting {\n"+
		"\t\ttype filter hook prerouting priority raw; policy accept;\n"+
		"\t\tiifgroup %d fib saddr . iif oif 0 drop\n"+
		"\t}\n"+
		"}\n", SourceTable, SourceGroup)
}
