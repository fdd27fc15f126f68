// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sharedPaths are where plugins, agents and runtimes keep their files on a node. The demo's
// nodes have their own.
var sharedPaths = []string{"/run/multihome", "/var/lib/cni", "/etc/cni", "/run/netns"}

// look returns what is in the shared paths.
func look() ([]string, error) {
	var found []string
	for _, path := range sharedPaths {
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // it isn't there, or is just removed
				return nil
			}
			found = append(found, path)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// nothingLeft removes the demo's directory for temporary files, and returns an error that
// names each process, mount and file of the demo. Its namespaces have no name outside of it,
// so none is left without a process.
func nothingLeft(before []string, dir string) error {
	var left []error
	after, err := look()
	if err != nil {
		return err
	}
	for _, path := range after {
		if !slices.Contains(before, path) {
			left = append(left, fmt.Errorf("left: file %s", path))
		}
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, path := range environments {
		environment, _ := os.ReadFile(path) // fails where the process has ended
		commandLine, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if bytes.Contains(environment, []byte(dir)) || bytes.Contains(commandLine, []byte(dir)) {
			left = append(left, fmt.Errorf("left: process %s", strings.ReplaceAll(string(commandLine), "\x00", " ")))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if bytes.Contains(mounts, []byte(dir)) {
		left = append(left, fmt.Errorf("left: a mount in %s", dir))
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		left = append(left, fmt.Errorf("left: file %s", filepath.Join(dir, f.Name())))
	}
	if len(left) == 0 {
		return os.Remove(dir)
	}
	return errors.Join(left...)
}
