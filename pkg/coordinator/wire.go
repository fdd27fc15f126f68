// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// The links there can be between a pod and its node.
const (
	linkVeth    = "veth"
	linkMacvlan = "macvlan"
)

// makeWire wants the link between the pod and its node.
func (b *builder) makeWire() error {
	if b.c.HostLink == linkMacvlan {
		return b.bridge()
	}
	b.veth()
	return nil
}

// findWire finds the one that the first NIC's ADD made.
func (b *builder) findWire() error {
	if b.c.HostLink == linkMacvlan {
		return b.bridge()
	}
	w := b.vethEnds()
	if end, _ := b.link(podEnd); end.Peer.Name != w.host {
		return fmt.Errorf("pod: link %s doesn't lead to %s on the node: it is not of coordinator's making", podEnd, w.host)
	}
	b.wire = w
	b.plan.Want(host, "the node's end of its link to the pod", netstate.Link{Name: w.host, Up: true})
	b.plan.Want(pod, "the pod's end of its link to the node", netstate.Link{Name: w.pod, Up: true})
	return nil
}

// vethEnds are derived, so that they are the same after every ADD.
func (b *builder) vethEnds() wire {
	id := b.t.ContainerID
	return wire{
		pod: podEnd, podMAC: plugin.EndMAC(pod, id),
		host: plugin.HostEnd(id), hostMAC: plugin.EndMAC(host, id),
	}
}

// veth is a link of the pod's own.
func (b *builder) veth() {
	w := b.vethEnds()
	b.wire = w
	mtu := b.c.VethMTU
	if nic, ok := b.link(b.nic); ok && mtu == 0 {
		mtu = nic.MTU
	}
	if _, there := b.link(podEnd); there && b.c.VethMTU == 0 {
		mtu = 0 // the NIC's MTU of back then: another plugin may have changed it since
	}
	b.plan.Want(host, "the node's end of its link to the pod", netstate.Link{
		Name: w.host, Type: "veth", MAC: w.hostMAC, MTU: mtu, Up: true, Alias: b.t.Alias(),
		Peer: netstate.End{NS: pod, Name: w.pod, MAC: w.podMAC},
	})
	b.plan.Want(pod, "the pod's end of its link to the node", netstate.Link{
		Name: w.pod, Type: "veth", MAC: w.podMAC, MTU: mtu, Up: true,
		Peer: netstate.End{NS: host, Name: w.host, MAC: w.hostMAC},
	})
	b.hostSysctls(w.host)
	if b.hasIPv6() {
		b.plan.Want(pod, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: w.pod, Name: "disable_ipv6", Value: 0})
	}
	if a := b.c.VethLinkAddress; a.IsValid() {
		b.plan.Want(pod, "vethLinkAddress", netstate.Addr{Dev: w.pod, Prefix: netstate.Single(a)})
	}
}

func (b *builder) hasIPv6() bool { return b.sides[len(b.sides)-1].family == netstate.IPv6 }

// hostSysctls are those of the node's end.
func (b *builder) hostSysctls(dev string) {
	if b.c.HostRPFilter >= 0 {
		b.plan.Want(host, "pods send from no address but their own", netstate.Sysctl{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: b.c.HostRPFilter})
	}
	b.plan.Want(host, "the node takes no routes from there", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "accept_ra", Value: 0})
	if b.hasIPv6() {
		b.plan.Want(host, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "disable_ipv6", Value: 0})
	}
}

// BridgeName names the node's macvlan on a parent: the parent's name and
// ".host", cut to what an interface name can hold.
func BridgeName(parent string) string {
	if name := parent + ".host"; len(name) <= 15 {
		return name
	}
	return fmt.Sprintf("mvhost%08x", uint32(plugin.Hash("bridge", parent)))
}

// observeBridge reads what the pod's first NIC sits on, and the node's macvlan
// there.
func (c *Config) observeBridge(t *plugin.Task) error {
	parent, err := t.Kernel.ReadParent(t.Snapshot, c.PodDefaultNIC)
	if err != nil {
		return err
	}
	if parent == "" {
		return fmt.Errorf("pod: link %s sits on no link of the node: hostLink macvlan needs one", c.PodDefaultNIC)
	}
	t.Parent = parent
	name := BridgeName(parent)
	if err := t.Kernel.Host.ReadLink(t.Snapshot, name); err != nil {
		return err
	}
	if _, ok := netstate.Get(t.Snapshot, host, netstate.Link{Name: name}); ok {
		return nil
	}
	// It is made by one ADD; the others find it.
	if err := t.Kernel.LockLinks(name); err != nil {
		return err
	}
	return t.Kernel.Host.ReadLink(t.Snapshot, name)
}

// bridge is a macvlan that the node has beside those of its pods, on one parent:
// the only neighbour by which they and their node can reach each other without
// a device for each. All pods on that parent share it, and it stays.
func (b *builder) bridge() error {
	nic, ok := b.link(b.c.PodDefaultNIC)
	if !ok {
		return fmt.Errorf("pod: link %s: no such device", b.c.PodDefaultNIC)
	}
	if nic.Type == "ipvlan" {
		return fmt.Errorf("pod: link %s is an ipvlan: macvlan and ipvlan can't share %s (EBUSY), use hostLink veth", nic.Name, b.t.Parent)
	}
	master, _ := netstate.Get(b.t.Snapshot, host, netstate.Link{Name: b.t.Parent})
	bridge := netstate.Link{
		Name: BridgeName(b.t.Parent), Type: "macvlan", Parent: b.t.Parent, Details: netstate.NewDetails("mode", "bridge"),
		// Of the parent's, so that it is the same after the bridge was made anew
		// and every pod's neighbour entry still fits.
		MAC: plugin.EndMAC("bridge", master.MAC.String()), Alias: BridgeAlias(b.t.Parent),
	}
	if there, ok := netstate.Get(b.t.Snapshot, host, bridge); ok {
		bridge.MAC = there.MAC // whoever made it
		if !there.Owned() {
			bridge.Alias = ""
		}
	}
	b.plan.WantShared(host, "the node's own macvlan beside those of its pods", bridge)
	b.hostSysctls(bridge.Name)
	b.plan.Want(host, "the node's addresses are its NIC's, for the LAN", netstate.Sysctl{Family: netstate.IPv4, Dev: bridge.Name, Name: "arp_ignore", Value: 1})
	b.plan.WantShared(host, "it is up when it is safe", netstate.Link{Name: bridge.Name, Up: true})
	podMAC := nic.MAC
	if b.nic == nic.Name && b.c.MACPrefix != nil {
		podMAC = macFor(b.c.MACPrefix, b.addrs)
	}
	b.wire = wire{pod: nic.Name, podMAC: podMAC, host: bridge.Name, hostMAC: bridge.MAC}
	return nil
}

// BridgeAlias is the ifalias of a node's macvlan: it is of no attachment.
func BridgeAlias(parent string) string { return netstate.AliasPrefix + "bridge/" + parent }

// replyMark marks the replies to what entered by the wire.
func (b *builder) replyMark() {
	m := netstate.Mark{Dev: b.wire.pod, Bits: b.c.ReplyMark}
	if b.c.HostLink == linkMacvlan {
		m.From = b.wire.hostMAC // others come by this NIC as well
	}
	b.marks(m)
}
