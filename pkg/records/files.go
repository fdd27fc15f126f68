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

	"github.com/multihome/multihome/pkg/netstate"
)

// fileLimit is the greatest size in bytes of a file to read. All valid files are smaller.
const fileLimit = 1 << 20

// ReadTrusted returns the contents of a file that only root can write. It returns an error
// for any other file, for one that isn't a regular file, and for one of more than 1 MiB.
func ReadTrusted(path string) ([]byte, error) {
	return readFile(path, 0, 0o022)
}

// ReadPrivate returns the contents of a file to which only root has access. It returns an
// error for any other file, for one that isn't a regular file, also behind a symbolic link,
// and for one of more than 1 MiB.
func ReadPrivate(path string) ([]byte, error) {
	return readFile(path, unix.O_NOFOLLOW, 0o077)
}

// WritePrivate writes a file to which only root has access under the name unfinished and
// renames it to path, in the same directory. Others see the former file at path, or none, until
// the new one is whole. After an error nothing is left under either name that wasn't there
// before, as long as the unfinished file can be removed.
func WritePrivate(path, unfinished string, data []byte) error {
	f, err := openFile(unfinished, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err != nil {
		if e := os.Remove(unfinished); e != nil {
			err = fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, e)
		}
	}
	return err
}

// openFile is os.OpenFile without Go's network poller. The first polled file of a process
// costs six system calls to set up the poller, which doesn't pay off in the short life of a
// plugin.
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
			_ = unix.SetNonblock(fd, false) // os.NewFile polls a non-blocking file
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// readFile reads a regular file that belongs to root and has none of the permissions in
// denied.
func readFile(path string, flags int, denied fs.FileMode) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO doesn't wait for a writer.
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
	if err := checkPrivate(path, info, denied); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	if err == nil && len(data) > fileLimit {
		err = fmt.Errorf("%s: larger than %d bytes", path, fileLimit)
	}
	return data, err
}

// checkPrivate returns an error for a file that doesn't belong to root, or has one of the
// permissions in denied.
func checkPrivate(path string, info fs.FileInfo, denied fs.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid == 0 && info.Mode().Perm()&denied == 0 {
		return nil
	}
	return fmt.Errorf("%s: mode %s, owner %d: want owner 0 (root), and none of the permissions %#o", path, info.Mode(), st.Uid, denied)
}

// CheckPrivate returns an error for the first path that isn't a directory of root without
// access for others. A directory that doesn't exist is none.
func CheckPrivate(paths ...string) error {
	for _, path := range paths {
		if err := privateDirs(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// privateDirs returns an error for the first path that isn't a directory of root without
// access for others. It doesn't follow symbolic links, so it refuses them, too.
func privateDirs(paths ...string) error {
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s: not a directory", path)
		}
		if err == nil {
			err = checkPrivate(path, info, 0o077)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MakeDirs makes directories with access for root only, those that don't exist. Each must be
// in the one before. It returns an error if one of them exists and others have access.
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
