// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// mentions are the lines in which a namespace's rules, routes and permanent neighbours
// have one of the addresses.
func mentions(t *testing.T, n *nettest.Netns, addrs ...netip.Addr) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(sh(t, n, "for v in -4 -6; do ip $v rule; ip $v route show table all; ip $v neigh show nud permanent; done")) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '/' })
		for _, a := range addrs {
			if slices.Contains(fields, a.String()) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

// TestNodeAddressChanges gives the node other addresses: before repair CHECK says what
// is wrong, and after it nothing in the pod has the old ones.
func TestNodeAddressChanges(t *testing.T) {
	one, two := []lab.LAN{lab.Ens192()}, twoLANs["dual"]
	macvlan := with(`"hostLink": "macvlan"`)
	for name, make := range map[string]func(t *testing.T) *site{
		"one NIC":  func(t *testing.T) *site { return newSite(t, one, chained) },
		"two NICs": func(t *testing.T) *site { return newSite(t, two, chained) },
		"three NICs, one untuned": func(t *testing.T) *site {
			s := newSite(t, two, chained)
			s.plug(t, 0, "net2", with(`"tunePodRoutes": false`))
			return s
		},
		"veth":                  func(t *testing.T) *site { return newSite(t, two, older) },
		"hostLink macvlan":      func(t *testing.T) *site { return newSite(t, one, macvlan) },
		"hostLink macvlan, two": func(t *testing.T) *site { return newSite(t, two, macvlan) },
		"overlay": func(t *testing.T) *site {
			s := emptySite(t, two, chained)
			s.overlay(t, "calico")
			s.plug(t, 1, "net1")
			return s
		},
		"overlay, two NICs": func(t *testing.T) *site {
			s := emptySite(t, threeLANs(), chained)
			s.overlay(t, "flannel")
			s.plug(t, 1, "net1")
			s.plug(t, 2, "net2")
			return s
		},
		"route": func(t *testing.T) *site { return newSite(t, one, routeBy(0, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			old := addrs(s.LANs[0].Node)
			was := len(mentions(t, s.web.Netns, old...))
			lan := s.LANs[0]
			sh(t, s.Node.Netns, "ip addr flush dev ens192 scope global")
			lan.Node = prefixesOf("10.6.168.124/16", "fd00:6::124/64")
			if err := s.Node.AddAddrs(lan.NIC, lan.Node...); err != nil {
				t.Fatal(err)
			}
			for _, r := range lan.Router {
				sh(t, s.Node.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", ipFamily(r.Addr()), r.Addr(), lan.NIC))
			}
			if was == 0 {
				t.Error("the pod never had the node's addresses")
			}
			s.repair(t, t.TempDir())
			if got := mentions(t, s.web.Netns, old...); len(got) > 0 {
				t.Errorf("the pod still has the old addresses:\n%s", strings.Join(got, "\n"))
			}
			for _, n := range s.nics {
				if err := n.network.Check(t.Context(), s.web, n.name); err != nil {
					t.Error(err)
				}
			}
			s.calm(t)
			for i := len(s.nics) - 1; i >= 0; i-- {
				s.unplug(t, s.nics[i].name)
			}
			if got := mentions(t, s.web.Netns, addrs(lan.Node)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// TestNICAddressChanges gives a NIC other addresses, and ADD is called again: nothing on
// the node or in the pod has the old ones, and DEL leaves nothing.
func TestNICAddressChanges(t *testing.T) {
	macvlan := `{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "hostLink": "macvlan"}`
	for name, tt := range map[string]struct {
		first, chain string
		nic          string
	}{
		"first NIC":                     {"", chained, "eth0"},
		"first NIC, hostLink macvlan":   {"", macvlan, "eth0"},
		"further NIC":                   {chained, chained, "net1"},
		"further NIC, veth":             {older, older, "net1"},
		"further NIC, macvlan":          {macvlan, macvlan, "net1"},
		"further NIC, overlay":          {"overlay", chained, "net1"},
		"route with a bridge":           {"", routeBy(0, ""), "eth0"},
		"route with a bridge and sbr":   {chained, routeBy(1, `, "sbr": true`), "net1"},
		"route with sbr":                {chained, bySource, "net1"},
		"route with a table":            {chained, `{"type": "route", "sbr": true, "table": 5000}`, "net1"},
		"first NIC, with a further NIC": {chained, chained, "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := emptySite(t, twoLANs["dual"], chained)
			switch {
			case tt.first == "overlay":
				s.overlay(t, "flannel")
			case tt.first != "" && tt.nic != "eth0":
				s.plug(t, 0, "eth0", tt.first)
			}
			lan := 0
			if tt.nic == "net1" {
				lan = 1
			}
			s.chained = nil
			s.plug(t, lan, tt.nic) // by macvlan alone
			a := s.attached(tt.nic)
			call := func(verb string) call {
				c := a.call(verb, keysOf(t, tt.chain))
				c.plugin = keysOf(t, tt.chain)["type"].(string)
				return c
			}
			call("ADD").fine(t)
			if tt.first != "" && tt.nic == "eth0" {
				s.plug(t, 1, "net1", tt.first)
				call("CHECK").fine(t)
			}
			old := addrs(s.web.Addrs(tt.nic))
			if len(mentions(t, s.Node.Netns, old...))+len(mentions(t, s.web.Netns, old...)) == 0 {
				t.Error("nothing has the addresses")
			}
			a.prev = s.readdress(t, a, prefixesOf(fmt.Sprintf("10.%d.168.240/16", 6+lan), fmt.Sprintf("fd00:%d::240/64", 6+lan)))
			if strings.Contains(call("ADD").fine(t), old[0].String()) {
				t.Error("ADD says the old address")
			}
			for where, n := range map[string]*nettest.Netns{"node": s.Node.Netns, "pod": s.web.Netns} {
				if got := mentions(t, n, old...); len(got) > 0 {
					t.Errorf("the %s still has the old addresses:\n%s", where, strings.Join(got, "\n"))
				}
			}
			call("CHECK").fine(t)
			call("DEL").fine(t)
			if got := mentions(t, s.Node.Netns, append(old, addrs(s.web.Addrs(tt.nic))...)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// readdress gives a NIC other addresses, and returns its result with them.
func (s *site) readdress(t *testing.T, a *attachment, to []netip.Prefix) *types100.Result {
	t.Helper()
	defaults := sh(t, s.web.Netns, "ip -4 route show default dev "+a.nic+"; true")
	sh(t, s.web.Netns, "ip addr flush dev "+a.nic+" scope global")
	if err := s.web.AddAddrs(a.nic, to...); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(defaults) != "" {
		sh(t, s.web.Netns, fmt.Sprintf("ip route replace %s dev %s", strings.TrimSpace(strings.Split(defaults, "\n")[0]), a.nic))
	}
	prev := *a.prev
	prev.IPs = nil
	for _, was := range a.prev.IPs {
		ip := *was
		p := to[slices.IndexFunc(to, func(p netip.Prefix) bool { return p.Addr().Is4() == (was.Address.IP.To4() != nil) })]
		ip.Address = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		prev.IPs = append(prev.IPs, &ip)
	}
	return &prev
}

// TestFormerLife has a pod die without DEL, and come again with the same container ID
// and other addresses: nothing on the node has those of its former life.
func TestFormerLife(t *testing.T) {
	macvlan := `{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "hostLink": "macvlan"}`
	for name, chain := range map[string]string{"veth": chained, "hostLink macvlan": macvlan, "route": routeBy(0, "")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			call := func(verb string, a *attachment, id string) call {
				c := a.call(verb, keysOf(t, chain)).with("CNI_CONTAINERID", id)
				c.plugin = keysOf(t, chain)["type"].(string)
				return c
			}
			call("ADD", s.app, "twice").fine(t)
			old := addrs(s.App.Addrs(lab.NIC))
			sh(t, s.App.Netns, "ip link del eth0; ip link del veth0 2>/dev/null || true") // as with its namespace
			call("ADD", s.web, "twice").fine(t)
			if got := mentions(t, s.Node.Netns, old...); len(got) > 0 {
				t.Errorf("the node has of the former life:\n%s", strings.Join(got, "\n"))
			}
			call("CHECK", s.web, "twice").fine(t)
			call("DEL", s.web, "twice").fine(t)
			if got := mentions(t, s.Node.Netns, append(old, addrs(s.Web.Addrs(lab.NIC))...)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}
