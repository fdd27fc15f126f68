// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Netns is a network namespace that a file descriptor of this process keeps alive. A
// namespace of [NewNetns] has no name in the file system and vanishes with the process. A
// namespace of [OpenNetns] has another owner and stays.
type Netns struct {
	name string
	file *os.File
}

// NewNetns makes a network namespace with its loopback up and without duplicate address
// detection, so that an IPv6 address is usable at once. The name appears in errors and
// drawings only.
func NewNetns(name string) (*Netns, error) {
	n := &Netns{name: name}
	err := preservingNetns(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("create netns %s: %w", name, err)
		}
		file, err := currentNetns()
		if err != nil {
			return err
		}
		n.file = file
		return nil
	})
	if err == nil {
		err = n.prepareNew()
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// OpenNetns opens an existing network namespace, by a path such as /proc/PID/ns/net or one
// below /run/netns. It doesn't change the namespace.
func OpenNetns(name, path string) (*Netns, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open netns %s: %w", name, err)
	}
	return &Netns{name: name, file: file}, nil
}

// prepareNew applies the settings of NewNetns to a new namespace.
func (n *Netns) prepareNew() error {
	for _, scope := range []string{"all", "default"} {
		if err := n.setIPv6("conf/"+scope+"/accept_dad", "0"); err != nil {
			return err
		}
	}
	return n.SetUp("lo")
}

// setIPv6 sets a sysctl of IPv6, if the kernel has that.
func (n *Netns) setIPv6(name, value string) error {
	if !hasIPv6() {
		return nil
	}
	return n.SetSysctl("ipv6/"+name, value)
}

// hasIPv6 reports whether the kernel has IPv6: ipv6.disable=1 takes it away.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return !errors.Is(err, fs.ErrNotExist)
}

// Name returns the name given to NewNetns or OpenNetns.
func (n *Netns) Name() string { return n.name }

// Path returns a path by which this process and its children can open the namespace, for
// CNI_NETNS. It is valid until Close.
func (n *Netns) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Close releases the namespace. The kernel removes it, with all its links, once no process,
// socket or capture uses it any more.
func (n *Netns) Close() error {
	if n.file == nil {
		return nil
	}
	return n.file.Close()
}

// Do moves the thread of this goroutine into the namespace, runs f, and moves the thread
// back. Sockets that f opens and processes that f starts belong to the namespace, and
// /proc/sys/net is the namespace's. Goroutines that f starts are not in the namespace. Calls
// nest, and f may call t.FailNow.
func (n *Netns) Do(f func() error) error {
	return preservingNetns(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter netns %s: %w", n.name, err)
		}
		return f()
	})
}

// preservingNetns runs f, which may move the thread to another network namespace, and then
// restores the thread's namespace, even if f panics or exits the goroutine. It unlocks the
// thread only if it could restore the namespace.
func preservingNetns(f func() error) (err error) {
	runtime.LockOSThread()
	before, err := currentNetns()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		defer before.Close()
		if e := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); e != nil {
			err = errors.Join(err, fmt.Errorf("return to the former netns: %w", e))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// currentNetns opens the network namespace of the calling thread.
func currentNetns() (*os.File, error) {
	return os.Open("/proc/thread-self/ns/net")
}

// SetSysctl writes a value below /proc/sys/net. The key has slashes, as in
// "ipv4/conf/eth0.100/rp_filter", because names of links may contain dots.
func (n *Netns) SetSysctl(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0); err != nil {
			return fmt.Errorf("netns %s: sysctl net/%s=%s: %w", n.name, key, value, err)
		}
		return nil
	})
}

// Sysctl reads a value below /proc/sys/net.
func (n *Netns) Sysctl(key string) (value string, err error) {
	err = n.Do(func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
		if err != nil {
			return fmt.Errorf("netns %s: sysctl net/%s: %w", n.name, key, err)
		}
		value = strings.TrimSpace(string(b))
		return nil
	})
	return value, err
}
