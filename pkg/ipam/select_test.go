// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/ipam"
)

// view returns a pool of a subnet, changed by some functions.
func view(name, subnet string, change ...func(*ipam.PoolView)) ipam.PoolView {
	p := ipam.PoolView{Name: name, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet}}}
	for _, f := range change {
		f(&p)
	}
	return p
}

func specified(f func(*ipam.PoolSpec)) func(*ipam.PoolView) {
	return func(p *ipam.PoolView) { f(&p.Spec) }
}

var isDefault = specified(func(s *ipam.PoolSpec) { s.Default = ptr(true) })

// standing fills in what the pool's standing says.
func standing(change func(*ipam.Pool)) func(*ipam.PoolView) {
	return func(v *ipam.PoolView) {
		p := ipam.Pool{Name: v.Name, Spec: v.Spec}
		p.Spec.IPs = []string{"10.6.0.1"}
		change(&p)
		s := ipam.Usable([]ipam.Pool{p}, nil, nil)[v.Name]
		v.Reason, v.Disabled, v.Deleting = s.Reason, s.State == ipam.Disabled, s.State == ipam.Deleting
	}
}

func vlan(n int) func(*ipam.PoolView) { return specified(func(s *ipam.PoolSpec) { s.VLAN = &n }) }
func inNetwork(s string) func(*ipam.PoolView) {
	return specified(func(p *ipam.PoolSpec) { p.Network = s })
}

func selects(key, value string) *ipam.Selector {
	return &ipam.Selector{MatchLabels: map[string]string{key: value}}
}

// affine returns an affinity of a kind (pod, namespace, node), or a list of names.
func affine(kind, key, value string) func(*ipam.PoolView) {
	return specified(func(s *ipam.PoolSpec) {
		switch kind {
		case "pod":
			s.PodAffinity = selects(key, value)
		case "namespace":
			s.NamespaceAffinity = selects(key, value)
		case "node":
			s.NodeAffinity = selects(key, value)
		}
	})
}

func nodes(names ...string) func(*ipam.PoolView) {
	return specified(func(s *ipam.PoolSpec) { s.NodeName = names })
}

func namespaces(names ...string) func(*ipam.PoolView) {
	return specified(func(s *ipam.PoolSpec) { s.NamespaceName = names })
}

func multus(names ...string) func(*ipam.PoolView) {
	return specified(func(s *ipam.PoolSpec) { s.MultusName = names })
}

const lan, lan6 = "10.6.0.0/16", "fd00:6::/64"

// TestCandidates: from which pools the NIC net1 of network shop/lan of pod shop/web-0 on
// node1, zone a, gets addresses.
func TestCandidates(t *testing.T) {
	at := ipam.Place{Pod: pod(), NamespaceLabels: map[string]string{"team": "red"}, NodeLabels: map[string]string{"zone": "a"}}
	for _, test := range []struct {
		name       string
		ipv4, ipv6 string // names, "" for none; the default pools if there are none at all
		nic        func(*ipam.NIC)
		pools      []ipam.PoolView
		want       string // of each need: its pools, or the message
	}{
		{"X10: in the order in which they are written", "c a b", "", nil, []ipam.PoolView{view("a", lan), view("b", lan), view("c", lan)}, "IPv4: c a b"},
		{"X10: a pattern's by name, where the pattern is", "z l-* a", "", nil, []ipam.PoolView{view("l-b", lan), view("a", lan), view("l-a", lan), view("z", lan)}, "IPv4: z l-a l-b a"},
		{"a pool is tried once", "b * b", "", nil, []ipam.PoolView{view("a", lan), view("b", lan)}, "IPv4: b a"},
		{"A00007: ? and [..]", "lan-? lan[0-3]", "", nil, []ipam.PoolView{view("lan-a", lan), view("lan-ab", lan), view("lan1", lan), view("lan4", lan)}, "IPv4: lan-a lan1"},
		{"A00007: a pattern is for pools of its family", "*", "*", nil, []ipam.PoolView{view("a", lan), view("b", lan6)}, "IPv4: a; IPv6: b"},
		{"A00007: a pattern without a pool", "x* a", "", nil, []ipam.PoolView{view("a", lan)}, "IPv4: a"},
		{"A00007: no pattern has a pool", "x*", "", nil, []ipam.PoolView{view("a", lan), view("x", lan6)}, "no IPv4 pool for net1 (the test): pool x*: no IPv4 pool has such a name"},
		{"no such pool", "x", "", nil, []ipam.PoolView{view("a", lan)}, "no IPv4 pool for net1 (the test): pool x: there is no such SpiderIPPool"},
		{"of one family, the other is missing", "a", "x", nil, []ipam.PoolView{view("a", lan)}, "IPv4: a; no IPv6 pool for net1 (the test): pool x: there is no such SpiderIPPool"},
		{"E00009: IPv4 alone", "a", "", nil, []ipam.PoolView{view("a", lan), view("b", lan6, isDefault)}, "IPv4: a"},
		{"E00010: IPv6 alone", "", "b", nil, []ipam.PoolView{view("a", lan, isDefault), view("b", lan6)}, "IPv6: b"},
		{"of both families none: each has its own reasons", "x", "y", nil, nil, "no IPv4 pool for net1 (the test): pool x: there is no such SpiderIPPool; no IPv6 pool for net1 (the test): pool y: there is no such SpiderIPPool"},
		{"the wrong family", "b", "", nil, []ipam.PoolView{view("b", lan6)}, "no IPv4 pool for net1 (the test): pool b: its subnet fd00:6::/64 isn't IPv4"},

		{"default pools: by name, of both families", "", "", nil, []ipam.PoolView{view("z", lan, isDefault), view("a", lan, isDefault), view("b", lan6, isDefault), view("c", lan)}, "IPv4: a z; IPv6: b"},
		{"default pools: those with most conditions first", "", "", nil, []ipam.PoolView{view("a", lan, isDefault), view("c", lan, isDefault, namespaces("shop")),
			view("d", lan, isDefault, namespaces("shop"), affine("pod", "app", "web")), view("b", lan, isDefault, affine("pod", "app", "web"))}, "IPv4: d b c a"},
		{"a pattern's: those with most conditions first", "b *", "", nil, []ipam.PoolView{view("a", lan), view("b", lan), view("z", lan, affine("node", "zone", "a"))}, "IPv4: b z a"},
		{"default pools: IPv4 alone", "", "", nil, []ipam.PoolView{view("a", lan, isDefault), view("b", lan6)}, "IPv4: a"},
		{"default pools: IPv6 alone", "", "", nil, []ipam.PoolView{view("a", lan), view("b", lan6, isDefault)}, "IPv6: b"},
		{"default pools: a family whose pools are for others", "", "", nil, []ipam.PoolView{view("a", lan, isDefault), view("b", lan6, isDefault, namespaces("other"))}, "IPv4: a"},
		{"default pools: a family whose pools are of another network", "", "", nil, []ipam.PoolView{view("a", lan, isDefault, multus("lan")), view("b", lan6, isDefault, multus("storage")), view("c", lan6, isDefault, nodes("node2"))}, "IPv4: a"},
		{"default pools: all are for others", "", "", nil, []ipam.PoolView{view("a", lan, isDefault, multus("storage")), view("b", lan6, isDefault, nodes("node2"))},
			"no IPv4 pool for net1 (the test): pool a: spec.multusName is storage, and the network is shop/lan; no IPv6 pool for net1 (the test): pool b: spec.nodeName is node2, and the node is node1"},
		{"default pools: a family whose last pool is being deleted", "", "", nil, []ipam.PoolView{view("a", lan, isDefault), view("b", lan6, isDefault, standing(deleting))}, "IPv4: a"},
		{"default pools: a family whose only pool is disabled is wanted", "", "", nil, []ipam.PoolView{view("a", lan, isDefault), view("b", lan6, isDefault, func(p *ipam.PoolView) { p.Reason, p.Disabled = "spec.disable is true", true })}, "IPv4: a; no IPv6 pool for net1 (the test): pool b: spec.disable is true"},
		{"default pools: none", "", "", nil, []ipam.PoolView{view("a", lan)}, "no pool for net1: neither its network nor an annotation names one, and no SpiderIPPool has spec.default: true"},

		{"terminating", "a b", "", nil, []ipam.PoolView{view("a", lan, standing(deleting)), view("b", lan)}, "IPv4: b"},
		{"terminating, and no other", "a", "", nil, []ipam.PoolView{view("a", lan, standing(deleting))}, "no IPv4 pool for net1 (the test): pool a: it is being deleted: it is gone when its last address is back"},
		{"D00005: disabled", "a", "", nil, []ipam.PoolView{view("a", lan, standing(disabled))}, "no IPv4 pool for net1 (the test): pool a: spec.disable is true"},
		{"what its condition says", "a", "", nil, []ipam.PoolView{view("a", lan, func(p *ipam.PoolView) { p.Reason = "pool b has 10.6.0.1 too, and came first" })}, "no IPv4 pool for net1 (the test): pool a: pool b has 10.6.0.1 too, and came first"},

		{"L00001: nodeAffinity matches", "a", "", nil, []ipam.PoolView{view("a", lan, affine("node", "zone", "a"))}, "IPv4: a"},
		{"L00002: nodeAffinity doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, affine("node", "zone", "b"))}, "no IPv4 pool for net1 (the test): pool a: spec.nodeAffinity wants zone=b, and node node1 has not"},
		{"L00003: namespaceAffinity matches", "a", "", nil, []ipam.PoolView{view("a", lan, affine("namespace", "team", "red"))}, "IPv4: a"},
		{"L00004: namespaceAffinity doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, affine("namespace", "team", "blue"))}, "no IPv4 pool for net1 (the test): pool a: spec.namespaceAffinity wants team=blue, and namespace shop has not"},
		{"L00005: podAffinity matches", "a", "", nil, []ipam.PoolView{view("a", lan, affine("pod", "app", "web"))}, "IPv4: a"},
		{"L00006: podAffinity doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, affine("pod", "app", "db"))}, "no IPv4 pool for net1 (the test): pool a: spec.podAffinity wants app=db, and pod web-0 has not"},
		{"L00007: a pool for each zone", "zone-*", "", nil, []ipam.PoolView{view("zone-a", lan, affine("node", "zone", "a")), view("zone-b", lan, affine("node", "zone", "b"))}, "IPv4: zone-a"},
		{"L00008: podAffinity of a StatefulSet's pod", "a", "", nil, []ipam.PoolView{view("a", lan, specified(func(s *ipam.PoolSpec) {
			s.PodAffinity = &ipam.Selector{MatchExpressions: []ipam.Requirement{{Key: "app", Operator: "In", Values: []string{"web", "db"}}}}
		}))}, "IPv4: a"},
		{"L00009: several pools in a namespace", "a b", "", nil, []ipam.PoolView{view("a", lan, namespaces("shop")), view("b", lan, namespaces("shop"))}, "IPv4: a b"},
		{"L00009: one pool in several namespaces", "a", "", nil, []ipam.PoolView{view("a", lan, namespaces("other", "shop"))}, "IPv4: a"},
		{"a selector with a fault", "a", "", nil, []ipam.PoolView{view("a", lan, specified(func(s *ipam.PoolSpec) {
			s.PodAffinity = &ipam.Selector{MatchExpressions: []ipam.Requirement{{Key: "app", Operator: "Like"}}}
		}))}, `no IPv4 pool for net1 (the test): pool a: spec.podAffinity.matchExpressions[0].operator: "Like": want one of In, NotIn, Exists, DoesNotExist`},

		{"D00009: multusName matches", "a", "", nil, []ipam.PoolView{view("a", lan, multus("other/lan", "shop/lan"))}, "IPv4: a"},
		{"D00010: multusName doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, multus("other/lan", "shop/storage"))}, "no IPv4 pool for net1 (the test): pool a: spec.multusName is other/lan, shop/storage, and the network is shop/lan"},
		{"X12: multusName without a namespace: the pod's", "a", "", nil, []ipam.PoolView{view("a", lan, multus("lan"))}, "IPv4: a"},
		{"X12: multusName without a namespace: Multus'", "a", "", func(n *ipam.NIC) { n.NAD = "kube-system/lan" }, []ipam.PoolView{view("a", lan, multus("lan"))}, "IPv4: a"},
		{"X12: multusName without a namespace: no other", "a", "", func(n *ipam.NIC) { n.NAD = "other/lan" }, []ipam.PoolView{view("a", lan, multus("lan"))}, "no IPv4 pool for net1 (the test): pool a: spec.multusName is lan, and the network is other/lan"},
		{"multusName: a network of the node's files", "a", "", func(n *ipam.NIC) { n.NAD = "" }, []ipam.PoolView{view("a", lan, multus("lan"))}, "no IPv4 pool for net1 (the test): pool a: spec.multusName is lan, and the network lan is of the node's files"},
		{"D00011: nodeName matches", "a", "", nil, []ipam.PoolView{view("a", lan, nodes("node0", "node1"))}, "IPv4: a"},
		{"D00012: nodeName doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, nodes("n2", "n3", "n4", "n5"))}, "no IPv4 pool for net1 (the test): pool a: spec.nodeName is n2, n3, n4 and 1 more, and the node is node1"},
		{"D00013: nodeName beats nodeAffinity: for", "a", "", nil, []ipam.PoolView{view("a", lan, nodes("node1"), affine("node", "zone", "b"))}, "IPv4: a"},
		{"D00013: nodeName beats nodeAffinity: against", "a", "", nil, []ipam.PoolView{view("a", lan, nodes("node2"), affine("node", "zone", "a"))}, "no IPv4 pool for net1 (the test): pool a: spec.nodeName is node2, and the node is node1"},
		{"D00014: namespaceName matches", "a", "", nil, []ipam.PoolView{view("a", lan, namespaces("shop"))}, "IPv4: a"},
		{"D00015: namespaceName doesn't match", "a", "", nil, []ipam.PoolView{view("a", lan, namespaces("other"))}, "no IPv4 pool for net1 (the test): pool a: spec.namespaceName is other, and the namespace is shop"},
		{"D00016: namespaceName beats namespaceAffinity: for", "a", "", nil, []ipam.PoolView{view("a", lan, namespaces("shop"), affine("namespace", "team", "blue"))}, "IPv4: a"},
		{"D00016: namespaceName beats namespaceAffinity: against", "a", "", nil, []ipam.PoolView{view("a", lan, namespaces("other"), affine("namespace", "team", "red"))}, "no IPv4 pool for net1 (the test): pool a: spec.namespaceName is other, and the namespace is shop"},

		{"match_master_subnet: the subnet", "a b", "", func(n *ipam.NIC) { n.MasterSubnets = []string{"10.6.3.4/16"} }, []ipam.PoolView{view("a", "10.7.0.0/16"), view("b", "10.6.0.1/16")}, "IPv4: b"},
		{"match_master_subnet: a part of it", "a", "", func(n *ipam.NIC) { n.MasterSubnets = []string{"10.0.0.0/8", lan} }, []ipam.PoolView{view("a", "10.6.5.0/24")}, "IPv4: a"},
		{"match_master_subnet: not more than it", "a", "", func(n *ipam.NIC) { n.MasterSubnets = []string{lan} }, []ipam.PoolView{view("a", "10.6.0.0/15")}, "no IPv4 pool for net1 (the test): pool a: its subnet is 10.6.0.0/15, and those of the NIC's port are 10.6.0.0/16 (match_master_subnet)"},

		{"A00001: two VLANs", "a", "b", nil, []ipam.PoolView{view("a", lan, vlan(100)), view("b", lan6, vlan(200))}, "IPv4: a; no IPv6 pool for net1 (the test): pool b: it is in network vlan200, and both addresses of a NIC are in one network: here network vlan100"},
		{"A00001: a VLAN and none", "a", "b", nil, []ipam.PoolView{view("a", lan), view("b", lan6, vlan(200))}, "IPv4: a; no IPv6 pool for net1 (the test): pool b: it is in network vlan200, and both addresses of a NIC are in one network: here no named network"},
		{"A00001: a VLAN and the network that it is short for", "a", "b", nil, []ipam.PoolView{view("a", lan, vlan(100)), view("b", lan6, inNetwork("vlan100"))}, "IPv4: a; IPv6: b"},
		{"A00001: the first network that both have", "a b c", "d e", nil, []ipam.PoolView{view("a", lan, vlan(1)), view("b", lan, vlan(2)), view("c", lan, vlan(2)), view("d", lan6, vlan(3)), view("e", lan6, vlan(2))}, "IPv4: b c; IPv6: e"},
		{"A00001: two networks that both have", "a b", "d c", nil, []ipam.PoolView{view("a", lan, vlan(1)), view("b", lan, vlan(2)), view("c", lan6, vlan(1)), view("d", lan6, vlan(2))}, "IPv4: a; IPv6: c"},
		{"A00001: one family may have several", "a b", "", nil, []ipam.PoolView{view("a", lan, vlan(1)), view("b", lan, vlan(2))}, "IPv4: a b"},
		{"A00001: a pool that was left out decides nothing", "a b", "c", nil, []ipam.PoolView{view("a", lan, vlan(1), standing(disabled)), view("b", lan, vlan(2)), view("c", lan6, vlan(2))}, "IPv4: b; IPv6: c"},

		{"many reasons", "*", "", nil, func() (all []ipam.PoolView) {
			for i := range 100 {
				all = append(all, view(fmt.Sprintf("a%02d", i), lan, nodes("node2")))
			}
			return all
		}(), "no IPv4 pool for net1 (the test): " + strings.Repeat("pool a: spec.nodeName is node2, and the node is node1; ", 14) + "86 more pools"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := ipam.NIC{Interface: "net1", NAD: "shop/lan", Network: "lan", From: "the test", IPv4Pools: strings.Fields(test.ipv4), IPv6Pools: strings.Fields(test.ipv6)}
			n.DefaultPools = test.ipv4+test.ipv6 == ""
			if test.nic != nil {
				test.nic(&n)
			}
			before := slices.Clone(test.pools)
			needs, rejected := ipam.Candidates(n, ipam.NewPools(test.pools), at)
			got := needed(n, needs, rejected)
			if len(got) > 1024 {
				t.Errorf("a message of %d bytes", len(got))
			}
			if strings.HasSuffix(test.name, "many reasons") {
				got = regexp.MustCompile(`pool a\d\d:`).ReplaceAllString(got, "pool a:")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, test.pools); diff != "" {
				t.Errorf("the pools were changed:\n%s", diff)
			}
		})
	}
}

// TestKeep: of which pools an owner keeps his addresses, and from which he gets others beside them.
func TestKeep(t *testing.T) {
	at := ipam.Place{Pod: pod()}
	off := standing(disabled)
	for _, test := range []struct {
		name       string
		ipv4, ipv6 string
		pools      []ipam.PoolView
		want       string // of each need: the disabled pools | others, or why there is none
	}{
		{"no disabled one", "a b", "", []ipam.PoolView{view("a", lan), view("b", lan)}, "-"},
		{"D00005: disabled", "a", "", []ipam.PoolView{view("a", lan, off)}, "a | no IPv4 pool for net1 (the test): pool a: spec.disable is true"},
		{"in their order", "c b a", "", []ipam.PoolView{view("a", lan, off), view("b", lan), view("c", lan, off)}, "c a | b"},
		{"terminating", "a b", "", []ipam.PoolView{view("a", lan, standing(deleting)), view("b", lan)}, "-"},
		{"terminating, and disabled before", "a b", "", []ipam.PoolView{view("a", lan, standing(func(p *ipam.Pool) { deleting(p); disabled(p) })), view("b", lan)}, "-"},
		{"disabled, and for other nodes", "a b", "", []ipam.PoolView{view("a", lan, off, nodes("node2")), view("b", lan)}, "-"},
		{"disabled, and of another family", "a b", "", []ipam.PoolView{view("a", lan6, off), view("b", lan)}, "-"},
		{"disabled, and an application's", "a b", "", []ipam.PoolView{view("a", lan, off, func(p *ipam.PoolView) { p.Auto = &ipam.AutoPool{} }), view("b", lan)}, "-"},
		{"default pools", "", "", []ipam.PoolView{view("a", lan, isDefault, off), view("b", lan, isDefault)}, "a | b"},
		{"two families", "a", "b", []ipam.PoolView{view("a", lan, off), view("b", lan6)}, "a | no IPv4 pool for net1 (the test): pool a: spec.disable is true;  | b"},
		{"two families: the network as if it wasn't disabled", "a b", "c d", []ipam.PoolView{view("a", lan, vlan(1), off), view("b", lan, vlan(2)), view("c", lan6, vlan(1)), view("d", lan6, vlan(2))},
			"a | ;  | c"},
		{"two families: of another network", "a b", "c", []ipam.PoolView{view("a", lan, vlan(1), off), view("b", lan, vlan(2)), view("c", lan6, vlan(2))}, " | b;  | c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := ipam.NIC{Interface: "net1", NAD: "shop/lan", Network: "lan", From: "the test", IPv4Pools: strings.Fields(test.ipv4), IPv6Pools: strings.Fields(test.ipv6)}
			n.DefaultPools = test.ipv4+test.ipv6 == ""
			needs, _ := ipam.Candidates(n, ipam.NewPools(test.pools), at)
			var got []string
			for _, need := range needs {
				k := need.Keep
				if k == nil {
					got = append(got, "-")
					continue
				}
				text := strings.Join(k.Pools, " ")
				if len(need.Pools) == 0 {
					text = k.Why
				}
				got = append(got, strings.Join(k.Disabled, " ")+" | "+text)
				if need.Takes("a", netip.Addr{}) || need.Keeps("a") != slices.Contains(k.Disabled, "a") {
					t.Errorf("new addresses of a: %t, keeps those of a: %t", need.Takes("a", netip.Addr{}), need.Keeps("a"))
				}
			}
			if diff := cmp.Diff(test.want, strings.Join(got, "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// needed returns what a NIC needs as text.
func needed(n ipam.NIC, needs []ipam.Need, rejected []ipam.Rejection) string {
	var out []string
	for _, need := range needs {
		family := "IPv4"
		if need.IPv6 {
			family = "IPv6"
		}
		text := family + ": " + strings.Join(need.Pools, " ")
		if len(need.Pools) == 0 {
			text = ipam.Explain(n, need, rejected)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestMultusNamespace: the namespace of Multus is a setting.
func TestMultusNamespace(t *testing.T) {
	n := ipam.NIC{Interface: "net1", NAD: "nets/lan", IPv4Pools: []string{"a"}}
	for namespace, want := range map[string]int{"nets": 1, "": 0} {
		needs, _ := ipam.Candidates(n, ipam.NewPools([]ipam.PoolView{view("a", lan, multus("lan"))}), ipam.Place{Pod: pod(), MultusNamespace: namespace})
		if len(needs[0].Pools) != want {
			t.Errorf("Multus in namespace %q: %v, want %d pools", namespace, needs[0].Pools, want)
		}
	}
}

// TestMatches has the rules of Kubernetes (k8s.io/apimachinery, pkg/apis/meta/v1, helpers.go
// and pkg/labels, selector.go).
func TestMatches(t *testing.T) {
	labels := map[string]string{"app": "web", "empty": ""}
	expression := func(key, operator string, values ...string) *ipam.Selector {
		return &ipam.Selector{MatchExpressions: []ipam.Requirement{{Key: key, Operator: operator, Values: values}}}
	}
	for _, test := range []struct {
		name     string
		selector *ipam.Selector
		want     bool
		err      string
	}{
		{"none selects nothing", nil, false, ""},
		{"an empty one selects everything", &ipam.Selector{}, true, ""},
		{"a label", selects("app", "web"), true, ""},
		{"another value", selects("app", "db"), false, ""},
		{"no such label", selects("x", ""), false, ""},
		{"an empty label", selects("empty", ""), true, ""},
		{"two labels, one of them wrong", &ipam.Selector{MatchLabels: map[string]string{"app": "web", "x": "y"}}, false, ""},
		{"In", expression("app", "In", "db", "web"), true, ""},
		{"In: another value", expression("app", "In", "db"), false, ""},
		{"In: no such label", expression("x", "In", "db"), false, ""},
		{"NotIn", expression("app", "NotIn", "db"), true, ""},
		{"NotIn: the value", expression("app", "NotIn", "web"), false, ""},
		{"NotIn: no such label", expression("x", "NotIn", "db"), true, ""},
		{"Exists", expression("empty", "Exists"), true, ""},
		{"Exists: no such label", expression("x", "Exists"), false, ""},
		{"DoesNotExist", expression("x", "DoesNotExist"), true, ""},
		{"DoesNotExist: the label is there", expression("app", "DoesNotExist"), false, ""},
		{"labels and expressions", &ipam.Selector{MatchLabels: map[string]string{"app": "web"}, MatchExpressions: []ipam.Requirement{{Key: "x", Operator: "Exists"}}}, false, ""},
		{"In without values", expression("app", "In"), false, "matchExpressions[0].values: missing: operator In needs at least one"},
		{"NotIn without values", expression("app", "NotIn"), false, "matchExpressions[0].values: missing: operator NotIn needs at least one"},
		{"Exists with values", expression("app", "Exists", "web"), false, "matchExpressions[0].values: want none with operator Exists"},
		{"DoesNotExist with values", expression("app", "DoesNotExist", "web"), false, "matchExpressions[0].values: want none with operator DoesNotExist"},
		{"no such operator", expression("app", "in", "web"), false, `matchExpressions[0].operator: "in": want one of In, NotIn, Exists, DoesNotExist`},
		{"no label has the name", expression("a b", "DoesNotExist"), false, `matchExpressions[0].key: "a b": want the name of a label, such as app or example.com/app`},
		{"no label has the value", selects("app", "a b"), false, `matchLabels.app: "a b": want the value of a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends`},
		{"a fault behind what doesn't match", &ipam.Selector{MatchLabels: map[string]string{"app": "db"}, MatchExpressions: []ipam.Requirement{{Key: "x"}}}, false, `matchExpressions[0].operator: "": want one of In, NotIn, Exists, DoesNotExist`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ipam.Matches(test.selector, labels)
			says(t, err, test.err)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAnswerRoutes(t *testing.T) {
	routes := []ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.6.0.254"}, {Dst: "0.0.0.0/0", Gw: "10.8.0.1"}, {Dst: "fd00:7::/64", Gw: "fd00:6::1"}, {Dst: "10.9.0.0/16", Gw: "192.168.0.1"}}
	nics := []ipam.NIC{{Interface: "eth0", Routes: routes}, {Interface: "net1", Routes: routes}}
	prefix := netip.MustParsePrefix
	for _, test := range []struct {
		name string
		got  []ipam.Got
		want string
	}{
		{"each by its gateway; A00002 and A00011: the rest is left", []ipam.Got{
			{Interface: "eth0", Subnet: prefix(lan)}, {Interface: "eth0", Subnet: prefix(lan6)}, {Interface: "net1", Subnet: prefix("10.8.0.0/16")},
		}, "eth0: [{10.7.0.0/16 10.6.0.254} {fd00:7::/64 fd00:6::1}], net1: [{0.0.0.0/0 10.8.0.1}], left: [{10.9.0.0/16 192.168.0.1}]"},
		{"two NICs on one subnet: the first", []ipam.Got{
			{Interface: "net1", Subnet: prefix(lan)}, {Interface: "eth0", Subnet: prefix(lan)},
		}, "eth0: [{10.7.0.0/16 10.6.0.254}], net1: [], left: [{0.0.0.0/0 10.8.0.1} {fd00:7::/64 fd00:6::1} {10.9.0.0/16 192.168.0.1}]"},
		{"the pod's beat the pools'", []ipam.Got{
			{Interface: "eth0", Subnet: prefix(lan), Routes: []ipam.Route{{Dst: "10.7.1.1/16", Gw: "10.6.0.1"}, {Dst: "10.10.0.0/16", Gw: "10.6.0.1"}}},
			{Interface: "net1", Subnet: prefix("10.8.0.0/16"), Routes: []ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.8.0.2"}}},
		}, "eth0: [{10.7.0.0/16 10.6.0.254} {10.10.0.0/16 10.6.0.1}], net1: [{10.7.0.0/16 10.8.0.2} {0.0.0.0/0 10.8.0.1}], left: [{fd00:7::/64 fd00:6::1} {10.9.0.0/16 192.168.0.1}]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, left := ipam.AnswerRoutes(nics, test.got)
			text := fmt.Sprintf("eth0: %v, net1: %v, left: %v", got["eth0"], got["net1"], left)
			if diff := cmp.Diff(test.want, text); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRoutesAnnotation: A00002, fields that nobody knows are allowed.
func TestRoutesAnnotation(t *testing.T) {
	p := pod(ipam.RoutesAnnotation, `[{"dst": "10.7.0.0/16", "gw": "10.6.0.1", "metric": 3, "note": {"x": []}}]`)
	all := []ipam.Attachment{{Interface: "eth0", Namespace: "shop", Name: "plain"}}
	intent, err := ipam.NICs(p, nil, all, configs)
	says(t, err, "")
	if diff := cmp.Diff([]ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.6.0.1"}}, intent.NICs[0].Routes); diff != "" {
		t.Error(diff)
	}
}

// FuzzCandidates: every pool that a NIC names is a candidate or rejected, never both; the
// candidates are in the order of the names; patterns and names of any kind make no panic.
func FuzzCandidates(f *testing.F) {
	f.Add("a", "l-*", uint8(0))
	f.Add("[a-z]*", "b", uint8(255))
	f.Add("[", "\\", uint8(7))
	f.Fuzz(func(t *testing.T, first, second string, bits uint8) {
		var pools []ipam.PoolView
		for i, name := range []string{"a", "b", "l-1", "l-2", "l-3"} {
			p := view(name, lan)
			if bits>>i&1 == 1 {
				p.Reason = "off"
			}
			pools = append(pools, p)
		}
		n := ipam.NIC{Interface: "net1", IPv4Pools: []string{first, second}}
		needs, rejected := ipam.Candidates(n, ipam.NewPools(pools), ipam.Place{Pod: pod()})
		if len(needs) != 1 {
			t.Fatalf("%d needs", len(needs))
		}
		seen := map[string]bool{}
		for _, name := range needs[0].Pools {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		for _, r := range rejected {
			if seen[r.Pool] {
				t.Errorf("%s is a candidate and rejected: %s", r.Pool, r.Reason)
			}
		}
		if i, j := slices.Index(needs[0].Pools, first), slices.Index(needs[0].Pools, second); i > j && j >= 0 && !strings.ContainsAny(first, `*?[\`) {
			t.Errorf("%s comes after %s", first, second)
		}
	})
}
