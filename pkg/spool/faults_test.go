// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// errRefused is the error of an operation that the kernel refuses.
var errRefused = errors.New("input/output error")

// refusing is a spool on a disk whose n-th operation is refused, or, with dead, all from the
// n-th one: the process was killed there. It counts down n.
func refusing(f Files, n *int, dead bool) Files {
	return stepped{Files: f, done: func(string) {}, step: func(string, string) error {
		if *n--; *n == 0 || dead && *n < 0 {
			return errRefused
		}
		return nil
	}}
}

// files returns the names of all files in the directories of a spool.
func files(t *testing.T, f Files, dirs ...string) (all []string) {
	t.Helper()
	for _, dir := range dirs {
		names, err := f.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			all = append(all, dir+"/"+n)
		}
	}
	return all
}

// TestFaults refuses each operation of each verb once, and kills each verb at each. ADD does
// all or nothing; DEL loses nothing; another ADD gets the same addresses.
func TestFaults(t *testing.T) {
	lan := nic("eth0", "lan", "10.6.0.5/16", "fd00:6::5/64")
	c := call("c1", "a")
	for name, verb := range map[string]struct {
		before bool // ADD was called before
		waits  bool
		run    func(f Files, arrive func() error) error
		adds   bool
	}{
		"ADD": {adds: true, run: func(f Files, _ func() error) error {
			_, err := Add(f, c, never)
			return err
		}},
		"ADD that waits": {adds: true, waits: true, run: func(f Files, arrive func() error) error {
			_, err := Add(f, c, arrive)
			return err
		}},
		"DEL":        {before: true, run: func(f Files, _ func() error) error { return Del(f, "c1", "eth0") }},
		"GC":         {before: true, run: func(f Files, _ func() error) error { return GC(f, "lan", nil) }},
		"second ADD": {before: true, adds: true, run: func(f Files, _ func() error) error { _, err := Add(f, call("c1", "b"), never); return err }},
	} {
		for _, dead := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				refused := 0
				for n := 1; ; n++ {
					f := spoolDir(t)
					ready(t, f)
					if verb.before {
						put1(t, f, web(lan))
						if _, err := Add(f, c, never); err != nil {
							t.Fatal(err)
						}
					}
					if !verb.waits {
						put1(t, f, web(lan))
					}
					before := files(t, f, "sandboxes", "wants")
					left := n
					err := verb.run(refusing(f, &left, dead), func() error { put1(t, f, web(lan)); return nil })
					if left > 0 {
						if err != nil {
							t.Errorf("%v, though no operation was refused", err)
						}
						break // the verb is over before
					}
					refused++
					if err == nil {
						t.Errorf("operation %d was refused, and %s succeeds", n, name)
					}
					after := files(t, f, "sandboxes", "wants")
					switch {
					case verb.adds && !dead && !slices.Equal(before, after):
						t.Errorf("operation %d was refused: %v, want %v as before", n, after, before)
					case !verb.adds && !slices.Contains(files(t, f, "sandboxes"), "sandboxes/c1:eth0:a") && !slices.Contains(files(t, f, "gone"), "gone/c1:eth0:a"):
						t.Errorf("operation %d was refused: the sandbox is lost", n)
					}
					put1(t, f, web(lan))
					if got, err := Add(f, call("c1", "c"), never); err != nil || !cmp.Equal(got, lan, comparable) {
						t.Errorf("another ADD after operation %d: %v, %v", n, got, err)
					}
					if err := Del(f, "c1", "eth0"); err != nil {
						t.Error(err)
					}
					if got := files(t, f, "sandboxes", "wants"); len(got) > 0 {
						t.Errorf("DEL leaves %v", got)
					}
					if got := files(t, f, "gone"); !slices.Contains(got, "gone/c1:eth0:c") || verb.before && !slices.Contains(got, "gone/c1:eth0:a") {
						t.Errorf("gone after DEL: %v", got)
					}
				}
				if refused < 4 {
					t.Errorf("only %d operations were refused", refused)
				}
			})
		}
	}
}
