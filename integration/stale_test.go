// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// mentions returns the lines of a namespace's rules, routes and permanent neighbours
// that contain one of the addresses.
func mentions(t *testing.T, n *testbed.Netns, addrs ...netip.Addr) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(fixture.Sh(t, n, "for v in -4 -6; do ip $v rule; ip $v route show table all; ip $v neigh show nud permanent; done")) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '/' })
		for _, a := range addrs {
			if slices.Contains(fields, a.String()) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

// TestNodeAddressChanges gives the node other addresses: CHECK reports that before
// repair, and after repair nothing in the pod has the old ones.
func TestNodeAddressChanges(t *testing.T) {
	one, two := []lab.LAN{lab.Ens192()}, fixture.TwoLANs["dual"]
	macvlan := with(`"hostLink": "macvlan"`)
	for name, make := range map[string]func(t *testing.T) *fixture.Site{
		"one NIC":  func(t *testing.T) *fixture.Site { return fixture.NewSite(t, one, fixture.Chained) },
		"two NICs": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, two, fixture.Chained) },
		"three NICs, one untuned": func(t *testing.T) *fixture.Site {
			s := fixture.NewSite(t, two, fixture.Chained)
			s.Plug(t, 0, "net2", with(`"tunePodRoutes": false`))
			return s
		},
		"veth":                  func(t *testing.T) *fixture.Site { return fixture.NewSite(t, two, older) },
		"hostLink macvlan":      func(t *testing.T) *fixture.Site { return fixture.NewSite(t, one, macvlan) },
		"hostLink macvlan, two": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, two, macvlan) },
		"overlay": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, two, fixture.Chained)
			s.Overlay(t, "calico")
			s.Plug(t, 1, "net1")
			return s
		},
		"overlay, two NICs": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			s.Overlay(t, "flannel")
			s.Plug(t, 1, "net1")
			s.Plug(t, 2, "net2")
			return s
		},
		"route": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, one, routeBy(0, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			old := fixture.Addrs(s.LANs[0].Node)
			was := len(mentions(t, s.Web.Netns, old...))
			lan := s.LANs[0]
			fixture.Sh(t, s.Node.Netns, "ip addr flush dev ens192 scope global")
			lan.Node = fixture.PrefixesOf("10.6.168.124/16", "fd00:6::124/64")
			if err := s.Node.AddAddrs(lan.NIC, lan.Node...); err != nil {
				t.Fatal(err)
			}
			for _, r := range lan.Router {
				fixture.Sh(t, s.Node.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", fixture.IPFamily(r.Addr()), r.Addr(), lan.NIC))
			}
			if was == 0 {
				t.Error("the pod never had the node's addresses")
			}
			s.Repair(t, t.TempDir())
			if got := mentions(t, s.Web.Netns, old...); len(got) > 0 {
				t.Errorf("the pod still has the old addresses:\n%s", strings.Join(got, "\n"))
			}
			for _, n := range s.NICs {
				if err := n.Network.Check(t.Context(), s.Web, n.Name); err != nil {
					t.Error(err)
				}
			}
			s.Calm(t)
			for i := len(s.NICs) - 1; i >= 0; i-- {
				s.Unplug(t, s.NICs[i].Name)
			}
			if got := mentions(t, s.Web.Netns, fixture.Addrs(lan.Node)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// TestNICAddressChanges gives a NIC other addresses, and repeats ADD: nothing on the
// node or in the pod has the old ones, and DEL leaves nothing.
func TestNICAddressChanges(t *testing.T) {
	macvlan := `{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "hostLink": "macvlan"}`
	for name, tt := range map[string]struct {
		first, chain string
		nic          string
	}{
		"first NIC":                     {"", fixture.Chained, "eth0"},
		"first NIC, hostLink macvlan":   {"", macvlan, "eth0"},
		"further NIC":                   {fixture.Chained, fixture.Chained, "net1"},
		"further NIC, veth":             {older, older, "net1"},
		"further NIC, macvlan":          {macvlan, macvlan, "net1"},
		"further NIC, overlay":          {"overlay", fixture.Chained, "net1"},
		"route with a bridge":           {"", routeBy(0, ""), "eth0"},
		"route with a bridge and sbr":   {fixture.Chained, routeBy(1, `, "sbr": true`), "net1"},
		"route with sbr":                {fixture.Chained, bySource, "net1"},
		"route with a table":            {fixture.Chained, `{"type": "route", "sbr": true, "table": 5000}`, "net1"},
		"first NIC, with a further NIC": {fixture.Chained, fixture.Chained, "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			switch {
			case tt.first == "overlay":
				s.Overlay(t, "flannel")
			case tt.first != "" && tt.nic != "eth0":
				s.Plug(t, 0, "eth0", tt.first)
			}
			lan := 0
			if tt.nic == "net1" {
				lan = 1
			}
			s.Chained = nil
			s.Plug(t, lan, tt.nic) // with macvlan alone
			a := s.Attached(tt.nic)
			call := func(verb string) fixture.Call {
				c := a.Call(verb, fixture.KeysOf(t, tt.chain))
				c.Plugin = fixture.KeysOf(t, tt.chain)["type"].(string)
				return c
			}
			call("ADD").Fine(t)
			if tt.first != "" && tt.nic == "eth0" {
				s.Plug(t, 1, "net1", tt.first)
				call("CHECK").Fine(t)
			}
			old := fixture.Addrs(s.Web.Addrs(tt.nic))
			if len(mentions(t, s.Node.Netns, old...))+len(mentions(t, s.Web.Netns, old...)) == 0 {
				t.Error("nothing has the addresses")
			}
			a.Prev = s.Readdress(t, a, fixture.PrefixesOf(fmt.Sprintf("10.%d.168.240/16", 6+lan), fmt.Sprintf("fd00:%d::240/64", 6+lan)))
			if strings.Contains(call("ADD").Fine(t), old[0].String()) {
				t.Error("ADD says the old address")
			}
			for where, n := range map[string]*testbed.Netns{"node": s.Node.Netns, "pod": s.Web.Netns} {
				if got := mentions(t, n, old...); len(got) > 0 {
					t.Errorf("the %s still has the old addresses:\n%s", where, strings.Join(got, "\n"))
				}
			}
			call("CHECK").Fine(t)
			call("DEL").Fine(t)
			if got := mentions(t, s.Node.Netns, append(old, fixture.Addrs(s.Web.Addrs(tt.nic))...)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// TestFormerLife lets a pod die without DEL, and makes it again with the same container
// ID and other addresses: nothing on the node has those of the former pod.
func TestFormerLife(t *testing.T) {
	macvlan := `{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "hostLink": "macvlan"}`
	for name, chain := range map[string]string{"veth": fixture.Chained, "hostLink macvlan": macvlan, "route": routeBy(0, "")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			call := func(verb string, a *fixture.Attachment, id string) fixture.Call {
				c := a.Call(verb, fixture.KeysOf(t, chain)).With("CNI_CONTAINERID", id)
				c.Plugin = fixture.KeysOf(t, chain)["type"].(string)
				return c
			}
			call("ADD", s.AppNIC, "twice").Fine(t)
			old := fixture.Addrs(s.App.Addrs(lab.NIC))
			fixture.Sh(t, s.App.Netns, "ip link del eth0; ip link del veth0 2>/dev/null || true") // as when its namespace goes
			call("ADD", s.WebNIC, "twice").Fine(t)
			if got := mentions(t, s.Node.Netns, old...); len(got) > 0 {
				t.Errorf("the node still has of the former pod:\n%s", strings.Join(got, "\n"))
			}
			call("CHECK", s.WebNIC, "twice").Fine(t)
			call("DEL", s.WebNIC, "twice").Fine(t)
			if got := mentions(t, s.Node.Netns, append(old, fixture.Addrs(s.Web.Addrs(lab.NIC))...)...); len(got) > 0 {
				t.Errorf("DEL leaves\n%s", strings.Join(got, "\n"))
			}
		})
	}
}
