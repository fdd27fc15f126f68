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

// Bridge is the node's own macvlan in bridge mode beside those of its pods, on one
// parent. Without a device for each pod, only such a macvlan lets pods and their node
// reach each other. All pods on the parent share it, and it outlives them. Name is its
// name at creation. It may have been renamed since: a parent has one bridge of ours,
// under any name.
type Bridge struct {
	Name   string
	Parent string // any of the parent's names
}

// On returns the default bridge of a parent. Its name is the parent's name with ".host",
// or a hash if that is too long for an interface name.
func On(parent string) Bridge {
	name := parent + ".host"
	if len(name) > 15 {
		name = fmt.Sprintf("mvhost%08x", uint32(attachment.Hash("bridge", parent)))
	}
	return Bridge{Name: name, Parent: parent}
}

// mark is the prefix of the ifalias of every bridge of ours. It names no attachment.
const mark = netstate.AliasPrefix + "bridge/"

// mode is the mode in which macvlans reach each other. Both the sender and the receiver
// must be in it (macvlan_queue_xmit in drivers/net/macvlan.c).
const mode = "bridge"

// Observe reads the parent and the bridge. If the bridge isn't up yet, one ADD makes it,
// and the others wait here and find it. A finished bridge is up. An ADD that took an
// unfinished one for finished would set it down again, as in its snapshot.
func (b Bridge) Observe(k *kernel.Namespaces, snap *netstate.Snapshot) error {
	if err := b.Look(k, snap); err != nil {
		return err
	}
	if l, ok := b.Find(snap); ok && l.Up {
		return nil
	}
	// The lock is on the parent: a bridge may have several names.
	if err := k.LockLinks(netstate.RealName(snap, host, b.Parent)); err != nil {
		return err
	}
	if err := k.Host.ReadLink(snap, b.Name); err != nil {
		return err
	}
	return k.Host.ReadType(snap, "macvlan")
}

// Look reads the parent and the bridge without a lock. It asks for the bridge by name
// first, which is enough unless it was renamed.
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

// Find returns the parent's bridge: the macvlan of that name on the parent, or else one
// that a plugin of ours made, or else one with the MAC of our bridge, which no second
// macvlan on the parent can have (macvlan_addr_busy in drivers/net/macvlan.c).
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

// macOn returns the MAC of a parent's bridge, derived from the parent's MAC. A bridge
// that is made again has the same MAC, so the neighbour entries of pods stay right.
func macOn(parent netstate.Link) netstate.MAC {
	return attachment.EndMAC("bridge", parent.MAC.String())
}

// Check returns an error if the bridge can't be made or used: its parent doesn't exist,
// or another link has its name.
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

// Want wants the bridge, with the settings that it needs before it is up. It returns the
// bridge as it will be.
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
		l.Name, l.MAC = there.Name, there.MAC // keep them, even if another program made it
		switch {
		case !there.Owned():
			l.Alias, l.Group = "", 0
		case there.Alias != netstate.Unnamed:
			l.Alias = there.Alias // it may have the parent's former name
		}
	}
	plan.WantShared(host, "the node's own macvlan beside those of its pods", l)
	s.Want(plan, l)
	plan.Want(host, "the node's addresses are its NIC's, for the LAN", netstate.Sysctl{Family: netstate.IPv4, Dev: l.Name, Name: "arp_ignore", Value: 1})
	plan.WantShared(host, "it is up when it is safe", netstate.Link{Name: l.Name, Up: true})
	return l, nil
}

// Made reports whether a plugin of ours made a macvlan as its parent's bridge.
func (Bridge) Made(l netstate.Link) bool {
	return strings.HasPrefix(l.Alias, mark) || l.Alias == netstate.Unnamed
}

// CanShare returns an error for a NIC that prevents a macvlan on its parent, or that such
// a macvlan can't reach.
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
