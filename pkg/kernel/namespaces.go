// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// Namespaces is the pair of namespaces that an attachment spans. Pod is nil where
// there is none to work on.
type Namespaces struct {
	Host *Namespace
	Pod  *Namespace

	looking bool  // takes no lock
	locks   []int // of links
}

// Namespace is a network namespace with its sockets.
type Namespace struct {
	ns   netstate.NS
	fd   int // of the namespace; -1: the one the program was started in
	conn *netlink.Conn
	home int // the program's own namespace, to come back to

	nftConn *nft.Conn
	tables  *tables
	lacking map[uint8]error // families of nf_tables that were tried; nil: the kernel has it

	index map[string]int // of links, by name
	name  map[int]string
	ends  map[string]farLink
	// settings are those of links, as the last answer has them.
	settings map[string]rtnetlink.Settings
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
// removed. The errors that lead to a decision are [netns.ErrNone] and
// [netns.ErrOwn].
func Open(netns string) (*Namespaces, error) { return open(netns, true) }

// Look opens them for reading alone: it takes no lock, and neither waits for a plugin
// at work nor keeps one waiting.
func Look(netns string) (*Namespaces, error) { return open(netns, false) }

func open(netnsPath string, lock bool) (*Namespaces, error) {
	k, err := OpenHost()
	if err != nil {
		return nil, err
	}
	k.looking = !lock
	fd, err := netns.Open(netnsPath)
	if err != nil {
		k.Close()
		return nil, err
	}
	k.Pod = &Namespace{ns: netstate.Pod, fd: fd, home: k.Host.home}
	k.Pod.reset()
	same, err := netns.Same(fd, k.Host.home)
	if same {
		err = netns.ErrOwn
	}
	if err == nil && lock {
		err = netns.Lock(fd, unix.LOCK_EX)
	}
	if err != nil {
		k.Close()
		return nil, err
	}
	err = k.Pod.Enter(func() error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE, k.Host.conn.Buffers)
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
func OpenHost() (*Namespaces, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, netlink.NewBuffers())
	if err != nil {
		return nil, err
	}
	home, err := c.Namespace()
	if err != nil {
		c.Close()
		return nil, err
	}
	// All requests come from one thread, which is what tools count them by (strace -f).
	runtime.LockOSThread()
	h := &Namespace{ns: netstate.Host, fd: -1, conn: c, home: home}
	h.reset()
	return &Namespaces{Host: h}, nil
}

// PodNetns returns the pod's namespace, which is at path; the zero Netns if there
// is none.
func (k *Namespaces) PodNetns(path string) netns.ID {
	var st unix.Stat_t
	if k.Pod == nil || unix.Fstat(k.Pod.fd, &st) != nil {
		return netns.ID{}
	}
	return netns.ID{Path: path, Inode: st.Ino}
}

// StillHas reports whether a namespace is still where it was, and has an address: so
// its pod is alive, or at least not known to be dead.
func (k *Namespaces) StillHas(n netns.ID, addr netip.Addr) (bool, error) {
	fd, err := netns.Open(n.Path)
	if errors.Is(err, netns.ErrNone) {
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
	other := &Namespace{ns: netstate.Pod, fd: fd, home: k.Host.home}
	other.reset()
	err = other.Enter(func() (err error) {
		other.conn, err = netlink.Dial(unix.NETLINK_ROUTE, k.Host.conn.Buffers)
		return err
	})
	if err != nil {
		return false, err
	}
	defer other.conn.Close()
	list, err := other.Addrs(0)
	return has(list, addr), err
}

// FarHolds reports whether the namespace has an address that the far end of a veth is
// in. This namespace has a number for that one, by which it can be asked without a
// path to it (IFA_TARGET_NETNSID, Linux 4.20). A link that has gone, or whose far end
// is in this namespace, leads to no pod.
func (s *Namespace) FarHolds(veth string, a netip.Addr) (bool, error) {
	l, ok, err := s.fetchLink(veth)
	if err != nil || !ok || !l.Elsewhere {
		return false, err
	}
	req := netlink.NewRequest(unix.RTM_GETADDR, 0, nl.NewIfAddrmsg(rtnetlink.AddrFamily(a)))
	req.AddData(nl.NewRtAttr(unix.IFA_TARGET_NETNSID, nl.Uint32Attr(uint32(l.NetnsID))))
	list, err := netlink.Dump(s.conn, req, func(b []byte) (rtnetlink.Addr, bool) { return rtnetlink.DecodeAddr(b), true })
	if err != nil {
		return false, fmt.Errorf("%s: list addresses beyond link %s: %w", s.ns, veth, err)
	}
	return has(list, a), nil
}

// has reports whether an address is among those of links, and nobody else was found to
// have it.
func has(list []rtnetlink.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(l rtnetlink.Addr) bool { return l.Prefix.Addr() == a && !l.Failed })
}

// LockHost takes the node's lock until Close, shared by those who use objects
// that pods have in common, exclusive for who removes them. That one waits for all
// others, who may wait for links: it lets go of its own first.
func (k *Namespaces) LockHost(exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
		k.unlockLinks()
	}
	return netns.Lock(k.Host.home, how)
}

// TryLockHost takes it exclusively if nobody has it, and doesn't wait: where pods
// are added one after the other, somebody always has it.
func (k *Namespaces) TryLockHost() (locked bool, err error) {
	err = netns.Lock(k.Host.home, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Close closes sockets and namespaces and lets go of the locks.
func (k *Namespaces) Close() {
	for _, s := range []*Namespace{k.Pod, k.Host} {
		if s == nil {
			continue
		}
		if s.conn != nil {
			s.conn.Close()
		}
		if s.nftConn != nil {
			s.nftConn.Close()
		}
		if s.fd >= 0 {
			_ = unix.Close(s.fd)
		}
	}
	k.unlockLinks()
	_ = unix.Close(k.Host.home)
	runtime.UnlockOSThread()
}

// Of returns the namespace by its part.
func (k *Namespaces) Of(ns netstate.NS) *Namespace {
	if ns == netstate.Pod {
		return k.Pod
	}
	return k.Host
}

// reset forgets what is known of the namespace's links.
func (s *Namespace) reset() {
	s.index = map[string]int{"lo": 1} // init_net and every other: loopback_net_init
	s.name = map[int]string{1: "lo"}
	s.ends = map[string]farLink{}
	s.settings = map[string]rtnetlink.Settings{}
	s.leading = map[netstate.Family]int{}
}

// Enter runs f with the thread in the namespace.
func (s *Namespace) Enter(f func() error) error {
	if s.fd < 0 {
		return f()
	}
	entered, err := netns.Within(s.fd, s.home, f)
	if !entered {
		return fmt.Errorf("%s: %w", s.ns, err)
	}
	return err
}
