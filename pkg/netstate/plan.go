// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"fmt"
	"slices"
)

// Item is an object of a plan in its namespace.
type Item struct {
	NS     NS
	Object Object
	Why    string // the reason, for people
	Shared bool   // Undo leaves it: others use it, too, or may do so at once
}

// Plan is the state that a plugin wants. Additions come before deletions, so that
// every packet finds the old objects or the new ones.
type Plan struct {
	Present []Item // must exist; in an order in which they can be added
	Absent  []Item // must not exist
}

// Want adds an object that must exist.
func (p *Plan) Want(ns NS, why string, o Object) {
	p.Present = append(p.Present, Item{NS: ns, Object: o, Why: why})
}

// WantShared adds an object that must exist and that others use, too. Undo leaves
// it.
func (p *Plan) WantShared(ns NS, why string, o Object) {
	p.Present = append(p.Present, Item{NS: ns, Object: o, Why: why, Shared: true})
}

// Unwant adds an object that must not exist. If o carries our mark, a foreign
// object with the same key stays.
func (p *Plan) Unwant(ns NS, why string, o Object) {
	p.Absent = append(p.Absent, Item{NS: ns, Object: o, Why: why})
}

// Drop adds an object that must not exist, and that Undo does not bring back. It
// is for objects without a purpose, which the kernel might even refuse.
func (p *Plan) Drop(ns NS, why string, o Object) {
	p.Absent = append(p.Absent, Item{NS: ns, Object: o, Why: why, Shared: true})
}

// Wants reports whether an object with the key of o is in Present.
func (p *Plan) Wants(ns NS, o Object) bool {
	return slices.ContainsFunc(p.Present, func(w Item) bool { return w.NS == ns && w.Object.Key() == o.Key() })
}

// unwants reports whether an object with the key of o is in Absent. If such an
// object takes the place of a wanted one, Diff replaces it.
func (p *Plan) unwants(ns NS, o Object) bool {
	return slices.ContainsFunc(p.Absent, func(u Item) bool { return u.NS == ns && u.Object.Key() == o.Key() })
}

// Conflict is the error for an object of others that has the place of a wanted
// one.
type Conflict struct {
	NS   NS
	Want Object
	Have Object
	Link Object // the link of Have, if its alias names the owner; or nil
}

func (c *Conflict) Error() string {
	of := ""
	if c.Link != nil {
		of = fmt.Sprintf(" (link %s)", c.Link)
	}
	return fmt.Sprintf("%s: %s%s is in the way of %s", c.NS, Words(c.Have), of, c.Want)
}

// Diff returns the operations that lead from the snapshot to the plan. The list is
// empty if everything is as planned. The error is a [*Conflict], or says which
// operation the kernel would refuse.
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
			after = fill(after, have)
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
		case after.Kind() == KindRoute && isForeign(have.(Route), w.Object.(Route)) && !p.unwants(w.NS, have):
			return nil, &Conflict{NS: w.NS, Want: w.Object, Have: have}
		case work.linkInUse(w.NS, have, after) != nil:
			return nil, &Conflict{NS: w.NS, Want: w.Object, Have: have, Link: work.linkInUse(w.NS, have, after)}
		default:
			for _, op := range work.lostByDown(w.NS, have, after) {
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

// isForeign reports whether a route in the place of a wanted one belongs to other
// software or to another plugin, so that it must not be replaced. A wanted route
// without our mark is a copy of one that the NIC had before: it replaces any route
// of ours, and an earlier copy with other sizes.
func isForeign(have, want Route) bool {
	sized := have
	sized.MTU, sized.AdvMSS = want.MTU, want.AdvMSS
	return sized != want && (!have.Owned() || want.Owned() && have.Proto != want.Proto)
}

// linkInUse returns the link of an object if this suite made that link for another
// attachment. Its route is not taken away, even if it leads to an address that
// this attachment claims, unless [Snapshot.Free] was called for it.
func (s *Snapshot) linkInUse(ns NS, have, want Object) Object {
	if have.Device() == want.Device() || s.free[keyInNamespace{ns, have.Key()}] {
		return nil
	}
	if l, ok := Get(s, ns, Link{Name: have.Device()}); ok && l.Owned() {
		return l
	}
	return nil
}

// farEndTaken returns the conflict between a veth pair to be made and a link that
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

// occupant returns the route in the place of a wanted one: same table, destination
// and metric, but another next hop.
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

// dependents returns the deletion of all objects that would go with a link, so
// that the list can be reversed. It changes the far end of a veth back to what it
// was in the new pair.
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

// lostByDown returns the deletion of the objects that a link loses while it is
// down on its way to another master, so that undoing brings them back. IPv4
// addresses stay (inetdev_event). IPv6 addresses go (addrconf_ifdown), but those
// with a lifetime come back by themselves.
func (s *Snapshot) lostByDown(ns NS, have, after Object) []Op {
	l, ok := have.(Link)
	if !ok || !after.(Link).ThroughDown(l) {
		return nil
	}
	return slices.DeleteFunc(s.dependents(ns, Link{Name: l.Name}), func(op Op) bool {
		a, ok := op.Before.(Addr)
		return ok && (a.Prefix.Addr().Is4() || a.Dynamic) || op.Before.Kind() == KindSysctl
	})
}

// order returns a sort key: routes by a gateway come after the routes that lead to
// the gateway.
func order(o Object) string {
	rank := "0"
	if r, ok := o.(Route); ok && r.Via.IsValid() {
		rank = "1"
	}
	return string(o.Kind()) + rank + o.String()
}

// goesWith reports whether deleting link l of namespace lns also deletes the object.
func goesWith(ns NS, o Object, lns NS, l Link) bool {
	if o.Kind() == KindLink {
		name := o.(Link).Name
		return ns == lns && name == l.Name || ns == l.Peer.NS && name == l.Peer.Name
	}
	d := o.Device()
	return d != "" && (ns == lns && d == l.Name || ns == l.Peer.NS && d == l.Peer.Name)
}
