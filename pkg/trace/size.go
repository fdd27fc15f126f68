// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"

	"github.com/multihome/multihome/pkg/netstate"
)

// sizes notes where packets that an earlier link takes are too large for a later one. A
// namespace that forwards answers those with an ICMP error, which tells the sender the
// right size; a veth drops them (__is_skb_forwardable of net/core/dev.c).
func (t *tracer) sizes(legs []Leg) {
	var least, sent netstate.Link // the link with the least MTU so far, and the last that sent
	pass := func(l *Leg, next netstate.Link, otherwise string) {
		if next.MTU == 0 || least.MTU != 0 && next.MTU >= least.MTU {
			return
		}
		if least.MTU != 0 {
			l.Notes = append(l.Notes, fmt.Sprintf("%s has MTU %d, %s has %d: %s", next.Name, next.MTU, least.Name, least.MTU, otherwise))
		}
		least = next
	}
	for i := range legs {
		l := &legs[i]
		ns := netstate.Pod
		if l.Where == where(netstate.Host) {
			ns = netstate.Host
		}
		received := t.link(ns, l.In)
		if far := sent.Peer; far.Name != "" {
			received = t.link(far.NS, far.Name)
		}
		pass(l, received, "it drops larger packets, and tells nobody")
		if l.Out == "" {
			return
		}
		sent = t.link(ns, l.Out)
		pass(l, sent, "the "+l.Where+" refuses larger packets, and tells their sender by ICMP")
	}
}
