// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestNodeAddrsBeforeAnyRule: what the node sends from towards a pod behind another
// CNI's bridge is the same for its first pod, before there is a rule of ours, and for
// all others.
func TestNodeAddrsBeforeAnyRule(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if err := node.AddBridge("cni0"); err != nil {
		t.Fatal(err)
	}
	if err := node.AddAddrs("cni0", netip.MustParsePrefix("10.244.1.1/24")); err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.244.1.1")}
	err = node.Do(func() error {
		k, err := kernel.OpenHost()
		if err != nil {
			return err
		}
		defer k.Close()
		for _, rules := range [][]string{nil, {"host: rule pref 1000 from all lookup 500 proto multihome"}} {
			apply(t, k, rules...)
			got, _, err := k.NodeAddrs([]netip.Prefix{netip.MustParsePrefix("10.244.1.5/24")})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("with rules %q: %v, %v, want %v", rules, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
