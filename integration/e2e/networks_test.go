// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// networkCases test the controller of SpiderMultusConfigs.
var networkCases = []testCase{
	{name: "networks", what: "deploy/helm with controlplane.enabled: pods of a Deployment by a SpiderMultusConfig; its network is deleted, and back; two replicas, one is deleted", run: networks},
	{name: "networks-vlan", notCovered: "a pod by a SpiderMultusConfig with vlanID: needs 8021q; on another kernel in integration/uml, TestChainOfNetwork"},
}

func networks(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 190, 199)
	reachEachOther(t, deployed(t, "net-a", "node1"), deployed(t, "net-b", "node2"))

	// The network is deleted: it is back for the next pod, by whichever replica leads.
	const network = "network-attachment-definition/macvlan-ens192"
	leader := strings.Split(tool(t, "", "kubectl", "get", "lease", "multihome-controller", "--namespace", "kube-system", "-o", "jsonpath={.spec.holderIdentity}"), "_")[0]
	tool(t, "", "kubectl", "delete", "pod", leader, "--namespace", "kube-system", "--grace-period=1")
	tool(t, "", "kubectl", "delete", network)
	tool(t, "", "kubectl", "wait", "--for=create", "--timeout=1m", network)
	deployed(t, "net-c", "node1")
}

// applyText creates the objects of a manifest, until the end of the test.
func applyText(t *testing.T, manifest string) {
	t.Helper()
	t.Cleanup(func() {
		tool(t, manifest, "kubectl", "delete", "--ignore-not-found", "--cascade=foreground", "--timeout=2m", "-f", "-")
	})
	tool(t, manifest, "kubectl", "apply", "--server-side", "--validate=strict", "-f", "-")
}

// deployed makes a Deployment of one pod on the network macvlan-ens192, which everyone reaches.
func deployed(t *testing.T, name, node string) *pod {
	t.Helper()
	deployment(t, name, node, 1)
	pods := deployedBy(t, name, 1)
	withAddresses(t, pods...)
	reachable(t, pods[0])
	return pods[0]
}
