// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// makeWire wants the link between the pod and its node.
func (b *builder) makeWire() error {
	if b.c.HostLink == keys.LinkMacvlan {
		return b.bridge()
	}
	b.veth()
	return nil
}

// findWire finds the link between the pod and its node that the first NIC's ADD made.
func (b *builder) findWire() error {
	if b.c.HostLink == keys.LinkMacvlan {
		return b.bridge()
	}
	w := b.vethEnds()
	if end, _ := b.link(podEnd); end.Peer.Name != w.host {
		return fmt.Errorf("pod: link %s doesn't lead to %s on the node: coordinator didn't make it", podEnd, w.host)
	}
	b.wire = w
	b.plan.Want(host, "the node's end of its link to the pod", netstate.Link{Name: w.host, Up: true})
	b.plan.Want(pod, "the pod's end of its link to the node", netstate.Link{Name: w.pod, Up: true})
	return nil
}

// vethEnds returns the names and MACs of the veth. They are derived from the container's
// ID, so every ADD gets the same ones.
func (b *builder) vethEnds() wire {
	id := b.v.ContainerID
	return wire{
		pod: podEnd, podMAC: attachment.EndMAC(pod, id),
		host: attachment.HostEnd(id), hostMAC: attachment.EndMAC(host, id),
	}
}

// veth wants a veth between the pod and its node.
func (b *builder) veth() {
	w := b.vethEnds()
	b.wire = w
	mtu := b.c.VethMTU
	if nic, ok := b.link(b.nic); ok && mtu == 0 {
		mtu = nic.MTU
	}
	if _, there := b.link(podEnd); there && b.c.VethMTU == 0 {
		mtu = 0 // keep the veth's: another plugin may have changed the NIC's MTU since
	}
	end := netstate.Link{
		Name: w.host, Type: "veth", MAC: w.hostMAC, MTU: mtu, Up: true, Alias: b.v.Alias(), Group: b.settings().Group(),
		Peer: netstate.End{NS: pod, Name: w.pod, MAC: w.podMAC},
	}
	b.plan.Want(host, "the node's end of its link to the pod", end)
	b.plan.Want(pod, "the pod's end of its link to the node", netstate.Link{
		Name: w.pod, Type: "veth", MAC: w.podMAC, MTU: mtu, Up: true,
		Peer: netstate.End{NS: host, Name: w.host, MAC: w.hostMAC},
	})
	b.settings().Want(&b.plan, end)
	if b.hasIPv6() {
		b.plan.Want(pod, "IPv6 works on the link", netstate.Sysctl{Family: netstate.IPv6, Dev: w.pod, Name: "disable_ipv6", Value: 0})
	}
	if a := b.c.VethLinkAddress; a.IsValid() {
		b.plan.Want(pod, "vethLinkAddress", netstate.Addr{Dev: w.pod, Prefix: netstate.Single(a)})
	}
}

func (b *builder) hasIPv6() bool { return b.sides[len(b.sides)-1].family == netstate.IPv6 }

// settings returns the settings of the node's end.
func (b *builder) settings() hostlink.Settings {
	return hostlink.Settings{RPFilter: b.c.HostRPFilter, IPv6: b.hasIPv6()}
}

// observeBridge reads the parent of the pod's first NIC and the node's macvlan on it.
func (c *Config) observeBridge(t *plugin.Task) error {
	parent, err := t.Kernel.ReadParent(t.Snapshot, c.PodDefaultNIC)
	if err != nil {
		return err
	}
	if parent == "" {
		return fmt.Errorf("pod: link %s has no parent on the node: hostLink macvlan needs one", c.PodDefaultNIC)
	}
	t.Parent = parent
	return hostlink.On(parent).Observe(t.Kernel, t.Snapshot)
}

// bridge wants the node's macvlan on the parent of the pod's first NIC.
func (b *builder) bridge() error {
	nic, ok := b.link(b.c.PodDefaultNIC)
	if !ok {
		return fmt.Errorf("pod: link %s: no such device", b.c.PodDefaultNIC)
	}
	if err := hostlink.CanShare(nic, b.v.Parent); err != nil {
		return fmt.Errorf("%w, use hostLink veth", err)
	}
	bridge, err := hostlink.On(b.v.Parent).Want(&b.plan, b.v.Snapshot, b.settings())
	if err != nil {
		return err
	}
	podMAC := nic.MAC
	if b.nic == nic.Name && b.c.MACPrefix != nil {
		podMAC = macFor(b.c.MACPrefix, b.addrs)
	}
	b.wire = wire{pod: nic.Name, podMAC: podMAC, host: bridge.Name, hostMAC: bridge.MAC}
	return nil
}

// replyMark wants the mark on replies to connections that entered by the wire.
func (b *builder) replyMark() {
	m := netstate.Mark{Dev: b.wire.pod, Bits: b.c.ReplyMark}
	if b.c.HostLink == keys.LinkMacvlan {
		m.From = b.wire.hostMAC // other senders reach the pod by this NIC too
	}
	b.marks(m)
}
