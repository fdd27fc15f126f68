// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// ReadSysctl puts a setting into the snapshot, if its link is there. If the link or the
// kernel has no IPv6, it puts a setting of IPv6 with the wanted value, so that the plan
// does nothing.
func (s *Namespace) ReadSysctl(snap *netstate.Snapshot, want netstate.Sysctl) error {
	if _, ok := s.index[want.Dev]; !ok && want.Device() != "" {
		return nil
	}
	var err error
	if have, ok := s.setting(want); ok {
		want.Value = have
	} else if want.Key() == rpFilterOfAll {
		want.Value, err = s.readRPFilterOfAll()
	} else {
		err = s.withSysctl(want, unix.O_RDONLY, func(fd int) (err error) {
			want.Value, err = readNumber(fd)
			return err
		})
	}
	if withoutIPv6(want, err) {
		snap.Put(s.ns, want)
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: read %s: %w", s.ns, want.Path(), err)
	}
	snap.Put(s.ns, want)
	return nil
}

// rpFilterOfAll is the key of net.ipv4.conf.all.rp_filter, which each ADD reads in its pod.
var rpFilterOfAll = netstate.Sysctl{Family: netstate.IPv4, Dev: "all", Name: "rp_filter"}.Key()

// readRPFilterOfAll reads net.ipv4.conf.all.rp_filter by RTM_GETNETCONF
// (inet_netconf_get_devconf of net/ipv4/devinet.c). It opens no file of /proc, because that
// is slow with many namespaces (see numbered in package rtnetlink).
func (s *Namespace) readRPFilterOfAll() (value int, err error) {
	const ifindex, rpFilter = 1, 3 // NETCONFA_* of linux/netconf.h
	const all = 1<<32 - 1          // NETCONFA_IFINDEX_ALL, -1
	req := netlink.NewRequest(unix.RTM_GETNETCONF, 0, &netconfMsg{unix.AF_INET})
	req.AddData(nl.NewRtAttr(ifindex, nl.Uint32Attr(all)))
	err = s.conn.Do(req, func(b []byte) {
		netlink.Attrs(b[min(len(b), netconfMsg{}.Len()):], func(typ uint16, v []byte) {
			if typ == rpFilter {
				value = int(int32(nl.NativeEndian().Uint32(v)))
			}
		})
	})
	return value, err
}

// netconfMsg is struct netconfmsg of linux/netconf.h, padded to four bytes.
type netconfMsg struct{ family uint8 }

func (m netconfMsg) Len() int { return unix.NLMSG_ALIGNTO }

func (m netconfMsg) Serialize() []byte { return []byte{m.family, 0, 0, 0} }

// ForAll returns the value of a setting for all links (net.ipvN.conf.all.NAME). It returns
// 0 if the kernel has no IPv6 and the setting is one of IPv6.
func (s *Namespace) ForAll(f netstate.Family, name string) (int, error) {
	c := netstate.Sysctl{Family: f, Dev: "all", Name: name}
	err := s.withSysctl(c, unix.O_RDONLY, func(fd int) (err error) {
		c.Value, err = readNumber(fd)
		return err
	})
	if withoutIPv6(c, err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s: read %s: %w", s.ns, c.Path(), err)
	}
	return c.Value, nil
}

func readNumber(fd int) (int, error) {
	var buf [32]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
}

func (s *Namespace) applySysctl(op netstate.Op) error {
	if op.After == nil {
		return nil // the setting goes with its link
	}
	set := op.After.(netstate.Sysctl)
	// A new link may have the value already. Writing disable_ipv6 can take long: the kernel
	// retries it until no other process changes a link (addrconf_disable_ipv6).
	if have, ok, err := s.settingNow(set); err != nil || ok && have == set.Value {
		return err
	}
	err := s.withSysctl(set, unix.O_WRONLY, func(fd int) error {
		_, err := unix.Write(fd, strconv.AppendInt(nil, int64(set.Value), 10))
		return err
	})
	s.noteWritten(set, err == nil)
	if withoutIPv6(set, err) {
		return nil
	}
	return err
}

// setting returns the value of a link's setting from the kernel's last answer, or the value
// that was written since. ok is false if neither is known.
func (s *Namespace) setting(c netstate.Sysctl) (value int, ok bool) {
	if i, numbered := rtnetlink.PlaceOf(c); numbered {
		v := s.settings[c.Dev][i]
		return v.Value, v.Known
	}
	return 0, false
}

// Known returns the value of a link's setting without a request, from the kernel's last
// answer about the link. ok is false if that doesn't have the setting: the kernel or the
// link has no IPv6, or the kernel is older than the setting.
func (s *Namespace) Known(c netstate.Sysctl) (value int, ok bool) { return s.setting(c) }

// settingNow returns the same as setting, and reads the link first if necessary.
func (s *Namespace) settingNow(c netstate.Sysctl) (value int, ok bool, err error) {
	if value, ok = s.setting(c); !ok && c.Device() != "" {
		_, _, err = s.fetchLink(c.Dev)
		value, ok = s.setting(c)
	}
	return value, ok, err
}

// noteWritten caches the value of a setting after a write. If the write failed, it marks
// the value as unknown.
func (s *Namespace) noteWritten(c netstate.Sysctl, written bool) {
	if i, numbered := rtnetlink.PlaceOf(c); numbered {
		all := s.settings[c.Dev]
		all[i].Value, all[i].Known = c.Value, written
		s.settings[c.Dev] = all
	}
}

// withoutIPv6 reports whether err says that a setting of IPv6 doesn't exist, because the
// link or the kernel has no IPv6.
func withoutIPv6(c netstate.Sysctl, err error) bool {
	return c.Family == netstate.IPv6 && errors.Is(err, unix.ENOENT)
}

// withSysctl opens the file of a setting, runs f with it, and closes it. The calling thread
// is in the namespace meanwhile: /proc/sys/net shows the settings of the namespace of the
// thread that opens the file (net/sysctl_net.c). In a container, /proc/sys can only be read:
// then the file is opened in a mount of its own.
func (s *Namespace) withSysctl(c netstate.Sysctl, mode int, f func(fd int) error) error {
	return s.Enter(func() error {
		fd, err := unix.Open("/proc/sys/"+c.Path(), mode|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EROFS) {
			fd, err = openInFreshProc("sys/"+c.Path(), mode)
		}
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return f(fd)
	})
}

// openInFreshProc opens a file of procfs in a new mount of it that is nowhere in the file
// system (Linux 5.2), and so has none of the protections that container runtimes mount over
// /proc. It needs CAP_SYS_ADMIN.
func openInFreshProc(path string, mode int) (int, error) {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount proc: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mount proc: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount proc: %w", err)
	}
	defer func() { _ = unix.Close(mount) }()
	return unix.Openat(mount, path, mode|unix.O_CLOEXEC, 0)
}
