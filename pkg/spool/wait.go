// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/multihome/multihome/pkg/netns"
)

const (
	// slots is how many processes look into the spool often at the same time. When many
	// pods wait, the others look so seldom that they cost next to nothing.
	slots = 8

	often, seldom = 20 * time.Millisecond, 250 * time.Millisecond
)

// Waiter lets an ADD wait for the agent by looking again and again. A watch by inotify would
// save little: the claim is usually there, and a node has few inotify instances
// (fs.inotify.max_user_instances), which may all be in use.
type Waiter struct {
	spool *Directory
	until time.Time
	lasts time.Duration
	slot  *os.File // with a lock; nil if the process has none
}

// Waiter returns a waiter for a call that began at a time and is to last so long at most.
func (d *Directory) Waiter(began time.Time, lasts time.Duration) *Waiter {
	return &Waiter{spool: d, until: began.Add(lasts), lasts: lasts}
}

// Wait returns when it is time to look again. It returns an error when the call has lasted
// too long.
func (w *Waiter) Wait() error {
	left := time.Until(w.until)
	if left <= 0 {
		return fmt.Errorf("none came within %v", w.lasts)
	}
	if w.slot == nil {
		w.slot = w.spool.slot()
	}
	pause := often
	if w.slot == nil {
		pause = seldom
	}
	time.Sleep(min(pause, left))
	return nil
}

// Close gives the slot back.
func (w *Waiter) Close() {
	if w.slot != nil {
		_ = w.slot.Close()
	}
}

// slot returns a file that this process has locked, nil if none is free. The kernel unlocks
// it when the process ends.
func (d *Directory) slot() *os.File {
	for i := range slots {
		f, err := os.OpenFile(filepath.Join(d.path, fmt.Sprintf("slot-%d", i)), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil
		}
		err = netns.Lock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f
		}
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil
		}
	}
	return nil
}
