// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"context"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/manifest"
	"github.com/multihome/multihome/pkg/netconf"
)

// TestChainOfNetwork puts pods on the chains that SpiderMultusConfigs become. Only the IPAM is
// another: spiderpool needs a cluster.
func TestChainOfNetwork(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec string // of a SpiderMultusConfig
		vlan int    // of its pods
		pods int
	}{
		{"macvlan", "{cniType: macvlan, macvlan: {master: [ens192]}}", 0, 2},
		{"macvlan on a bond's VLAN", "{cniType: macvlan, macvlan: {master: [ens192, ens224], vlanID: 200, bond: {name: bond0, mode: 1, options: primary=ens192}}}", 200, 2},
		{"ipvlan on a VLAN", "{cniType: ipvlan, ipvlan: {master: [ens192], vlanID: 100}}", 100, 2},
		{"ipvlan by the block macvlan", `{cniType: ipvlan, macvlan: {master: [ens192, ens224], bond: {name: bond0, mode: 1, options: ""}}}`, 0, 2},
		{"vlan", "{cniType: vlan, vlan: {master: [ens192], vlanID: 100}}", 100, 1}, // a NIC has each tag once
		{"vlan on a bond", "{cniType: vlan, vlan: {master: [ens192, ens224], vlanID: 100, mtu: 1400, bond: {name: bond0, mode: 1}}}", 100, 1},
		{"with further plugins and settings", `{cniType: macvlan, macvlan: {master: [ens192], vlanID: 100, mtu: 1400}, chainCNIJsonData: ['{"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "0"}}'],
			coordinator: {mode: underlay, hijackCIDR: [169.254.20.10], podMACPrefix: "0a:1b", tunePodRoutes: false, podRPFilter: -1, txQueueLen: 500, vethMTU: 1400}}`, 100, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := manifest.Read("network", []byte("metadata: {name: net, annotations: {multus.spidernet.io/cni-version: 1.1.0}}\nspec: "+tt.spec))
			if err != nil {
				t.Fatal(err)
			}
			config, faults := netconf.Decode(objects[0].JSON)
			for _, f := range append(faults, config.Validate()...) {
				if !f.Warning {
					t.Fatal(f)
				}
			}
			chain := config.Render().Config
			const ipam = `"ipam":{"type":"host-local","ranges":[[{"subnet":"172.100.0.0/16","rangeStart":"172.100.0.100","rangeEnd":"172.100.0.103"}]]}`
			local := strings.Replace(chain, `"ipam":{"type":"spiderpool"}`, ipam, 1)
			if local == chain {
				t.Fatalf("no IPAM in %s", chain)
			}
			c := newChained(t, tt.vlan, []byte(local))
			c.addSomePods(tt.pods)
			c.works()
			for i := range c.pods { // ifacer's links stay: nobody set removeUnused
				c.run("DEL", func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.conf(i)) })
			}
		})
	}
}
