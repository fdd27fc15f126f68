// SPDX-License-Identifier: Apache-2.0

// Package kernel reads what the two network namespaces of an attachment hold into a
// netstate.Snapshot, and applies netstate operations to them. It is where names of links
// become indexes, and where a plan meets the kernel's quirks.
//
// [Open] opens the node's namespace and a pod's and locks the pod's; [Look] opens them for
// reading. What each can be asked is a method of [Namespace]; what needs both is one of
// [Namespaces]. [Namespaces.Apply] is the only way that a plugin changes something.
//
// Below it are the parts: package netlink (the socket), rtnetlink and nft (the messages),
// iptables (the programs), netns, neighbours and records. They and this package are the only
// ones of a plugin that import a netlink library or golang.org/x/sys/unix. Above it is package
// survey, with what takes as long as the node is large: nothing here dumps what grows with
// the node.
//
// Beware: sockets and what is remembered of links belong to the goroutine that opened
// them. Nothing here may be used by two goroutines at once.
package kernel
