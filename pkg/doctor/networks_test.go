// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"testing"

	"github.com/multihome/multihome/pkg/inspect"
)

// TestWhere: a remedy names the networks of a pod in whose chain a plugin of ours is, and no other.
func TestWhere(t *testing.T) {
	n := &node{}
	for file, conf := range map[string]string{
		"/etc/cni/net.d/10-lan.conflist": `{"name": "lan", "plugins": [{"type": "macvlan"}, {"type": "coordinator"}]}`,
		"":                               `{"name": "cni-loopback", "plugins": [{"type": "loopback"}]}`,
	} {
		if err := n.addNetwork(file, []byte(conf)); err != nil {
			t.Fatal(err)
		}
	}
	p := &pod{Pod: inspect.Pod{Attachments: []inspect.Attachment{{Network: "cni-loopback", IfName: "lo"}, {Network: "lan", IfName: "eth0"}}}}
	if got := n.where(p); !slices.Equal(got, []string{"/etc/cni/net.d/10-lan.conflist"}) {
		t.Errorf("%q", got)
	}
}

// TestDynamicAddrs: of all links with IPv6, those are named that have a global address with an end.
func TestDynamicAddrs(t *testing.T) {
	const table = `00000000000000000000000000000001 01 80 10 80       lo
fd000006000000000000000000000123 02 40 00 80   ens192
fe80000000000000005dfffe0d1c7a41 02 40 20 80   ens192
fd000007000000000000000000000007 03 40 00 00   ens224
fe80000000000000005dfffe0d1c7a42 04 40 20 00   ens256
`
	if got := dynamicAddrs(table); len(got) != 1 || !got["ens224"] {
		t.Errorf("%v", got)
	}
}

func TestIsNearlyFull(t *testing.T) {
	for of, want := range map[[2]int]bool{{0, 1024}: false, {767, 1024}: false, {768, 1024}: true, {1024, 1024}: true, {5, 0}: false} {
		if got := isNearlyFull(of[0], of[1]); got != want {
			t.Errorf("%d of %d: %t, want %t", of[0], of[1], got, want)
		}
	}
}
