// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ReadSysctl puts a setting into the snapshot, if its link is there.
func (s *Space) ReadSysctl(snap *netstate.Snapshot, want netstate.Sysctl) error {
	if _, ok := s.index[want.Dev]; !ok && want.Device() != "" {
		return nil
	}
	err := s.withSysctl(want, unix.O_RDONLY, func(fd int) (err error) {
		want.Value, err = readNumber(fd)
		return err
	})
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

func readNumber(fd int) (int, error) {
	var buf [32]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
}

func (s *Space) applySysctl(op netstate.Op) error {
	if op.After == nil {
		return nil // it was written when its link was made, and goes with it
	}
	set := op.After.(netstate.Sysctl)
	err := s.withSysctl(set, unix.O_RDWR, func(fd int) error {
		// A new link may have it already. To write disable_ipv6 the kernel tries
		// again and again until nobody else changes a link (addrconf_disable_ipv6).
		if have, err := readNumber(fd); err != nil || have == set.Value {
			return err
		}
		_, err := unix.Pwrite(fd, strconv.AppendInt(nil, int64(set.Value), 10), 0)
		return err
	})
	if withoutIPv6(set, err) {
		return nil
	}
	return err
}

// withoutIPv6 reports whether a setting is of IPv6 and the link, or the kernel,
// has none: then there is nothing that it could be wrong about.
func withoutIPv6(c netstate.Sysctl, err error) bool {
	return c.Family == netstate.IPv6 && errors.Is(err, unix.ENOENT)
}

// withSysctl opens a setting's file in the namespace: which one /proc/sys/net
// shows is decided by the thread that opens it (net/sysctl_net.c).
func (s *Space) withSysctl(c netstate.Sysctl, mode int, f func(fd int) error) error {
	return s.enter(func() error {
		fd, err := unix.Open("/proc/sys/"+c.Path(), mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return f(fd)
	})
}
