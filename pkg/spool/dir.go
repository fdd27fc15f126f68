// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multihome/multihome/pkg/records"
)

// bootIDFile has the ID of the running boot (drivers/char/random.c in the kernel).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID returns the ID of the running boot.
func BootID() (string, error) {
	id, err := os.ReadFile(bootIDFile)
	return strings.TrimSpace(string(id)), err
}

// NewCall returns a random name for a call of ADD.
func NewCall() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// unfinished begins the names of files that are being written. No other file has such a name:
// neither container IDs nor UIDs begin with '.'.
const unfinished = "."

// Directory is a spool on this machine. All its directories and files belong to root, without
// access for others, and none is a symbolic link.
type Directory struct{ path string }

// OpenDir opens the spool in a directory. It makes none: if there is none, the spool is empty
// and nothing can be written.
func OpenDir(path string) (*Directory, error) {
	if err := records.CheckPrivate(directories(path)...); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &Directory{path}, nil
}

// Lock returns the path of the file by which the agents of a node take turns. It is beside the
// spool, which may be deleted while an agent runs. Package records knows that both are no records.
func Lock(dir string) string { return filepath.Clean(dir) + ".lock" }

// MakeDir makes the directories that are missing, for the agent, and opens the spool.
func MakeDir(path string) (*Directory, error) {
	if err := records.MakeDirs(append([]string{filepath.Dir(path)}, directories(path)...)...); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &Directory{path}, nil
}

func directories(path string) []string {
	all := []string{path}
	for _, dir := range Dirs() {
		all = append(all, filepath.Join(path, dir))
	}
	return all
}

// Read returns the contents of a file.
func (d *Directory) Read(name string) ([]byte, error) {
	data, err := records.ReadPrivate(filepath.Join(d.path, name))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return data, nil
}

// Write makes a file with these contents, or replaces one.
func (d *Directory) Write(name string, contents []byte) error {
	path := filepath.Join(d.path, name)
	// The name is random, because two processes may write the same file at the same time.
	beside := filepath.Join(filepath.Dir(path), unfinished+NewCall())
	if err := records.WritePrivate(path, beside, contents); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Remove removes a file. It returns nil if there is none.
func (d *Directory) Remove(name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// List returns the names in a directory, sorted.
func (d *Directory) List(dir string) ([]string, error) {
	// Readdirnames is quicker than os.ReadDir, which makes an object of each entry.
	f, err := os.Open(filepath.Join(d.path, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, unfinished) })
	slices.Sort(names)
	return names, nil
}

// Sweep removes the files of writers that were killed before they had written them. Files
// that were changed at the time before, or later, stay: somebody may be writing them.
func (d *Directory) Sweep(before time.Time) error {
	var errs []error
	for _, dir := range directories(d.path) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			if !strings.HasPrefix(e.Name(), unfinished) || err != nil || !info.ModTime().Before(before) {
				continue // err is that the file is gone
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
