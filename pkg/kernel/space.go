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

	"github.com/multihome/multihome/pkg/netstate"
)

// Errors that a caller decides by.
var (
	// ErrNoNetns is a netns path that is not there any more, or that isn't a
	// network namespace.
	ErrNoNetns = errors.New("no such network namespace")
	// ErrHostNetns is a netns path that leads to the plugin's own namespace.
	ErrHostNetns = errors.New("the plugin's own network namespace")
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

	nftConn *conn
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
	if err = k.Pod.differsFrom(k.Host); err == nil && lock {
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
	// The namespace of the socket: to find it below /proc takes ten times as long.
	home, err := unix.IoctlRetInt(c.fd, unix.SIOCGSKNS)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	h := &Space{ns: netstate.Host, fd: -1, conn: c, home: home}
	h.reset()
	return &Kernel{Host: h}, nil
}

// Netns is a pod's network namespace: where it is, and what tells it from another
// one that is there later.
type Netns struct {
	Path  string
	Inode uint64
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

// Gone reports whether the namespace is no more: nothing is at its path, or what is no
// network namespace, as the file is that one was bound to, or, if its inode is known,
// another one.
func (n Netns) Gone() bool {
	fd, err := openNetns(n.Path)
	if err != nil {
		return errors.Is(err, ErrNoNetns)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	return n.Inode != 0 && unix.Fstat(fd, &st) == nil && st.Ino != n.Inode
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

// openNetns opens what is at path if it is a network namespace. Nothing else is
// opened: a FIFO would block, and a device might do anything.
func openNetns(path string) (int, error) {
	var fs unix.Statfs_t
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if leadsNowhere(err) {
		return -1, fmt.Errorf("netns %q: %w (%w)", path, ErrNoNetns, err)
	}
	if err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return -1, fmt.Errorf("netns %q: %w", path, ErrNoNetns)
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	kind, err := unix.IoctlRetInt(ns, unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = ErrNoNetns
	}
	if err != nil {
		_ = unix.Close(ns)
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	return ns, nil
}

// leadsNowhere reports whether nothing can be at a path that was to be opened:
// with any other error there may be a namespace, and DEL must not pass it over.
// EACCES is the error for /proc/PID/ns/net when the process is gone
// (proc_ns_get_link).
func leadsNowhere(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// differsFrom refuses the plugin's own namespace.
func (s *Space) differsFrom(host *Space) error {
	var mine, pods unix.Stat_t
	if err := unix.Fstat(host.home, &mine); err != nil {
		return fmt.Errorf("stat netns: %w", err)
	}
	if err := unix.Fstat(s.fd, &pods); err != nil {
		return fmt.Errorf("stat netns: %w", err)
	}
	if mine.Dev == pods.Dev && mine.Ino == pods.Ino {
		return ErrHostNetns
	}
	return nil
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

func flock(fd, how int) error {
	for {
		err := unix.Flock(fd, how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("lock: %w", err)
		}
	}
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
		if c := s.nftConn; c != nil && c.waits {
			c.closeLater()
		} else if c != nil {
			c.close()
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

// homeTries is how often the way back from a namespace is tried.
const homeTries = 10

// enter runs f with the thread in the namespace.
func (s *Space) enter(f func() error) error {
	if s.fd < 0 {
		return f()
	}
	runtime.LockOSThread() // not before: the first time, the runtime starts a thread for it
	defer runtime.UnlockOSThread()
	if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%s: setns: %w", s.ns, err)
	}
	defer s.leave()
	return f()
}

// leave moves the thread back to the node. The kernel may lack memory for that
// for a moment (copy_net_ns, create_new_namespaces). If there is no way back at
// all, the program must not go on in the wrong namespace: that is a panic.
func (s *Space) leave() {
	var err error
	for range homeTries {
		if err = unix.Setns(s.home, unix.CLONE_NEWNET); err == nil {
			return
		}
	}
	panic(fmt.Sprintf("return to the node's network namespace: %v", err))
}
