// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// PutReady writes ready. The agent does so after it has emptied a spool of another boot.
func PutReady(f Files, r Ready) error { return put(f, readyFile, r) }

// PutPod writes what the plugin is to know about a pod.
func PutPod(f Files, p Pod) error {
	if err := checkUID(p.UID); err != nil {
		return err
	}
	return put(f, p.File(), p)
}

// GetReady returns who was ready. The error is fs.ErrNotExist if nobody was.
func GetReady(f Files) (Ready, error) {
	var r Ready
	err := get(f, readyFile, &r)
	return r, err
}

// Pods returns the pods that the plugin knows of. As with the other lists, the error names the
// files that can't be read, and comes together with the rest.
func Pods(f Files) ([]Pod, error) { return list[Pod](f, podsDir) }

// Wants returns the NICs that an ADD waits for, and those of ADDs that were killed.
func Wants(f Files) ([]Want, error) { return list[Want](f, wantsDir) }

// Sandboxes returns all sandboxes, those for which DEL was called too, each once. One whose
// ADD or DEL runs meanwhile may be among them or not, but a sandbox that was there before and
// is there after the call isn't missed. With an error, it isn't known of which pod the files
// are that the error names.
func Sandboxes(f Files) ([]Sandbox, error) {
	there, err := list[Sandbox](f, sandboxesDir)
	// This must be the second list: DEL writes to gone/ before it removes from sandboxes/.
	gone, goneErr := list[Sandbox](f, goneDir)
	called := map[string]bool{}
	for i := range gone {
		gone[i].Gone = true
		called[gone[i].File()] = true
	}
	all := gone
	for _, s := range there {
		if !called[s.File()] { // otherwise DEL was killed before it removed the file
			all = append(all, s)
		}
	}
	return all, errors.Join(err, goneErr)
}

// Forget removes the files of a sandbox. The agent does so when the namespace is gone, or when
// DEL was called and the namespace no longer has the addresses.
func Forget(f Files, s Sandbox) error {
	if err := f.Remove(s.File()); err != nil {
		return err
	}
	return f.Remove(s.GoneFile())
}

// entry is what a file of a directory holds. Its file has a name that follows from its contents.
type entry interface{ File() string }

// list returns the entries of a directory, and an error that names the files that are none.
func list[T entry](f Files, dir string) ([]T, error) {
	names, err := f.List(dir)
	if err != nil {
		return nil, err
	}
	var out []T
	var errs []error
	for _, name := range names {
		var e T
		err := get(f, path.Join(dir, name), &e)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			errs = append(errs, err)
		case path.Base(e.File()) != name:
			errs = append(errs, fmt.Errorf("%s: its contents belong into %s", path.Join(dir, name), path.Base(e.File())))
		default:
			out = append(out, e)
		}
	}
	return out, errors.Join(errs...)
}
