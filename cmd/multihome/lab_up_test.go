// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// host is the machine that labs are kept up on, with a /run of its own, so that one
// that is up elsewhere is not in the way.
type host struct {
	*testbed.Machine
	t    *testing.T
	mark string // in the environment of all that is run there
}

func newHost(t *testing.T) *host {
	t.Helper()
	m, err := testbed.NewMachine("host")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{m, t, "MULTIHOME_TEST_MARK=" + t.TempDir()}
	t.Cleanup(func() {
		for _, pid := range h.processes() { // of a test that failed
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		}
		m.Close()
	})
	return h
}

// command is `multihome` as it is run there.
func (h *host) command(args ...string) *exec.Cmd {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asCommand+"=1", h.mark)
	return c
}

// up is `multihome lab up` with the plugins that `make build cni-plugins` built.
func (h *host) up(scenario string) *exec.Cmd {
	h.t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		h.t.Fatal(err)
	}
	return h.command("lab", "up", scenario, "--cni-path", bin+","+filepath.Join(bin, "cni"))
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int
}

func (h *host) run(c *exec.Cmd) outcome {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := h.Run(c.Run)
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		h.t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// multihome runs the command, which must succeed, and returns what it prints.
func (h *host) multihome(args ...string) string {
	h.t.Helper()
	return h.fine(h.command(args...))
}

func (h *host) fine(c *exec.Cmd) string {
	h.t.Helper()
	out := h.run(c)
	if out.code != 0 {
		h.t.Fatalf("%v: exit status %d: %s%s", c.Args, out.code, out.stdout, out.stderr)
	}
	return out.stdout
}

// refused runs a command that must fail with these words.
func (h *host) refused(c *exec.Cmd, want string) {
	h.t.Helper()
	if out := h.run(c); out.code != 1 || !strings.Contains(out.stderr, want) || out.stdout != "" {
		h.t.Errorf("%v: exit status %d, %s%s, want 1 and %q", c.Args, out.code, out.stdout, out.stderr, want)
	}
}

// empty fails if the machine holds anything, or a process of it runs.
func (h *host) empty() {
	h.t.Helper()
	var files []string
	err := h.Run(func() (err error) {
		for _, dir := range []string{"/run/*", "/var/lib/cni/*"} {
			found, err := filepath.Glob(dir)
			if err != nil {
				return err
			}
			files = append(files, found...)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if len(files) > 0 {
		h.t.Errorf("left over: %v", files)
	}
	for range 12_000 { // a plugin of a lab that was killed goes to its end
		if len(h.processes()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Errorf("processes are left: %v", h.processes())
}

// processes are those that were run on the machine.
func (h *host) processes() (found []int) {
	h.t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte(h.mark)) {
			continue // ended, or another's
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			h.t.Fatal(err)
		}
		found = append(found, pid)
	}
	return found
}

var (
	tries  = regexp.MustCompile(`(?m)^  multihome (lab shell (\S+) -- (.*))$`)
	answer = regexp.MustCompile(`^(web|node), at \S+:8080, was asked by \S+\n$`)
)

// TestLabUp keeps up each scenario that this kernel can, and tries all that `up` says
// one can try.
func TestLabUp(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		t.Run(scenario.Name, func(t *testing.T) {
			h := newHost(t)
			if missing := scenario.Possible(); missing != nil {
				h.refused(h.up(scenario.Name), missing.Error())
				h.empty()
				return
			}
			said := h.fine(h.up(scenario.Name))
			if !strings.HasPrefix(said, "Scenario "+scenario.Name+" is up: "+scenario.About) || !strings.Contains(said, "\n  multihome lab down\n") {
				t.Errorf("up says\n%s", said)
			}
			try := tries.FindAllStringSubmatch(said, -1)
			if len(try) < 3 {
				t.Errorf("there is little to try:\n%s", said)
			}
			for _, m := range try {
				out := h.multihome(strings.Fields(m[1])...)
				if strings.HasPrefix(m[3], "curl") && !answer.MatchString(out) || out == "" && !strings.Contains(m[3], " set ") {
					t.Errorf("%s: %q", m[1], out)
				}
			}
			h.multihome("lab", "down")
			h.empty()
		})
	}
}

// TestLabShell looks into a lab from all sides.
func TestLabShell(t *testing.T) {
	h := newHost(t)
	h.refused(h.command("lab", "shell", "web"), "no lab is up: `multihome lab up` builds one")
	h.fine(h.up("underlay"))
	h.refused(h.up("overlay"), "scenario underlay is up: `multihome lab down` removes it")
	h.refused(h.command("lab", "shell", "db"), `"db" is none of app, client, node, outside, router, switch-ens192, web`)
	for name, addr := range map[string]string{
		"node": "10.6.168.123", "web": "10.6.168.171", "app": "10.6.168.172", "router": "10.6.0.1", "client": "10.6.0.50", "outside": "192.0.2.10",
	} {
		got := h.multihome("lab", "shell", name, "sh", "-c", "hostname; ip -4 -o addr")
		if !strings.HasPrefix(got, name+"\n") || !strings.Contains(got, " "+addr+"/") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if out := h.run(h.command("lab", "shell", "web", "--", "sh", "-c", "exit 7")); out.code != 7 {
		t.Errorf("exit status %d, want the command's", out.code)
	}
	shell := h.command("lab", "shell", "app")
	shell.Env = append(shell.Env, "SHELL=/bin/sh")
	shell.Stdin = strings.NewReader("hostname\n")
	if got := h.fine(shell); got != "app\n" {
		t.Errorf("in a shell: %q", got)
	}

	// The node knows its pods as a real one does.
	if got := h.multihome("lab", "shell", "node", "--", "ls", "/run/netns"); got != "app\nweb\n" {
		t.Errorf("names of namespaces: %q", got)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h.multihome("lab", "shell", "web", "--", "ip", "rule", "flush")
	if got := h.multihome("lab", "shell", "node", "--", self, "repair", "--dry-run"); !strings.Contains(got, "fwmark") {
		t.Errorf("repair on the node finds no pod: %s", got)
	}

	if got := h.multihome("__complete", "lab", "shell", ""); !strings.HasPrefix(got, "app\nclient\nnode\noutside\nrouter\nswitch-ens192\nweb\n:") {
		t.Errorf("completion of a name: %s", got)
	}
	if got := h.multihome("__complete", "lab", "up", ""); !strings.HasPrefix(got, "underlay\tpods ") {
		t.Errorf("completion of a scenario: %s", got)
	}

	// Whoever still works in it is ended with it.
	sleeper := h.command("lab", "shell", "web", "--", "sleep", "1000")
	if err := h.Run(sleeper.Start); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(h.multihome("lab", "shell", "node", "--", "ps", "ax"), "sleep 1000") {
		time.Sleep(10 * time.Millisecond)
	}
	h.multihome("lab", "down")
	if err := sleeper.Wait(); err == nil {
		t.Error("a command in the lab went on")
	}
	h.empty()
	h.multihome("lab", "down")
}

// TestLabUpAtOnce: one of several goes up, and the others name it.
func TestLabUpAtOnce(t *testing.T) {
	h := newHost(t)
	outcomes := make([]outcome, 6)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() { outcomes[i] = h.run(h.up("underlay")) })
	}
	wg.Wait()
	up := 0
	for _, out := range outcomes {
		if out.code == 0 {
			up++
		} else if want := "scenario underlay is up: `multihome lab down` removes it"; !strings.Contains(out.stderr, want) {
			t.Errorf("exit status %d: %s, want %q", out.code, out.stderr, want)
		}
	}
	if up != 1 {
		t.Errorf("%d of them went up, want one", up)
	}
	h.multihome("lab", "shell", "app", "--", "curl", "-s", "http://[fd00:10:96::10]")
	h.multihome("lab", "down")
	h.empty()
}

// TestLabDownAfterKill kills `up` at many moments; `down` leaves nothing, and the
// next one goes up.
func TestLabDownAfterKill(t *testing.T) {
	h := newHost(t)
	start := time.Now()
	h.fine(h.up("underlay"))
	took := time.Since(start)
	h.multihome("lab", "down")
	const moments = 16
	for i := range moments {
		c := h.up("underlay")
		if err := h.Run(c.Start); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i) / moments)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait() //nolint:errcheck // it was killed
		h.multihome("lab", "down")
		h.empty()
	}
	h.fine(h.up("underlay"))
	h.multihome("lab", "down")
}

// TestLabWithoutServer: the lab ends with its server.
func TestLabWithoutServer(t *testing.T) {
	h := newHost(t)
	h.fine(h.up("underlay"))
	server := h.processes()
	if len(server) != 1 {
		t.Fatalf("processes of the lab: %v, want one", server)
	}
	if err := syscall.Kill(server[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server[0]))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break // with all files closed
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.refused(h.command("lab", "shell", "web"), "no lab is up")
	h.fine(h.up("overlay"))
	h.multihome("lab", "down")
	h.empty()
}

// TestLabUpThatFails leaves nothing to be removed.
func TestLabUpThatFails(t *testing.T) {
	h := newHost(t)
	h.refused(h.command("lab", "up", "mesh"), `no scenario "mesh"`)
	h.refused(h.command("lab", "up", "--cni-path", t.TempDir()), `failed to find plugin "macvlan"`)
	h.empty()
	c := h.up("underlay")
	if err := h.Run(c.Start); err != nil {
		t.Fatal(err)
	}
	for there := false; !there; { // the lab is being built
		h.Run(func() error { _, err := os.Stat("/run/multihome-lab"); there = err == nil; return nil }) //nolint:errcheck // it has none
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		h.multihome("lab", "down") // it was quick
	}
	h.empty()
}

// TestLabNeedsRoot says so before anything else.
func TestLabNeedsRoot(t *testing.T) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "multihome")
	if err := errors.Join(os.WriteFile(binary, self, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"", "up", "shell web", "down"} {
		c := exec.Command(binary, strings.Fields("lab "+args)...)
		c.Env = append(os.Environ(), asCommand+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := c.CombinedOutput()
		if d := cmp.Diff("multihome: lab: needs root, to make network namespaces\n", string(out)); d != "" || err == nil {
			t.Errorf("lab %s: %v (-want +got):\n%s", args, err, d)
		}
	}
}
