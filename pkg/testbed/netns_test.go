// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func newNetns(t *testing.T, name string) *Netns {
	t.Helper()
	n, err := NewNetns(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// netnsID is what the kernel calls the namespace of the calling thread.
func netnsID(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink("/proc/thread-self/ns/net")
	check(t, err)
	return id
}

func TestNetnsHoldsOnlyLoopbackUp(t *testing.T) {
	n := newNetns(t, "pod")
	check(t, n.Do(func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		if len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
			t.Errorf("links are %v, want lo up alone", links)
		}
		return nil
	}))
}

func TestDoMovesTheThreadAndRestoresIt(t *testing.T) {
	a, b := newNetns(t, "a"), newNetns(t, "b")
	outside := netnsID(t)
	check(t, a.Do(func() error {
		inA := netnsID(t)
		if inA == outside {
			t.Error("the thread did not enter a")
		}
		check(t, b.Do(func() error {
			if id := netnsID(t); id == inA || id == outside {
				t.Error("the thread did not enter b from a")
			}
			return nil
		}))
		if netnsID(t) != inA {
			t.Error("the thread did not return to a")
		}
		return nil
	}))
	if netnsID(t) != outside {
		t.Error("the thread did not return")
	}
}

func TestDoRestoresAfterErrorAndPanic(t *testing.T) {
	n := newNetns(t, "n")
	outside := netnsID(t)
	boom := errors.New("boom")
	if err := n.Do(func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want %v", err, boom)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		n.Do(func() error { panic(boom) }) //nolint:errcheck // it panics
	}()
	if netnsID(t) != outside {
		t.Error("the thread did not return")
	}
}

func TestPathServesChildren(t *testing.T) {
	n := newNetns(t, "n")
	var inside string
	check(t, n.Do(func() error { inside = netnsID(t); return nil }))

	out, err := exec.Command("readlink", n.Path()).Output()
	check(t, err)
	if got := strings.TrimSpace(string(out)); got != inside {
		t.Errorf("a child sees %q at Path, want %q", got, inside)
	}

	check(t, n.Do(func() error {
		out, err = exec.Command("readlink", "/proc/self/ns/net").Output()
		return err
	}))
	if got := strings.TrimSpace(string(out)); got != inside {
		t.Errorf("a child started inside is in %q, want %q", got, inside)
	}
}

func TestOpenNetns(t *testing.T) {
	n := newNetns(t, "n")
	opened, err := OpenNetns("opened", n.Path())
	check(t, err)
	defer opened.Close()
	if got := opened.Name(); got != "opened" {
		t.Errorf("its name is %s, want opened", got)
	}
	var inside string
	check(t, n.Do(func() error { inside = netnsID(t); return nil }))
	check(t, opened.Do(func() error {
		if got := netnsID(t); got != inside {
			t.Errorf("inside it is %s, want %s", got, inside)
		}
		return nil
	}))
	if _, err := OpenNetns("none", t.TempDir()+"/none"); err == nil {
		t.Error("what is not there was opened")
	}
}

func TestSysctlIsTheNamespaces(t *testing.T) {
	a, b := newNetns(t, "a"), newNetns(t, "b")
	check(t, a.SetSysctl("ipv4/ip_forward", "1"))
	check(t, b.SetSysctl("ipv4/ip_forward", "0"))
	for n, want := range map[*Netns]string{a: "1", b: "0"} {
		got, err := n.Sysctl("ipv4/ip_forward")
		check(t, err)
		if got != want {
			t.Errorf("netns %s: ip_forward is %s, want %s", n.Name(), got, want)
		}
	}
}
