// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"io/fs"
	"strings"
)

// Given returns what ADD gave a sandbox's NIC: once for each call of ADD.
func Given(f Files, of Attachment) ([]Sandbox, error) {
	return given(f, ownName(of.ContainerID, of.Interface, ""))
}

// DefaultRouteNIC returns the NIC that holds the default routes of a container's pod, by the
// pod's annotation: "" if it has none, or no ADD has given it an address from the spool yet.
func DefaultRouteNIC(f Files, containerID string) (string, error) {
	all, err := given(f, containerID+":")
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.DefaultRouteNIC != "" {
			return s.DefaultRouteNIC, nil
		}
	}
	return "", nil
}

// given returns the sandboxes whose files have names that begin so.
func given(f Files, begin string) ([]Sandbox, error) {
	names, err := f.List(sandboxesDir)
	if err != nil {
		return nil, err
	}
	var out []Sandbox
	for _, name := range names {
		if !strings.HasPrefix(name, begin) {
			continue
		}
		var s Sandbox
		err := get(f, sandboxesDir+"/"+name, &s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // DEL moved it meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
