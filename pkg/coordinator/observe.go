// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Observe reads the pod and the node's addresses that the pod can use.
func (c *Config) Observe(t *plugin.Task) error {
	if err := readable(&t.View); err != nil {
		return err
	}
	if err := t.Kernel.ReadPod(t.Snapshot); err != nil {
		return err
	}
	c = c.named(&t.View)
	addrs, err := nicAddrs(&t.View)
	if err != nil {
		return cmp.Or(t.Kernel.Pod.Duplicate(t.IfName), err)
	}
	if err := t.Kernel.Pod.AwaitAddrs(t.Snapshot, t.IfName); err != nil {
		return err
	}
	if err := c.observeHost(t, addrs); err != nil {
		return err
	}
	if t.IfName != c.PodDefaultNIC {
		readAdverts(t, t.IfName, c.PodDefaultNIC)
		for _, dev := range []string{podEnd, c.PodDefaultNIC} { // podEnd in underlay mode, the first NIC in overlay mode
			if err := t.Kernel.ReadPeer(t.Snapshot, dev); err != nil {
				return err
			}
		}
	}
	if err := c.observeMarks(t); err != nil {
		return err
	}
	if c.HostLink == keys.LinkMacvlan {
		if err := c.observeBridge(t); err != nil {
			return err
		}
	}
	if len(c.NodeAddresses) == 0 {
		if t.IfName != c.PodDefaultNIC { // all NICs of the pod reach the node as the first one does
			addrs = append(c.firstAddrs(&t.View), addrs...)
		}
		if t.Node, t.Subnets, err = t.Kernel.NodeAddrs(withSubnets(&t.View, addrs)); err != nil {
			return err
		}
	}
	return c.observeStale(t)
}

// withSubnets returns addresses of the pod with the prefix length of their subnet.
func withSubnets(v *plugin.View, addrs []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, addr := range addrs {
		for _, a := range netstate.All[netstate.Addr](v.Snapshot, netstate.Pod) {
			if a.Prefix.Addr() == addr {
				out = append(out, a.Prefix)
				break
			}
		}
	}
	return out
}

// nodeAddrs returns the node's addresses for pods: those that the configuration lists, or
// else all that the node has, without the excluded ones.
func (c *Config) nodeAddrs(has []netip.Addr) []netip.Addr {
	if len(c.NodeAddresses) > 0 {
		return c.NodeAddresses
	}
	return slices.DeleteFunc(slices.Clone(has), func(a netip.Addr) bool {
		return slices.ContainsFunc(c.NotNodeAddresses, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// firstAddrs returns the addresses of the pod's first NIC, for the plan of another NIC.
// The source of the pod's routes to its node comes first: it is the first address in the
// first NIC's prevResult.
func (c *Config) firstAddrs(v *plugin.View) []netip.Addr {
	var chosen, rest []netip.Addr
	routes := netstate.All[netstate.Route](v.Snapshot, netstate.Pod)
	for _, a := range netstate.All[netstate.Addr](v.Snapshot, netstate.Pod) {
		addr := a.Prefix.Addr()
		switch {
		case a.Dev != c.PodDefaultNIC || a.Dynamic && v.Checking:
		case slices.ContainsFunc(routes, func(r netstate.Route) bool { return r.Owned() && r.Src == addr }):
			chosen = append(chosen, addr)
		default:
			rest = append(rest, addr)
		}
	}
	return append(chosen, rest...)
}

// readable returns an error if the previous plugin in the chain left no prevResult or no
// NIC in it.
func readable(v *plugin.View) error {
	switch {
	case v.Prev == nil:
		return config.Invalid("prevResult: missing: coordinator must be chained after the plugin that makes the NIC")
	case len(v.Prev.Interfaces) == 0:
		return config.Invalid("prevResult: interfaces: empty: want the NIC that the plugin before made")
	}
	return nil
}

// nicAddrs returns the addresses of the attachment's NIC. Those of prevResult come first,
// in its order: it decides the pod's source address towards Services. The NIC's other
// addresses follow. If prevResult has none, only addresses count that the kernel
// configured by itself (SLAAC, RFC 4862).
func nicAddrs(v *plugin.View) ([]netip.Addr, error) {
	if _, ok := netstate.Get(v.Snapshot, netstate.Pod, netstate.Link{Name: v.IfName}); !ok {
		return nil, fmt.Errorf("pod: link %s: no such device", v.IfName)
	}
	var onLink []netstate.Addr
	for _, a := range netstate.All[netstate.Addr](v.Snapshot, netstate.Pod) {
		if a.Dev == v.IfName {
			onLink = append(onLink, a)
		}
	}
	for _, ip := range v.Prev.IPs {
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(v.Prev.Interfaces)) {
			return nil, config.Invalid("prevResult: ips: %s: interface: %d: want the index of one of %d interfaces", ip.Address.String(), *i, len(v.Prev.Interfaces))
		}
		if _, ok := netip.AddrFromSlice(ip.Address.IP); !ok {
			return nil, config.Invalid("prevResult: ips: %s: want an address with its length", ip.Address.String())
		}
	}
	var out []netip.Addr
	for _, ip := range v.PrevIPs() {
		a := ip.Prefix.Addr()
		if !slices.ContainsFunc(onLink, func(l netstate.Addr) bool { return l.Prefix.Addr() == a }) {
			return nil, fmt.Errorf("pod: addr %s of prevResult is not on link %s", a, v.IfName)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	assigned := len(out) > 0
	for _, l := range onLink {
		if assigned && l.Dynamic && v.Checking {
			continue
		}
		if a := l.Prefix.Addr(); (assigned || l.Dynamic) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, config.Invalid("prevResult: ips: empty: link %s has no address to route by", v.IfName)
	}
	return out, nil
}
