// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/install"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// plugins are names of plugins, and of what a node may have in their place.
var plugins = catalog.Binaries()

// mark is in each plugin of ours: the path of its main package.
const mark = "path\tgithub.com/multihome/multihome/plugins/spiderpool\n"

// older and newer are the texts of a plugin before and after. They are large
// enough to be cut.
var (
	older = append(bytes.Repeat([]byte("older\n"), 10_000), mark...)
	newer = append(bytes.Repeat([]byte("newer\n"), 10_000), mark...)
)

// fill writes each plugin into a directory, and returns it.
func fill(t *testing.T, dir string, text []byte) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range plugins {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// multihomeInstall is `multihome install` by way of another program.
func multihomeInstall(t *testing.T, by []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := append(append(by, self, "install"), args...)
	c := exec.Command(all[0], all[1:]...)
	c.Env = append(os.Environ(), asCommand+"=1")
	return c
}

// TestInstallKilled kills it at each third of the system calls by which it writes, from a
// random one of the first three. Whenever that is, a plugin is the older or the newer one; and
// the next run makes all new, and leaves nothing else.
func TestInstallKilled(t *testing.T) {
	from := fill(t, filepath.Join(t.TempDir(), "from"), newer)
	for _, call := range []string{"openat", "write", "fchmod", "fsync", "unlinkat", "renameat"} {
		t.Run(call, func(t *testing.T) {
			killed := 0
			for n := 1 + rand.IntN(3); ; n += 3 {
				to := fill(t, filepath.Join(t.TempDir(), "to"), older)
				by := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-P", to}
				for _, name := range plugins {
					by = append(by, "-P", filepath.Join(to, name), "-P", filepath.Join(to, "."+name+".multihome"))
				}
				by = append(by, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
				out, err := multihomeInstall(t, by, "--from", from, "--to", to).CombinedOutput()
				if err == nil {
					break
				}
				killed++
				if e := new(exec.ExitError); !errors.As(err, &e) || len(out) > 0 && bytes.Contains(out, []byte("install:")) {
					t.Fatalf("%v: %s", err, out)
				}
				for _, name := range plugins {
					got, err := os.ReadFile(filepath.Join(to, name))
					if err != nil || !bytes.Equal(got, older) && !bytes.Equal(got, newer) {
						t.Errorf("killed at %s %d: %s is neither the older nor the newer one (%v)", call, n, name, err)
					}
				}
				if out, err := multihomeInstall(t, nil, "--from", from, "--to", to).CombinedOutput(); err != nil {
					t.Fatalf("the next run: %v: %s", err, out)
				}
				allNew(t, to)
			}
			if killed == 0 {
				t.Error("it was never killed")
			}
		})
	}
}

// allNew wants the newer plugins in a directory, and nothing else.
func allNew(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(plugins) {
		t.Errorf("%v, %v, want the plugins alone", entries, err)
	}
	for _, e := range entries {
		if got, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil || !bytes.Equal(got, newer) {
			t.Errorf("%s is not the newer one (%v)", e.Name(), err)
		}
	}
}

// TestInstallCannotWrite installs into file systems, mounted in a namespace of
// their own, on which it must fail. What was there is there afterwards, and nothing
// else.
func TestInstallCannotWrite(t *testing.T) {
	from := fill(t, filepath.Join(t.TempDir(), "from"), newer)
	for name, test := range map[string]struct{ mount, want string }{
		"full":      {"mount -t tmpfs -o size=600k tmpfs $to && cp $old/* $to", "no space left on device"},
		"read-only": {"mount -t tmpfs tmpfs $to && cp $old/* $to && mount -o remount,ro $to", "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			old := fill(t, filepath.Join(t.TempDir(), "old"), older)
			to := t.TempDir()
			script := "old=" + old + " to=" + to + "\n" + test.mount + ` && ! "$@" && diff -r $old $to && echo as it was`
			c := multihomeInstall(t, []string{"unshare", "-m", "sh", "-c", script, "sh"}, "--from", from, "--to", to)
			out, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "as it was") {
				t.Errorf("%v", err)
			}
			want := fmt.Sprintf("multihome: install: %s/", to)
			if !strings.HasPrefix(string(out), want) || !strings.Contains(string(out), test.want) {
				t.Errorf("got %swant %s…: %s", out, want, test.want)
			}
		})
	}
}

func TestInstallSaysWhatItDid(t *testing.T) {
	from := fill(t, filepath.Join(t.TempDir(), "from"), newer)
	to, etc := t.TempDir(), t.TempDir()
	for _, state := range []string{"installed", "unchanged"} {
		out, err := multihomeInstall(t, nil, "--from", from, "--to", to, "--etc", etc, "--drop-ins", "iproute2").CombinedOutput()
		want := ""
		for _, name := range plugins {
			want += filepath.Join(to, name) + ": " + state + "\n"
		}
		want += filepath.Join(etc, "iproute2/rt_protos.d/multihome.conf") + ": " + state + "\n"
		if err != nil || string(out) != want {
			t.Errorf("%v, got:\n%swant:\n%s", err, out, want)
		}
	}
}

// Programs of others stay, whether plugins of ours are installed or removed.
func TestInstallBesideOthers(t *testing.T) {
	from, to := fill(t, filepath.Join(t.TempDir(), "from"), newer), t.TempDir()
	program, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	goProgram, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	spiderpool, staticIPAM := filepath.Join(to, "spiderpool"), filepath.Join(to, "static-ipam")
	if err := errors.Join(os.WriteFile(spiderpool, goProgram, 0o755), os.Symlink("/bin/true", staticIPAM)); err != nil {
		t.Fatal(err)
	}
	foreign := func() {
		t.Helper()
		if got, err := os.ReadFile(spiderpool); err != nil || !bytes.Equal(got, goProgram) {
			t.Errorf("the other spiderpool is another one now (%v)", err)
		}
		if got, err := os.Readlink(staticIPAM); err != nil || got != "/bin/true" {
			t.Errorf("the link leads to %s, %v", got, err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(self, args...)
		c.Env = append(os.Environ(), asCommand+"=1")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	out := run("install", "--from", from, "--to", to)
	foreign()
	for _, want := range []string{
		spiderpool + ": not installed, to leave what is there: the Go program cmd/go\n",
		staticIPAM + ": not installed, to leave what is there: Lrwxrwxrwx\n",
		filepath.Join(to, "multihome-ipam") + ": installed\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got:\n%swant %s", out, want)
		}
	}
	out = run("uninstall", "--from", to, "--etc", to)
	foreign()
	want := ""
	for _, name := range plugins {
		state := ": removed\n"
		switch name {
		case "spiderpool":
			state = ": not removed: the Go program cmd/go\n"
		case "static-ipam":
			state = ": not removed: Lrwxrwxrwx\n"
		}
		want += filepath.Join(to, name) + state
	}
	if out != want {
		t.Errorf("got:\n%swant:\n%s", out, want)
	}
	if out := run("uninstall", "--from", to, "--etc", to); !strings.HasPrefix(out, spiderpool) || strings.Contains(out, ": removed") {
		t.Errorf("a second time: %s", out)
	}
}

// The plugins that make built have what tells them from those of others.
func TestInstallKnowsOurs(t *testing.T) {
	to := t.TempDir()
	for _, name := range plugins {
		data, err := os.ReadFile(filepath.Join("../../bin", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := install.Remove(to, func(path, other string) {
		if other != "" {
			t.Errorf("%s: %s", path, other)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
		t.Errorf("%v, %v, want an empty directory", left, err)
	}
}

// The main container of the DaemonSet ends when it is told to, without an error. A
// signal that comes before it listens kills it: then it is given more time.
func TestWait(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for delay := 50 * time.Millisecond; ; delay *= 2 {
		c := exec.Command(self, "wait")
		c.Env = append(os.Environ(), asCommand+"=1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatalf("it didn't wait: %v", err)
		}
		err := c.Wait()
		if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && delay < 10*time.Second {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
}

// TestInstallDefaults writes the cluster's CIDRs for a node without the control plane, and
// takes them away again.
func TestInstallDefaults(t *testing.T) {
	to, etc := t.TempDir(), t.TempDir()
	path := filepath.Join(etc, "cni/multihome/coordinator.json")
	call := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	into := []string{"install", "--from", "../../bin", "--to", to, "--etc", etc}
	if call(into...); exists(path) {
		t.Error("there are defaults without a flag")
	}
	if out := call(append(into, "--service-cidr", "10.96.0.0/12,fd00:10:96::/108", "--overlay-pod-cidr", "10.244.0.0/16")...); !strings.Contains(out, path+": has the cluster's CIDRs\n") {
		t.Errorf("got:\n%s", out)
	}
	keys, err := nodeconf.Read(path)
	if err != nil || len(keys) != 2 || !strings.Contains(string(keys["serviceCIDR"]), "fd00:10:96::/108") || !strings.Contains(string(keys["overlayPodCIDR"]), "10.244.0.0/16") {
		t.Errorf("%s, %v", keys, err)
	}
	if _, err := run(append(into, "--service-cidr", "10.96")...); err == nil || !strings.Contains(err.Error(), "want a list of CIDRs") {
		t.Errorf("a bad CIDR: %v", err)
	}
	if out := call("uninstall", "--from", to, "--etc", etc); !strings.Contains(out, path+": removed\n") || exists(path) {
		t.Errorf("got:\n%s", out)
	}
	if err := os.WriteFile(path, []byte(`{"serviceCIDR": ["10.96.0.0/12"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := call("uninstall", "--from", to, "--etc", etc); !strings.Contains(out, path+": not removed") || !exists(path) {
		t.Errorf("of an admin's file:\n%s", out)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
