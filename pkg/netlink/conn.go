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

// errInterrupted is a dump during which the dumped objects changed
// (NLM_F_DUMP_INTR): it may lack some of them or hold them twice.
var errInterrupted = errors.New("the dump was interrupted by changes again and again")

// dumpTries is how often an interrupted dump is asked for.
const dumpTries = 20

// Conn is a netlink socket in the namespace in which it was made.
type Conn struct {
	fd  int
	seq uint32
	Buffers
}

// Buffers are what a conn sends and receives with. Sockets that are used one after the
// other have them in common: each page of memory that a process touches first costs as much
// as a short system call.
type Buffers struct{ out, in []byte }

// NewBuffers returns buffers for all sockets of a process.
func NewBuffers() Buffers { return Buffers{make([]byte, 0, 1<<11), make([]byte, 1<<15)} }

// Dial opens a socket of a protocol, such as NETLINK_ROUTE, in the calling
// thread's network namespace.
func Dial(protocol int, b Buffers) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Strict checking is what makes the kernel filter dumps (Linux 4.20, which
	// is older than anything CNI 1.x runs on); extended acknowledgements put
	// the kernel's own words into errors.
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("netlink socket: %w", err)
		}
	}
	// The kernel answers before sendto returns; a lost answer is an error.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Conn{fd: fd, Buffers: b}, nil
}

// Buffer lends what answers are read into to who reads something else in between.
func (c *Conn) Buffer() []byte { return c.in }

// Namespace opens the network namespace that the socket is in: to find it below /proc
// takes ten times as long.
func (c *Conn) Namespace() (fd int, err error) {
	if fd, err = unix.IoctlRetInt(c.fd, unix.SIOCGSKNS); err != nil {
		return fd, fmt.Errorf("open the network namespace: %w", err)
	}
	return fd, nil
}

func (c *Conn) Close() { _ = unix.Close(c.fd) }

// CloseLater closes the socket, and lets the kernel wait for what that waits for.
// A socket that lies unread in the queue of another one, which itself is nowhere
// but in that queue, can be reached by nobody: the collector of such sockets
// closes it, since Linux 6.9 in a thread of the kernel (net/unix/garbage.c). Where
// any of that fails, this waits.
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

// Dump collects what decode makes of every answer to a dump request. A list
// that may be incomplete is never returned: the request is repeated, and
// errInterrupted returned in the end.
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

// Do sends the requests as one datagram and waits for every answer. The error is
// the first one's.
func (c *Conn) Do(req *nl.NetlinkRequest, each func(msg []byte), more ...*nl.NetlinkRequest) error {
	return FirstError(c.DoAll(each, append([]*nl.NetlinkRequest{req}, more...)))
}

// DoAll sends the requests as one datagram, waits for every answer and returns
// the error of each. The kernel works through all of them before it returns from
// the system call, so that a signal finds all done or none; one that fails doesn't
// stop those behind it.
func (c *Conn) DoAll(each func(msg []byte), reqs []*nl.NetlinkRequest) []error {
	last := reqs[len(reqs)-1]
	if !hasOwnAnswer(last) {
		last.Flags |= unix.NLM_F_ACK
	}
	return c.Exchange(each, reqs, last)
}

// hasOwnAnswer reports whether a request that succeeds ends with an answer of its
// own: asking for one object does, as the type says (rtnl_kind of
// net/core/rtnetlink.c), and a dump.
func hasOwnAnswer(r *nl.NetlinkRequest) bool {
	const kind, get = 3, 2
	return r.Type&kind == get || r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
}

// Exchange sends the requests as one datagram and takes the answers, until it has
// the last one to any of ends, and returns the error of each request. The kernel
// answers in order, and unasked only if something went wrong. Where an answer is
// lost, none of those without one is known to be done.
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
				continue // an answer to a request that was given up
			}
			over, err := handleAnswer(m, each)
			errs[i] = cmp.Or(errs[i], err)
			if over && slices.Contains(ends, reqs[i]) {
				return errs
			}
		}
	}
}

// FirstError returns the first of these errors that is one.
func FirstError(errs []error) error { return cmp.Or(errs...) }

// message is one of a datagram, with the data behind its header.
type message struct {
	typ, flags uint16
	seq        uint32
	data       []byte
}

// cut cuts the first message off a datagram.
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

// handleAnswer handles one message and reports whether its request is over.
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

// ackError returns what an acknowledgement says, with the kernel's own words
// where it has some (NLMSGERR_ATTR_MSG, which follows the echoed request).
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

// receive returns the next datagram, which the one after it overwrites.
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
			continue // not from the kernel
		}
		if n > len(c.in) {
			return nil, fmt.Errorf("netlink answer of %d bytes: %w", n, unix.EMSGSIZE)
		}
		return c.in[:n], nil
	}
}

// NewRequest returns a request of a type with its fixed part.
func NewRequest(typ, flags int, body nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	req.AddData(body)
	return req
}

// Attrs walks the attributes behind the fixed part of an answer.
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
