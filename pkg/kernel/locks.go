// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/records"
)

// lockDir holds a file for each link that was ever locked. These files are never removed:
// a process that waits for a lock has its file open, and would lock a removed one.
const lockDir = records.Dir + "/.locks"

// LockLinks locks links of the node until Close or until it is called again: only one
// plugin at a time changes a link that pods share. It unlocks the links of an earlier call
// first. It locks in the order of the names, so that no two plugins wait for each other.
// After [Look] it does nothing.
func (k *Namespaces) LockLinks(names ...string) error {
	if k.looking {
		return nil
	}
	k.unlockLinks()
	if err := records.MakeDirs(records.Dir, lockDir); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		path := filepath.Join(lockDir, name)
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fmt.Errorf("lock %s: %w", path, err)
		}
		k.locks = append(k.locks, fd)
		if err := netns.Lock(fd, unix.LOCK_EX); err != nil {
			return err
		}
	}
	return nil
}

func (k *Namespaces) unlockLinks() {
	for _, fd := range k.locks {
		_ = unix.Close(fd)
	}
	k.locks = nil
}
