// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// Numbers of neighbour discovery (RFC 4861, 4.3, 4.4, 4.6.1, 7.1).
const (
	ndSolicit     = 135
	ndAdvert      = 136
	ndSourceMAC   = 1 // the option with the sender's MAC, of a solicitation
	ndTargetMAC   = 2 // the option with the target's MAC, of an advertisement
	ndHopLimit    = 255
	ipv6HeaderLen = 40
	ndLen         = 24 // without options
)

// askNDP returns a neighbour solicitation for target, with its IPv6 header. From the
// unspecified address it is the one of duplicate address detection, without the sender's
// MAC (RFC 4862, 5.4.2; RFC 4861, 4.3).
func askNDP(mac netstate.MAC, from, target netip.Addr) []byte {
	nd := make([]byte, 8, ndLen+8)
	nd[0] = ndSolicit
	nd = append(nd, target.AsSlice()...)
	if !from.IsUnspecified() {
		nd = append(nd, ndSourceMAC, 1)
		nd = append(nd, mac[:]...)
	}
	b := make([]byte, 8, ipv6HeaderLen+len(nd))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(nd)))
	b[6], b[7] = unix.IPPROTO_ICMPV6, ndHopLimit
	b = append(b, from.AsSlice()...)
	b = append(b, solicitedNode(target).AsSlice()...)
	binary.BigEndian.PutUint16(nd[2:], checksum(b[8:ipv6HeaderLen], nd))
	return append(b, nd...)
}

// solicitedNode returns the multicast address on which the host with an address listens for
// solicitations (RFC 4291, 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	m := netip.MustParseAddr("ff02::1:ff00:0").As16()
	addr := a.As16()
	copy(m[13:], addr[13:])
	return netip.AddrFrom16(m)
}

// multicastMAC returns the destination MAC of packets to an IPv6 multicast address (RFC
// 2464, 7).
func multicastMAC(a netip.Addr) netstate.MAC {
	b := a.As16()
	return netstate.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// checksum returns the checksum of an ICMPv6 message: over the addresses, the length and
// the protocol of the IPv6 header, and over the message (RFC 8200, 8.1).
func checksum(addrs, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{addrs, message} { // both of even length
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// readNDP returns the claim of a packet about its target. An advertisement claims that a
// host has the address; a solicitation from the unspecified address, that a host is about
// to take it. The MAC is that in the advertisement, or that of the frame if there is none.
// ok is false for any other packet.
func readNDP(b []byte, frame netstate.MAC) (c Claim, ok bool) {
	if len(b) < ipv6HeaderLen+ndLen || b[6] != unix.IPPROTO_ICMPV6 || b[7] != ndHopLimit {
		return Claim{}, false
	}
	nd := b[ipv6HeaderLen:]
	c.Addr, c.MAC = netip.AddrFrom16([16]byte(nd[8:])), frame
	if nd[0] == ndSolicit {
		c.probing = true
		return c, netip.AddrFrom16([16]byte(b[8:])).IsUnspecified()
	}
	for o := nd[ndLen:]; len(o) >= 8 && o[1] > 0 && len(o) >= 8*int(o[1]); o = o[8*int(o[1]):] {
		if o[0] == ndTargetMAC {
			copy(c.MAC[:], o[2:])
		}
	}
	return c, nd[0] == ndAdvert
}
