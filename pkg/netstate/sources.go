// SPDX-License-Identifier: Apache-2.0

package netstate

import "fmt"

// SourceTable is the name of the nftables table, of family inet, that holds the
// SourceCheck.
const SourceTable = "multihome-sources"

// SourceCheck drops packets that enter by a link of SourceGroup if the namespace
// does not route to their source address by the same link. This is the strict
// reverse path check of RFC 3704, for both address families; the kernel's own
// rp_filter is for IPv4 only. One check serves all links of the group and holds no
// entry per link.
type SourceCheck struct {
	// Damage says how the table with our name differs from what it should be.
	Damage string
}

func (c SourceCheck) Kind() Kind     { return KindNft }
func (c SourceCheck) Key() Object    { return SourceCheck{} }
func (c SourceCheck) Device() string { return "" }

// Owned returns true: the table has our name.
func (c SourceCheck) Owned() bool { return true }

func (c SourceCheck) String() string {
	if c.Damage != "" {
		return fmt.Sprintf("table inet %s damaged %q", SourceTable, c.Damage)
	}
	return "table inet " + SourceTable
}

// Ruleset returns the table as nft(8) lists it. Its chain comes before connection
// tracking, so that dropped packets leave no entry there.
func (c SourceCheck) Ruleset() string {
	return fmt.Sprintf("table inet %s {\n"+
		"\tchain prerouting {\n"+
		"\t\ttype filter hook prerouting priority raw; policy accept;\n"+
		"\t\tiifgroup %d fib saddr . iif oif 0 drop\n"+
		"\t}\n"+
		"}\n", SourceTable, SourceGroup)
}
