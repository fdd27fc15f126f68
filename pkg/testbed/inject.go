// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Inject sends a packet of an EtherType by a link to a MAC. It bypasses the routes,
// addresses and filters of the sender's IP stack (packet(7)).
func (n *Netns) Inject(link string, to net.HardwareAddr, etherType uint16, packet []byte) error {
	err := n.Do(func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		sa := &unix.SockaddrLinklayer{Protocol: bigEndian(etherType), Ifindex: l.Index, Halen: uint8(len(to))}
		copy(sa.Addr[:], to)
		return unix.Sendto(fd, packet, 0, sa)
	})
	if err != nil {
		return fmt.Errorf("inject in %s on %s: %w", n.name, link, err)
	}
	return nil
}

// IPPacket returns a payload with an IP header before it. The payload begins with the header
// of its protocol. IPPacket fills in that header's checksum, at offset checksum in bytes.
func IPPacket(from, to netip.Addr, protocol byte, payload []byte, checksum int) (etherType uint16, packet []byte) {
	const hops = 255
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(payload)))
	pseudo = append(pseudo, 0, 0, 0, protocol)
	payload = append([]byte(nil), payload...)
	binary.BigEndian.PutUint16(payload[checksum:], internetChecksum(append(pseudo, payload...)))
	if from.Is6() {
		h := []byte{6 << 4, 0, 0, 0, 0, 0, protocol, hops}
		binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
		h = append(append(h, from.AsSlice()...), to.AsSlice()...)
		return unix.ETH_P_IPV6, append(h, payload...)
	}
	h := []byte{4<<4 | 5, 0, 0, 0, 0, 0, 0, 0, hops, protocol, 0, 0}
	h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[10:], internetChecksum(h))
	return unix.ETH_P_IP, append(h, payload...)
}

// UDPPacket returns a UDP datagram with its IP header.
func UDPPacket(from, to netip.AddrPort, data string) (etherType uint16, packet []byte) {
	var h []byte
	for _, v := range []uint16{from.Port(), to.Port(), uint16(8 + len(data)), 0} {
		h = binary.BigEndian.AppendUint16(h, v)
	}
	return IPPacket(from.Addr(), to.Addr(), unix.IPPROTO_UDP, append(h, data...), 6)
}

// internetChecksum returns the checksum of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var s uint32
	for i, c := range b {
		s += uint32(c) << (8 * uint(1-i%2))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
