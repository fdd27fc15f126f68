// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/neighbours"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

var _ plugin.Prober = (*Config)(nil)

// Probe asks the NIC's LAN whether another machine has an address of the NIC, and whether
// the NIC's gateways answer. It checks the addresses first: a request to a gateway names
// one of them as its sender, and would redirect the gateway's traffic from another owner
// to this NIC.
func (c *Config) Probe(t *plugin.Task) error {
	if !c.DetectIPConflict && !c.DetectGateway {
		return nil
	}
	addrs, err := nicAddrs(&t.View)
	if err != nil {
		return err
	}
	if c.DetectIPConflict {
		var own []netstate.MAC
		for _, l := range netstate.All[netstate.Link](t.Snapshot, pod) {
			own = append(own, l.MAC)
		}
		if err := t.Kernel.Pod.Conflict(t.IfName, addrs, own, neighbours.Probe(c.Detect)); err != nil {
			return err
		}
	}
	if c.DetectGateway {
		return t.Kernel.Pod.Gateways(t.IfName, c.gateways(&t.View, addrs), neighbours.Probe(c.Detect))
	}
	return nil
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
