// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The test binary is the command when it finds this in its environment.
const asCommand = "MULTIHOME_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// multihomeLab is `multihome lab` with the plugins that `make build cni-plugins`
// puts into bin, in a process group and with a temporary directory of its own.
func multihomeLab(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, append([]string{"lab", "--cni-path", "../../bin,../../bin/cni"}, args...)...)
	c.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// nothingLeft fails if a process or a file outlives the command. Without a
// process there is no namespace, since none of them has a name.
func nothingLeft(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := syscall.Kill(-c.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of the lab are left: %v", err)
	}
	dir := c.Env[len(c.Env)-1][len("TMPDIR="):]
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("in the temporary directory: %v, %v", files, err)
	}
	if _, err := os.Stat("/var/lib/cni/networks/macvlan-ens192"); !os.IsNotExist(err) {
		t.Errorf("host-local's files are outside of the node: %v", err)
	}
}

func TestLabShowsAPod(t *testing.T) {
	c := multihomeLab(t)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`"type": "coordinator"`,
		"10.96.0.0/12 via 10.6.168.123 dev veth0",
		"lookup 100",
		"table 500",
		"by veth0: ",
		"20 of 20 hold.",
		"DEL succeeded",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	nothingLeft(t, c)
}

func TestLabFailsWithoutCoordinator(t *testing.T) {
	c := multihomeLab(t, "--without-coordinator")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if c.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "12 checks failed") {
		t.Errorf("got %v, %q, want 12 failed checks and exit status 1:\n%s", err, stderr.String(), out)
	}
	nothingLeft(t, c)
}

func TestLabReportsAMissingPlugin(t *testing.T) {
	c := multihomeLab(t)
	c.Args = []string{c.Args[0], "lab", "--cni-path", t.TempDir()}
	out, err := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), `failed to find plugin "macvlan"`) {
		t.Errorf("got %v, want a missing plugin and exit status 1:\n%s", err, out)
	}
	nothingLeft(t, c)
}

func TestLabLeavesNothingWhenItIsStopped(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			c := multihomeLab(t)
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			// The first line comes before the pods are made.
			r := bufio.NewReader(stdout)
			if _, err := r.ReadString('\n'); err != nil {
				t.Error(err)
			}
			if err := syscall.Kill(-c.Process.Pid, signal); err != nil {
				t.Error(err)
			}
			out, _ := io.ReadAll(r)
			if err := c.Wait(); err == nil || strings.Contains(string(out), "DEL succeeded") {
				t.Errorf("the lab went on to its end: %v", err)
			}
			nothingLeft(t, c)
		})
	}
}

// TestMistyped: what is no command is told with what was probably meant.
func TestMistyped(t *testing.T) {
	for args, want := range map[string]string{
		"lab vlan":         "lab: unknown command \"vlan\": did you mean `multihome lab up vlan`?",
		"lab host-macvlan": "did you mean `multihome lab up host-macvlan`?",
		"lab shel web":     "lab: unknown command \"shel\": did you mean `multihome lab shell`?",
		"lab dwon":         "did you mean `multihome lab down`?",
		"lab frobnicate":   `lab: unknown command "frobnicate"`,
		"lab up vlna":      `no scenario "vlna"`,
		"docter":           "doctor",
		"explian x":        "explain",
	} {
		if _, err := run(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
