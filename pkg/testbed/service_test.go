// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"net/netip"
	"testing"
)

// A node between a client and a pod has a Service of IPv4 and one of IPv6.
func TestServices(t *testing.T) {
	client, node, pod := newNetns(t, "client"), newNetns(t, "node"), newNetns(t, "pod")
	check(t, ConnectVeth(client, "eth0", node, "lan0"))
	check(t, ConnectVeth(pod, "eth0", node, "pod0"))
	check(t, node.EnableForwarding())
	var services []Service
	for _, f := range []struct{ client, lan, toPod, pod, all, service string }{
		{"10.1.0.1/24", "10.1.0.2/24", "10.2.0.2/24", "10.2.0.1/24", "0.0.0.0/0", "10.96.0.10"},
		{"fd00:1::1/64", "fd00:1::2/64", "fd00:2::2/64", "fd00:2::1/64", "::/0", "fd00:10:96::10"},
	} {
		p := netip.MustParsePrefix
		check(t, client.AddAddrs("eth0", p(f.client)))
		check(t, node.AddAddrs("lan0", p(f.lan)))
		check(t, node.AddAddrs("pod0", p(f.toPod)))
		check(t, pod.AddAddrs("eth0", p(f.pod)))
		check(t, client.AddRoutes(Route{Dst: p(f.all), Via: p(f.lan).Addr(), Dev: "eth0"}))
		check(t, pod.AddRoutes(Route{Dst: p(f.all), Via: p(f.toPod).Addr(), Dev: "eth0"}))
		// The node needs some route to a ClusterIP before its output is translated.
		check(t, node.AddRoutes(Route{Dst: netip.PrefixFrom(netip.MustParseAddr(f.service), p(f.client).Addr().BitLen()), Dev: "lan0"}))
		services = append(services, Service{
			ClusterIP: netip.AddrPortFrom(netip.MustParseAddr(f.service), 80),
			NodePort:  netip.AddrPortFrom(p(f.lan).Addr(), 30080),
			Endpoint:  netip.AddrPortFrom(p(f.pod).Addr(), 8080),
		})
		ask := func(from *Netns, to netip.AddrPort, seen netip.Prefix) {
			t.Helper()
			for _, network := range []string{"tcp", "udp"} {
				got, err := from.Ask(network, to, Socket{})
				if err != nil {
					t.Error(err)
				} else if got.Server != "pod" || got.Client.Addr() != seen.Addr() {
					t.Errorf("%s to %s: %s answered and saw %s, want pod and %s", network, to, got.Server, got.Client, seen)
				}
			}
		}
		check(t, node.SetServices(services...))
		check(t, node.SetServices(services...)) // replaces
		s, err := pod.Serve(8080, Socket{})
		check(t, err)
		last := services[len(services)-1]
		ask(client, last.ClusterIP, p(f.toPod))
		ask(node, last.ClusterIP, p(f.toPod))
		ask(client, last.NodePort, p(f.client))
		check(t, s.Close())
	}
}
