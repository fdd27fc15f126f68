// SPDX-License-Identifier: Apache-2.0

package hostlink

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

// TestOn: a bridge's name tells its parent as far as there is room, and no two
// parents have one bridge.
func TestOn(t *testing.T) {
	seen := map[string]bool{}
	for parent, want := range map[string]string{
		"eno1": "eno1.host", "ens192.100": "ens192.100.host", "enp24s0f0np0": "mvhost", "enp24s0f0np1": "mvhost", "a-name-of-15-by": "mvhost",
	} {
		name := On(parent).Name
		if !strings.HasPrefix(name, want) || len(name) > 15 || seen[name] {
			t.Errorf("the bridge on %s is %s", parent, name)
		}
		seen[name] = true
	}
}

// TestMade: the mark of a bridge tells that it is ours, whatever its name or its
// parent's is by now.
func TestMade(t *testing.T) {
	b := On("eno1")
	for alias, want := range map[string]bool{
		"multihome:bridge/eno1": true, "multihome:bridge/eno2": true, "multihome:new": true,
		"multihome:net/pod/eth0": false, "mine": false, "": false,
	} {
		if got := b.Made(netstate.Link{Name: "any", Alias: alias}); got != want {
			t.Errorf("a link with alias %q is ours: %t, want %t", alias, got, want)
		}
	}
}

// TestFind: the bridge of a parent is told by what it is, and a macvlan that is another
// parent's or somebody else's is not taken for it.
func TestFind(t *testing.T) {
	parent := netstate.Link{Name: "eno1", AltNames: "enp1s0 uplink", MAC: netstate.MAC{2, 1}}
	macvlan := func(name string, with ...func(*netstate.Link)) netstate.Link {
		l := netstate.Link{Name: name, Type: "macvlan", Parent: "eno1", Details: "mode bridge"}
		for _, f := range with {
			f(&l)
		}
		return l
	}
	ours := func(l *netstate.Link) { l.Alias = mark + "eth7" }
	sameMAC := func(l *netstate.Link) { l.MAC = macOn(parent) }
	elsewhere := func(l *netstate.Link) { l.Parent = "eno2" }
	private := func(l *netstate.Link) { l.Details = "mode private" }
	for name, tt := range map[string]struct {
		there []netstate.Link
		want  string
	}{
		"none":                       {nil, ""},
		"by its name":                {[]netstate.Link{macvlan("br"), macvlan("a", ours)}, "br"},
		"by another of its names":    {[]netstate.Link{macvlan("a", func(l *netstate.Link) { l.AltNames = "br" }), macvlan("b", ours)}, "a"},
		"by our mark":                {[]netstate.Link{macvlan("a", sameMAC), macvlan("b", ours)}, "b"},
		"by its MAC":                 {[]netstate.Link{macvlan("a"), macvlan("b", sameMAC)}, "b"},
		"somebody else's":            {[]netstate.Link{macvlan("a")}, ""},
		"another parent's":           {[]netstate.Link{macvlan("br", elsewhere), macvlan("b", elsewhere, ours), macvlan("c", elsewhere, sameMAC)}, ""},
		"ours, in a mode of no use":  {[]netstate.Link{macvlan("a", ours, private)}, ""},
		"the name, of no macvlan":    {[]netstate.Link{{Name: "br", Type: "bridge"}}, ""},
		"the name of a VLAN upon it": {[]netstate.Link{{Name: "br", Type: "vlan", Parent: "eno1"}}, ""},
	} {
		snap := netstate.NewSnapshot()
		snap.Put(host, parent)
		for _, l := range tt.there {
			snap.Put(host, l)
		}
		for _, spelling := range []string{"eno1", "enp1s0", "uplink"} {
			if got, _ := (Bridge{Name: "br", Parent: spelling}).Find(snap); got.Name != tt.want {
				t.Errorf("%s: on %s it is %q, want %q", name, spelling, got.Name, tt.want)
			}
		}
	}
}

// TestCanShare: nothing but a macvlan in mode bridge is reached by another.
func TestCanShare(t *testing.T) {
	for text, want := range map[string]bool{
		"eth0 type macvlan mode bridge": true, "eth0 type macvlan": true, "eth0": true, "eth0 type veth": true,
		"eth0 type macvlan mode private": false, "eth0 type macvlan mode vepa": false, "eth0 type macvlan mode passthru": false,
		"eth0 type macvlan mode source": false, "eth0 type ipvlan": false, "eth0 type vlan protocol 802.1Q id 7": false,
	} {
		_, o, err := netstate.Parse("pod: link " + text)
		if err != nil {
			t.Fatal(err)
		}
		if err := CanShare(o.(netstate.Link), "eno1"); (err == nil) != want {
			t.Errorf("%s: %v, want it to do: %t", text, err, want)
		}
	}
}
