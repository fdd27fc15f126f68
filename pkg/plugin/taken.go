// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// refuseTaken returns an error if one of the operations would take from another
// pod what leads to it. On a link of a pod's own that is told by the link, in the
// [netstate.Conflict] that there is instead of operations; on one that pods share,
// or that is another CNI's, by the record of whoever has the address.
func (t *Task) refuseTaken(ops []netstate.Op, err error) error {
	if c := (*netstate.Conflict)(nil); errors.As(err, &c) {
		ops = []netstate.Op{{NS: c.NS, Before: c.Have, After: c.Want}}
	}
	for _, op := range ops {
		addr, moves := moved(op)
		if !moves {
			continue
		}
		owner, unknown := t.owner(addr)
		if owner != nil {
			return fmt.Errorf("%s: %s is link %s's of container %s in network %s: %s is in the way of %s",
				op.NS, addr, owner.IfName, owner.ContainerID, owner.Network, netstate.Words(op.Before), op.After)
		}
		if err == nil {
			err = unknown
		}
	}
	return err
}

// moved returns the address that an operation leads elsewhere on the node.
func moved(op netstate.Op) (addr netip.Addr, ok bool) {
	if op.NS != netstate.Host || op.Before == nil || op.After == nil {
		return addr, false
	}
	switch before := op.Before.(type) {
	case netstate.Route:
		return before.Dst.Addr(), before.Dst.IsSingleIP() && before.Dev != op.After.Device()
	case netstate.Neigh:
		after, same := op.After.(netstate.Neigh)
		return before.Dst, same && before.Permanent && before.MAC != after.MAC
	}
	return addr, false
}

// owner returns the record of another pod that still has the address, nil if there
// is none. What a dead one had is free, even before its DEL.
func (t *Task) owner(addr netip.Addr) (*kernel.Record, error) {
	var errs []error
	for _, set := range []kernel.Records{kernel.NodeRoutes, kernel.BridgeRoutes} {
		records, err := set.Read("")
		errs = append(errs, err)
		for _, r := range records {
			if r.ContainerID == t.ContainerID || !r.Has(addr) {
				continue
			}
			holds, err := t.Kernel.Holds(r.Netns, addr)
			if holds {
				return &r, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}
