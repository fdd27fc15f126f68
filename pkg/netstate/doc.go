// SPDX-License-Identifier: Apache-2.0

// Package netstate is the pure model of what a plugin of this suite puts into
// the kernel: links, addresses, routes, rules, neighbours, sysctls and the
// reply marks, in the two network namespaces that an attachment spans.
//
// A plugin describes the state it wants as a [Plan]. [Diff] compares it with a
// [Snapshot] of what is there and returns the [Op] list that leads from one to
// the other; [Reverse] returns the list that leads back; [Snapshot.Apply] says
// what the kernel makes of an Op. Every object prints itself in the syntax of
// ip(8), nft(8) or sysctl(8), and [Parse] reads that text back.
//
// The package does no input or output and imports nothing of the kernel: links
// are named, never numbered, and addresses are values. Package kernel is the
// only one that turns these objects into requests and answers into objects.
package netstate
