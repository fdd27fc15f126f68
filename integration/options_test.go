// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
)

// TestUntuned has tunePodRoutes false: net1 gets no table and takes nothing out of
// main, and the node reaches it and is reached from it as ever.
func TestUntuned(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], chained)
	s.plug(t, 0, "eth0")
	before := routing(t, s.web)
	s.plug(t, 1, "net1", with(`"tunePodRoutes": false`))
	s.serve(t)
	if got := sh(t, s.web.Netns, "ip rule; ip -6 rule"); strings.Contains(got, "32764:") {
		t.Errorf("there are rules from addresses:\n%s", got)
	}
	s.verify(t, slices.DeleteFunc(s.checks(), func(c lab.Check) bool {
		return strings.HasPrefix(c.Name, "host in ") && !strings.Contains(c.Name, "NodePort") || strings.HasPrefix(c.Name, "NIC to LAN")
	})...)
	s.check(t)
	s.unplug(t, "net1")
	if after := routing(t, s.web); after != before {
		t.Errorf("after DEL there is\n%s\nbefore ADD there was\n%s", after, before)
	}
}

// TestPolicyRoutes puts those of the first NIC into main, and those of another
// into its table.
func TestPolicyRoutes(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], chained)
	s.plug(t, 0, "eth0", with(`"policyRoutes": [{"dst": "203.0.113.0/24", "gw": "10.6.0.50"}, {"dst": "2001:db8:9::/64", "gw": "fd00:6::50"}]`))
	s.plug(t, 1, "net1", with(`"policyRoutes": [{"dst": "203.0.113.0/24", "gw": "10.7.0.50"}, {"dst": "2001:db8:9::/64", "gw": "fd00:7::50"}]`))
	eth0, net1 := s.web.Addrs("eth0"), s.web.Addrs("net1")
	for _, tt := range []struct{ get, want string }{
		{"203.0.113.9", "via 10.6.0.50 dev eth0"},
		{"203.0.113.9 from " + eth0[0].Addr().String(), "via 10.6.0.50 dev eth0"},
		{"203.0.113.9 from " + net1[0].Addr().String(), "via 10.7.0.50 dev net1"},
		{"2001:db8:9::9", "via fd00:6::50 dev eth0"},
		{"2001:db8:9::9 from " + eth0[1].Addr().String(), "via fd00:6::50 dev eth0"},
		{"2001:db8:9::9 from " + net1[1].Addr().String(), "via fd00:7::50 dev net1"},
	} {
		if got := sh(t, s.web.Netns, "ip route get "+tt.get); !strings.Contains(got, tt.want) {
			t.Errorf("ip route get %s: %s, want %s", tt.get, got, tt.want)
		}
	}
	if got := line(t, s.web.Netns, "ip route show table all", "203.0.113.0/24 via 10.7.0.50"); !strings.Contains(got, "table 101") {
		t.Errorf("net1's policy route is %q, want it in table 101", got)
	}
	s.serve(t)
	s.verify(t, byTCP(s.checks())...)
	s.check(t)
}

// TestLinkOptions sets what is of a link: an address of veth0 that no table and
// no Service minds, and the queue of the pod's NIC, not of the node's link that
// has the same name.
func TestLinkOptions(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], chained)
	sh(t, s.Node.Netns, "ip link add net1 type veth peer name net1-far")
	before := line(t, s.Node.Netns, "ip -o link show net1", "net1@")
	s.plug(t, 0, "eth0", with(`"vethLinkAddress": "169.254.200.1"`))
	s.plug(t, 1, "net1", with(`"txQueueLen": 2345`))
	s.serve(t)
	s.verify(t, byTCP(s.checks())...)
	s.check(t)
	line(t, s.web.Netns, "ip addr show dev veth0", "inet 169.254.200.1/32 ")
	line(t, s.web.Netns, "ip link show net1", "qlen 2345")
	if after := line(t, s.Node.Netns, "ip -o link show net1", "net1@"); after != before {
		t.Errorf("the node's link of that name was %s, and is %s", before, after)
	}
	sh(t, s.web.Netns, "ip link set net1 txqueuelen 1000")
	if err := s.nics[1].network.Check(t.Context(), s.web, "net1"); err == nil || !strings.Contains(err.Error(), "txqueuelen 1000") {
		t.Errorf("CHECK of another queue: %v", err)
	}
}

// TestOtherHostTable uses another table and priority on the node, and DEL finds
// what is there, for each NIC and in the end.
func TestOtherHostTable(t *testing.T) {
	t.Parallel()
	s := emptySite(t, twoLANs["dual"], with(`"hostRuleTable": 600, "hostRulePriority": 1234`))
	routes := func() string {
		return sh(t, s.Node.Netns, "ip route show table 600 2>/dev/null || true; ip -6 route show table 600 2>/dev/null || true; ip neigh show nud permanent | sort")
	}
	before := routes()
	s.plug(t, 0, "eth0")
	first := routes()
	s.plug(t, 1, "net1")
	s.serve(t)
	s.verify(t, byTCP(s.checks())...)
	s.check(t)
	for _, family := range []string{"-4", "-6"} {
		line(t, s.Node.Netns, "ip "+family+" rule", "1234:	from all lookup 600")
		if got := sh(t, s.Node.Netns, "ip "+family+" rule"); strings.Contains(got, "lookup 500") {
			t.Errorf("there is a rule of the default: %s", got)
		}
	}
	s.unplug(t, "net1")
	if got := routes(); got != first {
		t.Errorf("after DEL of net1 the node has\n%s\nwant\n%s", got, first)
	}
	s.unplug(t, "eth0")
	if got := routes(); got != before {
		t.Errorf("after DEL the node has\n%s\nwant\n%s", got, before)
	}
}

// TestNodeAddressesExcluded keeps a floating address out of the pod, which is by
// the LAN wherever it is.
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
			s := emptySite(t, twoLANs["dual"], with(tt.key))
			vips := prefixesOf("10.6.168.200/16", "fd00:6::200/64")
			if err := s.Node.AddAddrs("ens192", vips...); err != nil {
				t.Fatal(err)
			}
			s.plug(t, 0, "eth0")
			s.plug(t, 1, "net1")
			s.serve(t)
			s.verify(t, slices.DeleteFunc(byTCP(s.checks()), func(c lab.Check) bool {
				return c.Answers == s.app.Netns // masqueraded as any of the node's addresses
			})...)
			s.check(t)
			for _, vip := range vips {
				a := vip.Addr()
				got := sh(t, s.web.Netns, fmt.Sprintf("ip %s route show table all", ipFamily(a)))
				if has := strings.Contains(got, a.String()+" dev veth0"); has != tt.want {
					t.Errorf("a way to %s by veth0: %t, want %t:\n%s", a, has, tt.want, got)
				}
			}
		})
	}
}
