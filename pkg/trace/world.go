// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/survey"
)

// World is the pod and its node.
type World struct {
	inspect.State
	Spaces map[netstate.NS]*fib.Namespace
	// Ask puts a question to the kernel of a namespace.
	Ask func(netstate.NS, fib.Flow) (fib.Answer, error)
}

// Follow reads the pod and its node and follows a packet. If the kernel disagrees, it
// does both once more: the state may have changed in between.
func Follow(k *kernel.Namespaces, q Query) (*Trace, error) {
	for try := 1; ; try++ {
		world, err := Read(k)
		if err != nil {
			return nil, err
		}
		t, err := world.Do(q)
		if err != nil || t.Err() == nil || try == 2 {
			return t, err
		}
	}
}

// Read reads the state that a trace depends on.
func Read(k *kernel.Namespaces) (w World, err error) {
	w.Spaces = map[netstate.NS]*fib.Namespace{}
	w.Ask = func(ns netstate.NS, f fib.Flow) (fib.Answer, error) { return survey.Decide(k.Of(ns), f) }
	if w.State, err = inspect.Read(k); err != nil {
		return w, err
	}
	for _, ns := range []netstate.NS{netstate.Host, netstate.Pod} {
		space, failed := survey.ReadFIB(k.Of(ns))
		w.Spaces[ns], err = space, errors.Join(err, failed)
	}
	return w, err
}
