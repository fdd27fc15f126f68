// SPDX-License-Identifier: Apache-2.0

// Package kernel is the netlink helper that every plugin of this suite shares:
// it opens the two network namespaces of an attachment, reads what they hold
// into a netstate.Snapshot, and applies netstate operations to them. It is the
// only package that imports a netlink library or golang.org/x/sys/unix, and the
// only one that writes to the system.
//
// Requests are built and answers taken apart with vishvananda/netlink/nl; the
// socket is our own, because three things decide how a plugin behaves on a busy
// node and under a SIGKILL: tables are filtered in the kernel
// (NETLINK_GET_STRICT_CHK), a dump that was interrupted is asked for again, and
// several requests can be sent as one that the kernel finishes before a signal
// is looked at. It is for nf_tables, too.
//
// A namespace's sockets and its name cache belong to the goroutine that opened
// them; nothing here may be used by two goroutines at once.
package kernel
