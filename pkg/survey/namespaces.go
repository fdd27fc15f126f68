// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netns"
)

// Sandboxes looks for pods' network namespaces and reads their addresses. For those that have
// lost their path it needs the node's /proc (hostPID) and CAP_SYS_PTRACE.
type Sandboxes struct {
	home int    // the node's own namespace
	own  uint64 // its inode
}

// OpenSandboxes returns an error if no other process can be looked at: a namespace that only
// processes hold would seem to be gone.
func OpenSandboxes() (*Sandboxes, error) {
	if !seesOthers() {
		return nil, errors.New("no process but this one can be looked at: want the node's /proc (hostPID), CAP_SYS_PTRACE, and no AppArmor profile that denies ptrace")
	}
	home, err := netns.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	own, err := inode(home)
	return &Sandboxes{home: home, own: own}, err
}

// Close closes what OpenSandboxes opened.
func (s *Sandboxes) Close() { _ = unix.Close(s.home) }

// seesOthers reports whether some other process's namespaces can be looked at
// (ptrace_may_access in the kernel).
func seesOthers() bool {
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is right
	own := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	return slices.ContainsFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return path != own && err == nil
	})
}

// Look says whether a network namespace is at its path, with its inode, and which addresses
// are in it. If it isn't there but processes are in a namespace with the inode, which may be
// another one by now, these are the addresses of that.
func (s *Sandboxes) Look(id netns.ID) (exists bool, addresses []netip.Addr, err error) {
	fd, err := netns.Open(id.Path)
	if err != nil && !errors.Is(err, netns.ErrNone) {
		return false, nil, err
	}
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		found, err := inode(fd)
		if err != nil {
			return false, nil, err
		}
		if id.Inode == 0 || found == id.Inode {
			addresses, err = s.addresses(fd)
			return true, addresses, err
		}
	}
	if id.Inode == 0 {
		return false, nil, nil
	}
	held, err := ofProcesses()
	if err != nil || held[id.Inode] == "" {
		return false, nil, err
	}
	addresses, err = s.addressesAt(held[id.Inode], id.Inode)
	return false, addresses, err
}

// Find returns the namespaces of the node, but its own, that have one of the addresses.
func (s *Sandboxes) Find(addresses []netip.Addr) ([]netns.ID, error) {
	all, err := ofProcesses()
	if err != nil {
		return nil, err
	}
	mounted, err := ofMounts()
	if err != nil {
		return nil, err
	}
	for ino, path := range mounted {
		all[ino] = path
	}
	var out []netns.ID
	for ino, path := range all {
		if ino == s.own {
			continue
		}
		found, err := s.addressesAt(path, ino)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(found, func(a netip.Addr) bool { return slices.Contains(addresses, a) }) {
			out = append(out, netns.ID{Path: path, Inode: ino})
		}
	}
	return out, nil
}

// addressesAt returns the addresses of the namespace at a path, none if it is gone meanwhile.
func (s *Sandboxes) addressesAt(path string, ino uint64) ([]netip.Addr, error) {
	fd, err := netns.Open(path)
	if errors.Is(err, netns.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if found, err := inode(fd); err != nil || found != ino {
		return nil, err
	}
	return s.addresses(fd)
}

// addresses returns the addresses in a namespace.
func (s *Sandboxes) addresses(fd int) (out []netip.Addr, err error) {
	_, err = netns.Within(fd, s.home, func() error {
		all, err := net.InterfaceAddrs() // asks the kernel in this thread
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr().WithZone(""))
			}
		}
		return err
	})
	return out, err
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Ino, err
}

// Busy reports whether a process of a CNI plugin works for a container: plugins have the
// container's ID in their environment (CNI specification, "Parameters").
func (s *Sandboxes) Busy(containerID string) (bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH), errors.Is(err, unix.EACCES): // as in ofProcesses
		case err != nil:
			return false, err
		case slices.Contains(strings.Split(string(environ), "\x00"), "CNI_CONTAINERID="+containerID):
			return true, nil
		}
	}
	return false, nil
}

// ofProcesses returns the namespaces in which processes are, with a path to each.
func ofProcesses() (map[uint64]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	out := map[uint64]string{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		path := filepath.Join("/proc", e.Name(), "ns/net")
		var st unix.Stat_t
		switch err := unix.Stat(path, &st); {
		case err == nil:
			out[st.Ino] = path
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH), errors.Is(err, unix.EACCES):
			// The process has ended. EACCES, from proc_ns_get_link, is the same: OpenSandboxes
			// checked the right.
		default:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

// ofMounts returns the network namespaces that are mounted, as in /run/netns. proc(5) describes
// the fields of mountinfo: the fourth is the root, net:[INODE], the fifth the mount point.
func ofMounts() (map[uint64]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out := map[uint64]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		number, isNet := strings.CutPrefix(strings.TrimSuffix(fields[3], "]"), "net:[")
		if ino, err := strconv.ParseUint(number, 10, 64); isNet && err == nil {
			out[ino] = fields[4]
		}
	}
	return out, lines.Err()
}

// PortSubnets returns the subnets of the node's link that belongs to a PCI device, such as
// 0000:03:00.2, or to the port of which the device is a virtual function (physfn, in
// Documentation/ABI/testing/sysfs-bus-pci of the kernel). It finds the device in sysfs,
// at /sys.
func PortSubnets(sysfs, device string) ([]netip.Prefix, error) {
	if device == "" || strings.ContainsAny(device, "/\x00") || device == "." || device == ".." {
		return nil, fmt.Errorf("PCI device %q: want an address such as 0000:03:00.2 (deviceID in runtimeConfig)", device)
	}
	at := filepath.Join(sysfs, "bus/pci/devices", device)
	links, err := os.ReadDir(filepath.Join(at, "physfn/net"))
	if errors.Is(err, fs.ErrNotExist) {
		links, err = os.ReadDir(filepath.Join(at, "net"))
	}
	if err != nil {
		return nil, fmt.Errorf("PCI device %q: no link of the node: %w", device, err)
	}
	var out []netip.Prefix
	for _, l := range links {
		link, err := net.InterfaceByName(l.Name())
		if err != nil {
			return nil, fmt.Errorf("PCI device %q: link %s: %w", device, l.Name(), err)
		}
		addresses, err := link.Addrs()
		if err != nil {
			return nil, fmt.Errorf("PCI device %q: link %s: %w", device, l.Name(), err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				out = append(out, p.Masked())
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("PCI device %q: its port has no address on the node, so that match_master_subnet has no subnet: name a pool in the pod's annotations, or give the port an address", device)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}
