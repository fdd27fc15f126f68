// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// Unused returns the deletion of the check of sources, if it exists and no link needs it
// except those in going, which are about to be removed.
func Unused(k *kernel.Namespaces, snap *netstate.Snapshot, going ...string) ([]netstate.Op, error) {
	if err := k.Host.FindSourceCheck(snap); err != nil {
		return nil, err
	}
	check, there := netstate.Get(snap, host, netstate.SourceCheck{})
	if !there {
		return nil, nil
	}
	needed, err := k.Host.ChecksSources(going...)
	if err != nil || needed {
		return nil, err
	}
	return []netstate.Op{{NS: host, Before: check, Why: "no link needs it any more"}}, nil
}
