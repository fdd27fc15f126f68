// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"fmt"
	"slices"
)

// Item is an object in its namespace, and why a plan names it.
type Item struct {
	NS     NS
	Object Object
	Why    string
	Shared bool // it is not undone: others use it too, or may from the moment it is there
}

// Plan is what shall be, in the order in which it can be built, and then what
// shall not. Additions come first so that no packet meets a moment in which
// neither the old nor the new is there.
type Plan struct {
	Present []Item
	Absent  []Item
}

// Want adds an object that shall be there.
func (p *Plan) Want(ns NS, why string, o Object) {
	p.Present = append(p.Present, Item{NS: ns, Object: o, Why: why})
}

// WantShared adds an object that shall be there, and that others use as well: it
// is not undone.
func (p *Plan) WantShared(ns NS, why string, o Object) {
	p.Present = append(p.Present, Item{NS: ns, Object: o, Why: why, Shared: true})
}

// Unwant adds an object that shall not be there. One of ours is meant as ours: somebody
// else's of the same key stays.
func (p *Plan) Unwant(ns NS, why string, o Object) {
	p.Absent = append(p.Absent, Item{NS: ns, Object: o, Why: why})
}

// Drop adds an object that shall not be there, nor come back when what was done is
// undone: what it was for is gone, and the kernel might not take it.
func (p *Plan) Drop(ns NS, why string, o Object) {
	p.Absent = append(p.Absent, Item{NS: ns, Object: o, Why: why, Shared: true})
}

// Wants reports whether the plan names an object of that key among those that shall be
// there.
func (p *Plan) Wants(ns NS, o Object) bool {
	return slices.ContainsFunc(p.Present, func(w Item) bool { return w.NS == ns && w.Object.Key() == o.Key() })
}

// unwants reports whether the plan names the object among those that shall not
// be: one that takes the place of a wanted one is then replaced.
func (p *Plan) unwants(ns NS, o Object) bool {
	return slices.ContainsFunc(p.Absent, func(u Item) bool { return u.NS == ns && u.Object.Key() == o.Key() })
}

// Conflict is the error for an object that stands where one of ours must, and
// isn't ours to change.
type Conflict struct {
	NS   NS
	Want Object
	Have Object
	Link Object // that Have hangs on, if it tells whose it is; or nil
}

func (c *Conflict) Error() string {
	of := ""
	if c.Link != nil {
		of = fmt.Sprintf(" (link %s)", c.Link)
	}
	return fmt.Sprintf("%s: %s%s is in the way of %s", c.NS, Words(c.Have), of, c.Want)
}

// Diff returns the operations that lead from the snapshot to the plan. It is
// empty when everything is as planned. The error is a [*Conflict].
func Diff(p Plan, s *Snapshot) ([]Op, error) {
	var ops []Op
	work := s // copied before the first change
	do := func(op Op) error {
		if len(ops) == 0 {
			work = s.Clone()
		}
		ops = append(ops, op)
		return work.Apply(op)
	}
	for _, w := range p.Present {
		have := work.objects[keyInNamespace{w.NS, w.Object.Key()}]
		if have == nil {
			have = work.occupant(w.NS, w.Object)
		}
		if have == nil {
			if c := work.farEndTaken(w); c != nil {
				return nil, c
			}
			if err := do(Op{NS: w.NS, After: w.Object, Why: w.Why, Shared: w.Shared}); err != nil {
				return nil, err
			}
			continue
		}
		after := w.Object
		if after.Key() == have.Key() {
			after = over(after, have)
		}
		if after == have {
			continue
		}
		switch l, isLink := have.(Link); {
		case isLink && !l.sameDevice(after.(Link)):
			if !l.Owned() {
				return nil, &Conflict{NS: w.NS, Want: w.Object, Have: have}
			}
			for _, op := range append(work.dependents(w.NS, l), Op{NS: w.NS, Before: have, Why: "it is not the link it should be"}) {
				if err := do(op); err != nil {
					return nil, err
				}
			}
			if err := do(Op{NS: w.NS, After: w.Object, Why: w.Why, Shared: w.Shared}); err != nil {
				return nil, err
			}
		case after.Kind() == KindRoute && anothers(have.(Route), w.Object.(Route)) && !p.unwants(w.NS, have):
			return nil, &Conflict{NS: w.NS, Want: w.Object, Have: have}
		case work.anothersLink(w.NS, have, after) != nil:
			return nil, &Conflict{NS: w.NS, Want: w.Object, Have: have, Link: work.anothersLink(w.NS, have, after)}
		default:
			for _, op := range work.lost(w.NS, have, after) {
				if err := do(op); err != nil {
					return nil, err
				}
			}
			if err := do(Op{NS: w.NS, Before: have, After: after, Why: w.Why, Shared: w.Shared}); err != nil {
				return nil, err
			}
		}
	}
	for _, u := range p.Absent {
		if have := work.objects[keyInNamespace{u.NS, u.Object.Key()}]; have != nil && (have.Owned() || !u.Object.Owned()) {
			if err := do(Op{NS: u.NS, Before: have, Why: u.Why, Shared: u.Shared}); err != nil {
				return nil, err
			}
		}
	}
	return ops, nil
}

// anothers reports whether a route in the way of a wanted one isn't ours to replace:
// somebody else's, or another plugin's. A wanted one that isn't ours is a copy of what
// the NIC has.
func anothers(have, want Route) bool {
	return !have.Owned() || want.Owned() && have.Proto != want.Proto
}

// anothersLink returns the link that an object hangs on, if one of ours made it
// for somebody else: a route to another pod isn't taken away from it, even if it
// is to the address that this one claims.
func (s *Snapshot) anothersLink(ns NS, have, want Object) Object {
	if have.Device() == want.Device() || s.free[keyInNamespace{ns, have.Key()}] {
		return nil
	}
	if l, ok := Get(s, ns, Link{Name: have.Device()}); ok && l.Owned() {
		return l
	}
	return nil
}

// farEndTaken returns the conflict of a pair that is to be made with a link that
// already has the name of its far end.
func (s *Snapshot) farEndTaken(w Item) *Conflict {
	l, ok := w.Object.(Link)
	if !ok || l.Peer.Name == "" {
		return nil
	}
	if have, ok := Get(s, l.Peer.NS, Link{Name: l.Peer.Name}); ok {
		return &Conflict{NS: l.Peer.NS, Want: peerOf(w.NS, l), Have: have}
	}
	return nil
}

// occupant returns the route that takes the place of a wanted one: the same
// destination and metric in the same table by another next hop.
func (s *Snapshot) occupant(ns NS, want Object) Object {
	w, ok := want.(Route)
	if !ok {
		return nil
	}
	var found Object // the first by text, so that Diff is deterministic
	for r, o := range s.objects {
		if h, ok := o.(Route); ok && r.ns == ns && h.slot() == w.slot() {
			if found == nil || o.String() < found.String() {
				found = o
			}
		}
	}
	return found
}

// dependents returns the deletion of all that would go with a link, so that
// the list can be reversed: a veth's far end is made what it was when the pair
// was new.
func (s *Snapshot) dependents(ns NS, l Link) []Op {
	var ops []Op
	for r, o := range s.objects {
		if goesWith(r.ns, o, ns, l) && o.Kind() != KindLink {
			ops = append(ops, Op{NS: r.ns, Before: o, Why: "it goes with link " + l.Name})
		}
	}
	slices.SortFunc(ops, func(a, b Op) int { return -cmp.Compare(order(a.Before), order(b.Before)) })
	if far, ok := Get(s, l.Peer.NS, Link{Name: l.Peer.Name}); ok {
		if fresh := peerOf(ns, l); fresh != far {
			ops = append(ops, Op{NS: l.Peer.NS, Before: far, After: fresh, Why: "it goes with link " + l.Name})
		}
	}
	return ops
}

// lost returns the deletion of all that the snapshot knows to be on a link that
// is taken down on its way to another master, so that undoing it brings it back.
// IPv4 addresses stay (inetdev_event), others don't (addrconf_ifdown); those with
// a lifetime come back by themselves.
func (s *Snapshot) lost(ns NS, have, after Object) []Op {
	l, ok := have.(Link)
	if !ok || !after.(Link).ThroughDown(l) {
		return nil
	}
	return slices.DeleteFunc(s.dependents(ns, Link{Name: l.Name}), func(op Op) bool {
		a, ok := op.Before.(Addr)
		return ok && (a.Prefix.Addr().Is4() || a.Dynamic) || op.Before.Kind() == KindSysctl
	})
}

// order ranks objects so that what a thing needs comes before it.
func order(o Object) string {
	rank := "0"
	if r, ok := o.(Route); ok && r.Via.IsValid() {
		rank = "1"
	}
	return string(o.Kind()) + rank + o.String()
}

// goesWith reports whether the object is gone when link l of namespace lns is.
func goesWith(ns NS, o Object, lns NS, l Link) bool {
	if o.Kind() == KindLink {
		name := o.(Link).Name
		return ns == lns && name == l.Name || ns == l.Peer.NS && name == l.Peer.Name
	}
	d := o.Device()
	return d != "" && (ns == lns && d == l.Name || ns == l.Peer.NS && d == l.Peer.Name)
}
