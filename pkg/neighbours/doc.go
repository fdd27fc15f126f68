// SPDX-License-Identifier: Apache-2.0

// Package neighbours asks the hosts on a link whether they have an address, by ARP and by
// neighbour discovery, with a packet socket of its own.
//
// For example, this asks on the link with index 7:
//
//	w, err := neighbours.Open(7, mac)
//	…
//	defer w.Close()
//	how := neighbours.Probe{Tries: 3, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}
//	found, conflict, err := w.Conflict(addrs, []netstate.MAC{mac}, how)
//
// It sends requests and listens, and answers nothing. [Wire.Conflict] asks from the
// unspecified address, so that no host learns an address from it; [Wire.Silent] asks from
// the addresses that it is given. The package doesn't read the kernel's neighbour table:
// packages rtnetlink and kernel do.
//
// Beware: a [Wire] belongs to the network namespace of the thread that called [Open]. Closing
// it waits for a grace period of the kernel, so use one for all requests on a link. Answers
// are not authenticated: any host on the link can send them.
package neighbours
