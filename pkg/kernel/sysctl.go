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

// ReadSysctl puts a setting into the snapshot, if its link is there.
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

// rpFilterOfAll is the setting of all links that each ADD reads in its pod.
var rpFilterOfAll = netstate.Sysctl{Family: netstate.IPv4, Dev: "all", Name: "rp_filter"}.Key()

// readRPFilterOfAll asks for it without a file, as the settings of one link are read (see
// numbered): inet_netconf_get_devconf of net/ipv4/devinet.c.
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

// netconfMsg is struct netconfmsg, padded.
type netconfMsg struct{ family uint8 }

func (m netconfMsg) Len() int { return unix.NLMSG_ALIGNTO }

func (m netconfMsg) Serialize() []byte { return []byte{m.family, 0, 0, 0} }

// ForAll returns what is set for all links; 0 is for a kernel that lacks the family.
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
		return nil // it was written when its link was made, and goes with it
	}
	set := op.After.(netstate.Sysctl)
	// A new link may have it already. To write disable_ipv6 the kernel tries again
	// and again until nobody else changes a link (addrconf_disable_ipv6).
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

// setting is what the last answer about a link has of one of its settings, or what
// was written since; ok is false if that isn't known.
func (s *Namespace) setting(c netstate.Sysctl) (value int, ok bool) {
	if i, numbered := rtnetlink.PlaceOf(c); numbered {
		v := s.settings[c.Dev][i]
		return v.Value, v.Known
	}
	return 0, false
}

// settingNow is the same, of a link that nobody asked for yet, too.
func (s *Namespace) settingNow(c netstate.Sysctl) (value int, ok bool, err error) {
	if value, ok = s.setting(c); !ok && c.Device() != "" {
		_, _, err = s.fetchLink(c.Dev)
		value, ok = s.setting(c)
	}
	return value, ok, err
}

// noteWritten keeps what was written, if it was.
func (s *Namespace) noteWritten(c netstate.Sysctl, written bool) {
	if i, numbered := rtnetlink.PlaceOf(c); numbered {
		all := s.settings[c.Dev]
		all[i].Value, all[i].Known = c.Value, written
		s.settings[c.Dev] = all
	}
}

// withoutIPv6 reports whether a setting is of IPv6 and the link, or the kernel,
// has none: then there is nothing that it could be wrong about.
func withoutIPv6(c netstate.Sysctl, err error) bool {
	return c.Family == netstate.IPv6 && errors.Is(err, unix.ENOENT)
}

// withSysctl opens a setting's file in the namespace: which one /proc/sys/net
// shows is decided by the thread that opens it (net/sysctl_net.c).
func (s *Namespace) withSysctl(c netstate.Sysctl, mode int, f func(fd int) error) error {
	return s.Enter(func() error {
		fd, err := unix.Open("/proc/sys/"+c.Path(), mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return f(fd)
	})
}
