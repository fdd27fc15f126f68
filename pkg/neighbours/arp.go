// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"encoding/binary"
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
)

// Claim is the statement of an ARP or NDP packet about an address.
type Claim struct {
	Addr netip.Addr
	MAC  netstate.MAC
	// probing is set when the sender doesn't have the address yet, and asks whether
	// another host has it (RFC 5227, 2.1.1; RFC 4862, 5.4.3).
	probing bool
}

// Operation of an ARP request, and length of an ARP packet for IPv4 over Ethernet (RFC
// 826).
const (
	arpRequest = 1
	arpLen     = 28
)

// askARP returns an ARP request for target. From the unspecified address it is a probe,
// which no host enters into its cache (RFC 5227, 2.1).
func askARP(mac netstate.MAC, from, target netip.Addr) []byte {
	b := make([]byte, 0, arpLen)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, arpRequest) // Ethernet, IPv4, the lengths of their addresses
	b = append(b, mac[:]...)
	b = append(b, from.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, target.AsSlice()...)
}

// readARP returns the claim of an ARP packet about its sender's address or, for a probe,
// about its target. ok is false if there is none.
func readARP(b []byte) (c Claim, ok bool) {
	if len(b) < arpLen || [6]byte(b) != [6]byte{0, 1, 8, 0, 6, 4} {
		return Claim{}, false
	}
	copy(c.MAC[:], b[8:])
	c.Addr = netip.AddrFrom4([4]byte(b[14:]))
	if c.Addr.IsUnspecified() {
		c.Addr, c.probing = netip.AddrFrom4([4]byte(b[24:])), true
		return c, binary.BigEndian.Uint16(b[6:]) == arpRequest
	}
	return c, true
}
