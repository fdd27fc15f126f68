// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/multihome/multihome/pkg/netns"
)

const boot = "3c8f2b1e-0000-4000-8000-000000000001"

// comparable compares addresses by ==.
var comparable = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// errOver is what wait returns at last.
var errOver = errors.New("5s are over")

// never is a wait without end result.
func never() error { return errOver }

func spoolDir(t *testing.T) *Directory {
	t.Helper()
	d, err := MakeDir(filepath.Join(t.TempDir(), "multihome", "ipam"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ready(t *testing.T, f Files) {
	t.Helper()
	if err := PutReady(f, Ready{Boot: boot, Since: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
}

func nic(ifname, network string, addresses ...string) NIC {
	n := NIC{Interface: ifname, Network: network}
	for _, a := range addresses {
		n.Addresses = append(n.Addresses, Address{Address: netip.MustParsePrefix(a)})
	}
	return n
}

func web(nics ...NIC) Pod { return Pod{Namespace: "default", Name: "web", UID: "u1", NICs: nics} }

func call(container, id string) Call {
	return Call{Boot: boot, Want: Want{
		Namespace: "default", Pod: "web", UID: "u1", ContainerID: container, Interface: "eth0", Call: id, Network: "lan",
		Netns: netns.ID{Path: "/run/netns/" + container, Inode: 7},
	}}
}

func sandboxOf(c Call, n NIC) Sandbox {
	return Sandbox{
		Namespace: c.Namespace, Pod: c.Pod, UID: c.UID, ContainerID: c.ContainerID, Interface: c.Interface, Call: c.Call,
		Network: c.Network, Netns: c.Netns, Addresses: n.Addresses,
	}
}

func put1(t *testing.T, f Files, p Pod) {
	t.Helper()
	if err := PutPod(f, p); err != nil {
		t.Fatal(err)
	}
}

func wantSandboxes(t *testing.T, f Files, want ...Sandbox) {
	t.Helper()
	got, err := Sandboxes(f)
	if diff := cmp.Diff(want, got, comparable, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("sandboxes (-want +got, error %v):\n%s", err, diff)
	}
}

func later1(t *testing.T, err error, texts ...string) {
	t.Helper()
	if !errors.As(err, new(Later)) {
		t.Errorf("%v, want an error for later", err)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q in it", err, text)
		}
	}
}

// The life of a sandbox: ADD, a second ADD after the first was killed, another sandbox of the
// pod, DEL of the old one, DEL twice.
func TestLife(t *testing.T) {
	f := spoolDir(t)
	ready(t, f)
	lan := nic("eth0", "lan", "10.6.0.5/16", "fd00:6::5/64")
	put1(t, f, web(lan, nic("net1", "lan2", "10.7.0.5/16")))
	for _, c := range []Call{call("c1", "a"), call("c1", "b"), call("c2", "c")} {
		got, err := Add(f, c, never)
		if diff := cmp.Diff(lan, got, comparable); diff != "" || err != nil {
			t.Errorf("ADD (-want +got, error %v):\n%s", err, diff)
		}
	}
	a, b, c := sandboxOf(call("c1", "a"), lan), sandboxOf(call("c1", "b"), lan), sandboxOf(call("c2", "c"), lan)
	wantSandboxes(t, f, a, b, c)
	for range 2 {
		if err := Del(f, "c1", "eth0"); err != nil {
			t.Error(err)
		}
		a.Gone, b.Gone = true, true
		wantSandboxes(t, f, a, b, c)
	}
	for _, s := range []Sandbox{a, b} {
		if err := Forget(f, s); err != nil {
			t.Error(err)
		}
	}
	for _, unknown := range []string{"c1", "c", "nobody", "../pods/u1", strings.Repeat("c", 300)} {
		if err := Del(f, unknown, "eth0"); err != nil {
			t.Errorf("DEL of %s: %v", unknown, err)
		}
	}
	wantSandboxes(t, f, c)
}

// TestDefaultRouteNIC: what ADD of any NIC of the container got holds, until DEL of all of them.
func TestDefaultRouteNIC(t *testing.T) {
	f := spoolDir(t)
	ready(t, f)
	is := func(container, want string) {
		t.Helper()
		if got, err := DefaultRouteNIC(f, container); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", container, got, err, want)
		}
	}
	is("c1", "")
	lan, lan2 := nic("eth0", "lan", "10.6.0.5/16"), nic("net1", "lan2", "10.7.0.5/16")
	lan2.DefaultRouteNIC = "net1"
	put1(t, f, web(lan, lan2))
	add := func(container, ifname, network string) {
		c := call(container, "a")
		c.Interface, c.Network = ifname, network
		if _, err := Add(f, c, never); err != nil {
			t.Fatal(err)
		}
	}
	add("c1", "eth0", "lan")
	is("c1", "")
	add("c1", "net1", "lan2")
	add("c11", "eth0", "lan")
	is("c1", "net1")
	is("c11", "")
	if err := Del(f, "c1", "net1"); err != nil {
		t.Fatal(err)
	}
	is("c1", "")
}

func TestAddWaits(t *testing.T) {
	for name, test := range map[string]struct {
		before Pod
		want   string
	}{
		"nothing of the pod":          {want: "is it running"},
		"a reason":                    {web(), "lacks this NIC"},
		"no NIC":                      {Pod{UID: "u1", Reason: "pool lan has 0 of 10 addresses free"}, "pool lan has 0 of 10"},
		"the same name, another conf": {web(nic("eth0", "other", "10.6.0.5/16")), "lacks this NIC"},
	} {
		t.Run(name, func(t *testing.T) {
			f := spoolDir(t)
			ready(t, f)
			if test.before.UID != "" {
				put1(t, f, test.before)
			}
			c := call("c1", "a")
			_, err := Add(f, c, never)
			later1(t, err, test.want, "default/web", "eth0", "lan", errOver.Error())
			wantSandboxes(t, f)

			n := 0
			wait := func() error {
				if got, err := Wants(f); err != nil || len(got) != 1 || !cmp.Equal(got[0], c.Want) {
					t.Errorf("wants %v, %v", got, err)
				}
				if n++; n == 2 {
					put1(t, f, web(nic("eth0", "lan", "10.6.0.5/16")))
				}
				return nil
			}
			if got, err := Add(f, c, wait); err != nil || len(got.Addresses) != 1 || n != 2 {
				t.Errorf("%v, %v after %d waits", got, err, n)
			}
			if got, err := Wants(f); err != nil || len(got) != 0 {
				t.Errorf("left: %v, %v", got, err)
			}
		})
	}
}

func TestNotReady(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ipam")
	missing, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	other := spoolDir(t)
	put1(t, other, web(nic("eth0", "lan", "10.6.0.5/16")))
	made := spoolDir(t)
	put1(t, made, web(nic("eth0", "lan", "10.6.0.5/16")))
	if err := PutReady(other, Ready{Boot: "of the boot before"}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Files{missing, made, other} {
		later1(t, Status(f, boot), "not ready in this boot")
		_, err := Add(f, call("c1", "a"), never)
		later1(t, err, "not ready in this boot")
		if err := errors.Join(Del(f, "c1", "eth0"), GC(f, "lan", nil)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("%v, want no directory", err)
	}
	ready(t, made)
	if err := Status(made, boot); err != nil {
		t.Error(err)
	}
}

func TestGC(t *testing.T) {
	f := spoolDir(t)
	ready(t, f)
	lan, storage := nic("eth0", "lan", "10.6.0.5/16"), nic("net1", "storage", "10.7.0.5/16")
	put1(t, f, web(lan, storage))
	add := func(c Call, n NIC) Sandbox {
		if _, err := Add(f, c, never); err != nil {
			t.Fatal(err)
		}
		return sandboxOf(c, n)
	}
	kept, old := add(call("c1", "a"), lan), add(call("c2", "b"), lan)
	further := call("c2", "c")
	further.Interface, further.Network = "net1", "storage"
	other := add(further, storage)
	waits := call("c2", "d")
	if err := errors.Join(put(f, waits.File(), waits.Want), f.Write("sandboxes/c9:eth0:e", []byte("{"))); err != nil {
		t.Fatal(err)
	}
	err := GC(f, "lan", []Attachment{{"c1", "eth0"}})
	if err == nil || !strings.Contains(err.Error(), "sandboxes/c9:eth0:e") {
		t.Errorf("%v, want the bad file's name in it", err)
	}
	if err := f.Remove("sandboxes/c9:eth0:e"); err != nil {
		t.Fatal(err)
	}
	old.Gone = true
	wantSandboxes(t, f, old, kept, other)
	if got, err := Wants(f); err != nil || len(got) != 0 {
		t.Errorf("%v, %v, want no wants", got, err)
	}
}

func TestNames(t *testing.T) {
	f := spoolDir(t)
	ready(t, f)
	for name, change := range map[string]func(c *Call){
		"UID \"\"": func(c *Call) { c.UID = "" },
		"../ready": func(c *Call) { c.UID = "../ready" },
		"c:1":      func(c *Call) { c.ContainerID = "c:1" },
		".c":       func(c *Call) { c.ContainerID = ".c" },
		"want 222 bytes": func(c *Call) {
			c.ContainerID, c.Interface, c.Call = strings.Repeat("c", 223), strings.Repeat("e", 15), strings.Repeat("a", 16)
		},
		"a/b":           func(c *Call) { c.Interface = "a/b" },
		"a:b":           func(c *Call) { c.Interface = "a:b" },
		"1 to 15 bytes": func(c *Call) { c.Interface = "" },
		"call \"\"":     func(c *Call) { c.Call = "" },
	} {
		c := call("c1", "a")
		change(&c)
		if _, err := Add(f, c, never); err == nil || !strings.Contains(err.Error(), name) || errors.As(err, new(Later)) {
			t.Errorf("%v, want %s in it", err, name)
		}
	}
}
