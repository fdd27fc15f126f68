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
	// ErrNone is a netns path that is not there any more, or that isn't a
	// network namespace.
	ErrNone = errors.New("no such network namespace")
	// ErrOwn is a netns path that leads to the plugin's own namespace.
	ErrOwn = errors.New("the plugin's own network namespace")
)

// ID is a pod's network namespace: where it is, and what tells it from another
// one that is there later.
type ID struct {
	Path  string
	Inode uint64
}

// Gone reports whether the namespace is no more: nothing is at its path, or what is no
// network namespace, as the file is that one was bound to, or, if its inode is known,
// another one.
func (n ID) Gone() bool {
	fd, err := Open(n.Path)
	if err != nil {
		return errors.Is(err, ErrNone)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	return n.Inode != 0 && unix.Fstat(fd, &st) == nil && st.Ino != n.Inode
}

// Open opens what is at path if it is a network namespace. Nothing else is
// opened: a FIFO would block, and a device might do anything.
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

// Same reports whether two open files are one network namespace.
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

// Lock takes a lock on an open file, of a network namespace for instance, until that is
// closed.
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

// homeTries is how often the way back from a namespace is tried.
const homeTries = 10

// Within runs f with the thread in a network namespace, and comes back home. Without
// entered, f didn't run.
func Within(netns, home int, f func() error) (entered bool, err error) {
	runtime.LockOSThread() // not before: the first time, the runtime starts a thread for it
	defer runtime.UnlockOSThread()
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("setns: %w", err)
	}
	defer Return(home)
	return true, f()
}

// Return moves the thread back to the program's own namespace. The kernel may lack
// memory for that for a moment (copy_net_ns, create_new_namespaces). If there is no way
// back at all, the program must not go on in the wrong namespace: that is a panic.
func Return(home int) {
	var err error
	for range homeTries {
		if err = unix.Setns(home, unix.CLONE_NEWNET); err == nil {
			return
		}
	}
	panic(fmt.Sprintf("return to the node's network namespace: %v", err))
}
