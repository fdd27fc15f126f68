// SPDX-License-Identifier: Apache-2.0

// Package netlink is the socket by which this suite speaks with the kernel: it sends
// requests, takes the answers, and turns a refusal into an error with the kernel's own
// words (extended acknowledgements).
//
// Requests are built and answers taken apart with vishvananda/netlink/nl; the socket is
// our own, because three things decide how a plugin behaves on a busy node and under a
// SIGKILL. Tables are filtered in the kernel (NETLINK_GET_STRICT_CHK). A dump that was
// interrupted is asked for again, and never returned in part. Several requests go out as
// one datagram, and the kernel finishes all of them before it looks at a signal.
//
// It knows no messages: those of rtnetlink are in package rtnetlink, those of nf_tables
// in package nft.
//
// Beware: a [Conn] belongs to the network namespace that its thread was in at [Dial]. Sockets
// with the same [Buffers] belong to one goroutine, and are used one after the other. What a
// decoder is given lies in these buffers, and is gone with the next answer: clone what is
// kept.
package netlink
