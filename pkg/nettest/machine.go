// SPDX-License-Identifier: Apache-2.0

package nettest

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Machine is a network namespace whose processes also have a /run of their own:
// an empty file system in memory. What a plugin keeps there is seen by no other
// machine and vanishes with it.
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
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return err
		}
		m.mounts, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("create /run of %s: %w", name, err)
	}
	return m, nil
}

// Close lets go of both namespaces.
func (m *Machine) Close() error {
	return errors.Join(m.Netns.Close(), m.mounts.Close())
}

// Run runs f on a thread that is inside the machine, network and files, and in
// the directory /. Processes started by f belong to the machine. f must not end
// by t.FailNow.
func (m *Machine) Run(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("enter %s: %w", m.name, err)
		}
		if err := unix.Setns(int(m.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter /run of %s: %w", m.name, err)
		}
		return m.Do(f)
	})
}

// onOwnThread runs f on a thread that ends with it: a thread in another mount
// namespace can't be given back.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
