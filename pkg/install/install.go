// SPDX-License-Identifier: Apache-2.0

// Package install writes the plugins into a node's CNI directory, and drop-ins into its
// /etc. It replaces each file atomically: at any moment the old file or the new one is
// there, as a whole. So a runtime can start a plugin while it is replaced, and a full
// disk or a killed process does no harm. For example:
//
//	plugins, err := install.Plugins("bin", "/opt/cni/bin")
//	...
//	err = install.Files(plugins, func(f install.File, changed bool) { fmt.Println(f.Path, changed) })
//
// Beware: the directories of the files must exist, except those of drop-ins, which
// [DropIns] makes. Files that are no longer wanted are not removed: no other file is
// touched. [Remove] removes the plugins.
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

// File is a file to be installed.
type File struct {
	Path string // in an existing directory
	Data []byte
	Mode fs.FileMode
	// Yields is set for a program whose name others use, too: it doesn't replace theirs.
	Yields bool
	// Other says what is at Path instead, if the file yielded. [Files] sets it.
	Other string
}

// unfinished returns the path of the file while it is written. Its name begins with '.',
// so that no configuration can name it as a plugin, and no program reads it as one of a
// directory's *.conf.
func (f File) unfinished() string {
	return filepath.Join(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".multihome")
}

// installed reports whether the node has the file with this mode and content. A
// symbolic link does not count.
func (f File) installed() bool {
	info, err := os.Lstat(f.Path)
	if err != nil || info.Mode() != f.Mode {
		return false
	}
	data, err := os.ReadFile(f.Path)
	return err == nil && bytes.Equal(data, f.Data)
}

// Files installs the files. It calls did for each of them in turn and tells whether it
// changed the file, or what it yielded to. It leaves a file with the right content untouched. It writes all
// others to the disk before it renames the first of them, so that nearly all errors come
// before any change.
func Files(files []File, did func(f File, changed bool)) (err error) {
	files = slices.Clone(files)
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
	for i, f := range files {
		if f.Yields {
			if f.Other, err = Other(f.Path); err != nil {
				return err
			}
			files[i] = f
		}
		if f.Other != "" || f.installed() {
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

// write writes the file to the disk, under its unfinished name.
func (f File) write() error {
	if info, err := os.Lstat(f.Path); err == nil && info.IsDir() {
		return syscall.EISDIR // rename would find that too late, after other files changed
	}
	path := f.unfinished()
	_ = os.Remove(path) // a killed process may have left it
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(f.Data); err != nil {
		return err
	}
	if err := w.Chmod(f.Mode); err != nil { // OpenFile applied the umask
		return err
	}
	return w.Sync()
}

// finish renames the file to its final name, and writes the directory to the disk.
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

// lock locks the directories of the files: processes that install into the same one use
// the same unfinished names, so they must wait for each other. All processes lock in
// sorted order, which prevents deadlocks. The kernel unlocks when a process dies.
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
