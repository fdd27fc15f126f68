// SPDX-License-Identifier: Apache-2.0

// Package survey reads kernel state that only the command multihome needs: all objects
// of a namespace, the FIB for package fib, the kernel's own routing decision, all chains
// of netfilter, and the addresses of Services. For example, to ask the kernel for the
// route to a pod:
//
//	k, err := kernel.OpenHost()
//	...
//	answer, err := survey.Decide(k.Host, fib.Flow{Dst: netip.MustParseAddr("10.6.0.5")})
//
// It changes nothing in the namespaces that it reads. [LacksLink] makes a link for a
// test, but in a network namespace of its own.
//
// Beware: its functions take longer the larger the node is. So no plugin may link it; a
// test checks that. The chains of iptables-legacy are incomplete: listing a table of it
// creates the table, so only existing tables are listed.
package survey
