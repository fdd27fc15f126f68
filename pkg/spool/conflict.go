// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Conflict is the contents of a file in conflicts/.
type Conflict struct {
	Namespace   string
	Pod         string
	UID         string
	ContainerID string
	Interface   string
	Address     Address
	MAC         string // of the machine that answered
	At          time.Time
}

// ErrNotServed is the error for an address that no sandbox has by the spool: it isn't one of
// ours.
var ErrNotServed = errors.New("no ADD of this sandbox got the address from the spool")

// Given returns what ADD gave a sandbox's NIC: once for each call of ADD.
func Given(f Files, of Attachment) ([]Sandbox, error) {
	names, err := f.List(sandboxesDir)
	if err != nil {
		return nil, err
	}
	var out []Sandbox
	for _, name := range names {
		if !strings.HasPrefix(name, ownName(of.ContainerID, of.Interface, "")) {
			continue
		}
		var s Sandbox
		if err := get(f, sandboxesDir+"/"+name, &s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// NoteConflict notes that another machine answers for an address that a sandbox's NIC just got
// by [Add]. It replaces what was noted about the pod's NIC and the address before. The error is
// [ErrNotServed] for an address that isn't from the spool.
func NoteConflict(f Files, of Attachment, a netip.Addr, mac string, at time.Time) error {
	given, err := Given(f, of)
	if err != nil {
		return err
	}
	for _, s := range given {
		if i := slices.IndexFunc(s.Addresses, func(x Address) bool { return x.Address.Addr() == a }); i >= 0 {
			c := Conflict{
				Namespace: s.Namespace, Pod: s.Pod, UID: s.UID, ContainerID: s.ContainerID, Interface: s.Interface,
				Address: s.Addresses[i], MAC: mac, At: at,
			}
			return put(f, c.File(), c)
		}
	}
	return fmt.Errorf("%s: %w", a, ErrNotServed)
}

// Conflicts returns what is noted about addresses that other machines have.
func Conflicts(f Files) ([]Conflict, error) { return list[Conflict](f, conflictsDir) }
