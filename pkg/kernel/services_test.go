// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
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
			onNode(t, test.script, func(k *Kernel) error {
				got, err := k.Host.ServiceAddrs()
				if diff := cmp.Diff(test.want, fmt.Sprint(got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return err
			})
		})
	}
}
