// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestRemoveWhatIsGone: the end of a pod may take along what DEL has just read.
// That is as good as removed; only what was to come in its place is missing.
func TestRemoveWhatIsGone(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	link := netstate.Link{Name: "vetha", Type: "veth", Alias: "multihome:net/pod/eth0"}
	other := link
	other.Alias = "multihome:net/pod/net1"
	route := netstate.NewRoute(netstate.ProtoCoordinator, 500, netip.MustParsePrefix("10.6.0.5/32"), netip.Addr{}, link.Name, netip.Addr{})
	neigh := netstate.Neigh{Dev: link.Name, Dst: route.Dst.Addr()}
	err = node.Do(func() error {
		k, err := kernel.OpenHost()
		if err != nil {
			return err
		}
		defer k.Close()
		for _, op := range []netstate.Op{
			{Before: link}, {Before: link, After: other},
			{Before: route}, {Before: neigh},
		} {
			op.NS = netstate.Host
			if err := k.Remove([]netstate.Op{op}); err != nil {
				t.Error(err)
			}
		}
		if err := k.Remove([]netstate.Op{{NS: netstate.Host, After: route}}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a route by a link that is gone: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
