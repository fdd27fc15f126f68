// SPDX-License-Identifier: Apache-2.0

// Package netstate models, without side effects, what a plugin of this suite
// puts into the kernel: links, addresses, routes, rules, neighbours, sysctls and
// the reply marks, in the two network namespaces that an attachment spans.
//
// A plugin describes the state it wants as a [Plan]. [Diff] compares the plan
// with a [Snapshot] of the current state and returns the [Op] list that leads
// from the snapshot to the plan. [Reverse] returns the list that leads back.
// [Snapshot.Apply] does to a snapshot what the kernel would do. Every object
// prints itself in the syntax of ip(8), nft(8) or sysctl(8), and [Parse] reads
// that text back. For example:
//
//	have := netstate.NewSnapshot()
//	have.Put(netstate.Pod, netstate.Link{Name: "net1", Type: "macvlan", Up: true})
//	var p netstate.Plan
//	p.Want(netstate.Pod, "replies to the node", netstate.Rule{Family: netstate.IPv4, Priority: 32763, Table: 100})
//	ops, err := netstate.Diff(p, have) // pod: ip rule add pref 32763 from all lookup 100
//
// The package does no input or output and imports nothing of the kernel. Links
// are named, never numbered, and addresses are values. Only package kernel turns
// these objects into requests, and answers into objects.
//
// Beware: objects are compared with ==. So build a route with [NewRoute], which
// fills in the kernel's defaults. A hand-made route may never equal the one that
// the kernel lists. A snapshot holds only what was read into it: Diff takes
// everything else for absent.
package netstate
