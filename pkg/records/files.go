// SPDX-License-Identifier: Apache-2.0

package records

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileLimit is more than any file holds that is read here.
const fileLimit = 1 << 20

// ReadTrusted returns what a file holds that nobody but root can write. Nothing
// else than a regular file is read, and none of more than a MiB.
func ReadTrusted(path string) ([]byte, error) {
	return readFile(path, 0, 0o022)
}

// openFile is os.OpenFile, but the file is not polled: that would make the poll set of
// the whole process first, and a call of a plugin is over before six more system calls
// and a busier scheduler pay off.
func openFile(path string, flags int, mode fs.FileMode) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, uint32(mode.Perm()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		if flags&unix.O_NONBLOCK != 0 {
			_ = unix.SetNonblock(fd, false) // or else os.NewFile polls it
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// readFile reads a regular file of root's that has none of the permissions.
func readFile(path string, flags int, denied fs.FileMode) ([]byte, error) {
	// O_NONBLOCK: to open a FIFO doesn't wait for who writes it.
	f, err := openFile(path, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a link, or a socket
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := rootsAlone(path, info, denied); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	if err == nil && len(data) > fileLimit {
		err = fmt.Errorf("%s: larger than %d bytes", path, fileLimit)
	}
	return data, err
}

// rootsAlone returns an error for a file that isn't root's, or gives others one of
// the permissions.
func rootsAlone(path string, info fs.FileInfo, denied fs.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid == 0 && info.Mode().Perm()&denied == 0 {
		return nil
	}
	return fmt.Errorf("%s: it must be root's alone, and is %s of user %d", path, info.Mode(), st.Uid)
}

// privateDirs returns an error for the first path that is no directory of root's
// alone. To say so of a link, it isn't followed.
func privateDirs(paths ...string) error {
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s: not a directory", path)
		}
		if err == nil {
			err = rootsAlone(path, info, 0o077)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MakeDirs makes directories of root's alone, each in the one before, as far as
// they are not there.
func MakeDirs(paths ...string) error {
	for _, path := range paths {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := privateDirs(path); err != nil {
			return err
		}
	}
	return nil
}
