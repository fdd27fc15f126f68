// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is a network namespace whose processes also have a /run, a /var/lib/cni and an
// /etc/cni of their own. These are empty at first, and in memory. Other machines don't see
// the files that plugins and runtimes keep there, and the files vanish with the machine.
type Machine struct {
	*Netns
	mounts *os.File
}

// NewMachine makes a machine.
func NewMachine(name string) (*Machine, error) {
	n, err := NewNetns(name)
	if err != nil {
		return nil, err
	}
	m := &Machine{Netns: n}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		// A file system that the system unmounts is unmounted here, too, so the machine
		// doesn't keep it in use.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return err
		}
		if err := ownFiles(); err != nil {
			return err
		}
		m.mounts, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("create the files of %s: %w", name, err)
	}
	return m, nil
}

// ownFiles mounts the directories that a Machine has of its own.
func ownFiles() error {
	if err := detach("/run"); err != nil {
		return err
	}
	if err := mountEmpty("/run"); err != nil {
		return err
	}
	if err := mountEmpty("/etc/cni"); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	err := mountEmpty("/var/lib/cni")
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	// /var/lib/cni doesn't exist, and making it would change the system. So replace /var/lib
	// by a directory in memory, and mount all directories of the system's /var/lib in it.
	parent, err := os.Open("/var/lib")
	if err != nil {
		return err
	}
	defer parent.Close()
	entries, err := parent.ReadDir(-1)
	if err != nil {
		return err
	}
	if err := mountEmpty("/var/lib"); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		at := filepath.Join("/var/lib", e.Name())
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), e.Name()), at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return os.Mkdir("/var/lib/cni", 0o755)
}

// detach unmounts a directory and all mounts below it, in this mount namespace. Covering the
// directory isn't enough: the namespaces of the system's pods are mounted there, and live as
// long as they are mounted anywhere.
func detach(dir string) error {
	mounts, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(strings.TrimSpace(string(mounts)), "\n")) {
		at := strings.Fields(line)[1]
		if at != dir && !strings.HasPrefix(at, dir+"/") {
			continue
		}
		err := unix.Unmount(at, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.ENOENT) { // a name with a space has \040 in its place
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return nil
}

// mountEmpty mounts an empty file system in memory on a directory.
func mountEmpty(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// Pin mounts a namespace on a file of the machine, as `ip netns` does below /run/netns. The
// namespace then lives as long as the machine.
func (m *Machine) Pin(n *Netns, path string) error {
	err := m.Run(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, nil, 0o444); err != nil {
			return err
		}
		return unix.Mount(n.Path(), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return fmt.Errorf("pin %s to %s of %s: %w", n.name, path, m.name, err)
	}
	return nil
}

// Close releases both namespaces.
func (m *Machine) Close() error {
	return errors.Join(m.Netns.Close(), m.mounts.Close())
}

// Run runs f on a thread that is in the machine's network and mount namespaces, and in the
// directory /. Processes started by f belong to the machine. f must not call t.FailNow.
func (m *Machine) Run(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("enter %s: %w", m.name, err)
		}
		if err := unix.Setns(int(m.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter the files of %s: %w", m.name, err)
		}
		return m.Do(f)
	})
}

// onOwnThread runs f on a thread that ends with f. A thread in another mount namespace can't
// be reused: it stays locked, so the Go runtime ends it with its goroutine.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
