// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// protoMultihome is the protocol number of our routes and rules.
const protoMultihome = 109

// infoPeer is VETH_INFO_PEER.
const infoPeer = 1

// conn is a netlink socket of the network namespace in which it was opened.
type conn struct{ fd, protocol int }

func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &conn{fd, protocol}, nil
}

// do sends all requests in one datagram and waits for the acknowledgement of the last one. It
// ignores the error for a rule that exists already, because another pod's ADD made it.
func (c *conn) do(requests ...[]byte) error {
	_, err := c.ask(requests...)
	return err
}

// ask does the same as do, and returns the body of the last message that isn't an
// acknowledgement.
func (c *conn) ask(requests ...[]byte) (answer []byte, err error) {
	for i, r := range requests {
		binary.NativeEndian.PutUint32(r[8:], uint32(i))
	}
	last := len(requests) - 1
	if c.protocol == unix.NETLINK_NETFILTER {
		last-- // the end of the transaction gets no acknowledgement
	}
	requests[last][6] |= unix.NLM_F_ACK
	if err := unix.Sendto(c.fd, bytes.Join(requests, nil), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<14)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err != nil {
			return nil, err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := binary.NativeEndian.Uint32(b)
			seq := int(binary.NativeEndian.Uint32(b[8:]))
			body := b[unix.NLMSG_HDRLEN:size]
			if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
				answer = bytes.Clone(body)
			} else if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body))); errno != 0 && !isRule(requests[seq], errno) {
				return nil, fmt.Errorf("request %d: %w", seq, errno)
			} else if seq == last {
				return answer, nil
			}
			b = b[align(int(size)):]
		}
	}
}

// isRule reports whether a request failed because its rule exists already.
func isRule(request []byte, errno unix.Errno) bool {
	return errno == unix.EEXIST && binary.NativeEndian.Uint16(request[4:]) == unix.RTM_NEWRULE
}

// newVeth makes both ends of a veth pair with their MACs in one message, and returns their
// indexes, which the kernel echoes. It sets the host end up. The peer stays down: the kernel
// refuses to open it before it has its own peer (veth_open in drivers/net/veth.c).
func (c *conn) newVeth(name string, mac, peerMAC []byte, netns int) (index, peer uint32, err error) {
	answer, err := c.ask(request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ECHO,
		ifinfo(0, unix.IFF_UP),
		attr(unix.IFLA_IFNAME, cstring(name)),
		attr(unix.IFLA_ADDRESS, mac),
		attr(unix.IFLA_MTU, u32(mtu)),
		attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED,
			attr(unix.IFLA_INFO_KIND, cstring("veth")),
			attr(unix.IFLA_INFO_DATA|unix.NLA_F_NESTED,
				attr(infoPeer|unix.NLA_F_NESTED,
					ifinfo(0, 0),
					attr(unix.IFLA_IFNAME, cstring("veth0")),
					attr(unix.IFLA_ADDRESS, peerMAC),
					attr(unix.IFLA_MTU, u32(mtu)),
					attr(unix.IFLA_NET_NS_FD, u32(uint32(netns))))))))
	if err != nil {
		return 0, 0, fmt.Errorf("link %s: %w", name, err)
	}
	if len(answer) < unix.SizeofIfInfomsg {
		return 0, 0, fmt.Errorf("link %s: the kernel echoed nothing", name)
	}
	index = binary.NativeEndian.Uint32(answer[4:])
	for b := answer[unix.SizeofIfInfomsg:]; len(b) >= unix.SizeofNlAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFLA_LINK {
			return index, binary.NativeEndian.Uint32(b[4:]), nil
		}
		b = b[min(align(size), len(b)):]
	}
	return 0, 0, fmt.Errorf("link %s: the kernel named no peer", name)
}

// setUp returns the request that sets a link up.
func setUp(index uint32) []byte {
	return request(unix.RTM_NEWLINK, 0, ifinfo(index, unix.IFF_UP))
}

// route returns the request that adds a route. Without a gateway, its scope is link.
func route(table uint32, to netip.Prefix, via netip.Addr, index uint32, src netip.Addr) []byte {
	family, scope := family(to.Addr()), byte(unix.RT_SCOPE_LINK)
	if via.IsValid() {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	body := [][]byte{
		{family, byte(to.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, protoMultihome, scope, unix.RTN_UNICAST, 0, 0, 0, 0},
		attr(unix.RTA_TABLE, u32(table)),
		attr(unix.RTA_DST, to.Addr().AsSlice()),
		attr(unix.RTA_OIF, u32(index)),
	}
	if via.IsValid() {
		body = append(body, attr(unix.RTA_GATEWAY, via.AsSlice()))
	}
	if src.IsValid() {
		body = append(body, attr(unix.RTA_PREFSRC, src.AsSlice()))
	}
	return request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body...)
}

// rule returns the request that adds a rule for an address's family. The rule sends all
// packets to a table, or with a mark other than 0, the packets with that mark.
func rule(of netip.Addr, priority, table uint32, mark uint32) []byte {
	body := [][]byte{
		{family(of), 0, 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0},
		attr(unix.FRA_PRIORITY, u32(priority)),
		attr(unix.FRA_TABLE, u32(table)),
		attr(unix.FRA_PROTOCOL, []byte{protoMultihome}),
	}
	if mark != 0 {
		body = append(body, attr(unix.FRA_FWMARK, u32(mark)), attr(unix.FRA_FWMASK, u32(mark)))
	}
	return request(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body...)
}

// neighbour returns the request that adds a permanent neighbour.
func neighbour(a netip.Addr, index uint32, mac []byte) []byte {
	head := []byte{family(a), 0, 0, 0, 0, 0, 0, 0, unix.NUD_PERMANENT, 0, 0, 0}
	binary.NativeEndian.PutUint32(head[4:], index)
	return request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, head,
		attr(unix.NDA_DST, a.AsSlice()), attr(unix.NDA_LLADDR, mac))
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// request returns a netlink message without its sequence number.
func request(kind, flags uint16, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	head := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(b)))
	head = binary.NativeEndian.AppendUint16(head, kind)
	head = binary.NativeEndian.AppendUint16(head, flags|unix.NLM_F_REQUEST)
	return append(append(head, make([]byte, 8)...), b...)
}

// attr returns a padded attribute. Its payload may be other attributes.
func attr(kind uint16, payload ...[]byte) []byte {
	b := bytes.Join(payload, nil)
	out := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(b)))
	out = append(binary.NativeEndian.AppendUint16(out, kind), b...)
	return append(out, make([]byte, align(len(out))-len(out))...)
}

func ifinfo(index uint32, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

func align(n int) int         { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
func cstring(s string) []byte { return append([]byte(s), 0) }
func u32(v uint32) []byte     { return binary.NativeEndian.AppendUint32(nil, v) }
