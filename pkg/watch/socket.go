// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// socket is a netlink socket that receives events of all namespaces with an ID.
type socket struct{ fd int }

// room is the memory for events that wait to be read. The kernel loses those that find no
// place, and says so by ENOBUFS.
const room = 8 << 20

// listen opens a socket for groups of a protocol. A filter drops messages in the kernel.
func listen(protocol int, filter []unix.SockFilter, groups ...int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	s := &socket{fd}
	if err := s.prepare(filter, groups); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return s, nil
}

func (s *socket) prepare(filter []unix.SockFilter, groups []int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
		return err
	}
	if len(filter) > 0 {
		p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &p); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		return err
	}
	// A socket without a port of its own has the kernel's, 0, and gets nothing that the kernel
	// sends (do_one_broadcast).
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return err
		}
	}
	return nil
}

// receive returns a datagram and the ID of its namespace. It doesn't wait: the error is EAGAIN
// if there is none.
func (s *socket) receive(in, oob []byte) (b []byte, netns int, err error) {
	for {
		n, control, flags, from, err := unix.Recvmsg(s.fd, in, oob, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if flags&unix.MSG_TRUNC != 0 {
			return nil, 0, unix.ENOBUFS // the rest of it is lost
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // the sender isn't the kernel
		}
		return in[:n], netnsOf(oob[:control]), nil
	}
}

// netnsOf returns the ID of the namespace in the control messages of a datagram
// (netlink_cmsg_listen_all_nsid of net/netlink/af_netlink.c).
func netnsOf(control []byte) int {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return Node
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return Node // the own namespace has no ID
}

// Places in messages, behind struct nlmsghdr (linux/netlink.h) with its type at 4: those of
// struct rtmsg (linux/rtnetlink.h) and struct ndmsg (linux/neighbour.h).
const (
	typeAt      = 4
	dstLenAt    = unix.NLMSG_HDRLEN + 1
	tableAt     = unix.NLMSG_HDRLEN + 4
	protocolAt  = unix.NLMSG_HDRLEN + 5
	neighAt     = unix.NLMSG_HDRLEN + 8 // ndm_state
	otherTables = 252                   // RT_TABLE_COMPAT: the number doesn't fit into a byte
)

// filter returns a program for the kernel that drops what nobody needs: the routes of others,
// except default routes and routes in small tables, which may be a NIC's own, and neighbours
// that come or change, except permanent ones.
func filter() []unix.SockFilter {
	// The program loads big-endian numbers, and these are in the machine's order.
	native := func(v uint16) uint32 {
		var b [2]byte
		binary.NativeEndian.PutUint16(b[:], v)
		return uint32(binary.BigEndian.Uint16(b[:]))
	}
	const (
		half   = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		octet  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		hasBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
	)
	// Jt and Jf count the instructions to skip. keep and drop are the last two.
	return []unix.SockFilter{
		/* 0*/ {Code: half, K: typeAt},
		/* 1*/ {Code: equal, K: native(unix.RTM_NEWROUTE), Jt: 4},
		/* 2*/ {Code: equal, K: native(unix.RTM_DELROUTE), Jt: 3},
		/* 3*/ {Code: equal, K: native(unix.RTM_NEWNEIGH), Jf: 9}, // other: keep
		/* 4*/ {Code: half, K: neighAt},
		/* 5*/ {Code: hasBit, K: native(unix.NUD_PERMANENT), Jt: 7, Jf: 8},
		/* 6*/ {Code: octet, K: protocolAt},
		/* 7*/ {Code: equal, K: uint32(netstate.ProtoCoordinator), Jt: 5},
		/* 8*/ {Code: equal, K: uint32(netstate.ProtoRoute), Jt: 4},
		/* 9*/ {Code: octet, K: dstLenAt},
		/*10*/ {Code: equal, K: 0, Jt: 2},
		/*11*/ {Code: octet, K: tableAt},
		/*12*/ {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: otherTables, Jt: 1},
		/*13*/ {Code: ret, K: 1 << 30}, // keep
		/*14*/ {Code: ret, K: 0}, // drop
	}
}
