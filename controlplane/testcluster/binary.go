// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// WithBinary builds the command of the tests' package, runs the tests, and ends the process.
// binary is the path of the command while they run.
func WithBinary(m *testing.M, binary *string) {
	dir, err := os.MkdirTemp("", "multihome-command")
	if err == nil {
		*binary = filepath.Join(dir, "command")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", *binary, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}
