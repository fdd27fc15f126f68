// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingLeft: each thing that is left is named. If nothing is, the directory goes.
func TestNothingLeft(t *testing.T) {
	before, err := look()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, dir string)
		want  string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a file", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "left: file DIR/log"},
		{"a process", func(t *testing.T, dir string) {
			cmd := exec.Command("sleep", "3600")
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
		}, "left: process sleep 3600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "demo-cluster")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.leave(t, dir)
			err := nothingLeft(before, dir)
			if c.want == "" {
				if _, gone := os.Stat(dir); err != nil || !os.IsNotExist(gone) {
					t.Errorf("got %v, want nothing, and the directory removed", err)
				}
				return
			}
			if want := strings.ReplaceAll(c.want, "DIR", dir); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	// What was there before isn't the demo's.
	if len(before) > 0 {
		if err := nothingLeft(nil, t.TempDir()); err == nil || !strings.Contains(err.Error(), "left: file "+before[0]) {
			t.Errorf("got %v, want the file %s", err, before[0])
		}
	}
}
