// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
)

// podMAC wants a MAC for the NIC that contains its address (podMACPrefix). The LAN has to
// learn the new MAC, or it goes on sending to the old one. The kernel announces every
// address of a link whose MAC changes, by gratuitous ARP and unsolicited neighbour
// advertisements, if arp_notify and ndisc_notify were set before
// (Documentation/networking/ip-sysctl.rst). It announces an undo in the same way. An ipvlan has its
// parent's MAC, and no default of the node is meant for it.
func (b *builder) podMAC() {
	if b.c.MACPrefix == nil {
		return
	}
	nic, ok := b.link(b.nic)
	if ok && nic.Type == "ipvlan" && b.c.Origin("podMACPrefix") == keys.Node {
		return
	}
	mac := macFor(b.c.MACPrefix, b.addrs)
	if ok && nic.MAC != mac {
		notify := map[netstate.Family]string{netstate.IPv4: "arp_notify", netstate.IPv6: "ndisc_notify"}
		for _, f := range families {
			if len(ofFamily(b.addrs, f)) > 0 {
				b.plan.Want(pod, "the LAN hears of the new MAC", netstate.Sysctl{Family: f, Dev: b.nic, Name: notify[f], Value: 1})
			}
		}
	}
	b.plan.Want(pod, "podMACPrefix", netstate.Link{Name: b.nic, MAC: mac})
}

// macFor returns a MAC of the two bytes of the prefix and the four bytes of the first
// IPv4 address. Without an IPv4 address it takes the last four bytes of the first IPv6
// address.
func macFor(prefix []byte, addrs []netip.Addr) netstate.MAC {
	addr := addrs[0]
	if v4 := ofFamily(addrs, netstate.IPv4); len(v4) > 0 {
		addr = v4[0]
	}
	a := addr.AsSlice()
	var mac netstate.MAC
	copy(mac[copy(mac[:], prefix):], a[len(a)-4:])
	return mac
}
