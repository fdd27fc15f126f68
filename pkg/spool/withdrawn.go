// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// PutWithdrawn notes that the agent withdrew a pod in this boot, and which object was its claim
// ("" for none).
func PutWithdrawn(f Files, uid, claim string) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	lines, err := f.Read(withdrawnFile(uid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.Write(withdrawnFile(uid), append(lines, uid+" "+claim+"\n"...))
}

// GetWithdrawn reports whether the agent withdrew a pod in this boot, and the claim that the
// pod had the last time.
func GetWithdrawn(f Files, uid string) (claim string, ok bool, err error) {
	if err := checkUID(uid); err != nil {
		return "", false, err
	}
	lines, err := f.Read(withdrawnFile(uid))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	for line := range strings.Lines(string(lines)) {
		if c, found := strings.CutPrefix(line, uid+" "); found {
			claim, ok = strings.TrimSuffix(c, "\n"), true
		}
	}
	return claim, ok, err
}

// withdrawnFile returns the file with the line of a pod. There are some hundred files: one for
// each pod would take a page of memory, and a node may have a million pods in a boot.
func withdrawnFile(uid string) string {
	return path.Join(withdrawnDir, uid[:min(2, len(uid))])
}
