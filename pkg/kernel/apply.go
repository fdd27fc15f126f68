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

// errExists is in the error of an Apply that was to add what was there by then.
var errExists error = unix.EEXIST

// Retryable reports whether an Apply failed because of what shows only then, and has
// left nothing: somebody else made an object first, or nf_tables can't hold our
// table. Who observes and plans again takes it into account.
func Retryable(err error) bool {
	return (errors.Is(err, errExists) || errors.Is(err, errNoFamily)) && !errors.Is(err, netstate.ErrNotUndone)
}

// Apply does the operations in order. When one fails, those before it are
// undone, and it as well, for its answer may be all that was lost, and those that
// were sent with it; but not one that was refused because somebody else's object
// is there. The error names the object, and what could not be undone.
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

// notRefused returns those of the operations that may be done.
func notRefused(ops []netstate.Op, errs []error) []netstate.Op {
	var out []netstate.Op
	for i, op := range ops {
		if op.Before != nil || !errors.Is(errs[i], errExists) {
			out = append(out, op)
		}
	}
	return out
}

// errKept is why something is left that could have been undone.
var errKept = errors.New("kept, for DEL to find by it what else is left")

// Undo undoes operations because of an error, and returns it with what could
// not be undone.
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

// undoShared takes away the rules that lead to a table in which nobody has a
// route, and the check of sources if no link is in its group. Every other ADD that
// is under way is waited for: it may rely on them. Links that pods share stay.
func (k *Namespaces) undoShared(ops []netstate.Op) error {
	var errs []error
	for _, op := range ops {
		_, isLink := op.Before.(netstate.Link)
		if !op.Shared || op.Before == nil || isLink {
			continue
		}
		used, err := k.Host.reliesOn(op.Before)
		if err == nil && !used { // or else there is nothing to wait for
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

// reliesOn reports whether anything relies on a rule or check that pods share.
func (s *Namespace) reliesOn(o netstate.Object) (bool, error) {
	if rule, ok := o.(netstate.Rule); ok {
		routes, err := s.routes(rule.Family, rule.Table, 0)
		return len(routes) > 0, err
	}
	return s.ChecksSources()
}

// awaitCarriers returns when the links that were set up carry packets. A link that
// comes up before its carrier does is made ready by the kernel later on, when
// nobody keeps it busy (net/core/link_watch.c), and drops what it is given until
// then; asking for a link does that first, since Linux 6.8.
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

// Remove does as many of the operations as it can, in order, and returns what
// went wrong with the others. What it was to put back may be there, and what it was
// to change may be gone with the pod. From a route or neighbour of the pod's on that
// fails, the routes and rules behind it stay: by the rules DEL finds the tables, in the
// tables what was moved there out of main, and by the routes the neighbours.
func (k *Namespaces) Remove(ops []netstate.Op) error {
	var errs []error
	keep := false
	for len(ops) > 0 {
		group := ops[:batchSize(ops)]
		ops = ops[len(group):]
		if keep && isRouting(group[0]) {
			for _, op := range group {
				errs = append(errs, fmt.Errorf("%s: %w", op.Describe(), errKept))
			}
			continue
		}
		for i, err := range k.applyGroup(group) {
			op := group[i]
			if err == nil || op.Before == nil && errors.Is(err, errExists) || op.Before != nil && isGone(err) {
				continue
			}
			_, isNeigh := op.Object().(netstate.Neigh)
			keep = keep || isRouting(op) || isNeigh && op.NS == netstate.Pod
			errs = append(errs, fmt.Errorf("%s: %w", op.Describe(), err))
		}
	}
	return errors.Join(errs...)
}

// maxBatch is how many requests are sent at once: a socket takes some thousands of
// them (net.core.wmem_default).
const maxBatch = 100

// batchSize returns how many of the operations, from the first on, are sent as one
// datagram: all that are additions, or all that are deletions, in one namespace.
// So nothing is deleted after what takes its place could not be added; and, since
// deletions are of one kind, no rule with a route that could not be.
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

// isRequest reports whether the operation is an addition or deletion of what is
// made or removed by one request.
func isRequest(op netstate.Op) bool {
	switch op.Object().(type) {
	case netstate.Addr, netstate.Route, netstate.Rule, netstate.Neigh:
		return op.Before == nil || op.After == nil
	}
	return false
}

// applyGroup does operations that belong together, and returns the error of each.
func (k *Namespaces) applyGroup(ops []netstate.Op) []error {
	errs := make([]error, len(ops))
	s := k.Of(ops[0].NS)
	var reqs []*nl.NetlinkRequest
	var of []int // the operation that a request is for
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

// alreadySo reports whether an operation failed because things are as it would
// have made them: what it deletes isn't there, or another pod's ADD was there
// first with a rule that pods share.
func alreadySo(op netstate.Op, err error) bool {
	switch op.After.(type) {
	case nil:
		return isGone(err)
	case netstate.Rule:
		return errors.Is(err, errExists)
	}
	return false
}

// isGone reports whether something failed because its object isn't there any more.
func isGone(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
