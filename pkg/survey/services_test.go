// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// TestServiceAddrs lets nft and iptables make what kube-proxy makes.
func TestServiceAddrs(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   string
	}{
		"none": {"", "[]"},
		"nftables": {
			`nft 'table ip kube-proxy { set cluster-ips { type ipv4_addr; elements = { 10.96.0.1, 10.96.0.10 }; }; }
			table ip6 kube-proxy { set cluster-ips { type ipv6_addr; elements = { fd00:10:96::1 }; }; }'`,
			"[10.96.0.1 10.96.0.10 fd00:10:96::1]",
		},
		"iptables": {
			`for t in iptables ip6tables; do $t -t nat -N KUBE-SERVICES; $t -t nat -N KUBE-SVC-X; done
			iptables -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-X
			iptables -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-X
			iptables -t nat -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j RETURN
			ip6tables -t nat -A KUBE-SERVICES -d fd00:10:96::1/128 -p tcp -m tcp --dport 443 -j KUBE-SVC-X`,
			"[10.96.0.10 fd00:10:96::1]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onNode(t, test.script, func(k *kernel.Namespaces) error {
				got, err := ServiceAddrs(k.Host)
				if diff := cmp.Diff(test.want, fmt.Sprint(got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return err
			})
		})
	}
}

// TestLoadBalancerAddrs has the map of kube-proxy's in mode nftables, of addresses,
// protocols and ports.
func TestLoadBalancerAddrs(t *testing.T) {
	onNode(t, `nft 'table ip kube-proxy {
		set cluster-ips { type ipv4_addr; elements = { 10.96.0.10 }; }
		chain service-a { }
		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.10 . tcp . 80 : goto service-a, 10.6.9.9 . tcp . 80 : goto service-a, 10.6.9.9 . udp . 53 : goto service-a }; }
	}
	table ip6 kube-proxy {
		chain service-a { }
		map service-ips { type ipv6_addr . inet_proto . inet_service : verdict; elements = { fd00:6::9 . tcp . 80 : goto service-a }; }
	}'`, func(k *kernel.Namespaces) error {
		got, err := LoadBalancerAddrs(k.Host)
		if diff := cmp.Diff("[10.6.9.9 fd00:6::9]", fmt.Sprint(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		return err
	})
}

// TestBackends lets nft and iptables make what kube-proxy makes.
func TestBackends(t *testing.T) {
	for name, test := range map[string]struct{ script, v4, v6 string }{
		"none": {"", "[] false []", "[] false []"},
		"nftables": {
			`nft 'table ip kube-proxy {
				chain mark-for-masquerade { }
				chain endpoint-X-default/web/tcp/__10.6.0.5/80 { ip saddr 10.6.0.5 jump mark-for-masquerade; }
				chain service-X-default/web/tcp/ { ip daddr 10.96.0.10 tcp dport 80 ip saddr != 10.244.0.0/14 jump mark-for-masquerade; }
			}
			table ip6 kube-proxy {
				chain mark-for-masquerade { }
				chain endpoint-X-default/web/tcp/__fd00.6..5/80 { ip6 saddr fd00:6::5 jump mark-for-masquerade; }
				chain service-X-default/web/tcp/ { ip6 daddr fd00:10:96::10 tcp dport 80 ip6 saddr != fd00:244::/56 jump mark-for-masquerade; }
			}'`,
			"[10.6.0.5] true [10.244.0.0/14]", "[fd00:6::5] true [fd00:244::/56]",
		},
		"iptables": {
			`for t in iptables ip6tables; do $t -t nat -N KUBE-MARK-MASQ; $t -t nat -N KUBE-SVC-X; $t -t nat -N KUBE-SEP-X; done
			iptables -t nat -A KUBE-SVC-X ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
			iptables -t nat -A KUBE-SVC-X -m comment --comment "default/web -> 10.6.0.5:80" -j KUBE-SEP-X
			iptables -t nat -A KUBE-SEP-X -s 10.6.0.5/32 -m comment --comment default/web -j KUBE-MARK-MASQ
			iptables -t nat -A KUBE-SEP-X -p tcp -m comment --comment default/web -m tcp -j DNAT --to-destination 10.6.0.5:80
			ip6tables -t nat -A KUBE-SVC-X -d fd00:10:96::10/128 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
			ip6tables -t nat -A KUBE-SEP-X -s fd00:6::5/128 -j KUBE-MARK-MASQ`,
			"[10.6.0.5] true [10.244.0.0/16]", "[fd00:6::5] true []",
		},
		"without a pod range": {
			`iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -N KUBE-SVC-X; iptables -t nat -N KUBE-SEP-X
			iptables -t nat -A KUBE-SVC-X -j KUBE-SEP-X
			iptables -t nat -A KUBE-SEP-X -s 10.6.0.5/32 -j KUBE-MARK-MASQ`,
			"[10.6.0.5] false []", "[] false []",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onNode(t, test.script, func(k *kernel.Namespaces) error {
				for i, want := range []string{test.v4, test.v6} {
					b, err := ReadBackends(k.Host, netstate.Families[i])
					if err != nil {
						return err
					}
					if diff := cmp.Diff(want, fmt.Sprint(b.Endpoints, b.Masquerades, b.Except)); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				}
				return nil
			})
		})
	}
}
