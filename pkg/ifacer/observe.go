// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"fmt"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Observe locks the links that the plan names and reads them. If all of them exist
// and no interface has to join a bond, it reads nothing else of the node.
func (c *Config) Observe(t *plugin.Task) error {
	if err := c.read(t); err != nil {
		return err
	}
	named, err := c.named(&t.View)
	if err != nil {
		return err
	}
	if !slices.Equal(named.Interfaces, c.Interfaces) { // lock each link by its real name
		c = named
		if err := c.read(t); err != nil {
			return err
		}
	}
	if t.Own, err = ownRecord(t); err != nil {
		t.Own = nil // ADD replaces an unreadable record
	}
	if l, ok := link(&t.View, c.BondName); ok && l.Type == "bond" {
		if err := t.Kernel.Host.ReadMembers(t.Snapshot, c.BondName); err != nil {
			return err
		}
	}
	joining := c.joining(&t.View)
	if c.missing(&t.View) == "" && len(joining) == 0 {
		return nil
	}
	if err := t.Kernel.Host.ReadLinks(t.Snapshot); err != nil {
		return err
	}
	for _, name := range joining {
		for _, l := range stack(&t.View, name) {
			if err := t.Kernel.Host.ReadCarried(t.Snapshot, l.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// read locks the links and reads them.
func (c *Config) read(t *plugin.Task) error {
	names := slices.Concat(c.Interfaces, c.Links())
	if err := t.Kernel.LockLinks(names...); err != nil {
		return err
	}
	for _, name := range names {
		if err := t.Kernel.Host.ReadLink(t.Snapshot, name); err != nil {
			return err
		}
	}
	return nil
}

// link returns a link of the node.
func link(v *plugin.View, name string) (netstate.Link, bool) {
	return netstate.Get(v.Snapshot, host, netstate.Link{Name: name})
}

// missing returns the first link of the configuration that doesn't exist, "" if all do.
func (c *Config) missing(v *plugin.View) string {
	for _, name := range c.Links() {
		if _, ok := link(v, name); !ok {
			return name
		}
	}
	return ""
}

// joining returns the interfaces that must become members of the bond.
func (c *Config) joining(v *plugin.View) (out []string) {
	if c.BondName == "" {
		return nil
	}
	for _, name := range c.Interfaces {
		if l, ok := link(v, name); ok && l.Master != c.BondName {
			out = append(out, name)
		}
	}
	return out
}

// stack returns a link and all links above it.
func stack(v *plugin.View, name string) []netstate.Link {
	l, ok := link(v, name)
	if !ok {
		return nil
	}
	out := []netstate.Link{l}
	for _, upper := range netstate.All[netstate.Link](v.Snapshot, host) {
		if upper.Parent == name && upper.Name != name {
			out = append(out, stack(v, upper.Name)...)
		}
	}
	return out
}

// Record returns a record of the links that the attachment uses. It keeps those that
// another ifacer of the same chain has recorded. A link comes after the link below it.
func (c *Config) Record(v *plugin.View, _ netstate.Plan) *records.Record {
	c, err := c.named(v)
	if err != nil || len(c.Links()) == 0 {
		return nil
	}
	r := &records.Record{}
	if v.Own != nil {
		r.Links, r.RemoveUnused = v.Own.Links, v.Own.RemoveUnused
	}
	r.Links = union(r.Links, c.Links())
	if c.RemoveUnused {
		r.RemoveUnused = union(r.RemoveUnused, c.Links())
	}
	return r
}

// union adds to a list the names that it lacks.
func union(list, more []string) []string {
	for _, name := range more {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// Status returns an error if an interface is missing, or if the kernel can't make a
// link that is missing.
func (c *Config) Status(t *plugin.Task) error {
	for _, name := range c.Interfaces {
		if err := t.Kernel.Host.ReadLink(t.Snapshot, name); err != nil {
			return err
		}
		if _, ok := netstate.NamedLink(t.Snapshot, host, name); !ok {
			return noDevice(name)
		}
	}
	c, err := c.named(&t.View)
	if err != nil {
		return err
	}
	for _, name := range c.Links() {
		if err := t.Kernel.Host.ReadLink(t.Snapshot, name); err != nil {
			return err
		}
	}
	for _, name := range c.Links() {
		if _, ok := link(&t.View, name); ok {
			continue
		}
		kind := "vlan"
		if name == c.BondName {
			kind = "bond"
		}
		if err := t.Kernel.Host.CanMake(kind); err != nil {
			return err
		}
	}
	return nil
}

func noDevice(name string) error { return fmt.Errorf("host: link %s: no such device", name) }
