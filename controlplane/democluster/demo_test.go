// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// demoCluster is `hack/demo-cluster` in a process group and with a directory for temporary
// files of its own.
func demoCluster(t *testing.T) (cmd *exec.Cmd, dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd = exec.Command("hack/demo-cluster")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, dir
}

// wantNothing wants no file in the directory, and no process that has it in its environment.
func wantNothing(t *testing.T, dir string) {
	t.Helper()
	before, err := look() // the shared paths are the machine's: the demo itself checks them
	if err != nil {
		t.Fatal(err)
	}
	if err := nothingLeft(before, dir); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // for the removal by the test
		t.Fatal(err)
	}
}

// TestDemo: the demo, which checks itself, comes to its end.
func TestDemo(t *testing.T) {
	cmd, dir := demoCluster(t)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "Nothing is left") {
		t.Errorf("%v\n%s", err, &out)
	}
	wantNothing(t, dir)
}

// TestInterrupted: a signal, as of Ctrl-C, ends the demo in its middle, and nothing of it is
// left. Which of three signals it is, is left to chance: a run takes minutes.
func TestInterrupted(t *testing.T) {
	signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}[rand.IntN(3)]
	t.Logf("the signal is %v", signal)
	cmd, dir := demoCluster(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	running := ""
	for !strings.Contains(running, "1/1     Running") {
		line, err := r.ReadString('\n')
		if running += line; err != nil {
			t.Fatalf("%v\n%s%s", err, running, &errs)
		}
	}
	to := -cmd.Process.Pid
	if signal == syscall.SIGKILL { // of the first process alone: the others see it
		to = cmd.Process.Pid
	}
	if err := syscall.Kill(to, signal); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(r) // until no process has it open
	if err := cmd.Wait(); err == nil || strings.Contains(string(rest), "Nothing is left") || strings.Contains(errs.String(), "left:") {
		t.Errorf("%v: %v\n%s%s", signal, err, rest, &errs)
	}
	if signal == syscall.SIGKILL { // who removes it is killed
		removeEmpty(t, dir)
	}
	wantNothing(t, dir)
}

// removeEmpty removes the empty directories in a directory.
func removeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Remove(dir + "/" + e.Name()); err != nil {
			t.Error(err)
		}
	}
}
