// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// Kernel is the pair of namespaces that an attachment spans. Pod is nil where
// there is none to work on.
type Kernel struct {
	Host *Space
	Pod  *Space

	looking bool  // takes no lock
	locks   []int // of links
}

// Space is a network namespace with its sockets.
type Space struct {
	ns   netstate.NS
	fd   int // of the namespace; -1: the one the program was started in
	conn *conn
	home int // the program's own namespace, to come back to

	nftConn *nftSocket
	tables  *tables
	lacking map[uint8]error // families of nf_tables that were tried; nil: the kernel has it

	index map[string]int // of links, by name
	name  map[int]string
	ends  map[string]farLink
	// settings are those of links, as the last answer has them.
	settings map[string]settings
	// hostID is what the namespace calls the node's (ip-netns(8), NETNSID); nil if
	// nobody asked yet.
	hostID *int

	// leading is the table that the rules lead every packet to first, 0 if there
	// is none; known once they were read.
	leading map[netstate.Family]int
}

// Open opens the node's namespace and the one at netns, and holds the
// namespace's lock until Close, a lock on the namespace itself: one plugin at a time
// works on a pod, a killed one lets go, and no file has to be made for it, or
// removed. The errors that lead to a decision are [ErrNoNetns] and
// [ErrHostNetns].
func Open(netns string) (*Kernel, error) { return open(netns, true) }

// Look opens them for reading alone: it takes no lock, and neither waits for a plugin
// at work nor keeps one waiting.
func Look(netns string) (*Kernel, error) { return open(netns, false) }

func open(netns string, lock bool) (*Kernel, error) {
	k, err := OpenHost()
	if err != nil {
		return nil, err
	}
	k.looking = !lock
	fd, err := openNetns(netns)
	if err != nil {
		k.Close()
		return nil, err
	}
	k.Pod = &Space{ns: netstate.Pod, fd: fd, home: k.Host.home}
	k.Pod.reset()
	same, err := sameNetns(fd, k.Host.home)
	if same {
		err = ErrHostNetns
	}
	if err == nil && lock {
		err = flock(fd, unix.LOCK_EX)
	}
	if err != nil {
		k.Close()
		return nil, err
	}
	err = k.Pod.enter(func() error {
		c, err := dial(unix.NETLINK_ROUTE, k.Host.conn.buffers)
		k.Pod.conn = c
		return err
	})
	if err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// OpenHost opens the node's namespace alone.
func OpenHost() (*Kernel, error) {
	c, err := dial(unix.NETLINK_ROUTE, newBuffers())
	if err != nil {
		return nil, err
	}
	home, err := c.namespace()
	if err != nil {
		c.close()
		return nil, err
	}
	h := &Space{ns: netstate.Host, fd: -1, conn: c, home: home}
	h.reset()
	return &Kernel{Host: h}, nil
}

// PodNetns returns the pod's namespace, which is at path; the zero Netns if there
// is none.
func (k *Kernel) PodNetns(path string) Netns {
	var st unix.Stat_t
	if k.Pod == nil || unix.Fstat(k.Pod.fd, &st) != nil {
		return Netns{}
	}
	return Netns{path, st.Ino}
}

// Holds reports whether a namespace is still where it was, and has an address: so
// its pod is alive, or at least not known to be dead.
func (k *Kernel) Holds(n Netns, addr netip.Addr) (bool, error) {
	fd, err := openNetns(n.Path)
	if errors.Is(err, ErrNoNetns) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != n.Inode {
		return false, err
	}
	other := &Space{ns: netstate.Pod, fd: fd, home: k.Host.home}
	other.reset()
	err = other.enter(func() (err error) {
		other.conn, err = dial(unix.NETLINK_ROUTE, k.Host.conn.buffers)
		return err
	})
	if err != nil {
		return false, err
	}
	defer other.conn.close()
	list, err := other.addrs(0)
	return has(list, addr), err
}

// FarHolds reports whether the namespace has an address that the far end of a veth is
// in. This namespace has a number for that one, by which it can be asked without a
// path to it (IFA_TARGET_NETNSID, Linux 4.20). A link that has gone, or whose far end
// is in this namespace, leads to no pod.
func (s *Space) FarHolds(veth string, a netip.Addr) (bool, error) {
	l, ok, err := s.fetchLink(veth)
	if err != nil || !ok || !l.elsewhere {
		return false, err
	}
	req := request(unix.RTM_GETADDR, 0, nl.NewIfAddrmsg(family(a)))
	req.AddData(nl.NewRtAttr(unix.IFA_TARGET_NETNSID, nl.Uint32Attr(uint32(l.netnsid))))
	list, err := dump(s.conn, req, func(b []byte) (addr, bool) { return decodeAddr(b), true })
	if err != nil {
		return false, fmt.Errorf("%s: list addresses beyond link %s: %w", s.ns, veth, err)
	}
	return has(list, a), nil
}

// has reports whether an address is among those of links, and nobody else was found to
// have it.
func has(list []addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(l addr) bool { return l.Prefix.Addr() == a && !l.failed })
}

// LockHost takes the node's lock until Close, shared by those who use objects
// that pods have in common, exclusive for who removes them. That one waits for all
// others, who may wait for links: it lets go of its own first.
func (k *Kernel) LockHost(exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
		k.unlockLinks()
	}
	return flock(k.Host.home, how)
}

// TryLockHost takes it exclusively if nobody has it, and doesn't wait: where pods
// are added one after the other, somebody always has it.
func (k *Kernel) TryLockHost() (locked bool, err error) {
	err = flock(k.Host.home, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Close closes sockets and namespaces and lets go of the locks.
func (k *Kernel) Close() {
	for _, s := range []*Space{k.Pod, k.Host} {
		if s == nil {
			continue
		}
		if s.conn != nil {
			s.conn.close()
		}
		if s.nftConn != nil {
			s.nftConn.close()
		}
		if s.fd >= 0 {
			_ = unix.Close(s.fd)
		}
	}
	k.unlockLinks()
	_ = unix.Close(k.Host.home)
}

// Space returns the namespace by its part.
func (k *Kernel) Space(ns netstate.NS) *Space {
	if ns == netstate.Pod {
		return k.Pod
	}
	return k.Host
}

// reset forgets what is known of the namespace's links.
func (s *Space) reset() {
	s.index = map[string]int{"lo": 1} // init_net and every other: loopback_net_init
	s.name = map[int]string{1: "lo"}
	s.ends = map[string]farLink{}
	s.settings = map[string]settings{}
	s.leading = map[netstate.Family]int{}
}

// enter runs f with the thread in the namespace.
func (s *Space) enter(f func() error) error {
	if s.fd < 0 {
		return f()
	}
	entered, err := within(s.fd, s.home, f)
	if !entered {
		return fmt.Errorf("%s: %w", s.ns, err)
	}
	return err
}
