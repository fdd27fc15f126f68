// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/netip"
	"testing"
)

// reachable asks a pod from everywhere at each of its addresses, and everybody
// from each of its addresses: its node, the other node, a client behind the
// router, a neighbour in each LAN, a pod of the cluster network on each node, and
// a Service in front of those. A reply must leave by the NIC that was asked, or
// by the link to the node if the node asked.
func reachable(t *testing.T, p *pod) {
	t.Helper()
	askAll(t, append(p.asked(), p.asking()...))
}

// asked are the questions to the pod.
func (p *pod) asked() []question {
	var all []question
	for _, a := range p.first() {
		all = append(all, p.askedAt("eth0", a)...)
		if p.underlay() {
			all = append(all, p.question("neighbour", a, of(a, neighbourAddrs(p.nics[0].lan)), "eth0"))
		}
	}
	for _, n := range p.further() {
		for _, a := range n.addrs {
			all = append(all, p.askedAt(n.name, a)...)
			all = append(all, p.question("neighbour", a, of(a, neighbourAddrs(n.lan)), n.name))
		}
	}
	return all
}

// askedAt are the questions to one address, from machines that reach each NIC.
func (p *pod) askedAt(nic string, a netip.Addr) []question {
	// The other node is in eth0's LAN and asks the others by the router.
	other := otherNode(p.node)
	seen := of(a, nodeAddrs(p.node))
	if !p.underlay() {
		seen = netip.Addr{} // the bridge has an address of its own
	}
	return []question{
		p.question(p.node, a, seen, p.link()),
		p.question(other, a, of(a, nodeAddrs(other)), nic),
		p.question("client", a, of(a, clientAddrs), nic),
	}
}

func (p *pod) question(from string, to, sees netip.Addr, replyBy string) question {
	return question{from: machines[from], to: netip.AddrPortFrom(to, p.port()), answers: p.name, sees: sees, pod: p, replyBy: replyBy}
}

// asking are the questions of the pod, from each address that it has.
func (p *pod) asking() []question {
	var all []question
	for _, source := range p.addrs() {
		for _, m := range []struct {
			name  string
			addrs []netip.Addr
		}{
			{p.node, nodeAddrs(p.node)},
			{otherNode(p.node), nodeAddrs(otherNode(p.node))},
			{"client", clientAddrs},
		} {
			all = append(all, question{from: p.Netns, source: source, sees: source,
				to: netip.AddrPortFrom(of(source, m.addrs), 8080), answers: m.name})
		}
		for _, w := range web {
			all = append(all, question{from: p.Netns, source: source,
				to: netip.AddrPortFrom(of(source, w.overlay), 80), answers: w.name})
		}
		all = append(all, question{from: p.Netns, source: source, to: netip.AddrPortFrom(of(source, webService), 80)})
	}
	for _, a := range nodeAddrs(p.node) { // without a source of its own choice
		all = append(all, question{from: p.Netns, to: netip.AddrPortFrom(a, 8080), answers: p.node, sees: of(a, p.first())})
	}
	return all
}

// reachEachOther asks each pod from each other one, at all addresses.
func reachEachOther(t *testing.T, pods ...*pod) {
	t.Helper()
	for _, from := range pods {
		for _, to := range pods {
			if from != to {
				askAll(t, from.to(to))
			}
		}
	}
}

func (p *pod) to(other *pod) []question {
	var all []question
	for _, a := range other.addrs() {
		all = append(all, question{from: p.Netns, to: netip.AddrPortFrom(a, 80), answers: other.name})
	}
	return all
}

// web are pods with nothing but the cluster network, and the addresses of a
// Service in front of them.
var (
	web        []*pod
	webService []netip.Addr
)

// needWeb makes them, once for all tests.
func needWeb(t *testing.T) {
	t.Helper()
	for _, node := range []string{"node1", "node2"} {
		p := &pod{name: "web-" + node, node: node, app: "web"}
		web = append(web, start(t, p))
	}
	webService = newService(t, "web", "web", nil).addrs
	for _, a := range webService {
		settles(t, question{from: machines["node1"], to: netip.AddrPortFrom(a, 80)})
		settles(t, question{from: machines["node2"], to: netip.AddrPortFrom(a, 80)})
	}
}
