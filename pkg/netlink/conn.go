// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errInterrupted is the error of a dump during which the dumped objects changed
// (NLM_F_DUMP_INTR): it may lack some objects or hold some twice.
var errInterrupted = fmt.Errorf("the objects changed during the dump at each of %d tries", dumpTries)

// dumpTries is how often Dump requests a dump that is interrupted.
const dumpTries = 20

// Conn is a netlink socket in the namespace in which it was opened.
type Conn struct {
	fd  int
	seq uint32
	Buffers
}

// Buffers are the memory with which a Conn sends and receives. Sockets that are used one
// after the other share them, because the first touch of a page of memory costs as much as
// a short system call.
type Buffers struct{ out, in []byte }

// NewBuffers returns buffers for all sockets of a process.
func NewBuffers() Buffers { return Buffers{make([]byte, 0, 1<<11), make([]byte, 1<<15)} }

// Dial opens a netlink socket of a protocol, such as NETLINK_ROUTE, in the calling thread's
// network namespace.
func Dial(protocol int, b Buffers) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Strict checking makes the kernel filter dumps (Linux 4.20, which is older than any
	// kernel that CNI 1.x runs on). Extended acknowledgements put the kernel's own words
	// into errors.
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("netlink socket: %w", err)
		}
	}
	// The kernel answers before sendto returns. So a missing answer is lost: the timeout
	// turns it into an error.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Conn{fd: fd, Buffers: b}, nil
}

// Buffer returns the buffer for answers, for the caller to use until the next request.
func (c *Conn) Buffer() []byte { return c.in }

// Namespace opens the network namespace of the socket and returns its file descriptor.
// Opening it by /proc takes ten times as long.
func (c *Conn) Namespace() (fd int, err error) {
	if fd, err = unix.IoctlRetInt(c.fd, unix.SIOCGSKNS); err != nil {
		return fd, fmt.Errorf("open the network namespace: %w", err)
	}
	return fd, nil
}

func (c *Conn) Close() { _ = unix.Close(c.fd) }

// CloseLater closes the socket without waiting where closing waits for a grace period. It
// sends the socket, and one end of a Unix socket pair, over that pair and closes the pair:
// no process can reach the two any more, and the kernel's garbage collector closes them,
// since Linux 6.9 in a kernel thread (net/unix/garbage.c). If any step fails, CloseLater
// waits like Close.
func (c *Conn) CloseLater() {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.Close()
		return
	}
	_ = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(pair[1], c.fd), nil, 0)
	c.Close()
	_ = unix.Close(pair[1])
	_ = unix.Close(pair[0]) // calls the collector
}

// Dump sends a dump request and returns the decoded answers, except those for which decode
// returns false. It never returns a list that may be incomplete: it repeats an interrupted
// dump, and returns errInterrupted after dumpTries.
func Dump[T any](c *Conn, req *nl.NetlinkRequest, decode func(msg []byte) (T, bool)) ([]T, error) {
	req.Flags |= unix.NLM_F_DUMP
	for range dumpTries {
		var out []T
		err := c.Do(req, func(msg []byte) {
			if v, ok := decode(msg); ok {
				out = append(out, v)
			}
		})
		if !errors.Is(err, errInterrupted) {
			return out, err
		}
	}
	return nil, errInterrupted
}

// Do sends the requests as one datagram, waits for all answers, and calls each with the
// data of each answer. It returns the error of the first request that failed.
func (c *Conn) Do(req *nl.NetlinkRequest, each func(msg []byte), more ...*nl.NetlinkRequest) error {
	return FirstError(c.DoAll(each, append([]*nl.NetlinkRequest{req}, more...)))
}

// DoAll sends the requests as one datagram, waits for all answers, and returns the error of
// each request. The kernel does all of them before it returns from the system call, so that
// a signal finds all done or none. A request that fails doesn't stop those behind it.
func (c *Conn) DoAll(each func(msg []byte), reqs []*nl.NetlinkRequest) []error {
	last := reqs[len(reqs)-1]
	if !hasOwnAnswer(last) {
		last.Flags |= unix.NLM_F_ACK
	}
	return c.Exchange(each, reqs, last)
}

// hasOwnAnswer reports whether the kernel answers a successful request without being asked
// to acknowledge it: a request for one object, by its type (rtnl_kind of
// net/core/rtnetlink.c), or a dump.
func hasOwnAnswer(r *nl.NetlinkRequest) bool {
	const kind, get = 3, 2
	return r.Type&kind == get || r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
}

// Exchange sends the requests as one datagram and receives answers until it has the last
// one to any of ends. It returns the error of each request. The kernel answers in order; a
// request without NLM_F_ACK that only changes something gets an answer only if it fails. If
// an answer is lost, all requests without an error so far get the error of receiving.
func (c *Conn) Exchange(each func(msg []byte), reqs []*nl.NetlinkRequest, ends ...*nl.NetlinkRequest) []error {
	errs := make([]error, len(reqs))
	lost := func(err error) []error {
		for i := range errs {
			errs[i] = cmp.Or(errs[i], err)
		}
		return errs
	}
	if err := c.send(reqs); err != nil {
		return lost(err)
	}
	for {
		b, err := c.receive()
		if err != nil {
			return lost(err)
		}
		for len(b) > 0 {
			var m message
			if m, b, err = cut(b); err != nil {
				return lost(err)
			}
			i := int(m.seq - reqs[0].Seq)
			if i < 0 || i >= len(reqs) {
				continue // an answer to an earlier request whose caller gave up
			}
			over, err := handleAnswer(m, each)
			errs[i] = cmp.Or(errs[i], err)
			if over && slices.Contains(ends, reqs[i]) {
				return errs
			}
		}
	}
}

// FirstError returns the first error of the list that isn't nil, or nil.
func FirstError(errs []error) error { return cmp.Or(errs...) }

// message is a message of a datagram: parts of its header, and the data behind it.
type message struct {
	typ, flags uint16
	seq        uint32
	data       []byte
}

// cut returns the first message of a datagram and the rest of the datagram.
func cut(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return m, nil, unix.EINVAL
	}
	n := int(nl.NativeEndian().Uint32(b))
	if n < unix.NLMSG_HDRLEN || n > len(b) {
		return m, nil, unix.EINVAL
	}
	m = message{nl.NativeEndian().Uint16(b[4:]), nl.NativeEndian().Uint16(b[6:]), nl.NativeEndian().Uint32(b[8:]), b[unix.NLMSG_HDRLEN:n]}
	return m, b[min((n+3)&^3, len(b)):], nil
}

// Messages calls each with the type and the data of every message of a datagram.
func Messages(b []byte, each func(typ uint16, data []byte)) error {
	for len(b) > 0 {
		m, rest, err := cut(b)
		if err != nil {
			return err
		}
		each(m.typ, m.data)
		b = rest
	}
	return nil
}

// handleAnswer handles one message. It reports whether this is the last answer to its
// request, and returns the request's error.
func handleAnswer(m message, each func(msg []byte)) (over bool, err error) {
	if m.flags&unix.NLM_F_DUMP_INTR != 0 {
		err = errInterrupted
	}
	switch m.typ {
	case unix.NLMSG_ERROR:
		return true, ackError(m)
	case unix.NLMSG_DONE:
		if e := ackError(m); e != nil {
			err = e
		}
		return true, err
	}
	if each != nil {
		each(m.data)
	}
	return m.flags&unix.NLM_F_MULTI == 0, err
}

// ackError returns the error in an acknowledgement, nil for success. It adds the kernel's
// own words if there are any (NLMSGERR_ATTR_MSG, which follows the echoed request).
func ackError(m message) error {
	if len(m.data) < 4 {
		return nil
	}
	errno := syscall.Errno(-int32(nl.NativeEndian().Uint32(m.data)))
	if errno == 0 {
		return nil
	}
	if m.flags&unix.NLM_F_ACK_TLVS == 0 {
		return errno
	}
	rest := m.data[4:]
	if m.typ == unix.NLMSG_ERROR {
		if len(rest) < unix.NLMSG_HDRLEN {
			return errno
		}
		n := unix.NLMSG_HDRLEN
		if m.flags&unix.NLM_F_CAPPED == 0 {
			n = int(nl.NativeEndian().Uint32(rest)+unix.NLMSG_ALIGNTO-1) &^ (unix.NLMSG_ALIGNTO - 1)
		}
		if n > len(rest) {
			return errno
		}
		rest = rest[n:]
	}
	attrs, err := nl.ParseRouteAttr(rest)
	if err != nil {
		return errno
	}
	for _, a := range attrs {
		if a.Attr.Type == nl.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", errno, unix.ByteSliceToString(a.Value))
		}
	}
	return errno
}

// send numbers the requests and sends them as one datagram.
func (c *Conn) send(reqs []*nl.NetlinkRequest) error {
	b := c.out[:0]
	for _, r := range reqs {
		c.seq++
		r.Seq = c.seq
		b = append(b, r.Serialize()...)
		for len(b)%unix.NLMSG_ALIGNTO != 0 {
			b = append(b, 0)
		}
	}
	c.out = b
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

// receive returns the next datagram. It is valid until the next call.
func (c *Conn) receive() ([]byte, error) {
	for {
		// MSG_TRUNC makes the length that of the datagram, not of the buffer.
		n, from, err := unix.Recvfrom(c.fd, c.in, unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // the sender isn't the kernel
		}
		if n > len(c.in) {
			return nil, fmt.Errorf("netlink answer of %d bytes: %w", n, unix.EMSGSIZE)
		}
		return c.in[:n], nil
	}
}

// NewRequest returns a request of a type, with body as the fixed part of its data.
func NewRequest(typ, flags int, body nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	req.AddData(body)
	return req
}

// Attrs calls each for every netlink attribute in b. It stops at a malformed one.
func Attrs(b []byte, each func(typ uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(nl.NativeEndian().Uint16(b))
		typ := nl.NativeEndian().Uint16(b[2:]) & nl.NLA_TYPE_MASK
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		each(typ, b[unix.SizeofRtAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}
