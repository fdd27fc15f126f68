// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
