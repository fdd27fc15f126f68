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

// Namespaces is the pair of namespaces of an attachment. Pod is nil if only the node's is
// open.
type Namespaces struct {
	Host *Namespace
	Pod  *Namespace

	looking bool  // opened by Look: takes no lock
	locks   []int // file descriptors of the locks of links
}

// Namespace is a network namespace with its sockets.
type Namespace struct {
	ns   netstate.NS
	fd   int // of the namespace; -1 for the program's own
	conn *netlink.Conn
	home int // file descriptor of the program's own namespace, to return to

	nftConn *nft.Conn
	tables  *tables
	lacking map[uint8]error // families of nf_tables that were tried; a nil error: the kernel has it

	index map[string]int // of links, by name
	name  map[int]string
	ends  map[string]farLink
	// settings holds the settings of links from the kernel's last answers.
	settings map[string]rtnetlink.Settings
	// hostID is the ID of the node's namespace in this one (ip-netns(8), NETNSID), nil
	// before the first request for it.
	hostID *int

	// leading is the table in which the kernel looks up every packet first, after local.
	// It is 0 if there is none, and before ReadRules.
	leading map[netstate.Family]int
}

// Open opens the node's namespace and the pod's at the path netns, and locks the pod's
// until Close: only one plugin at a time works on a pod. The lock is on the namespace
// itself, so a killed plugin releases it, and there is no lock file to make or remove.
// Errors that callers decide by are [netns.ErrNone] and [netns.ErrOwn].
func Open(netns string) (*Namespaces, error) { return open(netns, unix.LOCK_EX) }

// TryOpen does the same, but doesn't wait for the pod's lock: if another plugin has it, the
// error is [netns.ErrBusy].
func TryOpen(netns string) (*Namespaces, error) { return open(netns, unix.LOCK_EX|unix.LOCK_NB) }

// Look opens the same namespaces for reading only. It takes no lock: it doesn't wait for a
// plugin, and no plugin waits for it.
func Look(netns string) (*Namespaces, error) { return open(netns, 0) }

// open opens the namespaces, and locks the pod's as flock(2) does, unless lock is 0.
func open(netnsPath string, lock int) (*Namespaces, error) {
	k, err := OpenHost()
	if err != nil {
		return nil, err
	}
	k.looking = lock == 0
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
	if err == nil && lock != 0 {
		err = netns.Lock(fd, lock)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = netns.ErrBusy
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
	// All requests come from one thread, so that tools can count them by thread (strace
	// -f).
	runtime.LockOSThread()
	h := &Namespace{ns: netstate.Host, fd: -1, conn: c, home: home}
	h.reset()
	return &Namespaces{Host: h}, nil
}

// PodNetns returns the ID of the pod's namespace, with path as its path. It returns the
// zero ID if there is no pod.
func (k *Namespaces) PodNetns(path string) netns.ID {
	var st unix.Stat_t
	if k.Pod == nil || unix.Fstat(k.Pod.fd, &st) != nil {
		return netns.ID{}
	}
	return netns.ID{Path: path, Inode: st.Ino}
}

// StillHas reports whether the same namespace is still at its path and has an address. If
// so, its pod may be alive.
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

// FarHolds reports whether the namespace of a veth's peer has an address. It asks by the
// ID of that namespace, so it needs no path to it (IFA_TARGET_NETNSID, Linux 4.20). It
// returns false if the link is gone or its peer is in this namespace.
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

// has reports whether the list has an address for which duplicate address detection
// didn't fail.
func has(list []rtnetlink.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(l rtnetlink.Addr) bool { return l.Prefix.Addr() == a && !l.Failed })
}

// LockHost locks the node until Close: shared for plugins that use objects that pods
// share, exclusive for a plugin that removes such objects. An exclusive lock waits for all
// other plugins. They may wait for the links that this one has locked, so it unlocks its
// links first.
func (k *Namespaces) LockHost(exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
		k.unlockLinks()
	}
	return netns.Lock(k.Host.home, how)
}

// TryLockHost takes the exclusive lock of the node if it is free, and doesn't wait: on a
// node that adds pod after pod it may never be free.
func (k *Namespaces) TryLockHost() (locked bool, err error) {
	err = netns.Lock(k.Host.home, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Close closes sockets and namespaces and releases the locks.
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

// Of returns the namespace for netstate.Host or netstate.Pod.
func (k *Namespaces) Of(ns netstate.NS) *Namespace {
	if ns == netstate.Pod {
		return k.Pod
	}
	return k.Host
}

// reset empties the cache of the namespace's links.
func (s *Namespace) reset() {
	s.index = map[string]int{"lo": 1} // in every namespace (loopback_net_init)
	s.name = map[int]string{1: "lo"}
	s.ends = map[string]farLink{}
	s.settings = map[string]rtnetlink.Settings{}
	s.leading = map[netstate.Family]int{}
}

// Enter runs f with the calling thread in the namespace, and returns to the program's own.
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
