// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// subject is the kind of argument that describes a call in a list.
type subject int

const (
	descriptor subject = iota // the first argument, a file descriptor
	path                      // the second argument, a path
	program                   // the first argument, a path
	message                   // the netlink message that is sent
)

// calls lists the system calls that are numbered.
var calls = map[int32]struct {
	name  string
	about subject
}{
	unix.SYS_SOCKET:      {"socket", -1},
	unix.SYS_BIND:        {"bind", descriptor},
	unix.SYS_GETSOCKNAME: {"getsockname", descriptor},
	unix.SYS_SETSOCKOPT:  {"setsockopt", descriptor},
	unix.SYS_GETSOCKOPT:  {"getsockopt", descriptor},
	unix.SYS_SENDTO:      {"sendto", message},
	unix.SYS_SENDMSG:     {"sendmsg", message},
	unix.SYS_RECVFROM:    {"recvfrom", descriptor},
	unix.SYS_RECVMSG:     {"recvmsg", descriptor},
	unix.SYS_WRITE:       {"write", descriptor},
	unix.SYS_OPENAT:      {"openat", path},
	unix.SYS_MKDIRAT:     {"mkdirat", path},
	unix.SYS_RENAMEAT:    {"renameat", path},
	unix.SYS_UNLINKAT:    {"unlinkat", path},
	unix.SYS_FLOCK:       {"flock", descriptor},
	unix.SYS_SETNS:       {"setns", descriptor},
	unix.SYS_IOCTL:       {"ioctl", descriptor},
	unix.SYS_EXECVE:      {"execve", program},
}

// reads lists further system calls, by which plugins read files. Most plugins read theirs, if
// any, as a small part of what they do.
var reads = map[int32]string{
	unix.SYS_READ:       "read",
	unix.SYS_FSTAT:      "fstat",
	unix.SYS_FSTATFS:    "fstatfs",
	unix.SYS_GETDENTS64: "getdents64",
}

// numberReads adds them to the calls that are numbered.
func numberReads() {
	for nr, name := range reads {
		call := calls[nr]
		call.name, call.about = name, descriptor
		calls[nr] = call
	}
}

// describe describes a call in a few words. If a child of the command makes the call, it adds
// the child's name.
func (c *call) describe(root int) string {
	if c.process() == root {
		return c.words()
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.PID))
	return c.words() + " by " + strings.TrimSpace(string(name))
}

func (c *call) words() string {
	known := calls[c.Nr]
	switch known.about {
	case descriptor:
		return known.name + " " + c.file()
	case path:
		return known.name + " " + c.text(c.Args[1])
	case program:
		return known.name + " " + c.text(c.Args[0])
	case message:
		return known.name + " " + c.message()
	}
	return known.name
}

// file returns the name of the file of the descriptor in the first argument.
func (c *call) file() string {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.PID, c.Args[0]))
	if err != nil {
		return fmt.Sprint(c.Args[0])
	}
	if strings.HasPrefix(link, "socket:") {
		return "socket" // without its number, which differs in each run
	}
	return link
}

// isNumbered reports whether a call is numbered. Writes between the threads of a program, and
// between the program and its children, are not.
func (c *call) isNumbered(root int) bool {
	if c.Nr != unix.SYS_WRITE {
		return true
	}
	to := c.file()
	return to != "anon_inode:[eventfd]" && (!strings.HasPrefix(to, "pipe:") || c.process() == root)
}

// process returns the ID of the thread's process.
func (c *call) process() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	_, rest, _ := strings.Cut(string(text), "\nTgid:")
	var pid int
	_, _ = fmt.Sscan(rest, &pid)
	return pid
}

// read returns bytes from the caller's memory, as many as are readable.
func (c *call) read(address uint64, length int) []byte {
	b := make([]byte, length)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(length)
	n, err := unix.ProcessVMReadv(int(c.PID), local, []unix.RemoteIovec{{Base: uintptr(address), Len: length}}, 0)
	if err != nil {
		return nil
	}
	return b[:n]
}

// text returns a string that ends with NUL from the caller's memory.
func (c *call) text(address uint64) string {
	const page = 4096 // the next page may not be readable
	return unix.ByteSliceToString(c.read(address, int(page-address%page)))
}

// message names the type of the first netlink message in a call.
func (c *call) message() string {
	at := c.Args[1]
	if c.Nr == unix.SYS_SENDMSG { // the address of msg_iov is at offset 16 of struct msghdr
		at = c.word(c.word(at + 16))
	}
	b := c.read(at, unix.NLMSG_HDRLEN)
	if len(b) < unix.NLMSG_HDRLEN {
		return "?"
	}
	return fmt.Sprintf("message of type %d", binary.NativeEndian.Uint16(b[4:]))
}

// word returns a 64-bit word from the caller's memory.
func (c *call) word(address uint64) uint64 {
	b := c.read(address, 8)
	if len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}
