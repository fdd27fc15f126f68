// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/ipam"
)

const (
	ofIPPools = "annotation ipam.spidernet.io/ippools of the pod: "
	ofIPPool  = "annotation ipam.spidernet.io/ippool of the pod: "
	ofRoutes  = "annotation ipam.spidernet.io/routes of the pod: "

	wantIPPools = `want such as [{"interface": "eth0", "ipv4": ["lan"]}, {"interface": "net1", "ipv4": ["storage", "spare-*"]}]`
	wantIPPool  = `want such as {"ipv4": ["lan", "spare-*"], "ipv6": ["lan6"]}`
	wantRoutes  = `want such as [{"dst": "10.7.0.0/16", "gw": "10.6.0.1"}]`
)

// configs has a network with the NIC's pools in its configuration, one without, one of
// another IPAM, and one whose NICs have no default route.
var configs = map[string]string{
	"shop/pools": `{"name": "pools", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["nad4"], "default_ipv6_ippool": ["nad6"]}}`,
	"shop/plain": `{"name": "plain", "type": "macvlan", "ipam": {"type": "spiderpool"}}`,
	"shop/other": `{"name": "other", "type": "macvlan", "ipam": {"type": "host-local"}}`,
	"shop/clean": `{"name": "clean", "type": "macvlan", "ipam": {"type": "spiderpool", "clean_gateway": true}}`,
}

// TestSources: where the pools of each NIC come from. A pod has eth0 on the first network and
// net1, net2 on the others.
func TestSources(t *testing.T) {
	ippools, ippool := ipam.IPPoolsAnnotation, ipam.IPPoolAnnotation
	namespace := map[string]string{ipam.DefaultIPv4Annotation: `["ns4", "ns-*"]`, ipam.DefaultIPv6Annotation: `["ns6"]`}
	for _, test := range []struct {
		name      string
		networks  string
		pod       []string
		namespace map[string]string
		want      string // of each NIC: interface [IPv4] [IPv6] (where from)
		err       string
	}{
		{"the pools with default: true", "plain", nil, nil, "eth0 [] [] default (the pools with spec.default: true)", ""},
		{"A00006: the namespace beats the default pools", "plain", nil, namespace, "eth0 [ns4 ns-*] [ns6] (annotation ipam.spidernet.io/default-ipv4-ippool and ipam.spidernet.io/default-ipv6-ippool of namespace shop)", ""},
		{"the network's", "pools", nil, nil, "eth0 [nad4] [nad6] (default_ipv4_ippool and default_ipv6_ippool of NetworkAttachmentDefinition shop/pools)", ""},
		{"A00004: the pod's beat the namespace's and the network's", "pools", []string{ippool, `{"ipv4": ["a"], "ipv6": ["b"]}`}, namespace, "eth0 [a] [b] (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"A00004: the namespace's beat the network's", "pools", nil, namespace, "eth0 [ns4 ns-*] [ns6] (annotation ipam.spidernet.io/default-ipv4-ippool and ipam.spidernet.io/default-ipv6-ippool of namespace shop)", ""},
		{"A00005: ippools beats ippool", "pools", []string{ippool, `{"ipv4": ["a"]}`, ippools, `[{"interface": "eth0", "ipv4": ["b"]}]`}, nil, "eth0 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00005: what is beaten isn't read", "pools", []string{ippool, `{`, ippools, `[{"ipv4": ["b"]}]`}, map[string]string{ipam.DefaultIPv4Annotation: "{"}, "eth0 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00007: wildcards of the namespace", "plain", nil, map[string]string{ipam.DefaultIPv4Annotation: `["a-?", "b[0-9]", "*"]`}, "eth0 [a-? b[0-9] *] [] (annotation ipam.spidernet.io/default-ipv4-ippool of namespace shop)", ""},
		{"A00015: wildcards in ippools", "plain", []string{ippools, `[{"ipv4": ["a-*", "b"]}]`}, nil, "eth0 [a-* b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00009: another annotation, another pool", "plain", []string{ippool, `{"ipv4": ["new"]}`}, nil, "eth0 [new] [] (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"A00010: the same with several NICs", "plain,pools", []string{ippools, `[{"interface": "net1", "ipv4": ["new"]}, {"interface": "eth0", "ipv4": ["old"]}]`}, nil,
			"eth0 [old] [] (annotation ipam.spidernet.io/ippools of the pod); net1 [new] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"E00009: ippool names IPv4 alone, of a network with both", "pools", []string{ippool, `{"ipv4": ["a"]}`}, nil, "eth0 [a] [] (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"E00010: ippools names IPv6 alone, of a network with both", "pools", []string{ippools, `[{"ipv6": ["a"]}]`}, nil, "eth0 [] [a] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"the namespace names one family", "pools", nil, map[string]string{ipam.DefaultIPv6Annotation: `["ns6"]`}, "eth0 [] [ns6] (annotation ipam.spidernet.io/default-ipv6-ippool of namespace shop)", ""},
		{"an empty list of the namespace is none", "pools", nil, map[string]string{ipam.DefaultIPv6Annotation: `[]`}, "eth0 [nad4] [nad6] (default_ipv4_ippool and default_ipv6_ippool of NetworkAttachmentDefinition shop/pools)", ""},
		{"ippool is for all NICs", "plain,plain", []string{ippool, `{"ipv4": ["a"]}`}, nil, "eth0 [a] [] (annotation ipam.spidernet.io/ippool of the pod); net1 [a] [] (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"ippool names a NIC: the others have the next source", "pools,plain,plain", []string{ippool, `{"interface": "net2", "ipv4": ["a"]}`}, nil,
			"eth0 [nad4] [nad6] (default_ipv4_ippool and default_ipv6_ippool of NetworkAttachmentDefinition shop/pools); net1 [] [] default (the pools with spec.default: true); net2 [a] [] (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"subnet names a NIC: the others have the next source", "pools,plain", []string{ipam.SubnetAnnotation, `{"interface": "net1", "ipv4": ["s"]}`}, nil,
			"eth0 [nad4] [nad6] (default_ipv4_ippool and default_ipv6_ippool of NetworkAttachmentDefinition shop/pools); net1 subnets [s] [] (annotation ipam.spidernet.io/subnet of the pod)", ""},
		{"A00017: two NICs with names", "plain,plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"]}]`}, nil,
			"eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod); net1 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00018: two NICs without names: in their order", "plain,plain", []string{ippools, `[{"ipv4": ["a"]}, {"ipv4": ["b"]}]`}, nil,
			"eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod); net1 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"without names, NICs of others count", "other,plain", []string{ippools, `[{"ipv4": ["a"]}, {"ipv4": ["b"]}]`}, nil, "net1 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00011: cleangateway false", "clean", []string{ippools, `[{"ipv4": ["a"], "cleangateway": false}]`}, nil, "eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00011: cleangateway true, of the second NIC (#2640)", "plain,plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"], "cleangateway": true}]`}, nil,
			"eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod); net1 [b] [] clean (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00011: no cleangateway: as the network says", "clean", []string{ippools, `[{"ipv4": ["a"]}]`}, nil, "eth0 [a] [] clean (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"A00012: the NIC with the default routes", "plain,other,plain", []string{ippool, `{"ipv4": ["a"]}`, ipam.DefaultRouteNICAnnotation, "net1"}, nil,
			"eth0 [a] [] default route by net1 (annotation ipam.spidernet.io/ippool of the pod); net2 [a] [] default route by net1 (annotation ipam.spidernet.io/ippool of the pod)", ""},
		{"A00012: no such NIC", "plain,plain", []string{ipam.DefaultRouteNICAnnotation, "net2"}, nil, "", `annotation ipam.spidernet.io/default-route-nic of the pod: "net2": want one of the pod's NICs: eth0, net1`},
		{"unknown fields", "plain", []string{ippools, `[{"ipv4": ["a"], "x": {}}]`}, nil, "eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"ippools names a NIC that the pod hasn't", "plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net5", "ipv4": ["b"]}]`}, nil, "", ofIPPools + `"net5": want one of the pod's NICs: eth0`},
		{"ippool names a NIC that the pod hasn't", "plain,other", []string{ippool, `{"interface": "eth1", "ipv4": ["a"]}`}, nil, "", ofIPPool + `"eth1": want one of the pod's NICs: eth0, net1`},
		{"subnet names a NIC that the pod hasn't", "plain,other", []string{ipam.SubnetAnnotation, `{"interface": "eth1", "ipv4": ["s"]}`}, nil, "", `annotation ipam.spidernet.io/subnet of the pod: "eth1": want one of the pod's NICs: eth0, net1`},
		{"subnets names a NIC that the pod hasn't", "plain", []string{ipam.SubnetsAnnotation, `[{"interface": "eth0", "ipv4": ["s"]}, {"interface": "eth1", "ipv4": ["s"]}]`}, nil, "",
			`annotation ipam.spidernet.io/subnets of the pod: "eth1": want one of the pod's NICs: eth0`},
		{"NICs of other networks may be named", "plain,other", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["b"]}]`}, nil, "eth0 [a] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"ippool names a NIC of another network", "plain,other", []string{ippool, `{"interface": "net1", "ipv4": ["a"]}`}, nil, "eth0 [] [] default (the pools with spec.default: true)", ""},
		{"what is beaten may name any NIC", "plain", []string{ippool, `{"interface": "eth1", "ipv4": ["a"]}`, ippools, `[{"ipv4": ["b"]}]`}, nil, "eth0 [b] [] (annotation ipam.spidernet.io/ippools of the pod)", ""},
		{"no NIC of ours: nothing is read", "other", []string{ippools, "{", ippool, "{", ipam.SubnetAnnotation, "{", ipam.RoutesAnnotation, "{", ipam.DefaultRouteNICAnnotation, "net9"}, map[string]string{ipam.DefaultIPv4Annotation: "{"}, "", ""},

		{"A00003: ippool isn't JSON", "plain", []string{ippool, `{"ipv4": [lan]}`}, nil, "", ofIPPool + "line 1, column 11, of `{\"ipv4\": [lan]}`: invalid character 'l' looking for beginning of value: " + wantIPPool},
		{"A00003: ippools isn't JSON", "plain", []string{ippools, "[{\n  \"ipv4\": [\"lan\"],\n}]"}, nil, "", ofIPPools + "line 3, column 1, of `[{ \"ipv4\": [\"lan\"], }]`: invalid character '}' looking for beginning of object key string: " + wantIPPools},
		{"A00003: of a long text, where it is wrong", "plain", []string{ippools, "[" + strings.Repeat(" ", 200) + `{"ipv4": lan}` + strings.Repeat(" ", 200) + "]"}, nil, "", ofIPPools + "line 1, column 211, near `{\"ipv4\": lan}`: invalid character 'l' looking for beginning of value: " + wantIPPools},
		{"A00003: the namespace's isn't JSON", "plain", nil, map[string]string{ipam.DefaultIPv4Annotation: "lan"}, "", "annotation ipam.spidernet.io/default-ipv4-ippool of namespace shop: line 1, column 1, of `lan`: invalid character 'l' looking for beginning of value: " + `want such as ["lan", "spare-*"]`},
		{"A00003: empty", "plain", []string{ippool, ""}, nil, "", ofIPPool + "line 1, column 1, of ``: unexpected end of JSON input: " + wantIPPool},
		{"A00003: null", "plain", []string{ippool, "null"}, nil, "", ofIPPool + "null: " + wantIPPool},
		{"A00003: an object for a list", "plain", []string{ippools, `{"ipv4": ["a"]}`}, nil, "", ofIPPools + "line 1, column 1, of `{\"ipv4\": [\"a\"]}`: want a list, not object: " + wantIPPools},
		{"A00003: a list for an object", "plain", []string{ippool, `[{"ipv4": ["a"]}]`}, nil, "", ofIPPool + "line 1, column 1, of `[{\"ipv4\": [\"a\"]}]`: want an object, not array: " + wantIPPool},
		{"A00003: a string for a list", "plain", []string{ippool, `{"ipv4": "a"}`}, nil, "", ofIPPool + "line 1, column 12, of `{\"ipv4\": \"a\"}`: \"ipv4\": want a list, not string: " + wantIPPool},
		{"A00003: a number for a name", "plain", []string{ippool, `{"ipv4": [1]}`}, nil, "", ofIPPool + "line 1, column 11, of `{\"ipv4\": [1]}`: \"ipv4\": want a string, not number: " + wantIPPool},
		{"A00003: a string for true", "plain", []string{ippools, `[{"ipv4": ["a"], "cleangateway": "yes"}]`}, nil, "", ofIPPools + "line 1, column 38, of `[{\"ipv4\": [\"a\"], \"cleangateway\": \"yes\"}]`: \"cleangateway\": want true or false, not string: " + wantIPPools},
		{"A00013: ippools lists one NIC of two", "plain,plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}]`}, nil, "", ofIPPools + "it has no entry for net1, only for eth0: want one for each NIC that gets its addresses here"},
		{"A00013: ippools has one entry for two NICs, without names", "plain,plain", []string{ippools, `[{"ipv4": ["a"]}]`}, nil, "", ofIPPools + "it has no entry for net1, only for eth0: want one for each NIC that gets its addresses here"},
		{"A00014: ippools lists a NIC twice", "plain,plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"interface": "eth0", "ipv4": ["b"]}]`}, nil, "", ofIPPools + "interface eth0 is in entries 1 and 2: want it once"},
		{"interface in some entries", "plain,plain", []string{ippools, `[{"interface": "eth0", "ipv4": ["a"]}, {"ipv4": ["b"]}]`}, nil, "", ofIPPools + `want "interface" in all entries, or in none of them: entry 2 differs from entry 1`},
		{"no interface can have the name", "plain", []string{ippools, `[{"interface": "a/b", "ipv4": ["a"]}]`}, nil, "", ofIPPools + `entry 1: interface "a/b": want the name of a NIC, such as net1`},
		{"ippools has no entry", "plain", []string{ippools, `[]`}, nil, "", ofIPPools + "it has no entry: " + wantIPPools},
		{"ippools names no pool", "plain", []string{ippools, `[{"interface": "eth0"}]`}, nil, "", ofIPPools + "entry 1: it names neither ipv4 nor ipv6: " + wantIPPools},
		{"ippool names no pool", "plain", []string{ippool, `{"ipv4": []}`}, nil, "", ofIPPool + "it names neither ipv4 nor ipv6: " + wantIPPool},
		{"a name that no pool has", "plain", []string{ippool, `{"ipv4": ["Lan"]}`}, nil, "", ofIPPool + `pool "Lan": want the name of a pool: lower case letters, digits, '-' and '.', with a letter or digit at both ends; or a pattern with *, ? or [a-z]`},
		{"a pattern that is none", "plain", []string{ippool, `{"ipv4": ["lan[1"]}`}, nil, "", ofIPPool + `pool "lan[1": want a name, or a pattern with *, ? or [a-z]`},
		{"too many pools", "plain", []string{ippool, `{"ipv4": ["a"` + strings.Repeat(`,"a"`, 64) + `]}`}, nil, "", ofIPPool + "65 pools: want at most 64"},
		{"too many entries", "plain", []string{ippools, `[{}` + strings.Repeat(`,{}`, 128) + `]`}, nil, "", ofIPPools + "129 entries: want at most 128"},
		{"too long", "plain", []string{ippool, strings.Repeat(" ", 70000)}, nil, "", ofIPPool + "70000 bytes: want at most 65536"},

		{"subnets beats ippools: of each family the first one", "plain", []string{ipam.SubnetsAnnotation, `[{"interface": "eth0", "ipv4": ["a", "c"], "ipv6": ["b"]}]`, ippools, `[{"ipv4": ["a"]}]`}, nil,
			"eth0 subnets [a] [b] (annotation ipam.spidernet.io/subnets of the pod)", ""},
		{"a pattern of subnets", "plain", []string{ipam.SubnetsAnnotation, `[{"interface": "eth0", "ipv4": ["a*"]}]`}, nil, "",
			`annotation ipam.spidernet.io/subnets of the pod: "a*": want the name of a SpiderSubnet, not a pattern`},
		{"subnets beats subnet", "plain", []string{ipam.SubnetsAnnotation, "[]", ipam.SubnetAnnotation, `{"ipv4": ["a"]}`}, nil, "",
			"annotation ipam.spidernet.io/subnets of the pod: it has no entry: " + `want such as [{"interface": "eth0", "ipv4": ["lan"]}, {"interface": "net1", "ipv4": ["storage"]}]`},
		{"I00013: subnet beats ippool", "plain", []string{ipam.SubnetAnnotation, `{"ipv4": ["a"]}`, ippool, `{"ipv4": ["a"]}`}, nil,
			"eth0 subnets [a] [] (annotation ipam.spidernet.io/subnet of the pod)", ""},

		{"routes: dst", "plain", []string{ipam.RoutesAnnotation, `[{"dst": "10.7.0.0", "gw": "10.6.0.1"}]`}, nil, "", ofRoutes + `entry 1: dst "10.7.0.0": want a CIDR, such as 10.7.0.0/16`},
		{"routes: gw", "plain", []string{ipam.RoutesAnnotation, `[{"dst": "10.7.0.0/16", "gw": "fe80::1%eth0"}]`}, nil, "", ofRoutes + `entry 1: gw "fe80::1%eth0": want an address of the NIC's subnet, such as 10.6.0.1`},
		{"routes: two families", "plain", []string{ipam.RoutesAnnotation, `[{"dst": "10.7.0.0/16", "gw": "fd00::1"}]`}, nil, "", ofRoutes + `entry 1: dst 10.7.0.0/16 and gw fd00::1: want one family`},
		{"routes: not JSON", "plain", []string{ipam.RoutesAnnotation, `x`}, nil, "", ofRoutes + "line 1, column 1, of `x`: invalid character 'x' looking for beginning of value: " + wantRoutes},
		{"routes: too many", "plain", []string{ipam.RoutesAnnotation, `[{}` + strings.Repeat(`,{}`, 64) + `]`}, nil, "", ofRoutes + "65 routes: want at most 64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, others, _ := strings.Cut(test.networks, ",")
			p := pod(append(test.pod, ipam.DefaultNetworkAnnotation, "shop/"+first, ipam.NetworksAnnotation, others)...)
			all, err := ipam.Attachments(p, ipam.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			intent, err := ipam.NICs(p, test.namespace, all, configs)
			says(t, err, test.err)
			if err != nil {
				return
			}
			var out []string
			for _, n := range intent.NICs {
				text := n.Interface
				if n.Subnets {
					text += " subnets"
				}
				text += fmt.Sprintf(" %v %v", n.IPv4Pools, n.IPv6Pools)
				if n.DefaultPools {
					text += " default"
				}
				if n.CleanGateway {
					text += " clean"
				}
				if n.DefaultRouteNIC != "" {
					text += " default route by " + n.DefaultRouteNIC
				}
				out = append(out, text+" ("+n.From+")")
			}
			if diff := cmp.Diff(test.want, strings.Join(out, "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNamedNICs: annotations name NICs that no annotation of Multus has: of the cluster's network, of
// default networks, and those that only the nodes' files have.
func TestNamedNICs(t *testing.T) {
	common := ipam.Settings{ClusterNetwork: "pools", DefaultNetworks: []string{"plain", "other"}, MultusNamespace: "shop"}
	named := func(names ...string) string {
		var out []string
		for _, n := range names {
			out = append(out, `{"interface": "`+n+`", "ipv4": ["a"]}`)
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	for _, x := range []struct {
		name           string
		settings       ipam.Settings
		networks, text string
		err            string
	}{
		{"default networks", common, "plain@lan", named("eth0", "net1", "net2", "lan"), ""},
		{"none of the default networks", common, "plain@lan", named("eth0", "net1", "net3", "lan"), ofIPPools + `"net3": want one of the pod's NICs: eth0, net1, net2 and 1 more`},
		{"the first NIC, of the nodes' files", ipam.Settings{}, "plain", named("eth0", "net1"), ""},
		{"a network that isn't there yet", ipam.Settings{}, "plain,later", named("net1", "net2"), ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := pod(ipam.NetworksAnnotation, x.networks, ipam.IPPoolsAnnotation, x.text)
			p.Namespace = "shop"
			all, err := ipam.Attachments(p, x.settings)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ipam.NICs(p, nil, all, configs)
			says(t, err, x.err)
		})
	}

	all := []ipam.Attachment{{Interface: "eth0", OrFile: true}, {Interface: "net1", Namespace: "shop", Name: "vf"}}
	for _, x := range []struct{ late, text, err string }{
		{"net1", named("eth0", "net1"), ""},
		{"net1", named("eth1", "net1"), ofIPPools + `"eth1": want one of the pod's NICs: eth0, net1`},
		{"eth0", named("eth0", "net2"), ""}, // the nodes' files have net2 perhaps
		{"net2", named("eth0", "net1", "net2"), ""},
	} {
		_, err := ipam.LateNIC(pod(ipam.IPPoolsAnnotation, x.text), nil, all, ipam.Want{Interface: x.late, Network: "n"})
		says(t, err, x.err)
	}
}

// TestLateNIC: a NIC whose plugin asks has the same sources as one that the controller found.
func TestLateNIC(t *testing.T) {
	want := ipam.Want{Interface: "net1", Network: "vf", IPv4Pools: []string{"nad4"}, CleanGateway: true, MasterSubnets: []string{"10.6.0.0/16"}}
	all := []ipam.Attachment{{Interface: "eth0", OrFile: true}, {Interface: "net1", Namespace: "shop", Name: "vf"}}
	n, err := ipam.LateNIC(pod(), nil, all, want)
	says(t, err, "")
	if diff := cmp.Diff(ipam.NIC{Interface: "net1", NAD: "shop/vf", Network: "vf", From: "default_ipv4_ippool of NetworkAttachmentDefinition shop/vf", IPv4Pools: []string{"nad4"}, CleanGateway: true, MasterSubnets: []string{"10.6.0.0/16"}}, n); diff != "" {
		t.Error(diff)
	}
	n, err = ipam.LateNIC(pod(ipam.IPPoolsAnnotation, `[{"ipv4": ["a"]}, {"ipv4": ["b"], "cleangateway": false}]`), nil, all, want)
	says(t, err, "")
	if diff := cmp.Diff(ipam.NIC{Interface: "net1", NAD: "shop/vf", Network: "vf", From: "annotation ipam.spidernet.io/ippools of the pod", IPv4Pools: []string{"b"}, MasterSubnets: []string{"10.6.0.0/16"}}, n); diff != "" {
		t.Error(diff)
	}
	want.Interface = "eth0"
	n, err = ipam.LateNIC(pod(), nil, all, want)
	says(t, err, "")
	if n.NAD != "" || n.From != "default_ipv4_ippool of network vf" {
		t.Errorf("a network of the node's files: %+v", n)
	}
	want.Interface = "hot1"
	if n, err = ipam.LateNIC(pod(ipam.IPPoolAnnotation, `{"ipv4": ["a"]}`), nil, all, want); err != nil || !cmp.Equal(n.IPv4Pools, []string{"a"}) {
		t.Errorf("a NIC that no annotation names: %+v, %v", n, err)
	}
	if n, err = ipam.LateNIC(pod(ipam.DefaultRouteNICAnnotation, "net1"), nil, all, want); err != nil || n.DefaultRouteNIC != "net1" {
		t.Errorf("%+v, %v, want the default route by net1", n, err)
	}
	_, err = ipam.LateNIC(pod(ipam.DefaultRouteNICAnnotation, ""), nil, all, want)
	says(t, err, `annotation ipam.spidernet.io/default-route-nic of the pod: "": want one of the pod's NICs: eth0, net1`)
	_, err = ipam.LateNIC(pod(ipam.IPPoolsAnnotation, `[{"ipv4": ["a"]}]`), nil, all, want)
	says(t, err, ofIPPools+"it has no entry for hot1, only for eth0: want one for each NIC that gets its addresses here")
	want.IPv6Pools = []string{"a[b"}
	_, err = ipam.LateNIC(pod(), nil, all, want)
	says(t, err, `network vf: ipam: pool "a[b": want a name, or a pattern with *, ? or [a-z]`)
}

// FuzzAnnotations: no text of any annotation makes a panic, a message that doesn't fit into an
// event, or a NIC without a source.
func FuzzAnnotations(f *testing.F) {
	f.Add(`[{"interface": "eth0", "ipv4": ["a"], "cleangateway": true}]`)
	f.Add(`{"ipv4": ["a*"], "ipv6": ["b"]}`)
	f.Add(`[{"dst": "10.7.0.0/16", "gw": "10.6.0.1", "x": 1}]`)
	f.Add(`["a", "b[0-9]"]`)
	f.Add(`[null]`)
	f.Add(`null`)
	all := []ipam.Attachment{{Interface: "eth0", Namespace: "shop", Name: "plain"}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, key := range []string{ipam.IPPoolsAnnotation, ipam.IPPoolAnnotation, ipam.SubnetsAnnotation, ipam.SubnetAnnotation, ipam.RoutesAnnotation, ipam.DefaultRouteNICAnnotation, ipam.DefaultIPv4Annotation} {
			p, namespace := pod(key, text), map[string]string(nil)
			if key == ipam.DefaultIPv4Annotation {
				p, namespace = pod(), map[string]string{key: text}
			}
			intent, err := ipam.NICs(p, namespace, all, configs)
			if err != nil {
				if len(err.Error()) > 1500 {
					t.Errorf("%s %q: a message of %d bytes", key, text, len(err.Error()))
				}
				continue
			}
			n := intent.NICs[0]
			if n.From == "" || n.DefaultPools == (len(n.IPv4Pools)+len(n.IPv6Pools) > 0) {
				t.Errorf("%s %q: %+v", key, text, n)
			}
			needs, rejected := ipam.Candidates(n, ipam.Pools{}, ipam.Place{Pod: p})
			for _, need := range needs {
				if message := ipam.Explain(n, need, rejected); len(need.Pools) > 0 || len(message) > 4000 {
					t.Errorf("%s %q: %v, and a message of %d bytes", key, text, need, len(message))
				}
			}
		}
	})
}
