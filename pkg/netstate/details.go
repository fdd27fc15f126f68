// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"iter"
	"slices"
	"strings"
)

// Details holds the attributes that only links of one type have, as ip(8) writes
// them behind the type: names and values in turn, such as "protocol 802.1Q id
// 100" of a vlan or "mode active-backup miimon 100" of a bond. In a plan they are
// the attributes that matter. In a snapshot they are all that the kernel tells.
type Details string

// NewDetails joins names and values, which come in turn.
func NewDetails(words ...string) Details { return Details(strings.Join(words, " ")) }

// HasDetails reports whether this package knows details of links of a type.
func HasDetails(linkType string) bool {
	return linkType == "vlan" || linkType == "bond" || linkType == "macvlan"
}

// VLAN returns the details of a vlan: its protocol as ip(8) prints it, and its ID.
func VLAN(protocol, id string) Details { return NewDetails("protocol", protocol, "id", id) }

// All returns the names with their values, in order.
func (d Details) All() iter.Seq2[string, string] {
	words := strings.Fields(string(d))
	return func(yield func(name, value string) bool) {
		for pair := range slices.Chunk(words, 2) {
			if len(pair) == 2 && !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

// Get returns the value of a name, "" if there is none.
func (d Details) Get(name string) string {
	for n, v := range d.All() {
		if n == name {
			return v
		}
	}
	return ""
}

// With returns d with the values of other in place of its own. The names that
// only other has come last.
func (d Details) With(other Details) Details {
	var words []string
	for n, v := range d.All() {
		if o := other.Get(n); o != "" {
			v = o
		}
		words = append(words, n, v)
	}
	for n, v := range other.All() {
		if d.Get(n) == "" {
			words = append(words, n, v)
		}
	}
	return NewDetails(words...)
}

// Since returns the part of d that is missing in before or has another value
// there.
func (d Details) Since(before Details) Details {
	var words []string
	for n, v := range d.All() {
		if before.Get(n) != v {
			words = append(words, n, v)
		}
	}
	return NewDetails(words...)
}

// Without returns the part of d whose names are missing in other.
func (d Details) Without(other Details) Details {
	var words []string
	for n, v := range d.All() {
		if other.Get(n) == "" {
			words = append(words, n, v)
		}
	}
	return NewDetails(words...)
}
