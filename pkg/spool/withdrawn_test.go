// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWithdrawn(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := MakeDir(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, put := range [][2]string{{"abc", ""}, {"abd", "claim"}, {"ab", "first"}, {"ab", "second"}, {"x", "claim"}} {
		if err := PutWithdrawn(f, put[0], put[1]); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[string]string{"abc": "true ", "abd": "true claim", "ab": "true second", "x": "true claim", "abcd": "false ", "y": "false "} {
		claim, ok, err := GetWithdrawn(f, uid)
		got := "false " + claim
		if ok {
			got = "true " + claim
		}
		if got != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", uid, got, err, want)
		}
	}
	if _, _, err := GetWithdrawn(f, "../ready"); err == nil {
		t.Error("no error for ../ready")
	}
}
