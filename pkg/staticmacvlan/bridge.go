// SPDX-License-Identifier: Apache-2.0

package staticmacvlan

import (
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/spool"
)

// makeBridge makes the link of a VLANSubnet without a VLAN: the node's own macvlan on the master.
func makeBridge(l *spool.Link) error {
	if l.VLAN != 0 || l.Name == l.Master {
		return nil
	}
	k, err := kernel.OpenHost()
	if err != nil {
		return err
	}
	defer k.Close()
	snap := netstate.NewSnapshot()
	bridge := hostlink.Bridge{Name: l.Name, Parent: l.Master}
	if err := bridge.Observe(k, snap); err != nil {
		return err
	}
	var plan netstate.Plan
	if _, err := bridge.Want(&plan, snap, hostlink.Settings{RPFilter: -1}); err != nil {
		return err
	}
	ops, err := netstate.Diff(plan, snap)
	if err != nil {
		return err
	}
	return k.Apply(ops)
}
