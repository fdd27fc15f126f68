// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multihome/multihome/pkg/catalog"
)

// mark is in each of our plugins: Go's linker writes the path of the main package into a binary
// (runtime/debug.BuildInfo), also into a stripped one.
var mark = []byte("path\tgithub.com/multihome/multihome/plugins/")

// Other says what the program at path is, if there is one and it isn't a plugin of ours.
func Other(path string) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // we install nothing else
		return info.Mode().String(), nil
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, mark) {
		return "", err
	}
	if build, err := buildinfo.Read(bytes.NewReader(data)); err == nil {
		return "the Go program " + build.Path, nil
	}
	return fmt.Sprintf("a file of %d bytes that isn't a plugin of ours", len(data)), nil
}

// Remove removes the plugins from a node's CNI directory, and nothing that isn't ours. It calls
// did for each file that is there: what it is if it stays, "" if it was removed.
func Remove(dir string, did func(path, other string)) error {
	var files []File
	for _, name := range catalog.Binaries() {
		files = append(files, File{Path: filepath.Join(dir, name)})
	}
	unlock, err := lock(files)
	if err != nil {
		return err
	}
	defer unlock()
	for _, f := range files {
		if err := os.Remove(f.unfinished()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed process
			return err
		}
		what, err := Other(f.Path)
		if err != nil {
			return err
		}
		if what == "" {
			if err := os.Remove(f.Path); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
		}
		did(f.Path, what)
	}
	return nil
}
