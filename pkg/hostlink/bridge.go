// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"fmt"
	"strings"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// Bridge is a macvlan in bridge mode that the node has beside those of its pods,
// on one parent: the only neighbour by which they and their node can reach each
// other without a device for each. All pods on that parent share it, and it
// outlives them. The name is the one that it gets when it is made: whatever it is
// called by then, a parent has one of ours.
type Bridge struct {
	Name   string
	Parent string // any of its names
}

// On returns the bridge that a parent has by default: its name is the parent's
// and ".host", cut to what an interface name can hold.
func On(parent string) Bridge {
	name := parent + ".host"
	if len(name) > 15 {
		name = fmt.Sprintf("mvhost%08x", uint32(attachment.Hash("bridge", parent)))
	}
	return Bridge{Name: name, Parent: parent}
}

// mark begins the ifalias of every bridge of ours. It is of no attachment.
const mark = netstate.AliasPrefix + "bridge/"

// mode is the one in which macvlans reach each other: both the sender's and the
// receiver's must be in it (macvlan_queue_xmit of drivers/net/macvlan.c).
const mode = "bridge"

// Observe reads the parent and the bridge. Where that isn't up yet, one ADD makes
// it: the others wait here, and find it. It is up when it is done; who took it for
// done before would put it down once more, as it was seen.
func (b Bridge) Observe(k *kernel.Namespaces, snap *netstate.Snapshot) error {
	if err := b.Look(k, snap); err != nil {
		return err
	}
	if l, ok := b.Find(snap); ok && l.Up {
		return nil
	}
	// The lock is the parent's, for a bridge may have several names.
	if err := k.LockLinks(netstate.RealName(snap, host, b.Parent)); err != nil {
		return err
	}
	if err := k.Host.ReadLink(snap, b.Name); err != nil {
		return err
	}
	return k.Host.ReadType(snap, "macvlan")
}

// Look reads them without a lock. The bridge is asked for by its name first: that is
// all where it has no other.
func (b Bridge) Look(k *kernel.Namespaces, snap *netstate.Snapshot) error {
	for _, name := range []string{b.Parent, b.Name} {
		if err := k.Host.ReadLink(snap, name); err != nil {
			return err
		}
	}
	if _, ok := b.Find(snap); ok {
		return nil
	}
	return k.Host.ReadType(snap, "macvlan")
}

// Find returns the bridge of the parent: the macvlan there of that name, or else one
// that is ours, or else one with the MAC that ours would have, which can't be there
// twice (macvlan_addr_busy).
func (b Bridge) Find(snap *netstate.Snapshot) (netstate.Link, bool) {
	parent, _ := netstate.NamedLink(snap, host, b.Parent)
	named, _ := netstate.NamedLink(snap, host, b.Name)
	for _, is := range []func(netstate.Link) bool{
		func(l netstate.Link) bool { return l.Name == named.Name },
		func(l netstate.Link) bool { return b.Made(l) && l.Details.Get("mode") == mode },
		func(l netstate.Link) bool { return l.MAC == macOn(parent) },
	} {
		for _, l := range netstate.All[netstate.Link](snap, host) {
			if l.Type == "macvlan" && l.Parent == parent.Name && is(l) {
				return l, true
			}
		}
	}
	return netstate.Link{}, false
}

// macOn is the MAC of a parent's bridge, out of the parent's: so it is the same after
// the bridge was made anew, and every pod's neighbour entry still fits.
func macOn(parent netstate.Link) netstate.MAC {
	return attachment.EndMAC("bridge", parent.MAC.String())
}

// Check says what keeps the bridge from being made or used: it has no parent, or
// its name is another link's.
func (b Bridge) Check(snap *netstate.Snapshot) error {
	parent, ok := netstate.NamedLink(snap, host, b.Parent)
	if !ok {
		return fmt.Errorf("host: link %s: no such device", b.Parent)
	}
	l, ok := b.Find(snap)
	if !ok {
		l, ok = netstate.NamedLink(snap, host, b.Name)
	}
	want := netstate.Link{Name: b.Name, Type: "macvlan", Parent: parent.Name, Details: netstate.NewDetails("mode", mode)}
	if !ok || l.Type == want.Type && l.Parent == want.Parent && l.Details == want.Details {
		return nil
	}
	got := netstate.Link{Name: l.Name, Type: l.Type, Parent: l.Parent, Details: l.Details}
	return fmt.Errorf("host: link is %s, want %s: rename or delete it", got, want)
}

// Want wants the bridge, with the settings that it needs before it is up, and
// returns it as it will be.
func (b Bridge) Want(plan *netstate.Plan, snap *netstate.Snapshot, s Settings) (netstate.Link, error) {
	if err := b.Check(snap); err != nil {
		return netstate.Link{}, err
	}
	parent, _ := netstate.NamedLink(snap, host, b.Parent)
	l := netstate.Link{
		Name: b.Name, Type: "macvlan", Parent: parent.Name, Details: netstate.NewDetails("mode", mode),
		MAC: macOn(parent), Alias: mark + parent.Name, Group: s.Group(),
	}
	if there, ok := b.Find(snap); ok {
		l.Name, l.MAC = there.Name, there.MAC // whoever made it
		switch {
		case !there.Owned():
			l.Alias, l.Group = "", 0
		case there.Alias != netstate.Unnamed:
			l.Alias = there.Alias // of the parent's former name
		}
	}
	plan.WantShared(host, "the node's own macvlan beside those of its pods", l)
	s.Want(plan, l)
	plan.Want(host, "the node's addresses are its NIC's, for the LAN", netstate.Sysctl{Family: netstate.IPv4, Dev: l.Name, Name: "arp_ignore", Value: 1})
	plan.WantShared(host, "it is up when it is safe", netstate.Link{Name: l.Name, Up: true})
	return l, nil
}

// Made reports whether a plugin of ours made a macvlan as the bridge of the parent that
// it is on.
func (Bridge) Made(l netstate.Link) bool {
	return strings.HasPrefix(l.Alias, mark) || l.Alias == netstate.Unnamed
}

// CanShare returns an error for a NIC that keeps its parent from having a macvlan, or
// that a macvlan there can't reach.
func CanShare(nic netstate.Link, parent string) error {
	switch got := nic.Details.Get("mode"); {
	case nic.Type == "ipvlan":
		return config.Invalid("pod: link %s is an ipvlan: macvlan and ipvlan can't share %s (EBUSY)", nic.Name, parent)
	case nic.Type == "vlan":
		return config.Invalid("pod: link %s is a vlan: the node's macvlan on %s neither sends nor takes tagged frames: make %s a macvlan in mode %s on a VLAN of the node's", nic.Name, parent, nic.Name, mode)
	case nic.Type == "macvlan" && got != "" && got != mode:
		return config.Invalid("pod: link %s is a macvlan in mode %s, which the node's macvlan on %s doesn't reach: want mode %s in the macvlan plugin", nic.Name, got, parent, mode)
	}
	return nil
}
