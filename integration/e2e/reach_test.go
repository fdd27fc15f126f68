// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/netip"
	"os"
	"slices"
	"testing"
)

// reachable sends requests to each of the pod's addresses from everywhere, and from
// each of them to everyone: its node, the other node, a client behind the router, a
// neighbour in each LAN, a pod of the cluster network on each node, and a Service in
// front of those. A reply must leave by the NIC that got the request, or by the link to
// the node if the node sent it.
func reachable(t *testing.T, p *pod) {
	t.Helper()
	askAll(t, append(p.asked(), p.asking()...))
}

// asked returns the requests to the pod.
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

// askedAt returns the requests to one address, from machines that reach each NIC.
func (p *pod) askedAt(nic string, a netip.Addr) []question {
	// The other node is in eth0's LAN and reaches the other LANs by the router.
	other := otherNode(p.node)
	seen, otherSeen := of(a, nodeAddrs(p.node)), of(a, nodeAddrs(other))
	if !p.underlay() {
		seen = netip.Addr{} // the bridge has its own address
	}
	if hidden(p, a) {
		otherSeen = netip.Addr{} // so has the tunnel
	}
	all := []question{
		p.question(p.node, a, seen, p.link()),
		p.question(other, a, otherSeen, nic),
	}
	if !hidden(p, a) {
		all = append(all, p.question("client", a, of(a, clientAddrs), nic))
	}
	return all
}

// hidden reports whether an address of a pod is one of a cluster network that only the
// nodes know. They translate what a pod sends from it to others.
func hidden(p *pod, a netip.Addr) bool {
	return slices.Contains(overlays, os.Getenv("E2E_CLUSTER")) && slices.Contains(p.overlay, a)
}

func (p *pod) question(from string, to, sees netip.Addr, replyBy string) question {
	return question{from: machines[from], to: netip.AddrPortFrom(to, p.port()), answers: p.name, sees: sees, pod: p, replyBy: replyBy}
}

// asking returns the pod's requests, from each of its addresses.
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
			seen := source
			if hidden(p, source) {
				seen = netip.Addr{}
			}
			all = append(all, question{from: p.Netns, source: source, sees: seen,
				to: netip.AddrPortFrom(of(source, m.addrs), 8080), answers: m.name})
		}
		for _, w := range web {
			all = append(all, question{from: p.Netns, source: source,
				to: netip.AddrPortFrom(of(source, w.overlay), 80), answers: w.name})
		}
		all = append(all, question{from: p.Netns, source: source, to: netip.AddrPortFrom(of(source, webService), 80)})
	}
	for _, a := range nodeAddrs(p.node) { // with the kernel's choice of the source
		all = append(all, question{from: p.Netns, to: netip.AddrPortFrom(a, 8080), answers: p.node, sees: of(a, p.first())})
	}
	return all
}

// reachEachOther sends requests from each pod to all addresses of each other pod.
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

// The pods that have only the cluster network, and the addresses of a Service in front
// of them.
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
