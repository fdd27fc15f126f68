// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ErrLeft is in the error when not all that was done could be undone.
var ErrLeft = errors.New("not undone")

// errExists is in the error of an Apply that was to add what was there by then.
var errExists error = unix.EEXIST

// Again reports whether an Apply failed because of what shows only then, and has
// left nothing: somebody else made an object first, or nf_tables can't hold our
// table. Who observes and plans again takes it into account.
func Again(err error) bool {
	return (errors.Is(err, errExists) || errors.Is(err, errNoFamily)) && !errors.Is(err, ErrLeft)
}

// Apply does the operations in order. When one fails, those before it are
// undone, and it as well, for its answer may be all that was lost; but not one
// that was refused because somebody else's object is there. The error names the
// object, and what could not be undone.
func (k *Kernel) Apply(ops []netstate.Op) error {
	for i, op := range ops {
		if err := k.apply(op); err != nil {
			done := i + 1
			if errors.Is(err, errExists) && op.Before == nil {
				done = i
			}
			return k.Undo(ops[:done], fmt.Errorf("%s: %w", op.Describe(), err))
		}
	}
	if err := k.activate(ops); err != nil {
		return k.Undo(ops, err)
	}
	return nil
}

// Undo undoes operations because of an error, and returns it with what could
// not be undone.
func (k *Kernel) Undo(ops []netstate.Op, err error) error {
	var left error
	for _, op := range netstate.Undo(ops) {
		// What was to be deleted, and wasn't, is still there.
		if e := k.Remove([]netstate.Op{op}); op.Before != nil || !errors.Is(e, errExists) {
			left = errors.Join(left, e)
		}
	}
	left = errors.Join(left, k.undoShared(netstate.Reverse(ops)))
	if left != nil {
		return fmt.Errorf("%w; %w: %w", err, ErrLeft, left)
	}
	return err
}

// undoShared takes away the rules that lead to a table in which nobody has a
// route. Every other ADD that is under way is waited for: it may rely on them.
// Links that pods share stay.
func (k *Kernel) undoShared(ops []netstate.Op) error {
	var errs []error
	for _, op := range ops {
		rule, ok := op.Before.(netstate.Rule)
		if !op.Shared || !ok {
			continue
		}
		if err := k.LockHost(true); err != nil {
			return err
		}
		routes, err := k.Host.routes(rule.Family, rule.Table, 0)
		if err == nil && len(routes) == 0 {
			err = k.apply(op)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// activate returns when the links that were set up carry packets. A link that
// comes up before its carrier does is made ready by the kernel later on, when
// nobody keeps it busy (net/core/link_watch.c), and drops what it is given until
// then; asking for a link does that first, since Linux 6.8.
func (k *Kernel) activate(ops []netstate.Op) error {
	for _, op := range ops {
		before, _ := op.Before.(netstate.Link)
		if after, ok := op.After.(netstate.Link); ok && after.Up && !before.Up {
			if _, _, err := k.Space(op.NS).fetchLink(after.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove does as many of the operations as it can, in order, and returns what
// went wrong with the others.
func (k *Kernel) Remove(ops []netstate.Op) error {
	var errs []error
	for _, op := range ops {
		if err := k.apply(op); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", op.Describe(), err))
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) apply(op netstate.Op) error {
	s := k.Space(op.NS)
	var err error
	switch op.Object().(type) {
	case netstate.Link:
		err = k.applyLink(s, op)
	case netstate.Addr:
		err = s.applyAddr(op)
	case netstate.Route:
		err = s.applyRoute(op)
	case netstate.Rule:
		err = s.applyRule(op)
	case netstate.Neigh:
		err = s.applyNeigh(op)
	case netstate.Sysctl:
		err = s.applySysctl(op)
	case netstate.Mark:
		err = s.applyMark(op)
	default:
		return fmt.Errorf("object of type %T: %w", op.Object(), errors.ErrUnsupported)
	}
	if op.After == nil && gone(err) {
		return nil
	}
	return err
}

// gone reports whether a deletion failed because there is nothing to delete.
func gone(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
