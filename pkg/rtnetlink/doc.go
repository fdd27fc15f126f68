// SPDX-License-Identifier: Apache-2.0

// Package rtnetlink holds the messages of rtnetlink (rtnetlink(7)): what the kernel says
// of links, addresses, routes, rules and neighbours, decoded once for all who read them,
// and some requests to change them.
//
// An answer is an object of package netstate with what that can't hold: indexes of links,
// and whatever the plugins have no use for. Links are numbers here; package kernel puts
// names for them.
//
// It opens no socket and decides nothing.
//
// Beware: the kernel leaves out what is zero or usual, such as the destination of a default
// route. Each such quirk is put right in the decoder, with a comment.
package rtnetlink
