// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a user notification of seccomp: struct seccomp_notif of linux/seccomp.h
// (Documentation/userspace-api/seccomp_filter.rst).
type call struct {
	ID         uint64
	PID, Flags uint32
	Nr         int32
	Arch       uint32
	IP         uint64
	Args       [6]uint64
}

// answer is the response to a call: struct seccomp_notif_resp of linux/seccomp.h.
type answer struct {
	ID, Val uint64
	Error   int32
	Flags   uint32
}

// install installs a filter for the system calls of this thread and its children. It returns
// the listener: the descriptor by which the calls are received and answered.
func install() (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	const (
		number      = 0 // offsetof(struct seccomp_data, nr)
		load, equal = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer      = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{{Code: load, K: number}}
	numbers := slices.Sorted(maps.Keys(calls))
	for i, nr := range numbers {
		filter = append(filter, unix.SockFilter{Code: equal, K: uint32(nr), Jt: uint8(len(numbers) - i)})
	}
	filter = append(filter,
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// WAIT_KILLABLE_RECV: signals such as those by which Go preempts goroutines don't
	// interrupt a call that was received here. Otherwise the call would be restarted and
	// counted again.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return 0, fmt.Errorf("seccomp: %w", e)
	}
	return int(fd), nil
}

// supervisor decides for each call whether it fails, or whether the command is killed.
type supervisor struct {
	fail map[int]syscall.Errno
	kill int
	list *os.File // nil for none

	stage string // the name of this program in the command's process

	pid      int // of the command
	listener int
	count    int
	started  bool // the command has started: earlier calls are this program's
}

// serve answers one call after the other until the program ends.
func (s *supervisor) serve() {
	for {
		var c call
		switch e := s.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&c)); e {
		case 0:
			a := s.answer(&c)
			// ENOENT: the caller was killed meanwhile.
			if e := s.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)); e != 0 && e != unix.ENOENT {
				must(e)
			}
		case unix.ENOENT:
		default:
			must(e)
		}
	}
}

func (s *supervisor) ioctl(request uintptr, what unsafe.Pointer) syscall.Errno {
	for {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), request, uintptr(what)); e != unix.EINTR {
			return e
		}
	}
}

// answer numbers a call, kills the command if the flags say so, and returns the answer.
func (s *supervisor) answer(c *call) answer {
	goOn := answer{ID: c.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if !s.started {
		s.started = c.Nr == unix.SYS_EXECVE
		return goOn
	}
	if !c.isNumbered(s.pid) {
		return goOn
	}
	s.count++
	e, fails := s.fail[s.count]
	switch {
	case s.count == s.kill:
		s.note(c, ": killed")
		_ = unix.Kill(-s.pid, unix.SIGKILL) // with its children
		return goOn
	case fails:
		s.note(c, ": "+unix.ErrnoName(e))
		return answer{ID: c.ID, Error: -int32(e)}
	}
	s.note(c, "")
	return goOn
}

// note writes a line about a call to the list.
func (s *supervisor) note(c *call, what string) {
	if s.list != nil {
		fmt.Fprintf(s.list, "%d %s%s\n", s.count, c.describe(s.pid), what)
	}
}
