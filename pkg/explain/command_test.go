// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/netstate"
)

// TestCommands: what a program would take otherwise than a reader does, and each
// namespace by its name or path. An operation goes from one line to another, as
// netstate.Parse reads them.
func TestCommands(t *testing.T) {
	for name, tt := range map[string]struct {
		at            place
		before, after string
		want          string
	}{
		"a route without a scope is global": {
			"web", "", "pod: route 10.9.0.0/16 dev eth0 table 99",
			"ip -n web route add 10.9.0.0/16 dev eth0 table 99 scope global",
		},
		"a gateway of another family": {
			"web", "", "pod: route default via fe80::1 dev eth0 proto multihome onlink",
			"ip -n web route add default via inet6 fe80::1 dev eth0 proto 109 onlink",
		},
		"an address that comes and goes": {
			"web", "pod: addr fd00::1/64 dev eth0 dynamic tentative", "",
			"ip -n web -6 addr del fd00::1/64 dev eth0",
		},
		"a setting goes with its link": {"web", "host: sysctl net/ipv4/conf/vetha/rp_filter=1", "", ""},
		"a path": {
			"/proc/7/ns/net", "", "pod: rule pref 32763 from all fwmark 0x1/0x1 lookup 100 proto multihome",
			"nsenter --net=/proc/7/ns/net ip rule add pref 32763 from all fwmark 0x1/0x1 lookup 100 proto 109",
		},
		"a path with a space": {
			"/a b", "", "pod: sysctl net/ipv4/conf/eth0/rp_filter=0",
			"nsenter --net='/a b' sysctl -w net/ipv4/conf/eth0/rp_filter=0",
		},
		"a pair is named from both ends": {
			"web", "", `host: link vetha address 02:00:00:00:00:01 mtu 1400 txqueuelen 50 up alias "multihome:a b/c/d" type veth peer name veth0 netns pod address 02:00:00:00:00:02`,
			"ip link add vetha address 02:00:00:00:00:01 mtu 1400 txqueuelen 50 up type veth peer name veth0 address 02:00:00:00:00:02 mtu 1400 txqueuelen 50 netns web\n" +
				"ip link set vetha alias 'multihome:a b/c/d'",
		},
		"a link leaves its master": {
			"web", "host: link ens192 up master br0", "host: link ens192 up",
			"ip link set ens192 down\nip link set ens192 nomaster\nip link set ens192 up",
		},
		"a link goes": {"web", "host: link vetha up type veth", "", "ip link del vetha"},
		"chains in the place of others": {
			"web", "pod: ip6tables table mangle damaged \"no rule\"", "pod: ip6tables table mangle iifname veth0 from 02:00:00:00:00:01 mark 0x1",
			`ip netns exec web ip6tables -t mangle -D OUTPUT -j MULTIHOME-OUTPUT || true
ip netns exec web ip6tables -t mangle -F MULTIHOME-OUTPUT || true
ip netns exec web ip6tables -t mangle -X MULTIHOME-OUTPUT || true
ip netns exec web ip6tables -t mangle -D PREROUTING -j MULTIHOME-PREROUTING || true
ip netns exec web ip6tables -t mangle -F MULTIHOME-PREROUTING || true
ip netns exec web ip6tables -t mangle -X MULTIHOME-PREROUTING || true
ip netns exec web ip6tables -t mangle -N MULTIHOME-PREROUTING
ip netns exec web ip6tables -t mangle -A MULTIHOME-PREROUTING -i veth0 -m mac --mac-source 02:00:00:00:00:01 -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x1/0x1
ip netns exec web ip6tables -t mangle -A MULTIHOME-PREROUTING -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1
ip netns exec web ip6tables -t mangle -I PREROUTING -j MULTIHOME-PREROUTING
ip netns exec web ip6tables -t mangle -N MULTIHOME-OUTPUT
ip netns exec web ip6tables -t mangle -A MULTIHOME-OUTPUT -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1
ip netns exec web ip6tables -t mangle -I OUTPUT -j MULTIHOME-OUTPUT`,
		},
		"a table goes": {"web", "pod: nft table inet multihome iifname veth0 mark 0x1", "", "ip netns exec web nft delete table inet multihome"},
	} {
		t.Run(name, func(t *testing.T) {
			op := netstate.Op{}
			for line, o := range map[string]*netstate.Object{tt.before: &op.Before, tt.after: &op.After} {
				if line == "" {
					continue
				}
				var err error
				if op.NS, *o, err = netstate.Parse(line); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(tt.at.commands(op), "\n")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
