// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"fmt"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Bridge is a macvlan in bridge mode that the node has beside those of its pods,
// on one parent: the only neighbour by which they and their node can reach each
// other without a device for each. All pods on that parent share it, and it
// outlives them.
type Bridge struct {
	Name   string
	Parent string
}

// On returns the bridge that a parent has by default: its name is the parent's
// and ".host", cut to what an interface name can hold.
func On(parent string) Bridge {
	name := parent + ".host"
	if len(name) > 15 {
		name = fmt.Sprintf("mvhost%08x", uint32(plugin.Hash("bridge", parent)))
	}
	return Bridge{Name: name, Parent: parent}
}

// alias is an ifalias that is of no attachment.
func (b Bridge) alias() string { return netstate.AliasPrefix + "bridge/" + b.Parent }

// Observe reads the bridge and its parent. Where there is none yet, one ADD makes
// it: the others wait here, and find it. It is up when it is done; who took it for
// done before would put it down once more, as it was seen.
func (b Bridge) Observe(k *kernel.Kernel, snap *netstate.Snapshot) error {
	for _, name := range []string{b.Parent, b.Name} {
		if err := k.Host.ReadLink(snap, name); err != nil {
			return err
		}
	}
	if l, ok := netstate.Get(snap, host, netstate.Link{Name: b.Name}); ok && l.Up {
		return nil
	}
	if err := k.LockLinks(b.Name); err != nil {
		return err
	}
	return k.Host.ReadLink(snap, b.Name)
}

// Check says what keeps the bridge from being made or used: it has no parent, or
// its name is another link's.
func (b Bridge) Check(snap *netstate.Snapshot) error {
	if _, ok := netstate.Get(snap, host, netstate.Link{Name: b.Parent}); !ok {
		return fmt.Errorf("host: link %s: no such device", b.Parent)
	}
	l, ok := netstate.Get(snap, host, netstate.Link{Name: b.Name})
	if !ok {
		return nil
	}
	want := netstate.Link{Name: b.Name, Type: "macvlan", Parent: b.Parent, Details: netstate.NewDetails("mode", "bridge")}
	got := netstate.Link{Name: l.Name, Type: l.Type, Parent: l.Parent, Details: l.Details}
	if got != want {
		return fmt.Errorf("host: link is %s, want %s", got, want)
	}
	return nil
}

// Want wants the bridge, with the settings that it needs before it is up, and
// returns it as it will be.
func (b Bridge) Want(plan *netstate.Plan, snap *netstate.Snapshot, s Settings) (netstate.Link, error) {
	if err := b.Check(snap); err != nil {
		return netstate.Link{}, err
	}
	parent, _ := netstate.Get(snap, host, netstate.Link{Name: b.Parent})
	l := netstate.Link{
		Name: b.Name, Type: "macvlan", Parent: b.Parent, Details: netstate.NewDetails("mode", "bridge"),
		// Of the parent's, so that it is the same after the bridge was made anew
		// and every pod's neighbour entry still fits.
		MAC: plugin.EndMAC("bridge", parent.MAC.String()), Alias: b.alias(), Group: s.Group(),
	}
	if there, ok := netstate.Get(snap, host, l); ok {
		l.MAC = there.MAC // whoever made it
		if !there.Owned() {
			l.Alias, l.Group = "", 0
		}
	}
	plan.WantShared(host, "the node's own macvlan beside those of its pods", l)
	s.Want(plan, l.Name)
	plan.Want(host, "the node's addresses are its NIC's, for the LAN", netstate.Sysctl{Family: netstate.IPv4, Dev: l.Name, Name: "arp_ignore", Value: 1})
	plan.WantShared(host, "it is up when it is safe", netstate.Link{Name: l.Name, Up: true})
	return l, nil
}

// Made reports whether a link is a bridge that a plugin of ours made.
func (b Bridge) Made(l netstate.Link) bool {
	return l.Name == b.Name && (l.Alias == b.alias() || l.Alias == netstate.Unnamed)
}

// CanShare returns an error for a NIC that keeps its parent from having a macvlan.
func CanShare(nic netstate.Link, parent string) error {
	if nic.Type != "ipvlan" {
		return nil
	}
	return fmt.Errorf("pod: link %s is an ipvlan: macvlan and ipvlan can't share %s (EBUSY)", nic.Name, parent)
}
