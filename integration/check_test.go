// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestCheckNamesWhatIsDamaged removes one object after the other: CHECK must name it,
// ADD must restore it and nothing else, and then CHECK must pass.
func TestCheckNamesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	s.WebNIC.Add(t)
	s.WebNIC.Check(t)

	host := s.WebNIC.Host()
	pod, node := s.Web.Netns, s.Node.Netns
	at := map[*testbed.Netns]string{pod: "pod", node: "host"}
	for _, damage := range []struct {
		in   *testbed.Netns
		by   string
		name string // CHECK's name for it, after "pod: " or "host: "
	}{
		{pod, "ip route del 10.96.0.0/12", "route 10.96.0.0/12 via 10.6.168.123 dev veth0"},
		{pod, "ip -6 route del fd00:10:96::/108", "route fd00:10:96::/108 via fd00:6::123 dev veth0"},
		{pod, "ip route change 10.96.0.0/12 via 10.6.168.123 dev veth0 proto 109", "route is 10.96.0.0/12"},
		{pod, "ip route del 10.6.168.123 dev veth0", "route 10.6.168.123 dev veth0"},
		{pod, "ip -6 route del fd00:6::123 dev veth0", "route fd00:6::123 dev veth0"},
		{pod, "ip route flush table 100", "route default via 10.6.168.123 dev veth0 table 100"},
		{pod, "ip -6 route flush table 100", "route default via fd00:6::123 dev veth0 table 100"},
		{pod, "ip rule del priority 32763", "rule pref 32763 from all fwmark 0x10000000/0x10000000 lookup 100"},
		{pod, "ip -6 rule del priority 32763", "IPv6 rule pref 32763 from all fwmark 0x10000000/0x10000000 lookup 100"},
		{pod, "ip neigh del 10.6.168.123 dev veth0", "neigh 10.6.168.123 dev veth0"},
		{pod, "ip neigh del fd00:6::123 dev veth0", "neigh fd00:6::123 dev veth0"},
		{pod, "ip neigh replace 10.6.168.123 dev veth0 lladdr 02:00:00:00:00:01 nud permanent", "neigh is 10.6.168.123 dev veth0 lladdr 02:00:00:00:00:01"},
		{pod, "nft delete table inet multihome", "nft table inet multihome"},
		{pod, deleteRule("prerouting", 1), "nft is table inet multihome"},
		{pod, deleteRule("prerouting", 2), "nft is table inet multihome"},
		{pod, deleteRule("output", 1), "nft is table inet multihome"},
		{pod, "nft delete chain inet multihome output", "nft is table inet multihome"},
		{pod, "nft add rule inet multihome output drop", "nft is table inet multihome"},
		{pod, "nft chain inet multihome output '{ policy drop; }'", "nft is table inet multihome"},
		{pod, "ip link set veth0 address 02:00:00:00:00:02", "link is veth0 address 02:00:00:00:00:02"},
		{pod, "echo 1 >/proc/sys/net/ipv4/conf/veth0/rp_filter", "sysctl is net/ipv4/conf/veth0/rp_filter=1"},
		{pod, "ip link set veth0 down", "link is veth0"},
		{pod, "ip link del veth0", "link is veth0"},
		{node, "ip route del 10.6.168.171 table 500", "route 10.6.168.171 dev " + host + " table 500"},
		{node, "ip -6 route del fd00:6::171 table 500", "route fd00:6::171 dev " + host + " table 500"},
		{node, "ip rule del priority 1000", "rule pref 1000 from all lookup 500"},
		{node, "ip -6 rule del priority 1000", "IPv6 rule pref 1000 from all lookup 500"},
		{node, "ip neigh del 10.6.168.171 dev " + host, "neigh 10.6.168.171 dev " + host},
		{node, "ip neigh del fd00:6::171 dev " + host, "neigh fd00:6::171 dev " + host},
		{node, "echo 0 >/proc/sys/net/ipv4/conf/" + host + "/rp_filter", "sysctl is net/ipv4/conf/" + host + "/rp_filter=0"},
		{node, "echo 1 >/proc/sys/net/ipv6/conf/" + host + "/accept_ra", "sysctl is net/ipv6/conf/" + host + "/accept_ra=1"},
		{node, "ip link set " + host + " address 02:00:00:00:00:03", "link is " + host + " address 02:00:00:00:00:03"},
		{node, "ip link set " + host + " down", "link is " + host},
		{node, "ip link del " + host, "link " + host},
	} {
		t.Run(at[damage.in]+": "+strings.ReplaceAll(damage.by, "/", "_"), func(t *testing.T) {
			before := s.State(t)
			fixture.Sh(t, damage.in, damage.by)
			e := s.WebNIC.Call("CHECK").Fails(t)
			if want := at[damage.in] + ": " + damage.name; !strings.Contains(e.Msg, want) {
				t.Errorf("CHECK does not name %q:\n%s", want, strings.ReplaceAll(e.Msg, "; ", "\n"))
			}
			s.WebNIC.Add(t)
			s.WebNIC.Check(t)
			s.AppNIC.Check(t)
			// A restored object has a new place and number.
			fixture.Same(t, "ADD that repairs", before.Unnumbered(), s.State(t).Unnumbered())
		})
	}
	fixture.Holds(t, s.Scene)
}

// deleteRule returns a script that deletes the n-th rule of a chain.
func deleteRule(chain string, n int) string {
	return fmt.Sprintf(`nft delete rule inet multihome %s handle $(nft -a list chain inet multihome %s | grep ' ct ' | sed -n '%ds/.*# handle //p')`, chain, chain, n)
}

// TestCheckWithoutDefault uses an IPAM that names gateways but gives no routes: a
// further NIC's ADD and CHECK of the first NIC agree that the first NIC leads nowhere
// but to its LAN.
func TestCheckWithoutDefault(t *testing.T) {
	for name, lans := range fixture.TwoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, lans)
			fixture.Sh(t, s.Web.Netns, "ip -4 route flush default; ip -6 route flush default")
			for _, n := range s.NICs {
				s.Web.Results[n.Name].Routes = nil
				s.Attached(n.Name).Call("ADD").Fine(t)
			}
			before := s.State(t)
			for _, n := range s.NICs {
				s.Attached(n.Name).Check(t)
				s.Attached(n.Name).Call("ADD").Fine(t)
			}
			fixture.Same(t, "ADD again", before, s.State(t))
		})
	}
}
