// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// OpenMachine opens the machine of a process.
func OpenMachine(name string, pid int) (*Machine, error) {
	own := fmt.Sprintf("/proc/%d/ns/", pid)
	n, err := OpenNetns(name, own+"net")
	if err != nil {
		return nil, err
	}
	mounts, err := os.Open(own + "mnt")
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("open the files of %s: %w", name, err)
	}
	return &Machine{Netns: n, mounts: mounts}, nil
}

// OpenPinned opens a namespace that [Machine.Pin] pinned at a path.
func (m *Machine) OpenPinned(name, path string) (n *Netns, err error) {
	err = m.Run(func() error {
		n, err = OpenNetns(name, path)
		return err
	})
	return n, err
}

// Exec replaces this process with a command in the namespace. It returns only if that fails.
// The command sees the name of the namespace as its host name.
func (n *Netns) Exec(argv ...string) error {
	return onOwnThread(func() error {
		return n.Do(func() error { return n.exec(argv) })
	})
}

// Exec does the same as [Netns.Exec], with the machine's files.
func (m *Machine) Exec(argv ...string) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	return m.Run(func() error {
		_ = os.Chdir(dir) // fails if the machine has no such directory
		return m.exec(argv)
	})
}

func (n *Netns) exec(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(n.name)); err != nil {
		return err
	}
	// The kernel keeps this thread with its namespaces and ends all others (de_thread in
	// fs/exec.c).
	return fmt.Errorf("%s: %w", path, unix.Exec(path, argv, os.Environ()))
}
