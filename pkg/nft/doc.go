// SPDX-License-Identifier: Apache-2.0

// Package nft speaks with nf_tables: tables, chains, rules and sets as values, requests
// that make and delete them, and the lists that the kernel has of them.
//
// It holds no policy: which tables are ours and what their rules are for is package
// kernel's business. It runs no program, neither nft(8) nor iptables(8).
//
// Beware: requests to change something are done together or not at all
// ([Conn.Transaction]). After one that deleted something, [Conn.Close] leaves the socket
// to the kernel's collector, for to close it would wait until no packet is on its way
// through what was deleted. The kernel tells more of an expression than it was told, and
// newer kernels more than older ones: compare with [Expression.Is], not with ==.
package nft
