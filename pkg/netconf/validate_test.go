// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netconf"
)

// inject are the annotations of M00027 to M00032.
const inject = "annotations: {cni.spidernet.io/rdma-resource-inject: group}"

// TestFaults has objects with faults, and all that is said of each. The ids are those of
// the acceptance tests of the systems that do this today.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name, metadata, spec string
		want                 []string
	}{
		{"M00004, invalid JSON", "", "{cniType: custom, customCNI: '{\"type\": '}", []string{"spec.customCNI: {\"type\": : want a JSON object"}},
		{"M00005, no plugin", "", "{customCNI: '{\"plugins\": []}'}", []string{"spec.customCNI.plugins: []: want a list of at least one plugin"}},
		{"a custom plugin without a type", "", `{customCNI: '{"plugins": [{"type": "macvlan"}, {"name": "x"}]}'}`, []string{"spec.customCNI.plugins[1].type: missing: want the name of a plugin"}},
		{"a custom plugin of ours", "", `{customCNI: '{"plugins": [{"type": "coordinator", "mode": "magic"}]}'}`, []string{`spec.customCNI.plugins[0]: coordinator: mode: "magic": want one of auto, underlay, overlay`}},
		{"M00009, two masters and no bond", "", "{cniType: macvlan, macvlan: {master: [a, b]}}", []string{"spec.macvlan.bond: missing: want a bond of the interfaces a, b, or one interface"}},
		{"a bond without a name", "", "{cniType: macvlan, macvlan: {master: [a, b], bond: {mode: 1}}}", []string{"spec.macvlan.bond.name: missing: want the name of an interface"}},
		{"a bond's mode", "", "{cniType: macvlan, macvlan: {master: [a, b], bond: {name: c, mode: 7}}}", []string{"spec.macvlan.bond.mode: 7: want a number from 0 to 6"}},
		{"a bond's options", "", "{cniType: ipvlan, ipvlan: {master: [a, b], bond: {name: c, mode: 1, options: milmon=5}}}", []string{`spec.ipvlan.bond.options: "milmon=5": want`}},
		{"a bond's primary that is no master", "", "{cniType: macvlan, macvlan: {master: [a, b], bond: {name: c, mode: 1, options: primary=d}}}", []string{"spec.macvlan.bond.options: primary=d: want one of interfaces: a, b"}},
		{"a bond's primary", "", "{cniType: macvlan, macvlan: {master: [ens192, ens224], bond: {name: c, mode: 1, options: primary=ens224}}}", nil},
		{"a bond named as a master", "", "{cniType: vlan, vlan: {master: [a, b], bond: {name: b}}}", []string{`spec.vlan.bond.name: "b": want another name than those in master`}},
		{"a bond of one", "", "{cniType: macvlan, macvlan: {master: [a], bond: {name: b}}}", []string{"spec.macvlan.bond: warning: without effect: there is one interface in master"}},
		{"M00011, a name with dots", "name: a.b", "{}", []string{`metadata.name: "a.b": want 1 to 63 lower case letters`}},
		{"M00020, a name for the NAD with dots", "annotations: {multus.spidernet.io/cr-name: A.b}", "{}", []string{`metadata.annotations[multus.spidernet.io/cr-name]: "A.b": want 1 to 63`}},
		{"M00025, an empty name for the NAD", "annotations: {multus.spidernet.io/cr-name: ''}", "{}", []string{`metadata.annotations[multus.spidernet.io/cr-name]: "": want 1 to 63`}},
		{"M00013, an unknown version", "annotations: {multus.spidernet.io/cni-version: '2.0.0'}", "{}", []string{`metadata.annotations[multus.spidernet.io/cni-version]: "2.0.0": want one of 0.3.0, 0.3.1`}},
		{"a name for the chain", "annotations: {cni.spidernet.io/cniconfig-name: a/b}", "{}", []string{`metadata.annotations[cni.spidernet.io/cniconfig-name]: "a/b": want letters`}},
		{"M00015, no block", "", "{cniType: macvlan}", []string{"spec.macvlan: missing: cniType macvlan needs it"}},
		{"M00015, another block", "", "{cniType: macvlan, ipvlan: {master: [a]}, macvlan: {master: [a]}}", []string{"spec.ipvlan: cniType is macvlan: want no other block than spec.macvlan"}},
		{"a block beside customCNI", "", "{customCNI: '', sriov: {resourceName: a/b}}", []string{"spec.sriov: cniType is custom: want no other block than spec.customCNI"}},
		{"customCNI beside a block", "", "{cniType: ipoib, ipoib: {master: ib0}, customCNI: '{}'}", []string{"spec.customCNI: cniType is ipoib: want customCNI with cniType custom alone"}},
		{"an unknown type", "", "{cniType: bridge}", []string{`spec.cniType: "bridge": want one of macvlan, ipvlan, vlan, sriov, ib-sriov, ipoib, ovs, custom`}},
		{"M00016, a VLAN's number", "", "{cniType: macvlan, macvlan: {master: [a], vlanID: 4095}}", []string{"spec.macvlan.vlanID: 4095: want a number from 0 to 4094"}},
		{"a VLAN's name", "", "{cniType: macvlan, macvlan: {master: [enp193s0f1np1], vlanID: 100}}", []string{"spec.macvlan.vlanID: 100: the name enp193s0f1np1.100 has 17 bytes: want at most 15"}},
		{"M00022, podRPFilter", "", "{cniType: macvlan, macvlan: {master: [a]}, coordinator: {podRPFilter: 14}}", []string{"spec.coordinator.podRPFilter: 14: want a number from -1 to 2"}},
		{"M00023, podMACPrefix", "", "{cniType: macvlan, macvlan: {master: [a]}, coordinator: {podMACPrefix: '01:1b'}}", []string{`spec.coordinator.podMACPrefix: "01:1b": want`}},
		{"M00024, vethLinkAddress", "", "{cniType: macvlan, macvlan: {master: [a]}, coordinator: {vethLinkAddress: 127.0.0.1}}", []string{`spec.coordinator.vethLinkAddress: "127.0.0.1": want`}},
		{"M00026, several at once", "", "{cniType: macvlan, macvlan: {master: [a]}, coordinator: {mode: x, vethMTU: 1, hijackCIDR: [x], txQueueLen: -1, hostRuleTable: 254, podCIDRType: x, podDefaultRouteNIC: a/b}}", []string{
			`spec.coordinator.podCIDRType: "x": want one of auto, cluster, calico, cilium, none`, `spec.coordinator.mode: "x": want`, `spec.coordinator.hijackCIDR: ["x"]: want`,
			`spec.coordinator.podDefaultRouteNIC: "a/b": want`, "spec.coordinator.hostRuleTable: 254: want", "spec.coordinator.txQueueLen: -1: want", "spec.coordinator.vethMTU: 1: want",
		}},
		{"policyRoutes of two families", "", `{cniType: macvlan, macvlan: {master: [a]}, coordinator: {policyRoutes: [{dst: 10.0.0.0/8, gw: "fd00::1"}]}}`, []string{"spec.coordinator.policyRoutes: [{"}},
		{"a destination by NIC and node", "", `{cniType: macvlan, macvlan: {master: [a]}, coordinator: {hijackCIDR: [1.1.1.1], policyRoutes: [{dst: 1.1.1.1, gw: 10.6.0.1}]}}`, []string{"spec.coordinator: policyRoutes: dst 1.1.1.1/32: it is in hijackCIDR too"}},
		{"M00027, nothing to inject", inject, "{cniType: macvlan, macvlan: {master: [a]}}", []string{"metadata.annotations[cni.spidernet.io/rdma-resource-inject]: want a resource"}},
		{"M00028, no pools to inject", inject, "{cniType: sriov, sriov: {resourceName: a/b}}", []string{"metadata.annotations[cni.spidernet.io/rdma-resource-inject]: want a pool in ippools"}},
		{"M00029, injected as it should be", inject, "{cniType: sriov, sriov: {resourceName: a/b, ippools: {ipv4: [x]}}}", []string{"metadata.annotations[cni.spidernet.io/rdma-resource-inject]: warning: without effect"}},
		{"M00030, ovs injected", inject, "{cniType: ovs, ovs: {bridge: br1}}", []string{"metadata.annotations[cni.spidernet.io/rdma-resource-inject]: cniType ovs has no resource to inject"}},
		{"M00031, custom injected", inject, "{}", []string{"metadata.annotations[cni.spidernet.io/rdma-resource-inject]: cniType custom has no resource"}},
		{"M00032, networks injected", "annotations: {cni.spidernet.io/network-resource-inject: group}", "{cniType: macvlan, macvlan: {master: [a], rdmaResourceName: a/b}}", []string{"metadata.annotations[cni.spidernet.io/network-resource-inject]: want a pool in ippools"}},
		{"M00033, an MTU", "", "{cniType: vlan, vlan: {master: [a], mtu: -1}}", []string{"spec.vlan.mtu: -1: want 0, or a number from 68 to 65535"}},
		{"M00034, M00035, more MTUs", "", "{cniType: sriov, sriov: {resourceName: a/b, mtu: 65536}}", []string{"spec.sriov.mtu: 65536: want 0, or"}},
		{"M00040, vlanMode auto with a number", "", "{cniType: vlan, vlan: {master: [a], vlanMode: auto, vlanID: 5}}", []string{"spec.vlan.vlanID: 5: want none with vlanMode auto"}},
		{"a vlanMode", "", "{cniType: vlan, vlan: {master: [a], vlanMode: Auto}}", []string{`spec.vlan.vlanMode: "Auto": want one of manual, auto`}},
		{"X8, sriov and a trunk", "", "{cniType: ovs, ovs: {bridge: br1, vlan: 4095, trunk: [{maxID: 5}, {}, {minID: 9, maxID: 8}, {id: 4096}, {minID: 1}]}}", []string{
			"spec.ovs.vlan: 4095: want", "spec.ovs.trunk[0].minID: missing: maxID is 5", "spec.ovs.trunk[1]: empty: want id, or minID and maxID",
			"spec.ovs.trunk[2].minID: 9: want at most maxID, 8", "spec.ovs.trunk[3].id: 4096: want", "spec.ovs.trunk[4].maxID: missing: minID is 1",
		}},
		{"rates", "", "{cniType: sriov, sriov: {resourceName: a/b, minTxRateMbps: 20, MaxTxRateMbps: 10}}", []string{"spec.sriov.minTxRateMbps: 20: want at most MaxTxRateMbps, 10"}},
		{"two spellings", "", "{cniType: sriov, sriov: {resourceName: a/b, maxTxRateMbps: 20, MaxTxRateMbps: 10, enableRdma: true, rdmaIsolation: false}}", []string{
			"spec.sriov.MaxTxRateMbps: 10: maxTxRateMbps, another spelling of it, is 20", "spec.sriov.enableRdma: true: rdmaIsolation, another name of it, is false",
		}},
		{"negative rates", "", "{cniType: sriov, sriov: {resourceName: a/b, minTxRateMbps: -1, maxTxRateMbps: -2}}", []string{"spec.sriov.minTxRateMbps: -1: want", "spec.sriov.maxTxRateMbps: -2: want"}},
		{"no resource", "", "{cniType: sriov, sriov: {}}", []string{"spec.sriov.resourceName: missing"}},
		{"ib-sriov", "", "{cniType: ib-sriov, ibsriov: {resourceName: x, pkey: '8001', linkState: up}}", []string{`spec.ibsriov.resourceName: "x": want a domain`, `spec.ibsriov.pkey: "8001": want`, `spec.ibsriov.linkState: "up": want one of auto, enable, disable`}},
		{"ipoib", "", "{cniType: ipoib, ipoib: {}}", []string{"spec.ipoib.master: missing"}},
		{"ovs", "", "{cniType: ovs, ovs: {bridge: 'a b'}}", []string{`spec.ovs.bridge: "a b": want an interface name`}},
		{"masters", "", "{cniType: ipvlan, ipvlan: {master: [a, a], bond: {name: b}}}", []string{`spec.ipvlan.master[1]: "a": it is there twice`}},
		{"no masters", "", "{cniType: ipvlan, ipvlan: {master: []}}", []string{"spec.ipvlan.master: missing"}},
		{"a mode", "", "{cniType: ipvlan, ipvlan: {master: [a], mode: bridge}}", []string{`spec.ipvlan.mode: "bridge": want one of l2, l3, l3s`}},
		{"pools", "", "{cniType: macvlan, macvlan: {master: [a], ippools: {ipv4: [A, b, b], matchMasterSubnet: true}}}", []string{`spec.macvlan.ippools.ipv4[0]: "A": want the name of a SpiderIPPool`, `spec.macvlan.ippools.ipv4[2]: "b": it is there twice`, "spec.macvlan.ippools.matchMasterSubnet: true: want it with cniType sriov alone"}},
		{"pools without an IPAM", "", "{cniType: macvlan, disableIPAM: true, macvlan: {master: [a], ippools: {ipv4: [b]}}}", []string{"spec.disableIPAM: warning: true: ippools are without effect"}},
		{"settings without coordinator", "", "{cniType: macvlan, enableCoordinator: false, macvlan: {master: [a]}, coordinator: {mode: auto}}", []string{"spec.coordinator: warning: without effect: spec.enableCoordinator is false"}},
		{"a chain", "", `{cniType: macvlan, macvlan: {master: [a]}, chainCNIJsonData: ['{"type": "route", "sbr": 5}', "[]", '{"type": ""}', '{"type": "a", "type": "b"}']}`, []string{
			"spec.chainCNIJsonData[0]: route: sbr: 5: want", "spec.chainCNIJsonData[1]: []: want a JSON object", `spec.chainCNIJsonData[2].type: "": want the name of a plugin`, "spec.chainCNIJsonData[3]:",
		}},
		{"types of values", "", "{cniType: macvlan, macvlan: {master: eth0, mtu: '5', vlanID: 1.5, vlanid: 3}, enableCoordinator: 'true', coordinator: [], chainCNIJsonData: [null]}", []string{
			"spec.chainCNIJsonData[0]: null: want a value", "spec.coordinator: []: want an object", `spec.enableCoordinator: "true": want true or false`, `spec.macvlan.master: "eth0": want a list`,
			`spec.macvlan.mtu: "5": want a whole number`, "spec.macvlan.vlanID: 1.5: want a whole number", "spec.macvlan.vlanid: unknown field: want one of master, mode, mtu, vlanID",
		}},
		{"X9, ipvlan by the block macvlan", "", "{cniType: ipvlan, macvlan: {master: [a]}}", []string{"spec.macvlan: warning: taken as the block ipvlan"}},
		{"good", "", "{cniType: macvlan, macvlan: {master: [a]}}", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metadata := tt.metadata
			if !strings.Contains(metadata, "name: ") || strings.HasPrefix(metadata, "annotations") {
				metadata = strings.TrimSuffix("name: net, "+metadata, ", ")
			}
			_, faults := object(t, "metadata: {"+metadata+"}\nspec: "+tt.spec)
			for _, want := range tt.want {
				found := false
				for _, f := range faults {
					found = found || strings.HasPrefix(f.String(), want)
				}
				if !found {
					t.Errorf("nothing says %q: %v", want, faults)
				}
			}
			if len(tt.want) == 0 && len(faults) > 0 {
				t.Errorf("faults: %v", faults)
			}
			for _, f := range faults {
				if f.Path == "" || f.Message == "" {
					t.Errorf("a fault without words: %q", f)
				}
			}
		})
	}
}

// FuzzDecode reads any object: nothing panics, and what has no faults is rendered to
// JSON that has none either.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"metadata": {"name": "a"}, "spec": {"cniType": "macvlan", "macvlan": {"master": ["ens192"], "vlanID": 5}}}`,
		`{"spec": {"cniType": "sriov", "sriov": {"resourceName": "a/b", "MaxTxRateMbps": 5}}}`,
		`{"spec": {"cniType": "ovs", "ovs": {"bridge": "b", "trunk": [{"maxID": 5}]}}}`,
		`{"spec": {"cniType": "vlan", "vlan": {"master": ["a", "b"], "bond": {}}, "coordinator": {"policyRoutes": [{"dst": "x"}], "hijackCIDR": ["::ffff:1.1.1.1", "1.1.1.1%a"]}, "chainCNIJsonData": ["{"]}}`,
		`{"metadata": [], "spec": 5}`, `[]`, `null`, `{"spec": {"cniType": "ib-sriov", "ibsriov": null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, faults := netconf.Decode(text)
		faults = append(faults, c.Validate()...)
		config := c.Render().Config
		for _, fault := range faults {
			if !fault.Warning {
				return
			}
		}
		if config == "" {
			return
		}
		custom := netconf.Config{Name: "a", Spec: netconf.Spec{CustomCNI: config}}
		if again := custom.Validate(); len(again) > 0 {
			t.Errorf("%s\nbecomes %s\n%v", text, config, again)
		}
	})
}
