// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is what the two namespaces hold, as far as somebody looked.
type Snapshot struct {
	objects map[keyInNamespace]Object
	sorted  map[list]any            // what All found since the last change
	free    map[keyInNamespace]bool // objects on links of others that those don't need any more
}

// list is the objects of one kind in a namespace.
type list struct {
	ns   NS
	kind Kind
}

// NewSnapshot returns a snapshot that holds nothing.
func NewSnapshot() *Snapshot {
	return &Snapshot{objects: map[keyInNamespace]Object{}, sorted: map[list]any{}}
}

// Put records an object, in place of one with the same key.
func (s *Snapshot) Put(ns NS, o Object) {
	clear(s.sorted)
	s.objects[keyInNamespace{ns, o.Key()}] = o
}

// Get returns the object of ns that has the key of o.
func Get[T Object](s *Snapshot, ns NS, o T) (T, bool) {
	have, ok := s.objects[keyInNamespace{ns, o.Key()}].(T)
	return have, ok
}

// All returns the objects of one kind in ns, ordered by their text. To make a text
// takes longer than everything else here, so each is made once, and the order is
// kept until something changes: a plan asks again and again.
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

// Free says that whoever an object was made for doesn't need it any more: a plan may
// take its place, though it is on a link of theirs.
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
