// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
)

// podMAC gives the NIC a MAC that tells its address. The LAN has to hear of it,
// or it goes on sending to the old one: the kernel itself announces every
// address of a link whose MAC changes, by gratuitous ARP and by unsolicited
// neighbour advertisements, if it was told to before (arp_notify, ndisc_notify:
// Documentation/networking/ip-sysctl.rst). So an undo is announced as well.
func (b *builder) podMAC() {
	if b.c.MACPrefix == nil {
		return
	}
	nic, ok := b.link(b.nic)
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

// macFor is the prefix and the four bytes of the first IPv4 address, or else the
// last four of the first IPv6 one.
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
