// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"fmt"
	"strings"
)

// The directories of a spool, and the file beside them.
const (
	readyFile    = "ready"
	podsDir      = "pods"
	wantsDir     = "wants"
	sandboxesDir = "sandboxes"
	goneDir      = "gone"
	withdrawnDir = "withdrawn"
	conflictsDir = "conflicts"
)

// Dirs returns the names of a spool's directories.
func Dirs() []string {
	return []string{podsDir, wantsDir, sandboxesDir, goneDir, withdrawnDir, conflictsDir}
}

// nameLimit is the greatest length of a file's name in bytes (NAME_MAX in linux/limits.h).
const nameLimit = 255

// File returns the name of the pod's file.
func (p Pod) File() string { return PodFile(p.UID) }

// PodFile returns the name of a pod's file.
func PodFile(uid string) string { return podsDir + "/" + uid }

// File returns the name of the want's file.
func (w Want) File() string { return wantsDir + "/" + ownName(w.ContainerID, w.Interface, w.Call) }

// File returns the name of the sandbox's file as ADD makes it.
func (s Sandbox) File() string {
	return sandboxesDir + "/" + ownName(s.ContainerID, s.Interface, s.Call)
}

// GoneFile returns the name of the sandbox's file as DEL makes it.
func (s Sandbox) GoneFile() string {
	return goneDir + "/" + ownName(s.ContainerID, s.Interface, s.Call)
}

// File returns the name of the conflict's file. There is one for each address of a NIC, however
// often ADD finds it.
func (c Conflict) File() string {
	return conflictsDir + "/" + ownName(c.UID, c.Interface, strings.ReplaceAll(c.Address.Address.Addr().StringExpanded(), ":", "-"))
}

func ownName(containerID, ifname, call string) string {
	return containerID + ":" + ifname + ":" + call
}

// BadName is an error for a name that can't be a part of the name of a file: a container's
// ID, an interface or a pod's UID. It is the runtime that gives these names.
type BadName string

func (b BadName) Error() string { return string(b) }

func badName(format string, a ...any) error { return BadName(fmt.Sprintf(format, a...)) }

// checkUID returns an error for a pod's UID that can't be the name of a file.
func checkUID(uid string) error {
	if !isWord(uid) || len(uid) > nameLimit {
		return badName("pod UID %q: want letters, digits, '-', '_' and '.', a letter or a digit first, %d bytes at most", uid, nameLimit)
	}
	return nil
}

// check returns an error if parts of the want can't be parts of names of files. The rules for
// container IDs and interface names are those of CNI's specification, section "Parameters",
// and of the CNI project's pkg/utils.
func (w Want) check() error {
	if err := checkUID(w.UID); err != nil {
		return err
	}
	if !isWord(w.ContainerID) {
		return badName("container ID %q: want letters, digits, '-', '_' and '.', a letter or a digit first", w.ContainerID)
	}
	if i := w.Interface; i == "" || len(i) > 15 || i == "." || i == ".." || strings.ContainsAny(i, "/: \t\n\v\f\r") {
		return badName("interface %q: want a name of 1 to 15 bytes without '/', ':' and spaces", i)
	}
	if !isWord(w.Call) {
		return badName("call %q: want hexadecimal digits", w.Call)
	}
	if n := len(ownName(w.ContainerID, w.Interface, w.Call)); n > nameLimit {
		return badName("container ID %q: want %d bytes at most", w.ContainerID, nameLimit-n+len(w.ContainerID))
	}
	return nil
}

// isWord reports whether s has the form of a container ID in CNI.
func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return s != ""
}
