// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// claimPath is the file that names the lab that is up. The processes that build and
// serve the lab hold a lock on it; without a lock, the file means nothing.
const claimPath = "/run/multihome-lab"

// claim is the content of the file.
type claim struct {
	Scenario string
	Server   int // its process ID; 0 while the lab is being built
}

var errNotUp = errors.New("no lab is up: `multihome lab up` builds one")

// openClaim opens and locks the file. If another process has the lock, the error names
// its lab. Flags are those of open(2).
func openClaim(flags int) (*os.File, *claim, error) {
	for {
		f, err := os.OpenFile(claimPath, os.O_RDWR|flags, 0o600)
		if err != nil {
			return nil, nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			others, err := readClaim(f)
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, others, errors.Join(err, f.Close())
			} // it is just being written
		case err != nil:
			return nil, nil, errors.Join(err, f.Close())
		case isThere(f):
			return f, nil, nil
		}
		if err := f.Close(); err != nil {
			return nil, nil, err
		}
	}
}

// isThere reports whether the file is still in place since it was opened.
func isThere(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(claimPath)
	return err == nil && os.SameFile(opened, there)
}

func readClaim(f *os.File) (*claim, error) {
	c := new(claim)
	return c, json.NewDecoder(f).Decode(c)
}

// newClaim claims the place for a scenario, until the returned file and all its copies in
// other processes are closed.
func newClaim(scenario string) (*os.File, error) {
	f, others, err := openClaim(os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if others != nil {
		return nil, fmt.Errorf("scenario %s is up: `multihome lab down` removes it", others.Scenario)
	}
	if err := (claim{Scenario: scenario}).write(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write replaces the content of the file.
func (c claim) write(f *os.File) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return err
}

// current returns the claim of the lab that is up.
func current() (*claim, error) {
	f, c, err := openClaim(0)
	if f != nil {
		err = f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && (c == nil || c.Server == 0) {
		return nil, errNotUp
	}
	return c, err
}
