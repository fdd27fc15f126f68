// SPDX-License-Identifier: Apache-2.0

// Package install puts the plugins into a node's CNI directory, and drop-ins into
// its /etc, such that whoever looks at any moment finds each file as it was or as
// it shall be: a runtime may start a plugin while it is replaced, and the process
// may be killed, or the disk be full, in between. It touches no other file there.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// File is a file that the node shall have.
type File struct {
	Path string // in a directory that is there
	Data []byte
	Mode fs.FileMode
}

// unfinished is where the file is written before it takes its name. It begins with
// '.', so that no configuration can name it as a plugin, and nobody reads it as
// one of a directory's *.conf.
func (f File) unfinished() string {
	return filepath.Join(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".multihome")
}

// there reports whether the node has the file as it shall be. A symbolic link is
// not the file, wherever it leads.
func (f File) there() bool {
	info, err := os.Lstat(f.Path)
	if err != nil || info.Mode() != f.Mode {
		return false
	}
	data, err := os.ReadFile(f.Path)
	return err == nil && bytes.Equal(data, f.Data)
}

// Files brings the files onto the node, and tells did of each in turn whether it
// was changed. A file that is there is left untouched. All others are on the disk
// before the first of them takes its name, so that what fails, fails before
// anything is changed.
func Files(files []File, did func(f File, changed bool)) (err error) {
	unlock, err := lock(files)
	if err != nil {
		return err
	}
	defer unlock()

	var changed []File
	defer func() {
		if err != nil {
			for _, f := range changed {
				_ = os.Remove(f.unfinished())
			}
		}
	}()
	for _, f := range files {
		if f.there() {
			continue
		}
		changed = append(changed, f)
		if err := f.write(); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	for _, f := range files {
		fresh := len(changed) > 0 && changed[0].Path == f.Path
		if fresh {
			if err := f.finish(); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			changed = changed[1:]
		}
		did(f, fresh)
	}
	return nil
}

// write puts the file onto the disk, under the name it has while unfinished.
func (f File) write() error {
	if info, err := os.Lstat(f.Path); err == nil && info.IsDir() {
		return syscall.EISDIR // which rename would only say when others are replaced
	}
	path := f.unfinished()
	_ = os.Remove(path) // of a process that was killed
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(f.Data); err != nil {
		return err
	}
	if err := w.Chmod(f.Mode); err != nil { // whatever the umask took of it
		return err
	}
	return w.Sync()
}

// finish gives the file its name, also on the disk.
func (f File) finish() error {
	if err := os.Rename(f.unfinished(), f.Path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lock keeps others who install into the same directories waiting, since the names
// of unfinished files are the same for all. Everybody takes them in one order, so
// that no two wait for each other. The kernel releases them when the process dies.
func lock(files []File) (unlock func(), err error) {
	var names []string
	for _, f := range files {
		names = append(names, filepath.Dir(f.Path))
	}
	slices.Sort(names)
	var dirs []*os.File
	unlock = func() {
		for _, d := range dirs {
			d.Close()
		}
	}
	for _, name := range slices.Compact(names) {
		d, err := os.Open(name)
		if err != nil {
			unlock()
			return nil, err
		}
		dirs = append(dirs, d)
		if err := flock(d); err != nil {
			unlock()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
	}
	return unlock, nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
