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

// TestMade: only the mark of a bridge on that parent tells that it is ours.
func TestMade(t *testing.T) {
	b := On("eno1")
	for alias, want := range map[string]bool{
		"multihome:bridge/eno1": true, "multihome:bridge/eno2": false, "multihome:net/pod/eth0": false, "mine": false, "": false,
	} {
		if got := b.Made(netstate.Link{Name: b.Name, Alias: alias}); got != want {
			t.Errorf("a link with alias %q is ours: %t, want %t", alias, got, want)
		}
	}
	if b.Made(netstate.Link{Name: "other", Alias: "multihome:bridge/eno1"}) {
		t.Error("a link of another name is ours")
	}
}
