// SPDX-License-Identifier: Apache-2.0

// Package netlink sends requests to the kernel by a netlink socket, receives the answers,
// and turns a refusal into an error with the kernel's own words (extended
// acknowledgements).
//
// The requests are built and the answers decoded with vishvananda/netlink/nl. The socket is
// our own, for three properties that matter on a busy node and under a SIGKILL:
//
//   - The kernel filters dumps (NETLINK_GET_STRICT_CHK).
//   - An interrupted dump is requested again, and never returned in part.
//   - Several requests go out as one datagram, and the kernel finishes all of them before
//     it handles a signal.
//
// For example, this reads one link:
//
//	c, err := netlink.Dial(unix.NETLINK_ROUTE, netlink.NewBuffers())
//	…
//	defer c.Close()
//	err = c.Do(rtnetlink.LinkRequest("eth0"), func(msg []byte) { link = rtnetlink.DecodeLink(msg) })
//
// The package doesn't know the contents of messages: those of rtnetlink are in package
// rtnetlink, those of nf_tables in package nft.
//
// Beware: a [Conn] belongs to the network namespace of the thread that called [Dial].
// Sockets with the same [Buffers] belong to one goroutine, which uses one of them at a
// time. The bytes that a decoder gets are in these buffers, and the next answer overwrites
// them: clone them to keep them.
package netlink
