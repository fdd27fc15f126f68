// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is the state of the two namespaces, as far as it was read.
type Snapshot struct {
	objects map[keyInNamespace]Object
	sorted  map[list]any            // results of All since the last change
	free    map[keyInNamespace]bool // objects whose place a plan may take: see Free
}

// list identifies the objects of one kind in a namespace.
type list struct {
	ns   NS
	kind Kind
}

// NewSnapshot returns an empty snapshot.
func NewSnapshot() *Snapshot {
	return &Snapshot{objects: map[keyInNamespace]Object{}, sorted: map[list]any{}}
}

// Put records an object. It replaces one with the same key.
func (s *Snapshot) Put(ns NS, o Object) {
	clear(s.sorted)
	s.objects[keyInNamespace{ns, o.Key()}] = o
}

// Get returns the object of ns that has the key of o.
func Get[T Object](s *Snapshot, ns NS, o T) (T, bool) {
	have, ok := s.objects[keyInNamespace{ns, o.Key()}].(T)
	return have, ok
}

// All returns the objects of one kind in ns, sorted by their text. Writing the text
// takes longer than everything else here, and a plan calls All many times. So All
// writes each text once and keeps the result until the snapshot changes.
func All[T Object](s *Snapshot, ns NS) []T {
	var none T
	all := list{ns, none.Kind()}
	if out, ok := s.sorted[all].([]T); ok {
		return slices.Clone(out)
	}
	type line struct {
		text   string
		object T
	}
	var lines []line
	for r, o := range s.objects {
		if t, ok := o.(T); ok && r.ns == ns {
			lines = append(lines, line{Line(Host, t), t})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.text, b.text) })
	var out []T
	for _, l := range lines {
		out = append(out, l.object)
	}
	s.sorted[all] = out
	return slices.Clone(out)
}

// Free records that the owner of an object no longer needs it. A plan may take its
// place, although it is on a link of that owner.
func (s *Snapshot) Free(ns NS, o Object) {
	if s.free == nil {
		s.free = map[keyInNamespace]bool{}
	}
	s.free[keyInNamespace{ns, o.Key()}] = true
}

// Equal reports whether both snapshots hold the same objects.
func (s *Snapshot) Equal(o *Snapshot) bool { return maps.Equal(s.objects, o.objects) }

// Clone returns a copy that can be changed on its own.
func (s *Snapshot) Clone() *Snapshot {
	return &Snapshot{objects: maps.Clone(s.objects), sorted: map[list]any{}, free: maps.Clone(s.free)}
}

// Lines returns every object as [Line] prints it, sorted.
func (s *Snapshot) Lines() []string {
	var out []string
	for r, o := range s.objects {
		out = append(out, Line(r.ns, o))
	}
	slices.Sort(out)
	return out
}
