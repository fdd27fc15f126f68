// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ErrLeft is in the error of an Apply that couldn't undo all it had done.
var ErrLeft = errors.New("not undone")

// ErrExists is in the error of an Apply that was to add what was there by then.
var ErrExists error = unix.EEXIST

// Apply does the operations in order. When one fails, those before it are
// undone, and it as well: a request that was answered with an error may have
// been carried out, except where the object is another's. The error names the
// object, and what could not be undone.
func (k *Kernel) Apply(ops []netstate.Op) error {
	for i, op := range ops {
		if err := k.apply(op); err != nil {
			err = fmt.Errorf("%s: %w", op.Describe(), err)
			done := i + 1
			if errors.Is(err, ErrExists) && op.Before == nil {
				done = i
			}
			if left := k.Remove(netstate.Reverse(ops[:done])); left != nil {
				err = fmt.Errorf("%w; %w: %w", err, ErrLeft, left)
			}
			return err
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
