// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestUntuned sets tunePodRoutes to false: net1 gets no table and takes nothing out of
// main, and node and pod still reach each other by it.
func TestUntuned(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Plug(t, 0, "eth0")
	before := routing(t, s.Web)
	s.Plug(t, 1, "net1", with(`"tunePodRoutes": false`))
	s.Serve(t)
	if got := fixture.Sh(t, s.Web.Netns, "ip rule; ip -6 rule"); strings.Contains(got, "32764:") {
		t.Errorf("there are rules from addresses:\n%s", got)
	}
	s.Verify(t, slices.DeleteFunc(s.Checks(), func(c lab.Check) bool {
		return strings.HasPrefix(c.Name, "host in ") && !strings.Contains(c.Name, "NodePort") || strings.HasPrefix(c.Name, "NIC to LAN")
	})...)
	s.Check(t)
	s.Unplug(t, "net1")
	if after := routing(t, s.Web); after != before {
		t.Errorf("state after DEL:\n%s\nstate before ADD:\n%s", after, before)
	}
}

// TestPolicyRoutes checks that routes of the first NIC are in main, and those of
// another NIC in its table.
func TestPolicyRoutes(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Plug(t, 0, "eth0", with(`"policyRoutes": [{"dst": "203.0.113.0/24", "gw": "10.6.0.50"}, {"dst": "2001:db8:9::/64", "gw": "fd00:6::50"}]`))
	s.Plug(t, 1, "net1", with(`"policyRoutes": [{"dst": "203.0.113.0/24", "gw": "10.7.0.50"}, {"dst": "2001:db8:9::/64", "gw": "fd00:7::50"}]`))
	eth0, net1 := s.Web.Addrs("eth0"), s.Web.Addrs("net1")
	for _, tt := range []struct{ get, want string }{
		{"203.0.113.9", "via 10.6.0.50 dev eth0"},
		{"203.0.113.9 from " + eth0[0].Addr().String(), "via 10.6.0.50 dev eth0"},
		{"203.0.113.9 from " + net1[0].Addr().String(), "via 10.7.0.50 dev net1"},
		{"2001:db8:9::9", "via fd00:6::50 dev eth0"},
		{"2001:db8:9::9 from " + eth0[1].Addr().String(), "via fd00:6::50 dev eth0"},
		{"2001:db8:9::9 from " + net1[1].Addr().String(), "via fd00:7::50 dev net1"},
	} {
		if got := fixture.Sh(t, s.Web.Netns, "ip route get "+tt.get); !strings.Contains(got, tt.want) {
			t.Errorf("ip route get %s: %s, want %s", tt.get, got, tt.want)
		}
	}
	if got := fixture.Line(t, s.Web.Netns, "ip route show table all", "203.0.113.0/24 via 10.7.0.50"); !strings.Contains(got, "table 101") {
		t.Errorf("net1's policy route is %q, want it in table 101", got)
	}
	s.Serve(t)
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	s.Check(t)
}

// TestLinkOptions sets options of links: an address of veth0, which changes no table
// and no Service, and the queue length of the pod's NIC, not of the node's link with
// the same name.
func TestLinkOptions(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	fixture.Sh(t, s.Node.Netns, "ip link add net1 type veth peer name net1-far")
	before := fixture.Line(t, s.Node.Netns, "ip -o link show net1", "net1@")
	s.Plug(t, 0, "eth0", with(`"vethLinkAddress": "169.254.200.1"`))
	s.Plug(t, 1, "net1", with(`"txQueueLen": 2345`))
	s.Serve(t)
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	s.Check(t)
	fixture.Line(t, s.Web.Netns, "ip addr show dev veth0", "inet 169.254.200.1/32 ")
	fixture.Line(t, s.Web.Netns, "ip link show net1", "qlen 2345")
	if after := fixture.Line(t, s.Node.Netns, "ip -o link show net1", "net1@"); after != before {
		t.Errorf("the node's link of that name was %s, and is %s", before, after)
	}
	fixture.Sh(t, s.Web.Netns, "ip link set net1 txqueuelen 1000")
	if err := s.NICs[1].Network.Check(t.Context(), s.Web, "net1"); err == nil || !strings.Contains(err.Error(), "txqueuelen 1000") {
		t.Errorf("CHECK of another queue: %v", err)
	}
}

// TestOtherHostTable uses another table and priority on the node; DEL finds them, for
// each NIC and at the end.
func TestOtherHostTable(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], with(`"hostRuleTable": 600, "hostRulePriority": 1234`))
	routes := func() string {
		return fixture.Sh(t, s.Node.Netns, "ip route show table 600 2>/dev/null || true; ip -6 route show table 600 2>/dev/null || true; ip neigh show nud permanent | sort")
	}
	before := routes()
	s.Plug(t, 0, "eth0")
	first := routes()
	s.Plug(t, 1, "net1")
	s.Serve(t)
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	s.Check(t)
	for _, family := range []string{"-4", "-6"} {
		fixture.Line(t, s.Node.Netns, "ip "+family+" rule", "1234:	from all lookup 600")
		if got := fixture.Sh(t, s.Node.Netns, "ip "+family+" rule"); strings.Contains(got, "lookup 500") {
			t.Errorf("a rule for the default table is there: %s", got)
		}
	}
	s.Unplug(t, "net1")
	if got := routes(); got != first {
		t.Errorf("after DEL of net1 the node has\n%s\nwant\n%s", got, first)
	}
	s.Unplug(t, "eth0")
	if got := routes(); got != before {
		t.Errorf("after DEL the node has\n%s\nwant\n%s", got, before)
	}
}

// TestNodeAddressesExcluded keeps a floating address out of the pod, so that the pod
// reaches it by the LAN, wherever it is.
func TestNodeAddressesExcluded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		key  string
		want bool
	}{
		"the control": {`"nodeAddresses": "auto"`, true},
		"excluded":    {`"nodeAddresses": ["auto", "!10.6.168.200", "!fd00:6::200"]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], with(tt.key))
			vips := fixture.PrefixesOf("10.6.168.200/16", "fd00:6::200/64")
			if err := s.Node.AddAddrs("ens192", vips...); err != nil {
				t.Fatal(err)
			}
			s.Plug(t, 0, "eth0")
			s.Plug(t, 1, "net1")
			s.Serve(t)
			s.Verify(t, slices.DeleteFunc(fixture.ByTCP(s.Checks()), func(c lab.Check) bool {
				return c.Answers == s.App.Netns // masqueraded like any of the node's addresses
			})...)
			s.Check(t)
			for _, vip := range vips {
				a := vip.Addr()
				got := fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip %s route show table all", fixture.IPFamily(a)))
				if has := strings.Contains(got, a.String()+" dev veth0"); has != tt.want {
					t.Errorf("a route to %s by veth0: %t, want %t:\n%s", a, has, tt.want, got)
				}
			}
		})
	}
}
