// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestChains lets nft and iptables make chains, and reads what they do.
func TestChains(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   []Chain
	}{
		"none": {},
		"iptables": {
			`iptables -P FORWARD DROP
			iptables -A FORWARD -i veth+ -j ACCEPT
			iptables -A FORWARD -o ens192.host -m comment --comment pods -j ACCEPT
			iptables -A FORWARD -i eth1 -p tcp -j ACCEPT
			iptables -N KUBE-FORWARD
			iptables -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
			iptables -t nat -N KUBE-SERVICES`,
			[]Chain{
				{Family: "ip", Table: "filter", Name: "FORWARD", Forward: true, Drops: true, AcceptsIn: []string{"veth*"}, AcceptsOut: []string{"ens192.host"}},
				{Family: "ip", Table: "filter", Name: "KUBE-FORWARD", DropsInvalid: true},
				{Family: "ip", Table: "nat", Name: "KUBE-SERVICES"},
			},
		},
		"iptables that accepts": {
			"ip6tables -A FORWARD -m conntrack --ctstate INVALID -m comment --comment invalid -j ACCEPT; ip6tables -A FORWARD -j REJECT; ip6tables -A FORWARD -i a -j DROP",
			[]Chain{{Family: "ip6", Table: "filter", Name: "FORWARD", Forward: true}},
		},
		"nft": {
			`nft 'table inet a { chain f { type filter hook forward priority 0; ct state invalid drop; iifname "veth*" accept; oifname "veth*" accept; iifname != "x" accept; reject; }; chain i { type filter hook input priority 0; policy drop; }; chain n { drop; }; }
			table ip b { chain p { type nat hook prerouting priority 0; }; chain f { type filter hook forward priority 10; counter drop; }; }
			table bridge c { chain f { type filter hook forward priority 0; policy drop; }; }'`,
			[]Chain{
				{Family: "inet", Table: "a", Name: "f", Forward: true, Drops: true, DropsInvalid: true, AcceptsIn: []string{"veth*"}, AcceptsOut: []string{"veth*"}},
				{Family: "inet", Table: "a", Name: "i", Input: true, Drops: true},
				{Family: "inet", Table: "a", Name: "n"},
				{Family: "ip", Table: "b", Name: "p"},
				{Family: "ip", Table: "b", Name: "f", Forward: true, Drops: true},
			},
		},
		"firewalld, with veths in zone trusted": {
			`nft 'table inet firewalld {
				chain FWD_trusted_pre { }; chain FWD_trusted { jump FWD_trusted_pre; accept; }; chain FWD_public { tcp dport 80 accept; reject; }
				chain FWD_policy { accept; }; chain POLICIES { oifname "veth*" jump FWD_policy; iifname "ens*" tcp dport 80 jump FWD_policy; }
				chain ZONES { iifname "veth*" goto FWD_trusted; iifname "ens192" goto FWD_public; return; iifname "never" accept; }
				chain f { type filter hook forward priority 10; ct state established,related accept; jump POLICIES; jump ZONES; reject; }
			}'`,
			[]Chain{
				{Family: "inet", Table: "firewalld", Name: "FWD_trusted_pre"}, {Family: "inet", Table: "firewalld", Name: "FWD_trusted"},
				{Family: "inet", Table: "firewalld", Name: "FWD_public"}, {Family: "inet", Table: "firewalld", Name: "FWD_policy"},
				{Family: "inet", Table: "firewalld", Name: "POLICIES"}, {Family: "inet", Table: "firewalld", Name: "ZONES"},
				{Family: "inet", Table: "firewalld", Name: "f", Forward: true, Drops: true, AcceptsIn: []string{"veth*"}, AcceptsOut: []string{"veth*"}},
			},
		},
		"iptables of packets to the node": {
			`iptables -P INPUT DROP
			iptables -A INPUT -m conntrack --ctstate INVALID -j DROP
			iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables -A INPUT -i lo -j ACCEPT
			iptables -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
			iptables -A INPUT -p icmp -j ACCEPT
			iptables -N KUBE-NODEPORTS
			iptables -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
			ip6tables -P INPUT DROP; ip6tables -A INPUT -i veth+ -j ACCEPT`,
			[]Chain{
				{Family: "ip", Table: "filter", Name: "INPUT", Input: true, Drops: true, AcceptsIn: []string{"lo"}},
				{Family: "ip", Table: "filter", Name: "KUBE-NODEPORTS"},
				{Family: "ip6", Table: "filter", Name: "INPUT", Input: true, Drops: true, AcceptsIn: []string{"veth*"}},
			},
		},
		"iptables that accepts pods by their addresses": {
			"iptables -P INPUT DROP; iptables -A INPUT -s 10.6.0.0/16 -j ACCEPT; ip6tables -P INPUT DROP; ip6tables -N ufw6-user-input; ip6tables -A INPUT -j ufw6-user-input",
			[]Chain{
				{Family: "ip", Table: "filter", Name: "INPUT", Input: true, Drops: true, MayAccept: true},
				{Family: "ip6", Table: "filter", Name: "INPUT", Input: true, Drops: true, MayAccept: true},
				{Family: "ip6", Table: "filter", Name: "ufw6-user-input"},
			},
		},
		"iptables that accepts everything in the end": {
			"iptables -P INPUT DROP; iptables -A INPUT -s 192.0.2.0/24 -j DROP; iptables -A INPUT -j ACCEPT",
			[]Chain{{Family: "ip", Table: "filter", Name: "INPUT", Input: true, Drops: true, AcceptsIn: []string{"*"}, AcceptsOut: []string{"*"}}},
		},
		"nft of packets to the node": {
			`nft 'table inet a {
				chain ports { type filter hook input priority 0; policy drop; ct state vmap { established : accept, invalid : drop }; iif lo accept; tcp dport { 22, 6443 } accept; ip protocol icmp accept; ip6 nexthdr icmpv6 accept; ip saddr 192.0.2.1 reject; }
				chain links { type filter hook input priority 1; iifname { "veth1", "lo" } accept; reject; }
				chain verdicts { type filter hook input priority 2; policy drop; iifname vmap { "veth1" : accept }; }
				chain prefix { type filter hook input priority 3; policy drop; ip6 saddr fd00::/64 accept; }
				chain away { type filter hook input priority 4; policy drop; goto other; }
				chain other { }
			}'`,
			[]Chain{
				{Family: "inet", Table: "a", Name: "ports", Input: true, Drops: true},
				{Family: "inet", Table: "a", Name: "links", Input: true, Drops: true, MayAccept: true},
				{Family: "inet", Table: "a", Name: "verdicts", Input: true, Drops: true, MayAccept: true},
				{Family: "inet", Table: "a", Name: "prefix", Input: true, Drops: true, MayAccept: true},
				{Family: "inet", Table: "a", Name: "away", Input: true, Drops: true, MayAccept: true},
				{Family: "inet", Table: "a", Name: "other"},
			},
		},
		"iptables-legacy of packets to the node": {
			`iptables-legacy -P INPUT DROP
			iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables-legacy -A INPUT -i veth+ -j ACCEPT
			ip6tables-legacy -A INPUT -s fd00::/64 -j ACCEPT
			ip6tables-legacy -A INPUT -j DROP`,
			[]Chain{
				{Family: "ip", Table: "filter", Name: "INPUT", Legacy: true, Input: true, Drops: true, AcceptsIn: []string{"veth*"}},
				{Family: "ip", Table: "filter", Name: "FORWARD", Legacy: true, Forward: true},
				{Family: "ip", Table: "filter", Name: "OUTPUT", Legacy: true},
				{Family: "ip6", Table: "filter", Name: "INPUT", Legacy: true, Input: true, MayAccept: true},
				{Family: "ip6", Table: "filter", Name: "FORWARD", Legacy: true, Forward: true},
				{Family: "ip6", Table: "filter", Name: "OUTPUT", Legacy: true},
			},
		},
		"iptables-legacy": {
			`iptables-legacy -P FORWARD DROP
			iptables-legacy -A FORWARD -i veth+ -j ACCEPT
			iptables-legacy -A FORWARD -o ens192.host -j ACCEPT
			iptables-legacy -N KUBE-FORWARD
			iptables-legacy -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`,
			[]Chain{
				{Family: "ip", Table: "filter", Name: "INPUT", Legacy: true, Input: true},
				{Family: "ip", Table: "filter", Name: "FORWARD", Legacy: true, Forward: true, Drops: true, AcceptsIn: []string{"veth*"}, AcceptsOut: []string{"ens192.host"}},
				{Family: "ip", Table: "filter", Name: "OUTPUT", Legacy: true},
				{Family: "ip", Table: "filter", Name: "KUBE-FORWARD", Legacy: true, DropsInvalid: true},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onNode(t, test.script, func(k *kernel.Namespaces) error {
				got, err := Chains(k.Host)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return err
			})
		})
	}
}

// onNode runs a script in a new namespace, and then f there.
func onNode(t *testing.T, script string, f func(k *kernel.Namespaces) error) {
	t.Helper()
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	err = node.Do(func() error {
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		k, err := kernel.OpenHost()
		if err != nil {
			return err
		}
		defer k.Close()
		return f(k)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLacksLink asks for what every kernel has that runs pods, and for what none has.
func TestLacksLink(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	err = node.Do(func() error {
		k, err := kernel.OpenHost()
		if err != nil {
			return err
		}
		defer k.Close()
		for kind, want := range map[string]bool{"veth": false, "macvlan": false, "bridge": false, "underlay": true} {
			if got, err := LacksLink(k, kind); got != want || err != nil {
				t.Errorf("the kernel lacks %s: %t, %v, want %t", kind, got, err, want)
			}
		}
		out, err := exec.Command("ip", "-br", "link").Output()
		if err != nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("links beside lo: %v\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
