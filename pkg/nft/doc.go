// SPDX-License-Identifier: Apache-2.0

// Package nft reads and writes tables of nf_tables by netlink. Tables, chains, rules and
// expressions are values; their methods return the requests that make and delete them, and
// methods of [Conn] list them. It runs no program, neither nft(8) nor iptables(8).
//
// For example, this makes a table with all its chains and rules, and reads it back:
//
//	c, err := nft.Dial(netlink.NewBuffers())
//	…
//	defer c.Close()
//	err = c.Transaction(ruleset.Add()...)
//	chains, err := c.Chains(ruleset.Table)
//	damage, err := ruleset.Damage(c, chains)
//
// Package kernel decides which tables are ours and what their rules do.
//
// Beware: changes go through [Conn.Transaction], which does all of its requests or none.
// After a deletion, closing the socket would wait until no packet passes the deleted
// objects; [Conn.Close] leaves that to the kernel. The kernel returns more attributes of an
// expression than were set, and newer kernels more than older ones: compare with
// [Expression.Is], not with ==.
package nft
