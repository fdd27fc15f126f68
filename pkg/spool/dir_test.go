// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDirectory(t *testing.T) {
	f := spoolDir(t)
	if err := errors.Join(f.Write("pods/b", []byte("1")), f.Write("pods/a", nil), f.Write("pods/b", []byte("2"))); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Read("pods/b"); err != nil || string(got) != "2" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := f.List("pods"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v, %v", got, err)
	}
	if err := errors.Join(f.Remove("pods/b"), f.Remove("pods/b")); err != nil {
		t.Error(err)
	}
	if _, err := f.Read("pods/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that it doesn't exist", err)
	}
	info, err := os.Lstat(filepath.Join(f.path, "pods/a"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v, want root's alone", info, err)
	}
	if err := f.Write("nowhere/a", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that there is no directory", err)
	}
}

// A spool that others than root can change isn't one.
func TestUntrusted(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"mode":         func(dir string) error { return os.Chmod(dir, 0o755) },
		"mode below":   func(dir string) error { return os.Chmod(filepath.Join(dir, "pods"), 0o770) },
		"owner":        func(dir string) error { return os.Chown(dir, 65534, 65534) },
		"a link":       func(dir string) error { return errors.Join(os.Rename(dir, dir+"x"), os.Symlink(dir+"x", dir)) },
		"a link below": func(dir string) error { return errors.Join(os.Remove(dir+"/gone"), os.Symlink("pods", dir+"/gone")) },
		"a file": func(dir string) error {
			return errors.Join(os.Remove(dir+"/gone"), os.WriteFile(dir+"/gone", nil, 0o600))
		},
	} {
		dir := spoolDir(t).path
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		for verb, open := range map[string]func(string) (*Directory, error){"open": OpenDir, "make": MakeDir} {
			if _, err := open(dir); err == nil || !strings.HasPrefix(err.Error(), "spool: "+dir) {
				t.Errorf("%s, %s: %v", name, verb, err)
			}
		}
	}
	for name, plant := range map[string]func(path string) error{
		"a link":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"mode":     func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644)) },
		"a dir":    func(path string) error { return os.Mkdir(path, 0o700) },
		"too long": func(path string) error { return os.WriteFile(path, make([]byte, 1<<20+1), 0o600) },
	} {
		f := spoolDir(t)
		if err := plant(filepath.Join(f.path, "pods/u1")); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read("pods/u1"); err == nil || !strings.Contains(err.Error(), "pods/u1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a writer leaves that is killed in between is no file of the spool, and Sweep removes
// it unless it is new.
func TestSweep(t *testing.T) {
	f := spoolDir(t)
	old, fresh := filepath.Join(f.path, "gone", unfinished+"1"), filepath.Join(f.path, unfinished+"2")
	now := time.Now()
	err := errors.Join(os.WriteFile(old, nil, 0o600), os.WriteFile(fresh, nil, 0o600), os.Chtimes(old, now, now.Add(-time.Hour)),
		f.Write("gone/a", nil), os.Chtimes(filepath.Join(f.path, "gone/a"), now, now.Add(-time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	if got := files(t, f, "gone", "."); !slices.Contains(got, "gone/a") || slices.ContainsFunc(got, func(n string) bool { return strings.Contains(n, "/.") }) {
		t.Errorf("%v, want the whole files alone", got)
	}
	if err := f.Sweep(now.Add(-time.Minute)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(old); !os.IsNotExist(err) {
		t.Errorf("%v: the old one stays", err)
	}
	if _, err := os.Lstat(fresh); err != nil {
		t.Errorf("%v: the new one is gone", err)
	}
	if got := files(t, f, "gone"); !slices.Equal(got, []string{"gone/a"}) {
		t.Errorf("%v, want the whole file", got)
	}
}

// Readers see a file that is written again and again as a whole, and always.
func TestWhole(t *testing.T) {
	f := spoolDir(t)
	texts := []string{strings.Repeat("a", 9000), strings.Repeat("b", 5000)}
	if err := f.Write("pods/u1", []byte(texts[0])); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, text := range texts {
		wg.Go(func() {
			for range 300 {
				if err := f.Write("pods/u1", []byte(text)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 1000 {
		if got, err := f.Read("pods/u1"); err != nil || !slices.Contains(texts, string(got)) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	wg.Wait()
}

// Processes that wait share the slots; who has none looks less often, and time ends for all.
func TestWaiter(t *testing.T) {
	f := spoolDir(t)
	var all []*Waiter
	for range slots + 2 {
		w := f.Waiter(time.Now(), time.Hour)
		defer w.Close()
		if err := w.Wait(); err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	with := func() (n int) {
		for _, w := range all {
			if w.slot != nil {
				n++
			}
		}
		return n
	}
	if with() != slots {
		t.Errorf("%d have a slot, want %d", with(), slots)
	}
	all[0].Close()
	all[0].slot = nil
	if err := all[slots].Wait(); err != nil || all[slots].slot == nil {
		t.Errorf("%v, want the slot that was given back", err)
	}
	if err := f.Waiter(time.Now().Add(-6*time.Second), 5*time.Second).Wait(); err == nil || !strings.Contains(err.Error(), "within 5s") {
		t.Errorf("%v, want that the time is over", err)
	}
}

func TestAgentsLists(t *testing.T) {
	f := spoolDir(t)
	good := web(nic("eth0", "lan", "10.6.0.5/16"))
	put1(t, f, good)
	if err := errors.Join(f.Write("pods/bad", []byte("{")), f.Write("pods/other", []byte(`{"UID": "u9"}`))); err != nil {
		t.Fatal(err)
	}
	pods, err := Pods(f)
	if len(pods) != 1 || pods[0].UID != "u1" {
		t.Errorf("%v, want the good one", pods)
	}
	if err == nil || !strings.Contains(err.Error(), "pods/bad") || !strings.Contains(err.Error(), "pods/other: its contents belong into u9") {
		t.Errorf("%v, want both bad ones", err)
	}
}
