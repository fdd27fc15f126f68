// SPDX-License-Identifier: Apache-2.0

// Hide runs a command for which the kernel has no nf_tables: the command and its
// children can't open sockets of NETLINK_NETFILTER, as on a kernel built without it.
// Tests use it.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	err := hide()
	if err == nil {
		err = run(os.Args[1:])
	}
	fmt.Fprintln(os.Stderr, "hide:", err)
	os.Exit(127)
}

// hide puts a filter before the system calls of this thread and its children
// (Documentation/userspace-api/seccomp_filter.rst).
func hide() error {
	runtime.LockOSThread()
	const (
		number      = 0            // offsetof(struct seccomp_data, nr)
		domain      = 16           // args[0]; the low half, little-endian
		protocol    = domain + 2*8 // args[2]
		load, equal = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer      = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: domain},
		{Code: equal, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: protocol},
		{Code: equal, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// run replaces this process by the command.
func run(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}
