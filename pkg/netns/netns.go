// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Errors that callers decide by.
var (
	// ErrNone is the error for a netns path that doesn't exist (any more), or that isn't a
	// network namespace.
	ErrNone = errors.New("no such network namespace")
	// ErrOwn is the error for a netns path to the plugin's own namespace.
	ErrOwn = errors.New("the plugin's own network namespace")
	// ErrBusy is the error for a namespace that another plugin has locked.
	ErrBusy = errors.New("another plugin works on the pod")
)

// ID identifies a pod's network namespace: its path, and the inode that distinguishes it
// from a later namespace at the same path.
type ID struct {
	Path  string
	Inode uint64
}

// Gone reports whether the namespace is gone: nothing is at its path, or a file that isn't a
// network namespace (such as the file on which it was mounted), or, if its inode is known,
// another namespace.
func (n ID) Gone() bool {
	fd, err := Open(n.Path)
	if err != nil {
		return errors.Is(err, ErrNone)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	return n.Inode != 0 && unix.Fstat(fd, &st) == nil && st.Ino != n.Inode
}

// Identify returns the ID of the network namespace at path. If there is none, the error is
// [ErrNone].
func Identify(path string) (ID, error) {
	fd, err := Open(path)
	if err != nil {
		return ID{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ID{}, fmt.Errorf("netns %q: %w", path, err)
	}
	return ID{Path: path, Inode: st.Ino}, nil
}

// IsOwn reports whether the namespace is the plugin's own.
func (n ID) IsOwn() (bool, error) {
	own, err := Identify("/proc/self/ns/net")
	return err == nil && n.Inode == own.Inode, err
}

// Open opens the network namespace at path and returns its file descriptor. If there is
// none, the error is [ErrNone]. It opens nothing that isn't a namespace: opening a FIFO
// would block, and opening a device could have any effect.
func Open(path string) (int, error) {
	var fs unix.Statfs_t
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if leadsNowhere(err) {
		return -1, fmt.Errorf("netns %q: %w (%w)", path, ErrNone, err)
	}
	if err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return -1, fmt.Errorf("netns %q: %w", path, ErrNone)
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	kind, err := unix.IoctlRetInt(ns, unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = ErrNone
	}
	if err != nil {
		_ = unix.Close(ns)
		return -1, fmt.Errorf("netns %q: %w", path, err)
	}
	return ns, nil
}

// leadsNowhere reports whether an error of open(2) means that there is no namespace at the
// path. After any other error there may be one, and DEL must not ignore it. EACCES is the
// error for /proc/PID/ns/net when the process is gone (proc_ns_get_link).
func leadsNowhere(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Same reports whether two file descriptors are of one network namespace.
func Same(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := unix.Fstat(a, &x); err != nil {
		return false, fmt.Errorf("stat netns: %w", err)
	}
	if err := unix.Fstat(b, &y); err != nil {
		return false, fmt.Errorf("stat netns: %w", err)
	}
	return x.Dev == y.Dev && x.Ino == y.Ino, nil
}

// Lock locks an open file, such as a network namespace, until the file is closed. how is
// LOCK_SH or LOCK_EX of flock(2), with or without LOCK_NB.
func Lock(fd, how int) error {
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

// homeTries is how often Return tries to enter the program's own namespace.
const homeTries = 10

// Within runs f with the calling thread in a network namespace, and returns to the namespace
// home. If entered is false, the thread couldn't enter it, and f didn't run.
func Within(netns, home int, f func() error) (entered bool, err error) {
	runtime.LockOSThread() // as late as possible: the first call starts a thread
	defer runtime.UnlockOSThread()
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("setns: %w", err)
	}
	defer Return(home)
	return true, f()
}

// Return moves the calling thread back to the program's own namespace. It tries several
// times, because the kernel may be out of memory for a moment (copy_net_ns,
// create_new_namespaces). If all tries fail, it panics: the program must not go on in the
// wrong namespace.
func Return(home int) {
	var err error
	for range homeTries {
		if err = unix.Setns(home, unix.CLONE_NEWNET); err == nil {
			return
		}
	}
	panic(fmt.Sprintf("return to the node's network namespace: %v", err))
}
