// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/spool"
)

// staticNIC returns what the agent has for a pod on the VLANSubnet of docs/static-macvlan.md,
// on this parent.
func staticNIC(i int) spool.NIC {
	return spool.NIC{
		Interface: "eth0", Network: "lan", MAC: fmt.Sprintf("0a:00:27:00:00:%02x", i),
		Link:      &spool.Link{Name: "mv1.100", Master: "ens192", VLAN: 100, Mode: "bridge"},
		Addresses: []spool.Address{{Address: netip.MustParsePrefix(fmt.Sprintf("172.100.0.%d/16", 100+i)), Pool: "vlansubnet/mv1.100"}},
	}
}

// newStatic makes a node whose agent has NICs on a VLANSubnet for pods, and the further plugins
// of their network.
func newStatic(t *testing.T, further string) *chained {
	t.Helper()
	c := newChained(t, 100, []byte(`{"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "static-macvlan-cni", "ipam": {"type": "static-ipam"}}`+further+`]}`))
	c.inSpool(func(d *spool.Directory) error {
		boot, err := spool.BootID()
		errs := []error{err, spool.PutReady(d, spool.Ready{Boot: boot})}
		for i := range 2 {
			pod := fmt.Sprint("pod", i)
			errs = append(errs, spool.PutPod(d, spool.Pod{Namespace: "default", Name: pod, UID: pod, NICs: []spool.NIC{staticNIC(i)}}))
		}
		return errors.Join(errs...)
	})
	return c
}

// inSpool runs f with the node's spool.
func (c *chained) inSpool(f func(d *spool.Directory) error) {
	c.t.Helper()
	err := c.node.Run(func() error {
		d, err := spool.MakeDir(spool.Dir)
		if err != nil {
			return err
		}
		return f(d)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestStaticMacvlan puts pods on a VLANSubnet with a VLAN. They have just the addresses and MACs
// of the spool, the node has the VLAN under the VLANSubnet's name, and it stays when the pods go.
func TestStaticMacvlan(t *testing.T) {
	c := newStatic(t, `, {"type": "coordinator", "serviceCIDR": ["10.96.0.0/12"]}`)
	c.addPods()
	c.node.shows("ip -d link show mv1.100", `mv1\.100@ens192: <[^>]*\bUP\b`)
	c.node.shows("ip -d link show mv1.100", `vlan protocol 802\.1Q id 100 `)
	for i, pod := range c.pods {
		want := staticNIC(i)
		if got := netip.PrefixFrom(c.addrs[i], 16); got != want.Addresses[0].Address {
			t.Errorf("%s has %s, want %s", pod.Name(), got, want.Addresses[0].Address)
		}
		if link := c.in(pod, "ip -d link show eth0"); !strings.Contains(link, want.MAC) || !strings.Contains(link, "macvlan mode bridge") {
			t.Errorf("%s: want a macvlan with the MAC %s in:\n%s", pod.Name(), want.MAC, link)
		}
	}
	c.works()
	c.outlives()
	for i := range c.pods {
		for range 2 {
			c.run("DEL", func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.conf(i)) })
		}
		if links := c.in(c.pods[i], "ip -o link"); strings.Contains(links, "eth0") {
			t.Errorf("%s still has\n%s", c.pods[i].Name(), links)
		}
	}
	c.inSpool(func(d *spool.Directory) error {
		all, err := spool.Sandboxes(d)
		for _, s := range all {
			if !s.Gone {
				t.Errorf("%s is in the spool", s.Pod)
			}
		}
		return err
	})
	c.node.shows("ip link show type vlan", `mv1\.100@ens192: <[^>]*\bUP\b`)
}

// TestStaticMacvlanDown: a VLAN that is down, or was taken away, is up again with the next pod.
func TestStaticMacvlanDown(t *testing.T) {
	for _, done := range []string{"ip link set mv1.100 down", "ip link del mv1.100"} {
		t.Run(done, func(t *testing.T) {
			c := newStatic(t, "")
			if _, err := c.addPod("pod0"); err != nil {
				t.Fatal(err)
			}
			c.node.sh(done)
			addr, err := c.addPod("pod1")
			if err != nil {
				t.Fatal(err)
			}
			if err := reach(c.peer, addr); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStaticMacvlanRefused: a node that has the VLAN under another name, or another link of that
// name, keeps its links. The pod gets neither NIC nor addresses.
func TestStaticMacvlanRefused(t *testing.T) {
	for _, tt := range []struct{ made, want string }{
		{"link add link ens192 name ens192.100 type vlan id 100", "link ens192.100 already has protocol 802.1Q id 100 of ens192"},
		{"link add link ens224 name mv1.100 type vlan id 100", "link mv1.100: parent is ens224, want ens192"},
		{"link add mv1.100 type dummy", "link mv1.100: type is dummy, want vlan"},
	} {
		t.Run(tt.made, func(t *testing.T) {
			c := newStatic(t, "")
			c.node.sh("ip " + tt.made)
			before := c.node.state()
			_, err := c.addPod("pod0")
			if e := (*types.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("ADD: %v, want an error with %q", err, tt.want)
			}
			c.node.same("refused: "+tt.want, before)
			if links := c.in(c.pods[0], "ip -o link"); strings.Contains(links, "eth0") {
				t.Errorf("pod0 has\n%s", links)
			}
		})
	}
}
