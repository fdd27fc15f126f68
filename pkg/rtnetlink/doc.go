// SPDX-License-Identifier: Apache-2.0

// Package rtnetlink decodes the kernel's answers about links, addresses, routes, rules and
// neighbours (rtnetlink(7)), and builds some requests to change them.
//
// An answer is an object of package netstate, together with attributes that this object
// can't hold: indexes of links, and properties that only some readers need. Links are
// indexes here; package kernel sets their names.
//
// For example, with a socket of package netlink:
//
//	links, err := netlink.Dump(c, rtnetlink.LinkRequest(""), func(msg []byte) (rtnetlink.Link, bool) {
//		return rtnetlink.DecodeLink(msg), true
//	})
//
// The package opens no socket and decides nothing.
//
// Beware: the kernel leaves out attributes with a zero or usual value, such as the
// destination of a default route. The decoders fill them in, each with a comment.
package rtnetlink
