// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/ipam"
)

// pod returns a pod in namespace shop on node1 with annotations: key, value, key, value, ...
func pod(annotations ...string) ipam.PodFacts {
	p := ipam.PodFacts{Namespace: "shop", Name: "web-0", NodeName: "node1", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}}
	for i := 0; i < len(annotations); i += 2 {
		p.Annotations[annotations[i]] = annotations[i+1]
	}
	return p
}

func networks(text string) ipam.PodFacts { return pod(ipam.NetworksAnnotation, text) }

// says compares an error with its text, "" for none.
func says(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// attached returns attachments as text: eth0 ns/name, with a ? where the nodes' files may
// have the network as well.
func attached(all []ipam.Attachment) string {
	var out []string
	for _, a := range all {
		text := a.Interface + " " + a.NAD()
		if a.OrFile {
			text += "?"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

const (
	wantNetworks = `want NAMESPACE/NAME@INTERFACE, of which NAME is enough, with commas between several; or JSON, such as [{"namespace": "kube-system", "name": "lan", "interface": "net1"}]`
	ofNetworks   = "annotation k8s.v1.cni.cncf.io/networks of the pod: "
	ofDefault    = "annotation v1.multus-cni.io/default-network of the pod: "
)

func TestAttachments(t *testing.T) {
	underlay := ipam.Settings{ClusterNetwork: "lan"}
	for _, test := range []struct {
		name     string
		pod      ipam.PodFacts
		settings ipam.Settings
		want     string
		err      string
	}{
		{"no annotation", pod(), ipam.Settings{}, "eth0 ?", ""},
		{"an empty annotation names nothing", networks(""), ipam.Settings{}, "eth0 ?", ""},
		{"hostNetwork", ipam.PodFacts{HostNetwork: true}, underlay, "", ""},
		{"succeeded", ipam.PodFacts{Phase: "Succeeded"}, underlay, "", ""},
		{"failed", ipam.PodFacts{Phase: "Failed"}, underlay, "", ""},
		{"running", ipam.PodFacts{Phase: "Running"}, underlay, "eth0 kube-system/lan?", ""},

		{"list: names", networks("a,b"), ipam.Settings{}, "eth0 ?, net1 shop/a, net2 shop/b", ""},
		{"list: namespace, interface, blanks", networks(" kube-system / a @ lan0 ,\n b"), ipam.Settings{}, "eth0 ?, lan0 kube-system/a, net2 shop/b", ""},
		{"list: one network twice", networks("a,a"), ipam.Settings{}, "eth0 ?, net1 shop/a, net2 shop/a", ""},
		{"list: a name counts for those behind it", networks("a@x,b,c@net7,d"), ipam.Settings{}, "eth0 ?, x shop/a, net2 shop/b, net7 shop/c, net4 shop/d", ""},
		{"list: the word null is a name", networks("null"), ipam.Settings{}, "eth0 ?, net1 shop/null", ""},
		{"list: a comma too many", networks("a,"), ipam.Settings{}, "", ofNetworks + `"": ` + wantNetworks},
		{"list: upper case", networks("Lan"), ipam.Settings{}, "", ofNetworks + `"Lan": ` + wantNetworks},
		{"list: a dot", networks("a.b"), ipam.Settings{}, "", ofNetworks + `"a.b": ` + wantNetworks},

		{"M00036: compact JSON", networks(`[{"name":"a","namespace":"kube-system"},{"name":"b","interface":"lan0"}]`), ipam.Settings{}, "eth0 ?, net1 kube-system/a, lan0 shop/b", ""},
		{"M00037: pretty-printed JSON", networks("[\n  {\n    \"name\": \"a\",\n    \"namespace\": \"kube-system\"\n  },\n  {\n    \"name\": \"b\"\n  }\n]\n"), ipam.Settings{}, "eth0 ?, net1 kube-system/a, net2 shop/b", ""},
		{"JSON: an empty list", networks("[]"), ipam.Settings{}, "eth0 ?", ""},
		{"JSON: one network twice", networks(`[{"name":"a"},{"name":"a"}]`), ipam.Settings{}, "eth0 ?, net1 shop/a, net2 shop/a", ""},
		{"JSON: names of objects may have dots", networks(`[{"name":"a.b"}]`), ipam.Settings{}, "eth0 ?, net1 shop/a.b", ""},
		{"JSON: the former key of the interface", networks(`[{"name":"a","interfaceRequest":"x"},{"name":"b","interface":"y","interfaceRequest":"z"}]`), ipam.Settings{}, "eth0 ?, x shop/a, y shop/b", ""},
		{"JSON: an object", networks(`{"name": "a"}`), ipam.Settings{}, "",
			ofNetworks + "line 1, column 1, of `{\"name\": \"a\"}`: want a list, not object: " + wantNetworks},
		{"JSON: a key without quotes", networks("[\n {name: \"a\"}]"), ipam.Settings{}, "",
			ofNetworks + "line 2, column 3, of `[ {name: \"a\"}]`: invalid character 'n' looking for beginning of object key string: " + wantNetworks},
		{"JSON: it ends early", networks(`[{"name": "a"}`), ipam.Settings{}, "",
			ofNetworks + "line 1, column 14, of `[{\"name\": \"a\"}`: unexpected end of JSON input: " + wantNetworks},
		{"JSON: ips is a string", networks(`[{"name":"a","ips":"10.0.0.1"}]`), ipam.Settings{}, "",
			ofNetworks + "line 1, column 29, of `[{\"name\":\"a\",\"ips\":\"10.0.0.1\"}]`: \"ips\": want a list, not string: " + wantNetworks},
		{"JSON: null for a network", networks(`[null]`), ipam.Settings{}, "", ofNetworks + "entry 1 is null: " + wantNetworks},
		{"JSON: no name", networks(`[{"namespace":"a"}]`), ipam.Settings{}, "", ofNetworks + `entry 1: it has no "name": want that of a NetworkAttachmentDefinition`},
		{"JSON: no object has such a name", networks(`[{"name":"../a"}]`), ipam.Settings{}, "", ofNetworks + `entry 1: name "../a": want that of a NetworkAttachmentDefinition`},
		{"JSON: no namespace has such a name", networks(`[{"name":"a","namespace":"A"}]`), ipam.Settings{}, "", ofNetworks + `entry 1: namespace "A": want the name of a namespace`},
		{"JSON: mac", networks(`[{"name":"a","mac":"02:00"}]`), ipam.Settings{}, "", ofNetworks + `entry 1: mac "02:00": want an address such as 0a:58:0a:06:00:0a`},
		{"JSON: infiniband-guid", networks(`[{"name":"a","infiniband-guid":"x"}]`), ipam.Settings{}, "", ofNetworks + `entry 1: infiniband-guid "x": want a GUID such as c2:11:22:33:44:55:66:77`},
		{"JSON: ips", networks(`[{"name":"a","ips":["10.0.0.1/33"]}]`), ipam.Settings{}, "", ofNetworks + `entry 1: ips "10.0.0.1/33": want addresses such as 10.6.0.10/16`},
		{"JSON: two default routes", networks(`[{"name":"a","default-route":["10.0.0.1"]},{"name":"b","default-route":["10.1.0.1"]}]`), ipam.Settings{}, "", ofNetworks + "more than one default-route of a family: Multus wants one"},
		{"JSON: a default route of each family", networks(`[{"name":"a","default-route":["10.0.0.1","fd00::1"]}]`), ipam.Settings{}, "eth0 ?, net1 shop/a", ""},

		{"an interface twice", networks("a@net2,b"), ipam.Settings{}, "", ofNetworks + `network shop/b gets interface net2, which the pod has already: want another name behind '@' or in "interface"`},
		{"an interface that the first network has", networks("a@eth0"), ipam.Settings{}, "", ofNetworks + `network shop/a gets interface eth0, which the pod has already: want another name behind '@' or in "interface"`},
		{"an interface that each pod has", networks("a@lo"), ipam.Settings{}, "", ofNetworks + `network shop/a gets interface lo, which the pod has already: want another name behind '@' or in "interface"`},
		{"an interface that is too long", networks(`[{"name":"a","interface":"a-name-too-long-"}]`), ipam.Settings{}, "", ofNetworks + `interface "a-name-too-long-" of network shop/a: want 1 to 15 bytes without blanks, '/' and ':'`},
		{"too long", networks(strings.Repeat("a,", 40000)), ipam.Settings{}, "", ofNetworks + "80000 bytes: want at most 65536"},
		{"too long, and JSON", networks("[" + strings.Repeat(" ", 80000) + "]"), ipam.Settings{}, "", ofNetworks + "80002 bytes: want at most 65536"},
		{"too many", networks(strings.Repeat("a,", 199) + "a"), ipam.Settings{}, "", ofNetworks + "the pod has 201 networks: want at most 128"},

		{"default network", pod(ipam.DefaultNetworkAnnotation, "lan"), ipam.Settings{}, "eth0 kube-system/lan", ""},
		{"default network: of another namespace", pod(ipam.DefaultNetworkAnnotation, "shop/lan", ipam.NetworksAnnotation, "b"), underlay, "eth0 shop/lan, net1 shop/b", ""},
		{"default network: in Multus' namespace", pod(ipam.DefaultNetworkAnnotation, "lan"), ipam.Settings{MultusNamespace: "multus"}, "eth0 multus/lan", ""},
		{"default network: it can have another interface", pod(ipam.DefaultNetworkAnnotation, "lan@lan0", ipam.NetworksAnnotation, "b@eth0"), ipam.Settings{}, "lan0 kube-system/lan, eth0 shop/b", ""},
		{"default network: JSON", pod(ipam.DefaultNetworkAnnotation, `[{"name": "lan"}]`), ipam.Settings{}, "eth0 kube-system/lan", ""},
		{"default network: two", pod(ipam.DefaultNetworkAnnotation, "a,b"), ipam.Settings{}, "", ofDefault + `"a,b": it names 2 networks: want one`},
		{"default network: none", pod(ipam.DefaultNetworkAnnotation, "[]"), ipam.Settings{}, "", ofDefault + `"[]": it names 0 networks: want one`},
		{"default network: empty", pod(ipam.DefaultNetworkAnnotation, ""), ipam.Settings{}, "", ofDefault + "it is empty: " + wantNetworks},
		{"default network: interface", pod(ipam.DefaultNetworkAnnotation, `[{"name":"a","interface":"a b"}]`), ipam.Settings{}, "", ofDefault + `interface "a b" of network kube-system/a: want 1 to 15 bytes without blanks, '/' and ':'`},
		{"default network: a default route more", pod(ipam.DefaultNetworkAnnotation, `[{"name":"a","default-route":["10.0.0.1"]}]`, ipam.NetworksAnnotation, `[{"name":"a","default-route":["10.0.0.1"]}]`), ipam.Settings{}, "", ofNetworks + "more than one default-route of a family: Multus wants one"},

		{"cluster network", networks("b"), underlay, "eth0 kube-system/lan?, net1 shop/b", ""},
		{"cluster network: a path", networks("b"), ipam.Settings{ClusterNetwork: "/etc/cni/net.d/10-calico.conflist"}, "eth0 ?, net1 shop/b", ""},
		{"default networks come before the pod's", networks("b"), ipam.Settings{ClusterNetwork: "lan", DefaultNetworks: []string{"storage", "/etc/x.conf"}, MultusNamespace: "multus"}, "eth0 multus/lan?, net1 multus/storage?, net2 ?, net3 shop/b", ""},
		{"default networks need a cluster network", networks("b"), ipam.Settings{DefaultNetworks: []string{"storage"}}, "eth0 ?, net1 shop/b", ""},
		{"default networks: not in kube-system", ipam.PodFacts{Namespace: "kube-system"}, ipam.Settings{ClusterNetwork: "lan", DefaultNetworks: []string{"storage"}}, "eth0 kube-system/lan?", ""},
		{"default networks: not in the namespaces that are set", pod(), ipam.Settings{ClusterNetwork: "lan", DefaultNetworks: []string{"storage"}, SystemNamespaces: []string{"shop"}}, "eth0 kube-system/lan?", ""},

		{"isolation: the pod's namespace", networks("b"), ipam.Settings{NamespaceIsolation: true}, "eth0 ?, net1 shop/b", ""},
		{"isolation: namespace default", networks("default/b"), ipam.Settings{NamespaceIsolation: true}, "eth0 ?, net1 default/b", ""},
		{"isolation: another namespace", networks("other/b"), ipam.Settings{NamespaceIsolation: true}, "", ofNetworks + "other/b: Multus isolates namespaces: want a network of namespace shop or default"},
		{"isolation: namespaces that are set", networks("default/b"), ipam.Settings{NamespaceIsolation: true, GlobalNamespaces: []string{"nets"}}, "", ofNetworks + "default/b: Multus isolates namespaces: want a network of namespace shop or nets"},
		{"isolation: not of the default network", pod(ipam.DefaultNetworkAnnotation, "other/b"), ipam.Settings{NamespaceIsolation: true}, "eth0 other/b", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, err := ipam.Attachments(test.pod, test.settings)
			says(t, err, test.err)
			if got := attached(all); err == nil && got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestMultusOwnCases has the inputs of Multus' own tests (multus-cni 4.2.3,
// pkg/k8sclient/k8sclient_test.go), and what these expect. Their pods are in namespace test.
func TestMultusOwnCases(t *testing.T) {
	for _, test := range []struct{ networks, defaultNetwork, want string }{
		{"net1,net2", "", "eth0 ?, net1 test/net1, net2 test/net2"},
		{`[ {"name":"net1"}, { "name":"net2", "ipRequest": "1.2.3.4", "macRequest": "aa:bb:cc:dd:ee:ff" }, { "name":"net3", "namespace":"other-ns" } ]`, "", "eth0 ?, net1 test/net1, net2 test/net2, net3 other-ns/net3"},
		{`[ {"name":"net1"}, { "name":"net2", "default-route": ["192.168.2.2"] }, { "name":"net3", "namespace":"other-ns" } ]`, "", "eth0 ?, net1 test/net1, net2 test/net2, net3 other-ns/net3"},
		{"kube-system/net1", "", "eth0 ?, net1 kube-system/net1"},
		{"net1@my_interface", "", "eth0 ?, my_interface test/net1"},
		{"default/net1@my_interface", "", "eth0 ?, my_interface default/net1"},
		{"", "net1", "eth0 kube-system/net1"},
		{"", "kube-system/net1", "eth0 kube-system/net1"},
		{"[adsfasdfasdfasf]", "", "refused"},
		{"root@someIP/root@someOtherIP/root@thirdIP", "", "refused"},
		{"root@someIP/root@someOtherIP@garbagevalue", "", "refused"},
		{"root@someIP/root@someOtherIP", "", "refused"},
		{"default/net1@myIfc Name", "", "refused"},
		{"default/net1@very_long_interface_name", "", "refused"},
	} {
		p := ipam.PodFacts{Namespace: "test", Annotations: map[string]string{ipam.NetworksAnnotation: test.networks}}
		if test.defaultNetwork != "" {
			p.Annotations[ipam.DefaultNetworkAnnotation] = test.defaultNetwork
		}
		all, err := ipam.Attachments(p, ipam.Settings{})
		got := attached(all)
		if err != nil {
			got = "refused"
		}
		if got != test.want {
			t.Errorf("%s%s: %s (%v), want %s", test.networks, test.defaultNetwork, got, err, test.want)
		}
	}
}

// TestRequests: what a pod asks for is carried.
func TestRequests(t *testing.T) {
	all, err := ipam.Attachments(networks(`[{"name":"a","ips":["10.0.0.1/24","fd00::1"],"mac":"02:00:00:00:00:01"}]`), ipam.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	want := ipam.Attachment{Interface: "net1", Namespace: "shop", Name: "a", IPs: []string{"10.0.0.1/24", "fd00::1"}, MAC: "02:00:00:00:00:01"}
	if diff := gocmp.Diff(want, all[1]); diff != "" {
		t.Error(diff)
	}
}

const ours = `"ipam": {"type": "spiderpool"}`

func TestNICs(t *testing.T) {
	for _, test := range []struct {
		name   string
		config string
		want   string // interface, network, pools; missing ..., late ..., or nothing
		err    string
	}{
		{"a list", `{"name": "lan", "plugins": [{"type": "ifacer"}, {"type": "macvlan", ` + ours + `}, {"type": "coordinator"}]}`, "net1 lan default", ""},
		{"a plugin alone", `{"name": "lan", "type": "macvlan", ` + ours + `}`, "net1 lan default", ""},
		{"the plugin's other names", `{"name": "lan", "type": "macvlan", "ipam": {"type": "multihome-ipam"}}`, "net1 lan default", ""},
		{"static-ipam", `{"name": "lan", "type": "macvlan", "ipam": {"type": "static-ipam"}}`, "net1 lan default", ""},
		{"pools", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["b", "a*"], "default_ipv6_ippool": ["c"], "log_level": "DEBUG"}}`, "net1 lan [b a*] [c]", ""},
		{"a single pool", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": "b"}}`, "net1 lan [b] []", ""},
		{"clean_gateway", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "clean_gateway": true}}`, "net1 lan default clean", ""},
		{"match_master_subnet is for the node to say", `{"name": "lan", "type": "sriov", "ipam": {"type": "spiderpool", "match_master_subnet": true}}`, "late [net1]", ""},
		{"no name: that of the object", `{"type": "macvlan", ` + ours + `}`, "net1 nad default", ""},
		{"an empty name: that of the object", `{"name": "", "plugins": [{"type": "macvlan", ` + ours + `}]}`, "net1 nad default", ""},
		{"a list's name in another case is none", `{"Name": "x", "plugins": [{"type": "macvlan", ` + ours + `}]}`, "net1 nad default", ""},
		{"a list's name is that in lower case", `{"name": "x", "Name": "y", "plugins": [{"type": "macvlan", ` + ours + `}]}`, "net1 x default", ""},
		{"a plugin's name is the last in any case", `{"name": "x", "Name": "y", "type": "macvlan", ` + ours + `}`, "net1 y default", ""},
		{"type beats plugins", `{"name": "lan", "type": "macvlan", "plugins": [{"type": "macvlan", ` + ours + `}]}`, "", ""},
		{"other IPAM", `{"name": "lan", "type": "macvlan", "ipam": {"type": "host-local", "default_ipv4_ippool": 1}}`, "", ""},
		{"an empty ipam", `{"name": "lan", "type": "macvlan", "ipam": {}}`, "", ""},
		{"no ipam", `{"name": "lan", "type": "macvlan"}`, "", ""},
		{"spec.config is empty", "", "late [net1]", ""},

		{"two plugins with one", `{"name": "lan", "plugins": [{"type": "macvlan", ` + ours + `}, {"type": "other", ` + ours + `}]}`, "", "ipam of other: another plugin of the list has one, too: want one for the NIC"},
		{"a bad pool", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["Pool"]}}`, "",
			`ipam of macvlan: pool "Pool": want the name of a pool: lower case letters, digits, '-' and '.', with a letter or digit at both ends; or a pattern with *, ? or [a-z]`},
		{"a bad pattern", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["a[b"]}}`, "", `ipam of macvlan: pool "a[b": want a name, or a pattern with *, ? or [a-z]`},
		{"pools aren't a list", `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": 1}}`, "",
			"ipam of macvlan: line 1, column 47, of `{\"type\": \"spiderpool\", \"default_ipv4_ippool\": 1}`: " + `"default_ipv4_ippool": want a list, not number: want {"type": "spiderpool", "default_ipv4_ippool": ["lan"]}`},
		{"a bad name", `{"name": "a b", "type": "macvlan"}`, "", `name "a b": want letters, digits, '_', '.' and '-', with a letter or digit first`},
		{"null", "null", "", `"null": ` + wantConfig},
		{"no plugin", `{"name": "lan", "plugins": []}`, "", "it has neither type nor plugins: " + wantConfig},
		{"a plugin without a type", `{"name": "lan", "plugins": [{"type": "macvlan"}, {}]}`, "", "plugins[1] has no type"},
		{"too long", strings.Repeat(" ", 2<<20), "", "2097152 bytes: want at most 1048576"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := []ipam.Attachment{{Interface: "eth0", Namespace: "shop", Name: "later"}, {Interface: "net1", Namespace: "shop", Name: "nad"}}
			want := test.err
			if want != "" {
				want = "NetworkAttachmentDefinition shop/nad: spec.config: " + want
			}
			intent, err := ipam.NICs(pod(), nil, all, map[string]string{"shop/nad": test.config})
			says(t, err, want)
			if err != nil {
				return
			}
			if !gocmp.Equal(intent.Missing, []string{"shop/later"}) {
				t.Errorf("missing: %v, want shop/later", intent.Missing)
			}
			if got := wanted(intent); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			// Of the network of all pods, Multus goes on to the node's files when the object is
			// missing or wrong.
			all[0], all[1].OrFile = ipam.Attachment{Interface: "eth0", OrFile: true}, true
			intent, err = ipam.NICs(pod(), nil, all, nil)
			if err != nil || wanted(intent) != "late [eth0 net1]" || intent.Missing != nil {
				t.Errorf("a network that may be the node's: %+v, %v", intent, err)
			}
		})
	}
	all := []ipam.Attachment{{Interface: "eth0", Namespace: "shop", Name: "nad", OrFile: true}}
	intent, err := ipam.NICs(pod(), nil, all, map[string]string{"shop/nad": "{"})
	if err != nil || wanted(intent) != "late [eth0]" {
		t.Errorf("a wrong config of a network that may be the node's: %+v, %v", intent, err)
	}
}

const wantConfig = `want a CNI configuration, such as {"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}]}`

// wanted returns an intent as text.
func wanted(intent ipam.Intent) string {
	var out []string
	for _, n := range intent.NICs {
		text := n.Interface + " " + n.Network
		if n.DefaultPools {
			text += " default"
		} else {
			text += fmt.Sprintf(" %v %v", n.IPv4Pools, n.IPv6Pools)
		}
		if n.CleanGateway {
			text += " clean"
		}
		out = append(out, text)
	}
	if len(intent.Late) > 0 {
		out = append(out, fmt.Sprintf("late %v", intent.Late))
	}
	return strings.Join(out, ", ")
}

// item is an entry of the list that isn't JSON: another reading of its grammar than that of
// the code.
var item = regexp.MustCompile(strings.NewReplacer(" ", `[\s\v\x{85}\p{Z}]*`, "LABEL", `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`).
	Replace(`^ (?:(LABEL) /|/)? (LABEL) (?:@ ([^/@]*?))? $`))

// reference reads the annotation in another way: namespace, name and interface of each
// network, as written.
func reference(text string) (out [][3]string, ok bool) {
	if strings.ContainsAny(text, `[{"`) {
		var list []struct{ Namespace, Name, Interface, InterfaceRequest string }
		err := json.Unmarshal([]byte(text), &list)
		for _, n := range list {
			out = append(out, [3]string{n.Namespace, n.Name, cmp.Or(n.Interface, n.InterfaceRequest)})
		}
		return out, err == nil
	}
	for part := range strings.SplitSeq(text, ",") {
		m := item.FindStringSubmatch(part)
		if m == nil {
			return nil, false
		}
		out = append(out, [3]string(m[1:]))
	}
	return out, true
}

func FuzzAttachments(f *testing.F) {
	for _, text := range []string{"net1,net2", "a/b@c", " kube-system / a @ lan0 ,\n b", "a@net2,b", ",", "/a", "a@", "[adsf]", "null", "[]", "[null]", `""`,
		`[{"name":"net1"},{"name":"net2","ips":["10.0.0.1/24"],"mac":"02:00:00:00:00:01"},{"name":"net3","namespace":"other-ns","interface":"x"}]`,
		`[{"name":"a","default-route":["10.0.0.1"],"cni-args":{"a":1},"portMappings":[{"hostPort":1}],"bandwidth":{"ingressRate":1}}]`, `[{"name":"a","interfaceRequest":"y"}]`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ipam.Attachments(networks(text), ipam.Settings{ClusterNetwork: "lan"})
		if _, err := ipam.Attachments(pod(ipam.DefaultNetworkAnnotation, text), ipam.Settings{}); err != nil && len(err.Error()) > 2000 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
		if err != nil || text == "" {
			return
		}
		want, ok := reference(text)
		if !ok || len(want)+1 != len(all) {
			t.Fatalf("%q: accepted as %s, and another reading has %q, %v", text, attached(all), want, ok)
		}
		seen := map[string]bool{}
		for i, a := range all {
			if seen[a.Interface] || a.Interface == "" {
				t.Errorf("%q: interface %q is there twice", text, a.Interface)
			}
			seen[a.Interface] = true
			if i == 0 {
				continue
			}
			w := want[i-1]
			if a.Namespace != cmp.Or(w[0], "shop") || a.Name != w[1] || a.Interface != cmp.Or(w[2], fmt.Sprintf("net%d", i)) {
				t.Errorf("%q: network %d is %s@%s, want %q", text, i, a.NAD(), a.Interface, w)
			}
		}
	})
}

func FuzzNICs(f *testing.F) {
	f.Add(`{"name": "lan", "plugins": [{"type": "macvlan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["a*"]}}]}`)
	f.Add(`{"type": "macvlan", "ipam": {"type": "spiderpool"}}`)
	f.Add(`{"name": null, "plugins": [null]}`)
	f.Fuzz(func(t *testing.T, config string) {
		all := []ipam.Attachment{{Interface: "net1", Namespace: "shop", Name: "nad"}}
		intent, err := ipam.NICs(pod(), nil, all, map[string]string{"shop/nad": config})
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
		if err == nil && len(intent.NICs) > 0 && intent.NICs[0].Network == "" {
			t.Errorf("%q: a NIC without a network's name", config)
		}
	})
}
