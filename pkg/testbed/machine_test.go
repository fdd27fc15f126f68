// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMachineHasItsOwnFiles(t *testing.T) {
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		t.Run(dir, func(t *testing.T) { hasItsOwn(t, dir) })
	}
}

func hasItsOwn(t *testing.T, dir string) {
	file := dir + "/testbed-machine"
	a, err := NewMachine("a")
	check(t, err)
	defer a.Close()
	b, err := NewMachine("b")
	check(t, err)
	defer b.Close()

	outside := netnsID(t)
	check(t, a.Run(func() error {
		if netnsID(t) == outside {
			t.Error("Run did not enter the network namespace")
		}
		return exec.Command("touch", file).Run()
	}))
	check(t, a.Run(func() error { _, err := os.Stat(file); return err }))
	if err := b.Run(func() error { _, err := os.Stat(file); return err }); !os.IsNotExist(err) {
		t.Errorf("b sees the %s of a: %v", dir, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the %s of a is seen outside: %v", dir, err)
	}
	if netnsID(t) != outside {
		t.Error("the thread did not return")
	}
}

// TestMachineKeepsNoNamespaces: pods of the system end when they would without it.
func TestMachineKeepsNoNamespaces(t *testing.T) {
	system, err := NewMachine("system")
	check(t, err)
	defer system.Close()
	pod, err := NewNetns("pod")
	check(t, err)
	defer pod.Close()
	check(t, system.Pin(pod, "/run/netns/pod"))
	var m *Machine
	check(t, system.Run(func() error {
		m, err = NewMachine("m")
		return err
	}))
	defer m.Close()
	check(t, m.Run(func() error {
		mounts, err := os.ReadFile("/proc/thread-self/mounts")
		if strings.Contains(string(mounts), "/run/netns/") {
			t.Errorf("the machine's mounts:\n%s", mounts)
		}
		return err
	}))
}

// TestMachineOnASystemWithoutCNI: no directory is made for a machine outside of it,
// and it has all others.
func TestMachineOnASystemWithoutCNI(t *testing.T) {
	check(t, onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := mountEmpty("/var/lib"); err != nil {
			return err
		}
		if err := os.MkdirAll("/var/lib/a/b", 0o755); err != nil {
			return err
		}
		system, err := os.Open("/var/lib")
		if err != nil {
			return err
		}
		defer system.Close()
		if err := ownFiles(); err != nil {
			return err
		}
		for _, dir := range []string{"/var/lib/cni", "/var/lib/a/b"} {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
		}
		if names, err := system.Readdirnames(-1); len(names) != 1 || err != nil {
			t.Errorf("the system's /var/lib has %v, %v", names, err)
		}
		return nil
	}))
}

func TestPin(t *testing.T) {
	m, err := NewMachine("m")
	check(t, err)
	defer m.Close()
	n, err := NewNetns("pod")
	check(t, err)
	want := ""
	check(t, n.Do(func() error { want = netnsID(t); return nil }))
	check(t, m.Pin(n, "/run/netns/pod"))
	check(t, n.Close())
	check(t, m.Run(func() error {
		again, err := OpenNetns("pod", "/run/netns/pod")
		if err != nil {
			return err
		}
		defer again.Close()
		return again.Do(func() error {
			if got := netnsID(t); got != want {
				t.Errorf("/run/netns/pod is %s, want %s", got, want)
			}
			return nil
		})
	}))
	if _, err := os.Stat("/run/netns/pod"); !os.IsNotExist(err) {
		t.Errorf("the name is seen outside: %v", err)
	}
}
