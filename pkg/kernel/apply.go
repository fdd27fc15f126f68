// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// errExists is in the error of Apply when another process added the same object first.
var errExists error = unix.EEXIST

// Retryable reports whether the caller may observe, plan and apply again after an error
// of Apply: another process made an object first, or nf_tables can't hold our table. A
// new observation shows either. After an incomplete undo it reports false.
func Retryable(err error) bool {
	return (errors.Is(err, errExists) || errors.Is(err, errNoFamily)) && !errors.Is(err, netstate.ErrNotUndone)
}

// Apply does the operations in order. When one fails, Apply undoes it, those before it
// and those that were sent with it: the kernel may have done the failed one, and only its
// answer was lost. Apply doesn't undo an addition that the kernel refused with EEXIST: the
// object is another process's. The error names the object, and what could not be undone.
func (k *Namespaces) Apply(ops []netstate.Op) error {
	for done := 0; done < len(ops); {
		group := ops[done : done+batchSize(ops[done:])]
		errs := k.applyGroup(group)
		for i, err := range errs {
			if err != nil {
				touched := append(ops[:done:done], notRefused(group, errs)...)
				return k.Undo(touched, fmt.Errorf("%s: %w", group[i].Describe(), because(group[i], err)))
			}
		}
		done += len(group)
	}
	if err := k.awaitCarriers(ops); err != nil {
		return k.Undo(ops, err)
	}
	return nil
}

// notRefused returns the operations that the kernel did or may have done.
func notRefused(ops []netstate.Op, errs []error) []netstate.Op {
	var out []netstate.Op
	for i, op := range ops {
		if op.Before != nil || !errors.Is(errs[i], errExists) {
			out = append(out, op)
		}
	}
	return out
}

// errKept is the reason why Remove leaves an object that it could remove.
var errKept = errors.New("kept, because DEL finds by it what else is left")

// Undo undoes the operations. It returns err, together with the errors of what it could
// not undo.
func (k *Namespaces) Undo(ops []netstate.Op, err error) error {
	left := errors.Join(k.Remove(netstate.Undo(ops)), k.undoShared(netstate.Reverse(ops)))
	if left != nil {
		return fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, left)
	}
	return err
}

// isRouting reports whether an operation is on a route or a rule of the pod's.
func isRouting(op netstate.Op) bool {
	switch op.Object().(type) {
	case netstate.Route, netstate.Rule:
		return op.NS == netstate.Pod
	}
	return false
}

// undoShared removes the rules that lead to a table without routes, and the check of
// sources if no link is in its group. Before that it waits for every other ADD that is
// under way, because that may rely on them. Links that pods share stay.
func (k *Namespaces) undoShared(ops []netstate.Op) error {
	var errs []error
	for _, op := range ops {
		_, isLink := op.Before.(netstate.Link)
		if !op.Shared || op.Before == nil || isLink {
			continue
		}
		used, err := k.Host.reliesOn(op.Before)
		if err == nil && !used { // an object in use stays, without waiting
			if err := k.LockHost(true); err != nil {
				return err
			}
			used, err = k.Host.reliesOn(op.Before)
		}
		if err == nil && !used {
			err = k.Remove([]netstate.Op{op})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reliesOn reports whether a rule that pods share leads to a table with routes, or whether
// the check of sources has a link to check.
func (s *Namespace) reliesOn(o netstate.Object) (bool, error) {
	if rule, ok := o.(netstate.Rule); ok {
		routes, err := s.routes(rule.Family, rule.Table, 0)
		return len(routes) > 0, err
	}
	return s.ChecksSources()
}

// awaitCarriers returns when the links that were set up carry packets. When a link is up
// before its carrier, the kernel activates it later, from a work queue
// (net/core/link_watch.c), and the link drops packets until then. Since Linux 6.8 a
// request for the link activates it at once.
func (k *Namespaces) awaitCarriers(ops []netstate.Op) error {
	for _, op := range ops {
		before, _ := op.Before.(netstate.Link)
		if after, ok := op.After.(netstate.Link); ok && after.Up && !before.Up {
			if _, _, err := k.Of(op.NS).fetchLink(after.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove does as many of the operations as it can, in order, and returns the errors of the
// others. It is no error if an object to put back is there already, or if an object to
// change or delete is gone, for example with the pod.
//
// When an operation on a route, rule or neighbour of the pod fails, all later operations on
// the pod's routes and rules are left out: DEL finds the tables by the rules, the routes
// that were moved out of main in these tables, and the neighbours by the routes. When a
// member can't be taken out of a bond, the bond stays: the kernel would let the member go,
// but leave it down (__bond_release_one in drivers/net/bonding/bond_main.c), and DEL
// wouldn't know it any more.
func (k *Namespaces) Remove(ops []netstate.Op) error {
	var errs []error
	keep := false
	keepLinks := map[string]bool{}
	for len(ops) > 0 {
		group := ops[:batchSize(ops)]
		ops = ops[len(group):]
		if keep && isRouting(group[0]) {
			for _, op := range group {
				errs = append(errs, fmt.Errorf("%s: %w", op.Describe(), errKept))
			}
			continue
		}
		if l, ok := group[0].Before.(netstate.Link); ok && group[0].After == nil && keepLinks[l.Name] {
			errs = append(errs, fmt.Errorf("%s: %w", group[0].Describe(), errKept))
			continue
		}
		for i, err := range k.applyGroup(group) {
			op := group[i]
			if err == nil || op.Before == nil && errors.Is(err, errExists) || op.Before != nil && isGone(err) {
				continue
			}
			_, isNeigh := op.Object().(netstate.Neigh)
			keep = keep || isRouting(op) || isNeigh && op.NS == netstate.Pod
			if member, ok := op.Before.(netstate.Link); ok && member.Master != "" {
				keepLinks[member.Master] = true
			}
			errs = append(errs, fmt.Errorf("%s: %w", op.Describe(), err))
		}
	}
	return errors.Join(errs...)
}

// maxBatch is the number of requests that are sent at once. A socket takes some thousands
// (net.core.wmem_default).
const maxBatch = 100

// batchSize returns how many of the operations, from the first on, are sent as one
// datagram: only additions, or only deletions of objects of one kind, in one namespace. So
// a deletion isn't sent together with the addition that replaces the object: that may
// fail. And a rule isn't deleted together with a route, whose deletion may fail.
func batchSize(ops []netstate.Op) int {
	first, n := ops[0], 1
	fits := func(op netstate.Op) bool {
		return isRequest(op) && op.NS == first.NS && (op.After == nil) == (first.After == nil) &&
			(op.After != nil || op.Object().Kind() == first.Object().Kind())
	}
	for isRequest(first) && n < min(len(ops), maxBatch) && fits(ops[n]) {
		n++
	}
	return n
}

// isRequest reports whether one request does the operation: the addition or deletion of
// an address, route, rule or neighbour.
func isRequest(op netstate.Op) bool {
	switch op.Object().(type) {
	case netstate.Addr, netstate.Route, netstate.Rule, netstate.Neigh:
		return op.Before == nil || op.After == nil
	}
	return false
}

// applyGroup does operations in one namespace, sends their requests as one datagram, and
// returns the error of each.
func (k *Namespaces) applyGroup(ops []netstate.Op) []error {
	errs := make([]error, len(ops))
	s := k.Of(ops[0].NS)
	var reqs []*nl.NetlinkRequest
	var of []int // the index of each request's operation
	for i, op := range ops {
		var req *nl.NetlinkRequest
		switch o := op.Object().(type) {
		case netstate.Link:
			errs[i] = k.applyLink(s, op)
		case netstate.Addr:
			req, errs[i] = s.addrRequest(op, o)
		case netstate.Route:
			req, errs[i] = s.routeRequest(op, o)
		case netstate.Rule:
			req = rtnetlink.RuleRequest(op, o)
		case netstate.Neigh:
			req, errs[i] = s.neighRequest(op, o)
		case netstate.Sysctl:
			errs[i] = s.applySysctl(op)
		case netstate.Mark:
			errs[i] = s.applyMark(op)
		case netstate.SourceCheck:
			errs[i] = s.applySourceCheck(op)
		default:
			errs[i] = fmt.Errorf("object of type %T: %w", o, errors.ErrUnsupported)
		}
		if req != nil {
			reqs, of = append(reqs, req), append(of, i)
		}
	}
	if len(reqs) > 0 {
		for j, err := range s.conn.DoAll(nil, reqs) {
			errs[of[j]] = err
		}
	}
	for i, op := range ops {
		if alreadySo(op, errs[i]) {
			errs[i] = nil
		}
	}
	return errs
}

// alreadySo reports whether an operation failed because its result is there already: the
// object to delete is gone, or another pod's ADD added the rule first.
func alreadySo(op netstate.Op, err error) bool {
	switch op.After.(type) {
	case nil:
		return isGone(err)
	case netstate.Rule:
		return errors.Is(err, errExists)
	}
	return false
}

// isGone reports whether err is the kernel's answer for an object that doesn't exist.
func isGone(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
