// SPDX-License-Identifier: Apache-2.0

// Package iptables finds and runs the programs of iptables (iptables, ip6tables, and their
// -nft, -legacy and -restore variants), and tells how one failed.
//
// For example, this lists the rules of table mangle in the calling thread's namespace:
//
//	program, err := iptables.FirstInPath("iptables-nft", "iptables")
//	…
//	lines, err := iptables.Run("", program, "-t", "mangle", "-S")
//
// Package kernel decides which chains are ours. Package nft reads and writes nf_tables
// without a program.
//
// Beware: a program works in the network namespace of the thread that starts it. Running one
// takes milliseconds: look first whether there is a table ([Families]). Listing a table of
// the legacy flavour creates it.
package iptables
