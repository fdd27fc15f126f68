// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Observe reads the pod. If the configuration has a bridge, it also reads the
// bridge and the addresses by which the pod reaches its node.
func (c *Config) Observe(t *plugin.Task) error {
	if err := t.Kernel.ReadPod(t.Snapshot); err != nil {
		return err
	}
	if err := readable(&t.View); err != nil {
		return err
	}
	if _, err := nicOf(&t.View); err != nil {
		return err
	}
	if err := t.Kernel.Pod.AwaitAddrs(t.Snapshot, t.IfName); err != nil {
		return err
	}
	if c.Bridge.Name == "" { // the plan has nothing on the node
		return t.Kernel.Host.ReadOwn(t.Snapshot, addresses(&t.View))
	}
	var err error
	if t.Parent, err = t.Kernel.ReadParent(t.Snapshot, t.IfName); err != nil {
		return err
	}
	if err := c.Bridge.Observe(t.Kernel, t.Snapshot); err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, a := range addresses(&t.View) {
		addrs = append(addrs, a.Addr())
	}
	if t.Own, err = records.BridgeRoutes.Earlier(t.Pod(), t.IfName); err != nil {
		return err
	}
	if err := hostlink.ReadFormer(t, addrs); err != nil {
		return err
	}
	t.Node, _, err = t.Kernel.NodeAddrs(addresses(&t.View))
	return err
}

// nicOf returns the attachment's NIC.
func nicOf(v *plugin.View) (netstate.Link, error) {
	nic, ok := netstate.Get(v.Snapshot, pod, netstate.Link{Name: v.IfName})
	if !ok {
		return nic, fmt.Errorf("pod: link %s: no such device", v.IfName)
	}
	return nic, nil
}

// readable checks prevResult.
func readable(v *plugin.View) error {
	if v.Prev == nil {
		return config.Invalid("prevResult: missing: route must be chained after the plugin that makes the NIC")
	}
	if len(addresses(v)) == 0 {
		return config.Invalid("prevResult: ips: empty: link %s has no address to route by", v.IfName)
	}
	return nil
}

// addresses returns the addresses of the attachment's NIC in prevResult, with their
// prefix lengths.
func addresses(v *plugin.View) []netip.Prefix {
	var out []netip.Prefix
	for _, ip := range v.PrevIPs() {
		out = append(out, ip.Prefix)
	}
	return out
}

// Status returns an error if the node lacks something that the bridge needs.
func (c *Config) Status(t *plugin.Task) error {
	b := c.Bridge
	if b.Name == "" {
		return nil
	}
	if err := b.Look(t.Kernel, t.Snapshot); err != nil {
		return err
	}
	if err := b.Check(t.Snapshot); err != nil {
		return err
	}
	if _, ok := b.Find(t.Snapshot); ok {
		return nil
	}
	return t.Kernel.Host.CanMake("macvlan")
}
