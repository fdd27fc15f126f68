// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is what the two namespaces hold, as far as somebody looked.
type Snapshot struct {
	objects map[ref]Object
	lines   map[Object]string // of objects that were sorted by them
}

// NewSnapshot returns a snapshot that holds nothing.
func NewSnapshot() *Snapshot {
	return &Snapshot{objects: map[ref]Object{}, lines: map[Object]string{}}
}

// Put records an object, in place of one with the same key.
func (s *Snapshot) Put(ns NS, o Object) { s.objects[ref{ns, o.Key()}] = o }

// Get returns the object of ns that has the key of o.
func Get[T Object](s *Snapshot, ns NS, o T) (T, bool) {
	have, ok := s.objects[ref{ns, o.Key()}].(T)
	return have, ok
}

// All returns the objects of one kind in ns, ordered by their text.
func All[T Object](s *Snapshot, ns NS) []T {
	var out []T
	for r, o := range s.objects {
		if t, ok := o.(T); ok && r.ns == ns {
			out = append(out, t)
		}
	}
	if len(out) > 1 {
		slices.SortFunc(out, func(a, b T) int { return cmp.Compare(s.line(a), s.line(b)) })
	}
	return out
}

// line is the text of an object. To make one takes longer than all the rest of a
// sort.
func (s *Snapshot) line(o Object) string {
	text, ok := s.lines[o]
	if !ok {
		text = Line(Host, o)
		s.lines[o] = text
	}
	return text
}

// Equal reports whether both snapshots hold the same objects.
func (s *Snapshot) Equal(o *Snapshot) bool { return maps.Equal(s.objects, o.objects) }

// Clone returns a copy that can be changed on its own.
func (s *Snapshot) Clone() *Snapshot {
	return &Snapshot{objects: maps.Clone(s.objects), lines: s.lines}
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
