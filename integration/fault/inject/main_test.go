// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInject strikes one of two children of a shell, which is told by the file
// that each opens.
func TestInject(t *testing.T) {
	dir := t.TempDir()
	inject, list := filepath.Join(dir, "inject"), filepath.Join(dir, "list")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", inject, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(flags ...string) (out string, code int, calls []string) {
		t.Helper()
		argv := slices.Concat([]string{"-list", list}, flags, []string{"sh", "-c", "cd " + dir + "; cat a; cat b; true"})
		stdout, err := exec.Command(inject, argv...).Output()
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			code = e.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		return string(stdout), code, strings.Split(strings.TrimSpace(string(text)), "\n")
	}

	out, code, calls := run()
	b := 1 + slices.IndexFunc(calls, func(line string) bool { return strings.HasSuffix(line, " openat b by cat") })
	if out != "ab" || code != 0 || b < 2 {
		t.Fatalf("untouched: %q, exit status %d, calls:\n%s", out, code, strings.Join(calls, "\n"))
	}
	out, code, calls = run("-fail", fmt.Sprintf("%d=EPERM", b))
	if want := fmt.Sprintf("%d openat b by cat: EPERM", b); out != "a" || code != 0 || calls[b-1] != want {
		t.Errorf("failing: %q, exit status %d, call %q, want %q", out, code, calls[b-1], want)
	}
	out, code, calls = run("-kill", fmt.Sprint(b))
	if want := fmt.Sprintf("%d openat b by cat: killed", b); out != "a" || code != 137 || calls[len(calls)-1] != want {
		t.Errorf("killing: %q, exit status %d, last call %q, want %q", out, code, calls[len(calls)-1], want)
	}
	if _, code, _ := run("-fail", "1=ENOSUCH"); code != status {
		t.Errorf("an error that there is not: exit status %d", code)
	}
}
