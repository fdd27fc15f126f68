// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// good has two networks, an object that isn't ours, and settings for all.
const good = `kind: Namespace
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: macvlan-ens192, namespace: kube-system, labels: {a: b}}
spec:
  cniType: macvlan
  macvlan: {master: [ens192]}
---
apiVersion: v1
kind: List
items:
- apiVersion: spiderpool.spidernet.io/v2beta1
  kind: SpiderMultusConfig
  metadata: {name: vlan100}
  spec: {cniType: vlan, vlan: {master: [ens192], vlanID: 100}, enableCoordinator: false}
`

// files writes files of a temporary directory, in which the test goes on.
func files(t *testing.T, contents map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range contents {
		if err := os.WriteFile(filepath.Clean(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRender prints what comes of the objects in a file.
func TestRender(t *testing.T) {
	files(t, map[string]string{"good.yaml": good, "bad.yaml": strings.Replace(good, "vlanID: 100", "vlanID: 5000", 1), "none.yaml": "kind: Namespace",
		"cluster.yaml": "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderCoordinator\nmetadata: {name: default}\nspec: {mode: underlay}\n"})
	got, err := run("render", "-f", "good.yaml")
	const want = `apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: macvlan-ens192
  namespace: kube-system
spec:
  config: '{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}'
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: vlan100
spec:
  config: '{"cniVersion":"0.3.1","name":"vlan100","plugins":[{"type":"vlan","master":"ens192","vlanId":100,"ipam":{"type":"spiderpool"}}]}'
`
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := run("render", "-f", "good.yaml", "-f", "cluster.yaml"); err != nil || !strings.Contains(got, `{"mode":"underlay","type":"coordinator"}`) {
		t.Errorf("with a SpiderCoordinator: %v\n%s", err, got)
	}
	got, err = run("render", "-f", "good.yaml", "-o", "json")
	var first attachmentDefinition
	if err != nil || json.NewDecoder(strings.NewReader(got)).Decode(&first) != nil || first.Metadata.Name != "macvlan-ens192" || first.Kind != "NetworkAttachmentDefinition" {
		t.Errorf("json: %v\n%s", err, got)
	}
	for args, want := range map[string]string{
		"-f bad.yaml":          "render: bad.yaml:16: spec.vlan.vlanID: 5000: want a number from 0 to 4094",
		"-f none.yaml":         "render: no SpiderMultusConfig in the files",
		"-f missing.yaml":      "render: open missing.yaml: no such file or directory",
		"-f good.yaml -o text": `render: output: "text": want yaml or json`,
		"":                     `required flag(s) "filename" not set`,
	} {
		if got, err := run(append([]string{"render"}, strings.Fields(args)...)...); err == nil || err.Error() != want || got != "" {
			t.Errorf("render %s: %v, want %q\n%s", args, err, want, got)
		}
	}
}

// TestRenderedIsExplained gives what render prints to explain.
func TestRenderedIsExplained(t *testing.T) {
	files(t, map[string]string{"net.yaml": strings.Split(good, "---\napiVersion: v1")[0]})
	nad, err := run("render", "-f", "net.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files(t, map[string]string{"nad.yaml": nad})
	got, err := run("explain", "nad.yaml", "--address", "10.6.168.171/16", "--gateway", "10.6.0.1", "--given", "host: link ens192 mtu 1500 up", "--given", "host: addr 10.6.168.123/16 dev ens192")
	if err != nil || !strings.Contains(got, "# coordinator") || !strings.Contains(got, "lookup 500") {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestExamplesAreExplained gives the networks of all examples of pkg/netconf to explain,
// which reads them as the plugins do.
func TestExamplesAreExplained(t *testing.T) {
	examples, err := filepath.Glob("../../pkg/netconf/testdata/*.txtar")
	if err != nil || len(examples) == 0 {
		t.Fatal("no examples", err)
	}
	for _, example := range examples {
		name := strings.TrimSuffix(filepath.Base(example), ".txtar")
		if name == "custom-file" || name == "default-type" { // a file of the node; a plugin of others, without cniVersion
			continue
		}
		t.Run(name, func(t *testing.T) {
			golden, err := txtar.ParseFile(example)
			if err != nil {
				t.Fatal(err)
			}
			files(t, map[string]string{"net.yaml": string(golden.Files[0].Data)})
			nad, err := run("render", "-f", "net.yaml")
			if err != nil {
				t.Fatal(err)
			}
			files(t, map[string]string{"nad.yaml": nad})
			args := []string{"--address", "10.6.168.171/16"}
			if name == "coordinator-all" { // mode overlay is for a further NIC
				args = append(args, "--ifname", "net1", "--given", "host: link veth1 mtu 1500 up type veth peer name eth0 netns pod", "--given", "pod: link eth0 mtu 1500 up type veth peer name veth1 netns host", "--given", "pod: addr 10.244.1.2/24 dev eth0",
					"--given", "pod: route default via 10.244.1.1 dev eth0")
			}
			if got, err := run(append([]string{"explain", "nad.yaml"}, args...)...); err != nil || got == "" {
				t.Errorf("%v\n%s", err, got)
			}
			broken := strings.NewReplacer(`"coordinator"`, `"coordinator","mode":"magic"`, `"ifacer"`, `"ifacer","bond":5`).Replace(nad)
			files(t, map[string]string{"broken.yaml": broken})
			if _, err := run(append([]string{"explain", "broken.yaml"}, args...)...); broken != nad && err == nil {
				t.Error("the control is explained, too")
			}
		})
	}
}

// TestLint prints every fault with its place.
func TestLint(t *testing.T) {
	files(t, map[string]string{"good.yaml": good, "bad.yaml": `# a comment
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata:
  name: one
  annotations:
    multus.spidernet.io/cni-version: "3"
spec:
  cniType: ipvlan
  macvlan:
    master:
    - ens192
    mtu: ten
---
apiVersion: spiderpool.spidernet.io/v2
kind: SpiderMultusConfig
metadata: {name: two, annotations: {multus.spidernet.io/cr-name: one}}
spec: {}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata: {name: other}
spec: {vethMTU: 5}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: pool}
spec:
  subnet: 10.6.0.1/16
  ips:
  - 10.6.0.5-10.6.0.9
  - 10.7.0.5
  gateways: 10.6.0.1
---
apiVersion: spiderpool.spidernet.io/v1
kind: SpiderReservedIP
metadata: {name: reserved}
spec: {ips: ["fd00::1", 10.6.0.1]}
---
apiVersion: staticmacvlan.rancher.com/v2
kind: VLANSubnet
metadata: {name: mv1.100}
spec: {master: eth0, vlan: 100, cidr: 192.168.1.0/33, range: []}
`})
	if got, err := run("lint", "-f", "good.yaml"); err != nil || got != "" {
		t.Errorf("%v\n%s", err, got)
	}
	const want = `bad.yaml:13: spec.macvlan.mtu: "ten": want a whole number
bad.yaml:7: metadata.annotations[multus.spidernet.io/cni-version]: "3": want one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
bad.yaml:10: spec.macvlan: warning: taken as the block ipvlan, for cniType is ipvlan: write spec.ipvlan
bad.yaml:15: apiVersion: "spiderpool.spidernet.io/v2": want spiderpool.spidernet.io/v2beta1
bad.yaml:17: metadata.name: "two": SpiderMultusConfig one wants the NetworkAttachmentDefinition one, too
bad.yaml:22: metadata.name: "other": want default: a cluster has one SpiderCoordinator
bad.yaml:23: spec.vethMTU: 5: want a number from 68 to 65535
bad.yaml:33: spec.gateways: unknown field: want one of ipVersion, subnet, ips, excludeIPs, gateway, vlan, network, routes, podAffinity, namespaceAffinity, nodeAffinity, namespaceName, nodeName, multusName, default, disable
bad.yaml:32: spec.ips[1]: "10.7.0.5": want addresses of subnet 10.6.0.1/16
bad.yaml:35: apiVersion: "spiderpool.spidernet.io/v1": want spiderpool.spidernet.io/v2beta1
bad.yaml:38: spec.ips[1]: "10.6.0.1": want addresses of IPv6: make another SpiderReservedIP for the other family
bad.yaml:40: apiVersion: "staticmacvlan.rancher.com/v2": want staticmacvlan.rancher.com/v1
bad.yaml:43: spec.range: unknown field: want one of master, vlan, cidr, mode, gateway, ranges, routes
bad.yaml:43: spec.cidr: "192.168.1.0/33": want a CIDR, such as 192.168.1.0/24
`
	if got, err := run("lint", "-f", "bad.yaml"); !errors.Is(err, errFindings) || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	// Both are on ens192, of two types.
	const beside = "bad.yaml:11: spec.macvlan.master: warning: ens192: SpiderMultusConfig kube-system/macvlan-ens192 has macvlans on it, and no node can have both on one link: want macvlan for both, or a vlanID for one of them\n"
	if got, err := run("lint", "-f", "good.yaml", "bad.yaml"); !errors.Is(err, errFindings) || strings.Replace(got, beside, "", 1) != want || got == want {
		t.Errorf("two files: %v\n%s", err, got)
	}
	if _, err := run("lint", "-f", "missing.yaml"); err == nil || errors.Is(err, errFindings) {
		t.Errorf("a missing file: %v", err)
	}
	files(t, map[string]string{"net.conflist": `{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "macvlan"}]}`})
	const nothing = "lint: no SpiderMultusConfig, SpiderCoordinator, SpiderSubnet, SpiderIPPool, SpiderReservedIP or VLANSubnet in the files; multihome explain reads a network's own JSON"
	if got, err := run("lint", "-f", "net.conflist"); err == nil || err.Error() != nothing || got != "" {
		t.Errorf("a conflist: %v\n%s", err, got)
	}
}

// TestExampleOfAddresses: examples/addresses and the first example of docs/addresses.md are
// without a fault, make the same network, and explain reads it.
func TestExampleOfAddresses(t *testing.T) {
	example, err := os.ReadFile("../../examples/addresses/lan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../docs/addresses.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(document), "## A first example")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	inDocument, _, _ := strings.Cut(rest, "```")
	files(t, map[string]string{"example.yaml": string(example), "document.yaml": inDocument})
	var rendered []string
	for _, file := range []string{"example.yaml", "document.yaml"} {
		if out, err := run("lint", "-f", file); err != nil || out != "" {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		nad, err := run("render", "-f", file)
		if err != nil || !strings.Contains(nad, "default_ipv4_ippool") {
			t.Fatalf("%s: %v\n%s", file, err, nad)
		}
		rendered = append(rendered, nad)
	}
	if rendered[0] != rendered[1] {
		t.Errorf("the network of the example:\n%s\nthat of the document:\n%s", rendered[0], rendered[1])
	}
	for _, part := range []string{"subnet: 10.6.0.0/16", "10.6.168.171-10.6.168.180", "gateway: 10.6.0.1", "k8s.v1.cni.cncf.io/networks: lan", "replicas: 3"} {
		if !strings.Contains(string(example), part) || !strings.Contains(inDocument, part) {
			t.Errorf("not in both: %s", part)
		}
	}
	files(t, map[string]string{"nad.yaml": rendered[0]})
	if out, err := run("explain", "nad.yaml", "--address", "10.6.168.171/16"); err != nil || !strings.Contains(out, "10.6.168.171") {
		t.Errorf("%v\n%s", err, out)
	}
}
