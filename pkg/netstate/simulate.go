// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"errors"
	"fmt"
)

// The kernel's answers to operations that it refuses.
var (
	ErrExists      = errors.New("file exists")
	ErrNotFound    = errors.New("no such object")
	ErrNoDevice    = errors.New("no such device")
	ErrNetworkDown = errors.New("network is down")
	ErrUnreachable = errors.New("nexthop has invalid gateway")
	ErrInvalidSrc  = errors.New("invalid preferred source")
)

// Apply does to the snapshot what the kernel would do. A link is deleted with all
// that is on it. Both ends of a veth come and go together. An operation that the
// kernel would refuse is an error. Sysctls and neighbours may be written even if
// they were never read.
func (s *Snapshot) Apply(op Op) error {
	if err := s.apply(op); err != nil {
		return fmt.Errorf("%s: %w", op.Describe(), err)
	}
	return nil
}

// Assume records the result of operations. It does not check that the kernel would
// accept them.
func (s *Snapshot) Assume(ops []Op) {
	for _, op := range ops {
		if op.Before != nil {
			delete(s.objects, keyInNamespace{op.NS, op.Before.Key()})
		}
		if op.After != nil {
			s.Put(op.NS, op.After)
		}
	}
	clear(s.sorted)
}

func (s *Snapshot) apply(op Op) error {
	clear(s.sorted)
	if op.Before != nil {
		if have := s.objects[keyInNamespace{op.NS, op.Before.Key()}]; have != op.Before {
			return ErrNotFound
		}
	}
	switch after := op.After.(type) {
	case nil:
		return s.remove(op.NS, op.Before)
	case Link:
		return s.applyLink(op, after)
	default:
		if err := s.obstacleTo(op); err != nil {
			return err
		}
		if op.Before != nil {
			delete(s.objects, keyInNamespace{op.NS, op.Before.Key()})
		}
		s.Put(op.NS, after)
		return nil
	}
}

func (s *Snapshot) remove(ns NS, o Object) error {
	if l, ok := o.(Link); ok {
		for r, other := range s.objects {
			if goesWith(r.ns, other, ns, l) {
				delete(s.objects, r)
			}
		}
		return nil
	}
	delete(s.objects, keyInNamespace{ns, o.Key()})
	return nil
}

func (s *Snapshot) applyLink(op Op, after Link) error {
	if op.Before == nil {
		if _, ok := Get(s, op.NS, after); ok {
			return ErrExists
		}
		if after.Parent != "" {
			if _, ok := Get(s, op.NS, Link{Name: after.Parent}); !ok {
				return ErrNoDevice
			}
		}
		if after.Peer.Name != "" {
			far := peerOf(op.NS, after)
			if _, ok := Get(s, after.Peer.NS, far); ok {
				return ErrExists
			}
			s.Put(after.Peer.NS, far)
		}
	}
	if after.Master != "" {
		if _, ok := Get(s, op.NS, Link{Name: after.Master}); !ok {
			return ErrNoDevice
		}
	}
	if before, ok := op.Before.(Link); ok && (before.Up && !after.Up || after.ThroughDown(before)) {
		s.flush(op.NS, after.Name)
	}
	s.Put(op.NS, after)
	return nil
}

// flush removes the objects that a link loses when it goes down: routes
// (fib_disable_ip, rt6_disable_ip) and neighbours (neigh_ifdown).
func (s *Snapshot) flush(ns NS, dev string) {
	for r, o := range s.objects {
		if k := o.Kind(); r.ns == ns && o.Device() == dev && (k == KindRoute || k == KindNeigh) {
			delete(s.objects, r)
		}
	}
}

// obstacleTo returns the kernel's reason to refuse adding or changing an object
// that is not a link, or nil.
func (s *Snapshot) obstacleTo(op Op) error {
	after := op.After
	if _, taken := s.objects[keyInNamespace{op.NS, after.Key()}]; taken && op.Before == nil {
		return ErrExists
	}
	dev := after.Device()
	if dev == "" {
		return nil
	}
	l, ok := Get(s, op.NS, Link{Name: dev})
	if !ok {
		return ErrNoDevice
	}
	// The kernel accepts a neighbour on a link that is down, but loses it when the
	// link's state changes. So such a plan is a mistake.
	if k := after.Kind(); !l.Up && (k == KindRoute || k == KindNeigh) {
		return ErrNetworkDown
	}
	route, ok := after.(Route)
	if !ok {
		return nil
	}
	switch {
	case op.Before == nil && s.occupant(op.NS, after) != nil:
		return ErrExists
	case route.Via.IsValid() && !route.Onlink && !s.onLink(op.NS, route):
		return ErrUnreachable
	case route.Src.IsValid() && !s.isLocal(op.NS, route):
		return ErrInvalidSrc
	}
	return nil
}

// onLink reports whether the route's gateway is a neighbour on its link, according
// to a route of table main or an address of the link.
func (s *Snapshot) onLink(ns NS, route Route) bool {
	if route.Via.Is6() && route.Via.IsLinkLocalUnicast() {
		return true
	}
	for r, o := range s.objects {
		if r.ns != ns || o.Device() != route.Dev {
			continue
		}
		switch t := o.(type) {
		case Route:
			if t.Table == TableMain && !t.Via.IsValid() && t.Dst.Contains(route.Via) {
				return true
			}
		case Addr:
			if t.Prefix.Contains(route.Via) {
				return true
			}
		}
	}
	return false
}

// isLocal reports whether the namespace has the route's preferred source address.
// A snapshot does not hold the node's addresses, so on the node every source is
// taken for local.
func (s *Snapshot) isLocal(ns NS, route Route) bool {
	if ns == Host {
		return true
	}
	for r, o := range s.objects {
		if a, ok := o.(Addr); ok && r.ns == ns && a.Prefix.Addr() == route.Src {
			return true
		}
	}
	return false
}
