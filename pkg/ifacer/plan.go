// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/ifacer/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Plan returns the wanted links of the node. It returns an error if an existing link
// differs and can't be changed without harm to its users.
func (c *Config) Plan(v *plugin.View) (netstate.Plan, error) {
	b := &builder{v: v}
	for _, name := range c.Interfaces {
		if _, ok := netstate.NamedLink(v.Snapshot, host, name); !ok {
			return b.plan, noDevice(name)
		}
	}
	c, err := c.named(v)
	if err != nil {
		return b.plan, err
	}
	b.c = c
	if c.BondName != "" {
		err = b.bond()
	} else {
		b.want("a parent must be up", netstate.Link{Name: c.Interfaces[0], Up: true})
	}
	if err == nil && c.VLAN != 0 {
		err = b.vlan()
	}
	return b.plan, err
}

// builder builds a plan.
type builder struct {
	c    *Config
	v    *plugin.View
	plan netstate.Plan
}

func (b *builder) want(why string, l netstate.Link) { b.plan.Want(host, why, l) }

// mismatch returns the error for a link with a wrong attribute.
func mismatch(l netstate.Link, what, got, want string) error {
	if got == "" {
		got = "none"
	}
	return fmt.Errorf("host: link %s: %s is %s, want %s", l.Name, what, got, want)
}

// typeOf returns the type of a link as errors name it.
func typeOf(l netstate.Link) string {
	if l.Type == "" {
		return "that of a NIC"
	}
	return l.Type
}

// bond plans the bond: first the bond itself, down, then its members, and then the bond
// up. Many of its options can only be set while it is down.
func (b *builder) bond() error {
	have, there := link(b.v, b.c.BondName)
	bond := netstate.Link{Name: b.c.BondName, Type: "bond", Details: b.c.ExistingBond(), MTU: b.c.MTU}
	final := netstate.Link{Name: b.c.BondName, Up: true}
	if there {
		if err := b.verifyBond(have); err != nil {
			return err
		}
		if checksNoLinks(have.Details) && b.idle(have) {
			bond.Details = b.c.NewBond()
		}
	} else {
		first, _ := link(b.v, b.c.Interfaces[0])
		bond.MAC = first.MAC // without one, udev would set another
		bond.Details = b.c.NewBond()
		if active := b.c.BondOptions.Get(keys.ActiveSlave); active != "" {
			final.Details = netstate.NewDetails(keys.ActiveSlave, active)
		}
	}
	if !there || have.Alias == netstate.Unnamed {
		bond.Alias = alias(b.downMembers())
	}
	b.want("the bond", bond)
	for _, name := range b.c.Interfaces {
		if err := b.member(name); err != nil {
			return err
		}
	}
	b.want("the bond carries traffic", final)
	return nil
}

// verifyBond returns an error if an existing bond has a wrong attribute that can't be
// changed while the bond is in use. Every attribute of an idle bond can be changed. The
// bonding driver itself makes idle bonds (max_bonds).
func (b *builder) verifyBond(have netstate.Link) error {
	if have.Type != "bond" {
		return mismatch(have, "type", typeOf(have), "bond")
	}
	if b.idle(have) {
		return nil
	}
	for name, value := range b.c.ExistingBond().Since(have.Details).All() {
		if o, _ := netstate.FindBondOption(name); !o.Live {
			return mismatch(have, name, have.Details.Get(name), value)
		}
	}
	members := b.members(have.Name)
	for _, name := range members {
		if !slices.Contains(b.c.Interfaces, name) {
			return mismatch(have, "the list of members", strings.Join(members, ", "), strings.Join(b.c.Interfaces, ", "))
		}
	}
	if b.c.MTU != 0 && b.c.MTU != have.MTU {
		return mismatch(have, "mtu", strconv.Itoa(have.MTU), strconv.Itoa(b.c.MTU))
	}
	return nil
}

func (b *builder) members(bond string) (out []string) {
	for _, l := range netstate.All[netstate.Link](b.v.Snapshot, host) {
		if l.Master == bond {
			out = append(out, l.Name)
		}
	}
	return out
}

// idle reports whether a bond is down and has no members.
func (b *builder) idle(bond netstate.Link) bool { return !bond.Up && len(b.members(bond.Name)) == 0 }

// checksNoLinks reports whether a bond does not monitor the state of its members.
func checksNoLinks(d netstate.Details) bool {
	return d.Get("miimon") == "0" && (d.Get("arp_interval") == "" || d.Get("arp_interval") == "0")
}

// downMembers returns the interfaces that are down.
func (b *builder) downMembers() (out []string) {
	for _, name := range b.c.Interfaces {
		if l, _ := link(b.v, name); !l.Up {
			out = append(out, name)
		}
	}
	return out
}

// member plans that an interface becomes a member of the bond. The interface goes down
// on the way, so it must not be in use.
func (b *builder) member(name string) error {
	l, _ := link(b.v, name)
	if l.Master != b.c.BondName && !b.c.Force {
		if l.Master != "" {
			return fmt.Errorf("host: link %s: master is %s, want %s: set force to take it", b.c.name(name), l.Master, b.c.BondName)
		}
		if load := b.carried(name); load != "" {
			return fmt.Errorf("host: link %s: it carries %s: set force to make it a member of %s anyway", b.c.name(name), load, b.c.BondName)
		}
	}
	b.want("a member of the bond", netstate.Link{Name: name, Master: b.c.BondName, Up: true})
	return nil
}

// carried returns an address or a default route of the node on a NIC or on a link above
// it, "" if there is none.
func (b *builder) carried(name string) string {
	for _, l := range stack(b.v, name) {
		for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, host) {
			if a.Dev == l.Name {
				return "addr " + a.String()
			}
		}
		for _, r := range netstate.All[netstate.Route](b.v.Snapshot, host) {
			if r.Dev == l.Name && r.Dst.Bits() == 0 {
				return "route " + r.String()
			}
		}
	}
	return ""
}

// vlan plans the VLAN of the NIC or of the bond.
func (b *builder) vlan() error {
	want := netstate.Link{
		Name: b.c.VLANName(), Type: "vlan", Parent: b.c.Parent(), MTU: b.c.MTU, Up: true,
		Details: netstate.VLAN(b.c.VLANProtocol, strconv.Itoa(b.c.VLAN)),
	}
	if err := b.mtuFits(want.MTU); err != nil {
		return err
	}
	have, there := link(b.v, want.Name)
	if !there {
		if other, taken := b.sameVLAN(want); taken {
			return fmt.Errorf("host: link %s: link %s already has %s of %s: delete it, or rename it to %s", want.Name, other.Name, want.Details, want.Parent, want.Name)
		}
		want.Alias = alias(nil)
		b.want("the VLAN", want)
		return nil
	}
	switch {
	case have.Type != "vlan":
		return mismatch(have, "type", typeOf(have), "vlan")
	case have.Parent != want.Parent:
		return mismatch(have, "parent", have.Parent, want.Parent)
	case have.Details != want.Details:
		return mismatch(have, "vlan", string(have.Details), string(want.Details))
	case want.MTU != 0 && have.MTU > want.MTU: // raising it is harmless, lowering it may not be
		return mismatch(have, "mtu", strconv.Itoa(have.MTU), strconv.Itoa(want.MTU))
	}
	if have.Alias == netstate.Unnamed {
		want.Alias = alias(nil)
	}
	b.want("the VLAN", want)
	return nil
}

// mtuFits returns an error if the MTU is more than the parent's: the kernel refuses it
// (vlan_dev_change_mtu).
func (b *builder) mtuFits(mtu int) error {
	if b.c.BondName != "" {
		return nil // the bond gets the same MTU
	}
	if parent, _ := link(b.v, b.c.Parent()); mtu > parent.MTU {
		parent.Name = b.c.name(parent.Name)
		return mismatch(parent, "mtu", strconv.Itoa(parent.MTU), fmt.Sprintf("at least the %d of %s", mtu, b.c.VLANName()))
	}
	return nil
}

// sameVLAN returns the link that is the same VLAN of the same parent by another name.
// The kernel allows each VLAN of a parent only once.
func (b *builder) sameVLAN(want netstate.Link) (netstate.Link, bool) {
	for _, l := range netstate.All[netstate.Link](b.v.Snapshot, host) {
		if l.Type == "vlan" && l.Parent == want.Parent && l.Details == want.Details {
			return l, true
		}
	}
	return netstate.Link{}, false
}
