// SPDX-License-Identifier: Apache-2.0

// Package kernel reads the state of an attachment's two network namespaces into a
// netstate.Snapshot, and applies netstate operations to them. It translates between names
// and indexes of links, and handles the kernel's quirks.
//
// [Open] opens the namespaces of the node and of a pod and locks the pod's; [Look] opens
// them for reading. Requests to one namespace are methods of [Namespace]; methods of
// [Namespaces] need both. A plugin changes the kernel's state only by [Namespaces.Apply],
// [Namespaces.Undo] and [Namespaces.Remove]:
//
//	k, err := kernel.Open("/run/netns/pod")
//	…
//	defer k.Close()
//	snap := netstate.NewSnapshot()
//	err = k.ReadPod(snap)               // observe the pod
//	err = k.Complete(snap, plan)        // observe what else the plan names
//	ops, err := netstate.Diff(plan, snap)
//	err = k.Apply(ops)
//
// Below it are the packages netlink (the socket), rtnetlink and nft (the messages), iptables
// (the programs), netns, neighbours and records. In a plugin, only they and this package
// import a netlink library or golang.org/x/sys/unix. Above it is package survey, with dumps
// that grow with the node. This package dumps nothing that grows with the node.
//
// Beware: [Open], [Look] and [OpenHost] bind the calling goroutine to its thread until
// [Namespaces.Close]. The sockets and the cache of links belong to that goroutine; no other
// may use them.
package kernel
