// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Frame is an Ethernet frame that passed a link. Ports are 0 for ICMP. For protocols other
// than IPv4 and IPv6, only the MACs, VLAN and EtherType are set.
type Frame struct {
	Time           time.Time // when the kernel saw it; zero for frames before the kernel began to take times
	Link           string
	Outgoing       bool // from this namespace onto the link
	SrcMAC, DstMAC net.HardwareAddr
	VLAN           uint16 // 802.1Q tag in the frame, 0 if none
	EtherType      uint16
	Protocol       uint8 // IPPROTO_*
	Src, Dst       netip.AddrPort
	TCPFlags       uint8
	ICMPType       uint8
}

// TCP flags of Frame.TCPFlags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// parseFrame reads the headers of a frame, as far as the frame has them.
func parseFrame(b []byte) Frame {
	if len(b) < 14 {
		return Frame{}
	}
	f := Frame{
		DstMAC:    net.HardwareAddr(b[0:6:6]),
		SrcMAC:    net.HardwareAddr(b[6:12:12]),
		EtherType: binary.BigEndian.Uint16(b[12:]),
	}
	b = b[14:]
	if f.EtherType == unix.ETH_P_8021Q && len(b) >= 4 {
		f.VLAN = binary.BigEndian.Uint16(b) & 0xfff
		f.EtherType = binary.BigEndian.Uint16(b[2:])
		b = b[4:]
	}
	switch f.EtherType {
	case unix.ETH_P_IP:
		f.parseIPv4(b)
	case unix.ETH_P_IPV6:
		f.parseIPv6(b)
	}
	return f
}

func (f *Frame) parseIPv4(b []byte) {
	if len(b) < 20 {
		return
	}
	f.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), 0)
	f.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), 0)
	f.Protocol = b[9]
	header := int(b[0]&0x0f) * 4
	fragmentOffset := binary.BigEndian.Uint16(b[6:]) & 0x1fff
	if fragmentOffset == 0 && header <= len(b) {
		f.parseTransport(b[header:])
	}
}

// parseIPv6 doesn't skip extension headers: Protocol is then the number of the first one.
func (f *Frame) parseIPv6(b []byte) {
	if len(b) < 40 {
		return
	}
	f.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), 0)
	f.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), 0)
	f.Protocol = b[6]
	f.parseTransport(b[40:])
}

func (f *Frame) parseTransport(b []byte) {
	switch f.Protocol {
	case unix.IPPROTO_TCP:
		if len(b) >= 14 {
			f.parsePorts(b)
			f.TCPFlags = b[13]
		}
	case unix.IPPROTO_UDP:
		if len(b) >= 4 {
			f.parsePorts(b)
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if len(b) >= 1 {
			f.ICMPType = b[0]
		}
	}
}

func (f *Frame) parsePorts(b []byte) {
	f.Src = netip.AddrPortFrom(f.Src.Addr(), binary.BigEndian.Uint16(b))
	f.Dst = netip.AddrPortFrom(f.Dst.Addr(), binary.BigEndian.Uint16(b[2:]))
}

// String describes a frame: direction, link, MACs, protocol, addresses and ports.
func (f Frame) String() string {
	direction := "in by"
	if f.Outgoing {
		direction = "out by"
	}
	s := fmt.Sprintf("%s %s, %s > %s", direction, f.Link, f.SrcMAC, f.DstMAC)
	switch f.Protocol {
	case unix.IPPROTO_TCP:
		return fmt.Sprintf("%s: tcp %s > %s flags %#x", s, f.Src, f.Dst, f.TCPFlags)
	case unix.IPPROTO_UDP:
		return fmt.Sprintf("%s: udp %s > %s", s, f.Src, f.Dst)
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return fmt.Sprintf("%s: icmp %s > %s type %d", s, f.Src.Addr(), f.Dst.Addr(), f.ICMPType)
	}
	return fmt.Sprintf("%s: ethertype %#04x", s, f.EtherType)
}
