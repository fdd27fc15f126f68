// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// setServicesLegacy makes the rules in iptables-legacy. It replaces table nat of both
// families, or of the one that the kernel has.
func (n *Netns) setServicesLegacy(services []Service) error {
	for program, is4 := range map[string]bool{"iptables-legacy-restore": true, "ip6tables-legacy-restore": false} {
		if !is4 && !hasIPv6() {
			continue
		}
		cmd := exec.Command(program)
		cmd.Stdin = strings.NewReader(legacyRules(services, is4))
		err := n.Do(func() error {
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("services in %s: %s: %w", n.name, program, err)
		}
	}
	return nil
}

// legacyRules returns the rules of one family in the format of iptables-restore(8).
func legacyRules(services []Service, is4 bool) string {
	var b strings.Builder
	fmt.Fprintln(&b, "*nat")
	for _, s := range services {
		if s.Endpoint.Addr().Is4() != is4 {
			continue
		}
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			for _, protocol := range []string{"tcp", "udp"} {
				rule := func(to netip.AddrPort, target string) {
					fmt.Fprintf(&b, "-A %s -d %s -p %s --dport %d -j %s\n", chain, to.Addr(), protocol, to.Port(), target)
				}
				dnat := "DNAT --to-destination " + s.Endpoint.String()
				if s.ClusterIP.IsValid() {
					rule(s.ClusterIP, fmt.Sprintf("MARK --or-mark %#x", masqueradeMark))
					rule(s.ClusterIP, dnat)
				}
				if s.NodePort.IsValid() {
					rule(s.NodePort, dnat)
				}
			}
		}
	}
	fmt.Fprintf(&b, "-A POSTROUTING -m mark --mark %#[1]x/%#[1]x -j MASQUERADE\nCOMMIT\n", masqueradeMark)
	return b.String()
}
