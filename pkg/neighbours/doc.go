// SPDX-License-Identifier: Apache-2.0

// Package neighbours asks on the wire who has an address: by ARP and by neighbour
// discovery, with a packet socket of its own.
//
// It asks for addresses and listens; it answers nothing and enters nothing into anybody's
// cache unless it is told to ask from an address. It doesn't know what the kernel's own
// neighbour table holds: that is package rtnetlink's and kernel's.
//
// Beware: a [Wire] is opened in the calling thread's network namespace. To close one costs a
// grace period of the kernel, so one serves all questions. Who answers isn't authenticated.
package neighbours
