// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// snapLen is the number of bytes that a capture keeps of a frame: all headers that Frame
// describes.
const snapLen = 128

// timespecSize is the size in bytes of struct timespec on a 64-bit machine.
const timespecSize = 16

// Capture records the frames that pass the links of a namespace. The kernel queues a frame
// for the capture before it delivers the frame. So when a client has its answer, the capture
// has all frames of the exchange.
type Capture struct {
	netns  *Netns
	fd     int
	frames []Frame
	drops  uint32
	links  map[int]string
}

// Capture starts recording on the named link. If the name is empty, it records on all links
// of the namespace, including those that are added later.
func (n *Netns) Capture(link string) (*Capture, error) {
	c := &Capture{netns: n, fd: -1, links: map[int]string{}}
	err := n.Do(func() (err error) {
		// Without a protocol the socket hears nothing until it is bound.
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		stamps := unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE
		for option, value := range map[int]int{unix.SO_RCVBUFFORCE: 16 << 20, unix.SO_TIMESTAMPING: stamps} {
			if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, option, value); err != nil {
				return err
			}
		}
		to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL)}
		if link != "" {
			l, err := net.InterfaceByName(link)
			if err != nil {
				return err
			}
			to.Ifindex = l.Index
		}
		return unix.Bind(c.fd, to)
	})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("capture in %s on %q: %w", n.name, link, err)
	}
	return c, nil
}

// Frames returns every frame recorded so far, in order.
func (c *Capture) Frames() ([]Frame, error) {
	for {
		buf, control := make([]byte, snapLen), make([]byte, unix.CmsgSpace(3*timespecSize))
		size, controlSize, _, from, err := unix.Recvmsg(c.fd, buf, control, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return c.frames, c.dropped()
		}
		if err != nil {
			return nil, fmt.Errorf("capture in %s: %w", c.netns.name, err)
		}
		at := from.(*unix.SockaddrLinklayer)
		f := parseFrame(buf[:size])
		f.Outgoing = at.Pkttype == unix.PACKET_OUTGOING
		f.Time = timestamp(control[:controlSize])
		if f.Link, err = c.linkName(at.Ifindex); err != nil {
			return nil, err
		}
		c.frames = append(c.frames, f)
	}
}

// timestamp returns the time at which the kernel saw a frame: the first time in struct
// scm_timestamping. It returns the zero Time if there is none.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 || len(messages[0].Data) < timespecSize {
		return time.Time{}
	}
	data := messages[0].Data
	return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
}

// dropped returns an error if the kernel had no room for some frames, because a capture with
// gaps proves nothing.
func (c *Capture) dropped() error {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("capture in %s: %w", c.netns.name, err)
	}
	c.drops += stats.Drops // reading sets the kernel's count to 0
	if c.drops > 0 {
		return fmt.Errorf("capture in %s: %d frames dropped", c.netns.name, c.drops)
	}
	return nil
}

// linkName returns the name that a link had when its first frame was read. A link that was
// gone by then gets a name with its index.
func (c *Capture) linkName(index int) (string, error) {
	if name, ok := c.links[index]; ok {
		return name, nil
	}
	err := c.netns.Do(func() error {
		c.links[index] = fmt.Sprintf("link %d", index)
		if l, err := net.InterfaceByIndex(index); err == nil {
			c.links[index] = l.Name
		}
		return nil
	})
	return c.links[index], err
}

// Close ends the recording.
func (c *Capture) Close() error {
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
