// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// addressCases test addresses of pools: controller, agents and multihome-ipam.
var addressCases = []testCase{
	{name: "addresses", what: "a Deployment on both nodes with addresses of pools: scaled, sandboxes killed, all deleted; the agent is away at ADD and at DEL", run: addresses},
	{name: "C00019", what: "a conflicting address of a StatefulSet's pod stays the pod's, which runs when the other host has gone; a Deployment's pod gets another", run: conflictKept},
	{name: "A00012", what: "a pod's annotation leads its default route by its second NIC", run: defaultRouteNIC},
	{name: "addresses-default-network", what: "a network that only the node's conflist names; the node is not ready until its agent was, and stays ready while that crashes", run: addressesDefaultNetwork},
	{name: "addresses-namespace", what: "a namespace is deleted with its pods and claims while a node's agent is away: what that node had is kept until it is back", run: addressesNamespace},
	{name: "addresses-cutoff", what: "a pod is force-deleted while its node is cut off: its address is nobody's until the node is back, is marked as out of service, or is deleted", run: addressesCutoff},
}

// installControlplane installs the chart with controlplane.enabled, until the end of the test.
// No address may be out at the end.
func installControlplane(t *testing.T) {
	t.Helper()
	takeAway(t)
	t.Cleanup(func() {
		tool(t, "", "helm", "uninstall", "multihome", "--namespace", "kube-system", "--wait", "--ignore-not-found")
		tool(t, "", "kubectl", "delete", "--ignore-not-found", "--timeout=2m", "-f", "deploy/crds")
	})
	tool(t, "", "helm", "install", "--wait", "--timeout", "3m", "multihome", "deploy/helm/multihome", "--namespace", "kube-system", "--set", "controlplane.enabled=true")
}

// lanNetwork makes the network macvlan-ens192 on LAN 6, whose pools are 10.6.168.first to
// last and fd00:6::168:first to last.
func lanNetwork(t *testing.T, first, last int) {
	t.Helper()
	lanNetworkWith(t, first, last, fmt.Sprintf("{%s}", hijackCIDR))
}

// hijackCIDR is coordinator's key for the cluster's ranges.
var hijackCIDR = fmt.Sprintf(`hijackCIDR: ["%s"]`, strings.Join(slices.Concat(serviceRanges, overlayRanges), `", "`))

// lanNetworkWith does the same with other settings of coordinator.
func lanNetworkWith(t *testing.T, first, last int, coordinator string) {
	t.Helper()
	applyText(t, fmt.Sprintf(`
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan}
spec: {subnet: 10.6.0.0/16, ips: [10.6.168.%[1]d-10.6.168.%[2]d], gateway: 10.6.0.1}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan6}
spec: {subnet: fd00:6::/64, ips: ["fd00:6::168:%[1]d-fd00:6::168:%[2]d"], gateway: "fd00:6::1"}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: macvlan-ens192, annotations: {multus.spidernet.io/cni-version: 1.0.0}}
spec:
  cniType: macvlan
  macvlan: {master: [ens192], ippools: {ipv4: [lan], ipv6: [lan6]}}
  coordinator: %[3]s
`, first, last, coordinator))
	tool(t, "", "kubectl", "wait", "--for=condition=Ready", "--timeout=1m", "spidermultusconfig/macvlan-ens192")
}

// claimed returns the addresses that a pod's claim has for a NIC; none if it has none yet.
func claimed(t *testing.T, pod, nic string) []netip.Addr {
	t.Helper()
	var claims struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Current struct {
					IPs []struct{ Interface, IPv4, IPv6 string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "", "kubectl", "get", "spiderendpoints", "-o", "json")), &claims); err != nil {
		t.Fatal(err)
	}
	var out []netip.Addr
	for _, c := range claims.Items {
		for _, n := range c.Status.Current.IPs {
			for _, text := range []string{n.IPv4, n.IPv6} {
				if p, err := netip.ParsePrefix(text); err == nil && c.Metadata.Name == pod && n.Interface == nic {
					out = append(out, p.Addr())
				}
			}
		}
	}
	return out
}

// out returns the names of all IPAddresses.
func out(t *testing.T) []string {
	t.Helper()
	return strings.Fields(tool(t, "", "kubectl", "get", "ipaddresses.multihome.io", "-o", "jsonpath={.items[*].metadata.name}"))
}

// outAre waits until there are so many IPAddresses.
func outAre(t *testing.T, n int) {
	t.Helper()
	within(t, 90*time.Second, func() error {
		if got := out(t); len(got) != n {
			return fmt.Errorf("%d IPAddresses, want %d: %v; claims:\n%s", len(got), n, got, tool(t, "", "kubectl", "get", "spiderendpoints", "-o", "yaml"))
		}
		return nil
	})
}

// deployedBy returns the pods of a Deployment, once it has so many.
func deployedBy(t *testing.T, name string, replicas int) []*pod {
	t.Helper()
	var pods []*pod
	within(t, time.Minute, func() error {
		var list struct{ Items []podStatus }
		if err := json.Unmarshal([]byte(tool(t, "", "kubectl", "get", "pods", "-l", "app="+name, "-o", "json")), &list); err != nil || len(list.Items) != replicas {
			return fmt.Errorf("%d pods of %s, want %d: %v", len(list.Items), name, replicas, err)
		}
		pods = nil
		for _, p := range list.Items {
			pods = append(pods, &pod{name: p.Metadata.Name, uid: p.Metadata.UID, nics: []nic{{name: "eth0", lan: 6, made: namespace + "/macvlan-ens192"}}})
		}
		return nil
	})
	return pods
}

// withAddresses waits until pods are ready, with the addresses that their claims say.
func withAddresses(t *testing.T, pods ...*pod) {
	t.Helper()
	for _, p := range pods {
		p.wait(t)
		p.nics[0].addrs = claimed(t, p.name, "eth0")
		if len(p.nics[0].addrs) != 2 {
			t.Fatalf("pod %s has %v, want an address of each family", p.name, p.nics[0].addrs)
		}
		for _, a := range p.nics[0].addrs {
			wantIn(t, run(t, p.Netns, "ip", "-o", familyOf(a), "addr", "show", "eth0"), " "+a.String()+"/")
		}
	}
}

// deployment makes a Deployment of pods on the network, on one node or spread over both.
func deployment(t *testing.T, name, node string, replicas int) {
	t.Helper()
	applyText(t, marshal(t, deploymentObject(t, object{"name": name}, node, replicas)))
}

func deploymentObject(t *testing.T, metadata object, node string, replicas int) object {
	t.Helper()
	p := &pod{nics: []nic{{name: "eth0", lan: 6, made: namespace + "/macvlan-ens192"}}}
	probe := object{"httpGet": object{"path": "/", "port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}
	spec := object{
		"dnsPolicy": "Default", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
		"containers": []object{{"name": "app", "image": "localhost/app:1", "imagePullPolicy": "Never", "args": []string{"serve"}, "readinessProbe": probe}},
		"topologySpreadConstraints": []object{{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
			"labelSelector": object{"matchLabels": object{"app": metadata["name"]}}}},
	}
	if node != "" {
		spec["nodeSelector"] = object{"kubernetes.io/hostname": node}
	}
	return object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
		"spec": object{
			"replicas": replicas,
			"selector": object{"matchLabels": object{"app": metadata["name"]}},
			"template": object{"metadata": object{"labels": object{"app": metadata["name"]}, "annotations": p.annotations(t)}, "spec": spec},
		},
	}
}

// agents has agents run on one node alone, or on all, "".
func agents(t *testing.T, node string) {
	t.Helper()
	labels := ""
	if node != "" {
		labels = fmt.Sprintf(`, "kubernetes.io/hostname": %q`, node)
	}
	tool(t, "", "kubectl", "patch", "daemonset", "multihome", "--namespace", "kube-system", "--type=json",
		"-p", `[{"op": "replace", "path": "/spec/template/spec/nodeSelector", "value": {"kubernetes.io/os": "linux"`+labels+`}}]`)
	tool(t, "", "kubectl", "rollout", "status", "daemonset/multihome", "--namespace", "kube-system", "--timeout", "2m")
}

func addresses(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 20)
	deployment(t, "pooled", "", 4)
	pods := deployedBy(t, "pooled", 4)
	withAddresses(t, pods...)
	for _, p := range pods {
		reachable(t, p)
	}
	reachEachOther(t, pods...)
	if pods[0].node == pods[1].node && pods[0].node == pods[2].node {
		t.Errorf("all pods are on %s", pods[0].node)
	}

	scale := func(replicas int) []*pod {
		tool(t, "", "kubectl", "scale", "deployment", "pooled", fmt.Sprintf("--replicas=%d", replicas))
		pods := deployedBy(t, "pooled", replicas)
		withAddresses(t, pods...)
		outAre(t, 2*replicas)
		return pods
	}
	for _, replicas := range []int{8, 1, 8, 2} {
		pods = scale(replicas)
	}
	reachEachOther(t, pods...)

	// A sandbox is killed: the same pod, with the same UID, gets the same addresses, with
	// the agent and without.
	tool(t, "", "kubectl", "delete", "deployment", "pooled", "--cascade=foreground")
	outAre(t, 0)
	p := deployed(t, "kept", "node1")
	killSandbox(t, p)
	t.Cleanup(func() { agents(t, "") }) // or the pools would wait for it
	agents(t, "node2")
	killSandbox(t, p)

	// A pod whose addresses aren't on the node waits for the agent.
	deployment(t, "late", "node1", 1)
	late := deployedBy(t, "late", 1)
	within(t, time.Minute, func() error {
		if all := strings.Join(events(t, late[0].uid), "\n"); !strings.Contains(all, "the node's agent has nothing about the pod") {
			return fmt.Errorf("no event tells of the agent: %s", all)
		}
		return nil
	})
	// A pod that goes, goes; its addresses stay until the agent is back.
	tool(t, "", "kubectl", "delete", "deployment", "kept", "--cascade=foreground")
	deployedBy(t, "kept", 0)
	outAre(t, 4)
	agents(t, "")
	withAddresses(t, late...)
	reachable(t, late[0])
	outAre(t, 2)

	// The spool is deleted by hand: pods are served again, and nothing is lost. The agent may
	// write into it meanwhile.
	within(t, time.Minute, func() error { return os.RemoveAll(fileOf(t, "node1", "/run/multihome/ipam")) })
	killSandbox(t, late[0])
	tool(t, "", "kubectl", "delete", "deployment", "late", "--cascade=foreground")
	outAre(t, 0)
	if left := tool(t, "", "kubectl", "get", "spiderendpoints", "-A", "-o", "name"); left != "" {
		t.Errorf("claims are left: %s", left)
	}
	for _, node := range []string{"node1", "node2"} {
		within(t, time.Minute, func() error {
			var left []string
			for _, dir := range []string{"pods", "wants", "sandboxes", "gone"} {
				entries, err := os.ReadDir(fileOf(t, node, filepath.Join("/run/multihome/ipam", dir)))
				if err != nil {
					return err
				}
				for _, e := range entries {
					left = append(left, dir+"/"+e.Name())
				}
			}
			if len(left) > 0 {
				return fmt.Errorf("%s has %v", node, left)
			}
			return nil
		})
	}
}

func defaultRouteNIC(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 20)
	net1 := nic{name: "net1", lan: 6, made: namespace + "/macvlan-ens192"}
	plain := start(t, &pod{name: name(t, "plain"), node: "node1", nics: []nic{net1}})
	annotated := start(t, &pod{name: name(t, "annotated"), node: "node1", nics: []nic{net1}, more: object{"ipam.spidernet.io/default-route-nic": "net1"}})
	plain.leavesBy(t, "192.0.2.10", "eth0", of(plain.overlay[0], plain.overlay))
	for _, p := range []*pod{plain, annotated} {
		p.nics[0].addrs = claimed(t, p.name, "net1")
		reachable(t, p)
	}
	annotated.leavesBy(t, "192.0.2.10", "net1", of(plain.overlay[0], annotated.nics[0].addrs))
	reachEachOther(t, plain, annotated)
	missing := &pod{name: name(t, "missing"), node: "node1", nics: []nic{net1}, more: object{"ipam.spidernet.io/default-route-nic": "net9"}}
	refused(t, missing, `default-route-nic of the pod: "net9": want one of the pod's NICs: eth0, net1`)
}

// conflictKept gives two addresses of a pool to another host: a StatefulSet's pod has to keep the
// first one, and a Deployment's, the control, doesn't keep the second.
func conflictKept(t *testing.T) {
	installControlplane(t)
	lanNetworkWith(t, 1, 20, fmt.Sprintf("{detectIPConflict: true, %s}", hijackCIDR))
	first, second := addrs("10.6.168.1")[0], addrs("10.6.168.2")[0]
	free := taken(t, first, 6)
	taken(t, second, 6)
	set := deploymentObject(t, object{"name": "kept"}, "node1", 1)
	set["kind"] = "StatefulSet"
	set["spec"].(object)["serviceName"] = "kept"
	applyText(t, marshal(t, set))
	kept := deployedBy(t, "kept", 1)
	conflicts := func(p *pod, want string) {
		t.Helper()
		within(t, 90*time.Second, func() error {
			if all := strings.Join(events(t, p.uid), "\n"); !strings.Contains(all, want) {
				return fmt.Errorf("pod %s: no event says %q: %s", p.name, want, all)
			}
			return nil
		})
	}
	conflicts(kept[0], "address 10.6.168.1 of eth0 is in use by another machine, ")
	conflicts(kept[0], "The pod gets no other one: it is fixed")

	deployment(t, "moved", "node1", 1)
	moved := deployedBy(t, "moved", 1)
	conflicts(moved[0], "address 10.6.168.2 of eth0 is in use by another machine, ")
	withAddresses(t, moved...)
	reachable(t, moved[0])
	if slices.Contains(moved[0].nics[0].addrs, second) {
		t.Errorf("the control: the Deployment's pod has %v", moved[0].nics[0].addrs)
	}

	if kept[0].status(t).ready() {
		t.Errorf("pod %s is ready, with an address that another host has", kept[0].name)
	}
	if claim := claimed(t, kept[0].name, "eth0"); !slices.Contains(claim, first) {
		t.Errorf("the claim of %s has %v, want %s", kept[0].name, claim, first)
	}
	free()
	withAddresses(t, kept...)
	if !slices.Contains(kept[0].nics[0].addrs, first) {
		t.Errorf("pod %s has %v, want %s", kept[0].name, kept[0].nics[0].addrs, first)
	}
	reachable(t, kept[0])
}

// killSandbox kills the process that holds a pod's namespaces, and waits until the pod is
// ready again, in another sandbox and with the same addresses.
func killSandbox(t *testing.T, p *pod) {
	t.Helper()
	before := p.nics[0].addrs
	restarts := p.status(t).Status.ContainerStatuses[0].RestartCount
	for _, f := range processesOf(t, p.uid) {
		command, err := os.ReadFile(filepath.Join("/proc", f, "cmdline"))
		if err == nil && !strings.Contains(string(command), "serve") {
			var pid int
			if _, err := fmt.Sscan(f, &pid); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	within(t, 2*time.Minute, func() error {
		if s := p.status(t); s.Status.ContainerStatuses[0].RestartCount == restarts || !s.ready() {
			return fmt.Errorf("pod %s did not start again; events: %s", p.name, strings.Join(events(t, p.uid), "\n"))
		}
		return nil
	})
	withAddresses(t, p)
	if !slices.Equal(before, p.nics[0].addrs) {
		t.Errorf("pod %s had %v, and has %v", p.name, before, p.nics[0].addrs)
	}
	reachable(t, p)
}

// processesOf returns the processes of a pod.
func processesOf(t *testing.T, uid string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "pod"+uid) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// addressesDefaultNetwork has node2 make pods by a conflist of its own, whose network no
// object names.
func addressesDefaultNetwork(t *testing.T) {
	ready := func(want string) error {
		got := tool(t, "", "kubectl", "get", "node", "node2", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
		if !strings.Contains(got, `"status":"`+want+`"`) {
			return fmt.Errorf("node2 is %s", got)
		}
		return nil
	}
	installControlplane(t)
	lanNetwork(t, 1, 20)
	agents(t, "node1")
	if err := os.RemoveAll(fileOf(t, "node2", "/run/multihome/ipam")); err != nil { // as after a boot
		t.Fatal(err)
	}
	file := filepath.Join(state, "node2/net.d/00-lan.conflist")
	config := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "node-lan", "plugins": [
 {"type": "macvlan", "master": "ens192", "ipam": {"type": "multihome-ipam", "default_ipv4_ippool": ["lan"], "default_ipv6_ippool": ["lan6"]}},
 {"type": "coordinator", "hijackCIDR": ["%s"]}]}`, strings.Join(slices.Concat(serviceRanges, overlayRanges), `", "`))
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
		within(t, time.Minute, func() error { return ready("True") })
	})
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	// The plugin is there, and no agent was ready since the boot.
	within(t, time.Minute, func() error { return ready("False") })
	agents(t, "")
	within(t, time.Minute, func() error { return ready("True") })

	p := &pod{name: name(t, "a"), node: "node2", nics: []nic{{name: "eth0", lan: 6, made: "none"}}}
	p.createPlain(t)
	withAddresses(t, p)
	reachable(t, p)

	// A crashing agent: the node stays ready, and its pods go on.
	for range 6 {
		killAgent(t, "node2")
		for range 20 {
			if err := ready("True"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	reachable(t, p)
	p.delete(t)
	outAre(t, 0)
}

// createPlain creates the pod without a word about networks.
func (p *pod) createPlain(t *testing.T) {
	t.Helper()
	applyText(t, marshal(t, object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": p.name},
		"spec": object{
			"nodeSelector": object{"kubernetes.io/hostname": p.node}, "dnsPolicy": "Default",
			"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
			"containers": []object{{"name": "app", "image": "localhost/app:1", "imagePullPolicy": "Never", "args": []string{"serve"},
				"readinessProbe": object{"httpGet": object{"path": "/", "port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}}},
		},
	}))
	p.uid = p.status(t).Metadata.UID
}

// addressesNamespace deletes a namespace with all that is in it while node2 has no agent.
func addressesNamespace(t *testing.T) {
	const tenant, replicas = "tenant", 4
	installControlplane(t)
	lanNetwork(t, 1, 20)
	tool(t, "", "kubectl", "create", "namespace", tenant)
	t.Cleanup(func() {
		tool(t, "", "kubectl", "delete", "namespace", tenant, "--ignore-not-found", "--timeout=2m")
	})
	applyText(t, marshal(t, deploymentObject(t, object{"name": "theirs", "namespace": tenant}, "", replicas)))
	tool(t, "", "kubectl", "rollout", "status", "deployment/theirs", "--namespace", tenant, "--timeout", "2m")
	outAre(t, 2*replicas)
	nodes := strings.Fields(tool(t, "", "kubectl", "get", "pods", "--namespace", tenant, "-o", "jsonpath={.items[*].spec.nodeName}"))
	onNode2 := len(slices.DeleteFunc(nodes, func(n string) bool { return n != "node2" }))
	if onNode2 == 0 || onNode2 == replicas {
		t.Fatalf("%d of %d pods are on node2, want some on each node", onNode2, replicas)
	}

	t.Cleanup(func() { agents(t, "") })
	agents(t, "node1")
	tool(t, "", "kubectl", "delete", "namespace", tenant, "--timeout=2m")
	outAre(t, 2*onNode2)
	time.Sleep(20 * time.Second) // two rounds of anybody who looks again and again
	outAre(t, 2*onNode2)
	agents(t, "")
	outAre(t, 0)
}

// killAgent kills the agent of a node, if it runs.
func killAgent(t *testing.T, node string) {
	t.Helper()
	uid := tool(t, "", "kubectl", "get", "pods", "--namespace", "kube-system", "-l", "app.kubernetes.io/name=multihome",
		"--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[*].metadata.uid}")
	for _, f := range processesOf(t, uid) {
		command, err := os.ReadFile(filepath.Join("/proc", f, "cmdline"))
		var pid int
		if _, scanErr := fmt.Sscan(f, &pid); err == nil && scanErr == nil && strings.Contains(string(command), "multihome-agent") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
	}
}

// addressesCutoff has one address of each family, and two pods that want it.
func addressesCutoff(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 1)
	const address = "10.6.168.1"
	stop := watchWire(t, address)
	cut := func(verb string) { // both ways, or the kubelet would still hear of the deletion
		for _, way := range [][2]string{{"10.6.0.12", "10.9.0.2"}, {"10.9.0.2", "10.6.0.12"}} {
			run(t, machines["router"], "ip", "rule", verb, "priority", "100", "from", way[0], "to", way[1], "blackhole")
		}
	}
	notReady := func() {
		within(t, 3*time.Minute, func() error {
			if got := tool(t, "", "kubectl", "get", "node", "node2", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`); got != "Unknown" {
				return fmt.Errorf("node2: ready is %s", got)
			}
			return nil
		})
	}
	// off does to the wire what stopping node2 does: the pod's NIC doesn't come back with
	// the node.
	off := func(was *pod) {
		run(t, machines["router"], "ip", "link", "set", "node2.192", "down")
		run(t, was.Netns, "ip", "link", "del", "eth0")
	}
	for i, back := range []struct {
		how string
		do  func(was *pod)
	}{
		{"the node is back", func(*pod) {
			cut("del")
			tool(t, "", "kubectl", "wait", "--for=condition=Ready", "--timeout=3m", "node/node2")
		}},
		{"the node is marked as out of service", func(was *pod) {
			off(was)
			tool(t, "", "kubectl", "taint", "node", "node2", "node.kubernetes.io/out-of-service=nodeshutdown:NoSchedule")
		}},
		{"the Node is deleted", func(was *pod) {
			off(was)
			tool(t, "", "kubectl", "delete", "node", "node2")
		}},
	} {
		was, next := fmt.Sprintf("was%d", i), fmt.Sprintf("next%d", i)
		deployment(t, was, "node2", 1)
		held := deployedBy(t, was, 1)
		withAddresses(t, held...)
		cut("add")
		restored := false
		restore := func() {
			if !restored {
				restored = true
				run(t, machines["router"], "ip", "link", "set", "node2.192", "up")
				if strings.Contains(run(t, machines["router"], "ip", "rule"), "blackhole") {
					cut("del")
				}
				if !strings.Contains(tool(t, "", "kubectl", "get", "nodes", "-o", "name"), "node2") {
					restart(t, "node2", "kubelet") // it makes its Node when it starts
					within(t, time.Minute, func() error {
						if !strings.Contains(tool(t, "", "kubectl", "get", "nodes", "-o", "name"), "node2") {
							return errors.New("there is no Node node2")
						}
						return nil
					})
				}
				tool(t, "", "kubectl", "wait", "--for=condition=Ready", "--timeout=3m", "node/node2")
				if strings.Contains(tool(t, "", "kubectl", "get", "node", "node2", "-o", "jsonpath={.spec.taints}"), "out-of-service") {
					tool(t, "", "kubectl", "taint", "node", "node2", "node.kubernetes.io/out-of-service-")
				}
			}
		}
		t.Cleanup(restore)
		tool(t, "", "kubectl", "scale", "deployment", was, "--replicas=0")
		// If it were gone before that is known, it would be made again.
		tool(t, "", "kubectl", "wait", "--for=jsonpath={.metadata.deletionTimestamp}", "--timeout=1m", "pod/"+held[0].name)
		call(t, "DELETE", podsAt+"/"+held[0].name, object{"gracePeriodSeconds": 0}, nil)
		deployedBy(t, was, 0)
		deployment(t, next, "node1", 1)
		waits := deployedBy(t, next, 1)
		notReady()
		time.Sleep(20 * time.Second) // two rounds of anybody who looks again and again
		if got := claimed(t, waits[0].name, "eth0"); len(got) > 0 {
			t.Fatalf("pod %s got %v, which node2 may still have", waits[0].name, got)
		}
		askAll(t, []question{{from: machines["neighbour"], to: netip.AddrPortFrom(held[0].nics[0].addrs[0], 80), answers: held[0].name}})
		back.do(held[0])
		began := time.Now()
		within(t, time.Minute, func() error {
			if len(claimed(t, waits[0].name, "eth0")) == 0 {
				return errors.New("it gets no address:\n" + tool(t, "", "kubectl", "get", "spiderendpoints,ipaddresses,nodespools,nodes,leases", "-A", "-o", "yaml"))
			}
			return nil
		})
		fmt.Printf("%s: the address is the next pod's after %.1f s\n", back.how, time.Since(began).Seconds())
		withAddresses(t, waits...)
		if back.how == "the node is back" {
			reachable(t, waits[0])
		}
		tool(t, "", "kubectl", "delete", "deployment", next, "--cascade=foreground")
		deployedBy(t, next, 0)
		restore()
		outAre(t, 0)
	}
	stop()
}

var replier = regexp.MustCompile(`\[([0-9a-f:]{17})\]`)

// watchWire asks LAN 6 again and again who has an address. That two have it fails the test.
func watchWire(t *testing.T, address string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	answered := 0
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			text := arping(machines["neighbour"], address)
			macs := map[string]bool{}
			for _, m := range replier.FindAllStringSubmatch(text, -1) {
				macs[m[1]] = true
			}
			if len(macs) > 0 {
				answered++
			}
			if len(macs) > 1 {
				t.Errorf("%s is at %v", address, macs)
			}
		}
	})
	var once sync.Once
	stop = func() {
		once.Do(func() {
			close(done)
			wg.Wait()
			if answered == 0 {
				t.Errorf("nobody ever had %s", address)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// arping asks once, by broadcast, and returns what it prints of the answers of a second. It
// doesn't ask again: the address may be the next pod's by then.
func arping(from *testbed.Netns, address string) string {
	var text []byte
	_ = from.Do(func() (err error) { // without an answer it fails
		text, err = exec.Command("busybox", "arping", "-b", "-c", "1", "-w", "1", "-I", "eth6", address).Output()
		return err
	})
	return string(text)
}
