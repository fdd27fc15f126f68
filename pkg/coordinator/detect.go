// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/neighbours"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/spool"
)

var _ plugin.Prober = (*Config)(nil)

// Probe asks the NIC's LAN whether another machine has an address of the NIC, and whether
// the NIC's gateways answer. It checks the addresses first: a request to a gateway names
// one of them as its sender, and would redirect the gateway's traffic from another owner
// to this NIC. A NIC that resolves no addresses is an error only where its own network asks for that.
func (c *Config) Probe(t *plugin.Task) error {
	if !c.DetectIPConflict && !c.DetectGateway {
		return nil
	}
	addrs, err := nicAddrs(&t.View)
	if err != nil {
		return err
	}
	if c.DetectIPConflict {
		if err := c.unlessDefault(t, "detectIPConflict", c.conflict(t, addrs)); err != nil {
			return err
		}
	}
	if c.DetectGateway {
		return c.unlessDefault(t, "detectGateway", t.Kernel.Pod.Gateways(t.IfName, c.gateways(&t.View, addrs), neighbours.Probe(c.Detect)))
	}
	return nil
}

// unlessDefault returns an error of a probe. That a NIC resolves no addresses is only logged if the node's
// defaults want the probe: they are for its other NICs.
func (c *Config) unlessDefault(t *plugin.Task, key string, err error) error {
	if !errors.Is(err, kernel.ErrNoARP) || c.Origin(key) != keys.Node {
		return err
	}
	t.Log.Warn("the node's default "+key+" doesn't count", "error", err)
	return nil
}

// conflict returns an error if another machine has an address of the NIC.
func (c *Config) conflict(t *plugin.Task, addrs []netip.Addr) error {
	var own []netstate.MAC
	for _, l := range netstate.All[netstate.Link](t.Snapshot, pod) {
		own = append(own, l.MAC)
	}
	err := t.Kernel.Pod.Conflict(t.IfName, unshared(t, addrs), own, neighbours.Probe(c.Detect))
	var inUse kernel.InUse
	if errors.As(err, &inUse) {
		noteConflict(t, inUse)
	}
	return err
}

// unshared returns those of a NIC's addresses that no other pod may have. The other pod of a
// virtual machine that migrates answers for the rest.
func unshared(t *plugin.Task, addrs []netip.Addr) []netip.Addr {
	files, err := spool.OpenDir(spool.Dir)
	var given []spool.Sandbox
	if err == nil {
		given, err = spool.Given(files, spool.Attachment{ContainerID: t.ContainerID, Interface: t.IfName})
	}
	if err != nil {
		t.Log.Warn("addresses that two pods have", "error", err)
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return slices.ContainsFunc(given, func(s spool.Sandbox) bool {
			return slices.ContainsFunc(s.Addresses, func(x spool.Address) bool { return x.Shared && x.Address.Addr() == a })
		})
	})
}

// noteConflict tells the node's agent of an address that another machine has, if the address is
// from the spool, so that the next ADD has another one. ADD fails all the same, by the conflict:
// what is wrong with the note is only logged.
func noteConflict(t *plugin.Task, found kernel.InUse) {
	files, err := spool.OpenDir(spool.Dir)
	if err == nil {
		err = spool.NoteConflict(files, spool.Attachment{ContainerID: t.ContainerID, Interface: t.IfName}, found.Addr, found.MAC.String(), time.Now())
	}
	if err != nil && !errors.Is(err, spool.ErrNotServed) {
		t.Log.Warn("note of a conflict", "addr", found.Addr, "error", err)
	}
}

// gateways returns the NIC's gateways, each with the source address of the request: one
// in the gateway's subnet, or else the first of its family.
func (c *Config) gateways(v *plugin.View, addrs []netip.Addr) map[netip.Addr]netip.Addr {
	b := &builder{c: c, v: v, nic: v.IfName, addrs: addrs}
	out := map[netip.Addr]netip.Addr{}
	for _, f := range families {
		for _, r := range b.defaultsOf(f, b.nic, b.tableOf(b.nic)) {
			if own := ofFamily(addrs, f); r.Via.IsValid() && len(own) > 0 {
				out[r.Via] = b.onSubnet(r.Via, own[0])
			}
		}
	}
	return out
}

// onSubnet returns the NIC's address in the neighbour's subnet, or otherwise if there is
// none.
func (b *builder) onSubnet(neighbour, otherwise netip.Addr) netip.Addr {
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dev == b.nic && a.Prefix.Contains(neighbour) {
			return a.Prefix.Addr()
		}
	}
	return otherwise
}
