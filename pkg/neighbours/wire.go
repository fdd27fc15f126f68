// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// Wire is a packet socket on a link, for ARP and NDP. It is one socket for both, because
// closing one waits for a grace period of the kernel (packet_release in
// net/packet/af_packet.c).
type Wire struct {
	fd    int
	index int
	mac   netstate.MAC
}

var broadcast = netstate.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Open opens a Wire on an Ethernet link in the calling thread's network namespace, by the
// link's ifindex and MAC.
func Open(index int, mac netstate.MAC) (*Wire, error) {
	w := &Wire{index: index, mac: mac}
	var err error
	// With protocol 0 the socket receives nothing until it is bound.
	w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, neighbourFilter()); err != nil {
		w.Close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: w.index}); err != nil {
		w.Close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return w, nil
}

func (w *Wire) Close() { _ = unix.Close(w.fd) }

// neighbourFilter returns a socket filter that accepts only ARP, neighbour solicitations
// and neighbour advertisements, so that a busy link can't fill the socket
// (Documentation/networking/filter.rst).
func neighbourFilter() *unix.SockFprog {
	const (
		load8, load16 = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		equal, give   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		protocol      = 1<<32 - 0x1000 // SKF_AD_OFF + SKF_AD_PROTOCOL of linux/filter.h
		nextHeader    = 6
	)
	program := []unix.SockFilter{
		{Code: load16, K: protocol},
		{Code: equal, K: unix.ETH_P_ARP, Jt: 6},
		{Code: equal, K: unix.ETH_P_IPV6, Jf: 6},
		{Code: load8, K: nextHeader},
		{Code: equal, K: unix.IPPROTO_ICMPV6, Jf: 4},
		{Code: load8, K: ipv6HeaderLen},
		{Code: equal, K: ndSolicit, Jt: 1},
		{Code: equal, K: ndAdvert, Jf: 1},
		{Code: give, K: 1 << 16},
		{Code: give, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// ask sends an ARP request or a neighbour solicitation for target.
func (w *Wire) ask(from, target netip.Addr) error {
	var err error
	if target.Is4() {
		err = w.send(unix.ETH_P_ARP, broadcast, askARP(w.mac, from, target))
	} else {
		err = w.send(unix.ETH_P_IPV6, multicastMAC(solicitedNode(target)), askNDP(w.mac, from, target))
	}
	if err != nil {
		return fmt.Errorf("ask for %s: %w", target, err)
	}
	return nil
}

func (w *Wire) send(protocol uint16, to netstate.MAC, packet []byte) error {
	sa := &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: w.index, Halen: uint8(len(to))}
	copy(sa.Addr[:], to[:])
	return unix.Sendto(w.fd, packet, 0, sa)
}

// listen passes each received claim to heard, until heard returns true or the time is over.
func (w *Wire) listen(until time.Time, heard func(Claim) (enough bool)) (enough bool, err error) {
	for {
		left := time.Until(until)
		if left <= 0 {
			return false, nil
		}
		poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return false, fmt.Errorf("poll: %w", err)
		}
		for {
			c, ok, err := w.receive()
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return false, err
			}
			if ok && heard(c) {
				return true, nil
			}
		}
	}
}

// receive reads one packet. ok is false if it holds no claim.
func (w *Wire) receive() (c Claim, ok bool, err error) {
	var buf [512]byte
	n, from, err := unix.Recvfrom(w.fd, buf[:], 0)
	if err != nil {
		return Claim{}, false, err
	}
	sa, ok := from.(*unix.SockaddrLinklayer)
	if !ok {
		return Claim{}, false, nil
	}
	if sa.Protocol == networkOrder(unix.ETH_P_ARP) {
		c, ok = readARP(buf[:n])
	} else {
		c, ok = readNDP(buf[:n], netstate.MAC(sa.Addr[:]))
	}
	return c, ok, nil
}

// networkOrder is htons(3).
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
