// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// networkCases test the controller of SpiderMultusConfigs.
var networkCases = []testCase{
	{name: "networks", what: "deploy/helm with controlplane.enabled: pods of a Deployment by a SpiderMultusConfig; its network is deleted, and back; two replicas, one is deleted", run: networks},
	{name: "networks-vlan", notCovered: "a pod by a SpiderMultusConfig with vlanID: needs 8021q; on another kernel in integration/uml, TestChainOfNetwork"},
}

// spiderpool stands for the IPAM plugin that the networks name, which is not there yet: static,
// with the pod's wish for addresses, and the router of LAN 6.
const spiderpool = `#!/bin/sh
sed 's|"ipam":{[^}]*}|"ipam":{"type":"static","routes":[{"dst":"0.0.0.0/0","gw":"10.6.0.1"},{"dst":"::/0","gw":"fd00:6::1"}]}|' | exec /opt/cni/bin/static
`

func networks(t *testing.T) {
	takeAway(t)
	t.Cleanup(func() {
		tool(t, "", "helm", "uninstall", "multihome", "--namespace", "kube-system", "--wait", "--ignore-not-found")
		tool(t, "", "kubectl", "delete", "--ignore-not-found", "-f", "deploy/crds")
	})
	tool(t, "", "helm", "install", "--wait", "--timeout", "3m", "multihome", "deploy/helm/multihome", "--namespace", "kube-system", "--set", "controlplane.enabled=true")
	for _, node := range []string{"node1", "node2"} {
		path := fileOf(t, node, "/opt/cni/bin/spiderpool")
		if err := os.WriteFile(path, []byte(spiderpool), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(path) })
	}
	applyText(t, fmt.Sprintf(`
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: macvlan-ens192, annotations: {multus.spidernet.io/cni-version: 1.0.0}}
spec:
  cniType: macvlan
  macvlan: {master: [ens192]}
  capabilities: {ips: true}
  coordinator: {hijackCIDR: ["%s"]}
`, strings.Join(slices.Concat(serviceRanges, overlayRanges), `", "`)))
	tool(t, "", "kubectl", "wait", "--for=condition=Ready", "--timeout=1m", "spidermultusconfig/macvlan-ens192")

	a, b := deployed(t, "net-a", "node1", 190), deployed(t, "net-b", "node2", 191)
	for _, p := range []*pod{a, b} {
		reachable(t, p)
	}
	reachEachOther(t, a, b)

	// The network is deleted: it is back for the next pod, by whichever replica leads.
	const network = "network-attachment-definition/macvlan-ens192"
	leader := strings.Split(tool(t, "", "kubectl", "get", "lease", "multihome-controller", "--namespace", "kube-system", "-o", "jsonpath={.spec.holderIdentity}"), "_")[0]
	tool(t, "", "kubectl", "delete", "pod", leader, "--namespace", "kube-system", "--grace-period=1")
	tool(t, "", "kubectl", "delete", network)
	tool(t, "", "kubectl", "wait", "--for=create", "--timeout=1m", network)
	reachable(t, deployed(t, "net-c", "node1", 192))
}

// applyText creates the objects of a manifest, until the end of the test.
func applyText(t *testing.T, manifest string) {
	t.Helper()
	t.Cleanup(func() {
		tool(t, manifest, "kubectl", "delete", "--ignore-not-found", "--cascade=foreground", "-f", "-")
	})
	tool(t, manifest, "kubectl", "apply", "--server-side", "--validate=strict", "-f", "-")
}

// deployed makes a Deployment of one pod on the network, with its addresses in LAN 6 that end in
// a number.
func deployed(t *testing.T, name, node string, last int) *pod {
	t.Helper()
	p := &pod{name: name, node: node, nics: []nic{{name: "eth0", lan: 6, made: namespace + "/macvlan-ens192", addrs: lanAddrs(6, last)}}}
	probe := object{"httpGet": object{"path": "/", "port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}
	applyText(t, marshal(t, object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name},
		"spec": object{
			"selector": object{"matchLabels": object{"app": name}},
			"template": object{
				"metadata": object{"labels": object{"app": name}, "annotations": p.annotations(t)},
				"spec": object{
					"nodeSelector": object{"kubernetes.io/hostname": node}, "dnsPolicy": "Default",
					"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
					"containers": []object{{"name": "app", "image": "localhost/app:1", "imagePullPolicy": "Never", "args": []string{"serve"}, "readinessProbe": probe}},
				},
			},
		},
	}))
	within(t, time.Minute, func() error {
		var list struct{ Items []podStatus }
		if err := json.Unmarshal([]byte(tool(t, "", "kubectl", "get", "pods", "-l", "app="+name, "-o", "json")), &list); err != nil || len(list.Items) != 1 {
			return fmt.Errorf("%d pods of %s: %v", len(list.Items), name, err)
		}
		p.name, p.uid = list.Items[0].Metadata.Name, list.Items[0].Metadata.UID
		return nil
	})
	p.wait(t)
	return p
}
