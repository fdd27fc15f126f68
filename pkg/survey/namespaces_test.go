// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestSandboxes follows a namespace from its path to its end.
func TestSandboxes(t *testing.T) {
	s, err := OpenSandboxes()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	want := netip.MustParseAddr("198.51.100.77")
	if err := ns.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, _ := netlink.ParseAddr(want.String() + "/24")
		return netlink.AddrAdd(lo, addr)
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ns.Path(), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	defer unmount()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	id := netns.ID{Path: path, Inode: st.Ino}
	look := func(what string, id netns.ID, exists, has, found bool) {
		t.Helper()
		e, addresses, err := s.Look(id)
		if err != nil || e != exists || slices.Contains(addresses, want) != has {
			t.Errorf("%s: exists %t, %v, %v", what, e, addresses, err)
		}
		all, err := s.Find([]netip.Addr{want})
		if err != nil || slices.ContainsFunc(all, func(x netns.ID) bool { return x.Inode == st.Ino }) != found {
			t.Errorf("%s: find: %v, %v", what, all, err)
		}
	}
	look("at its path", id, true, true, true)
	look("no inode", netns.ID{Path: path}, true, true, true)
	look("another at its path", netns.ID{Path: path, Inode: 1}, false, false, true)

	sleep := exec.Command("sleep", "1000")
	if err := ns.Do(sleep.Start); err != nil {
		t.Fatal(err)
	}
	unmount()
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
	look("only a process", id, false, true, true)
	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleep.Wait() // it was killed
	look("gone", id, false, false, false)
}

// TestPortSubnets reads a sysfs made for it, whose devices have the link lo.
func TestPortSubnets(t *testing.T) {
	sysfs := t.TempDir()
	devices := filepath.Join(sysfs, "bus/pci/devices")
	for _, dir := range []string{"0000:03:00.0/net/lo", "0000:03:00.2/net/none", "0000:03:00.3"} {
		if err := os.MkdirAll(filepath.Join(devices, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../0000:03:00.0", filepath.Join(devices, "0000:03:00.2/physfn")); err != nil {
		t.Fatal(err)
	}
	ns, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	subnets := func(device string) (out []netip.Prefix, err error) {
		e := ns.Do(func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			addr, _ := netlink.ParseAddr("10.6.0.11/16")
			return netlink.AddrReplace(lo, addr)
		})
		if e != nil {
			t.Fatal(e)
		}
		_ = ns.Do(func() error { out, err = PortSubnets(sysfs, device); return nil })
		return out, err
	}
	for _, device := range []string{"0000:03:00.0", "0000:03:00.2"} {
		if got, err := subnets(device); err != nil || !slices.Contains(got, netip.MustParsePrefix("10.6.0.0/16")) {
			t.Errorf("%s: %v, %v", device, got, err)
		}
	}
	for _, device := range []string{"0000:03:00.3", "0000:03:00.9", "", "..", "../devices/0000:03:00.0"} {
		if got, err := subnets(device); err == nil || !strings.Contains(err.Error(), "PCI device") {
			t.Errorf("%s: %v, %v", device, got, err)
		}
	}
}

// TestBusy: a process with a container's ID in its environment is found, until it has ended.
func TestBusy(t *testing.T) {
	s, err := OpenSandboxes()
	if err != nil {
		t.Fatal(err)
	}
	busy := func(want bool) {
		t.Helper()
		if got, err := s.Busy("container-of-TestBusy"); err != nil || got != want {
			t.Fatalf("busy %v, %v; want %v", got, err, want)
		}
	}
	busy(false)
	c := exec.Command("cat") // it waits for its input
	c.Env = []string{"CNI_CONTAINERID=container-of-TestBusy"}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	busy(true)
	_ = in.Close()
	_ = c.Wait()
	busy(false)
}
