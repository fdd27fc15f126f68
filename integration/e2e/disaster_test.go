// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// disasterCases test what is left after a node lost its power, and after the API server's data
// went back to an older state.
var disasterCases = []testCase{
	{name: "addresses-reboot", what: "a node's power is cut, and it boots: its pods have their addresses again; a pod deleted by force meanwhile keeps its addresses until the node is back", run: addressesReboot},
	{name: "addresses-restored", what: "etcd is restored from a backup, as docs/install.md says: pods that the backup knows and that it doesn't know, and pods deleted since; no two pods have one address", run: addressesRestored},
}

func addressesReboot(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 20)
	deployment(t, "kept", "", 4)
	kept := deployedBy(t, "kept", 4)
	deployment(t, "gone", "node1", 1)
	gone := deployedBy(t, "gone", 1)
	withAddresses(t, kept...)
	withAddresses(t, gone...)
	had, restarts := map[string][]string{}, map[string]int{}
	for _, p := range append(slices.Clone(kept), web...) {
		restarts[p.name] = p.status(t).Status.ContainerStatuses[0].RestartCount
	}
	for _, p := range kept {
		had[p.name] = addressesOf(p)
	}

	power(t, "_off", "node1")
	on := func() {
		power(t, "_on", "node1")
		within(t, time.Minute, func() error { return reopen("node1") })
	}
	t.Cleanup(func() {
		if machines["node1"] == nil {
			on()
		}
	})
	tool(t, "", "kubectl", "scale", "deployment", "gone", "--replicas=0")
	tool(t, "", "kubectl", "wait", "--for=jsonpath={.metadata.deletionTimestamp}", "--timeout=1m", "pod/"+gone[0].name)
	call(t, "DELETE", podsAt+"/"+gone[0].name, object{"gracePeriodSeconds": 0}, nil)
	time.Sleep(20 * time.Second) // two rounds of anybody who looks again and again
	outAre(t, 10)
	for _, p := range kept {
		if p.node == "node2" {
			askAll(t, []question{{from: machines["neighbour"], to: netip.AddrPortFrom(p.nics[0].addrs[0], 80), answers: p.name}})
		}
	}

	on()
	for _, p := range append(slices.Clone(kept), web...) {
		within(t, 3*time.Minute, func() error {
			if s := p.status(t); p.node == "node1" && s.Status.ContainerStatuses[0].RestartCount == restarts[p.name] {
				return fmt.Errorf("pod %s has not started again; events: %s", p.name, strings.Join(events(t, p.uid), "\n"))
			}
			return nil
		})
	}
	web[0].open(t) // the cluster network gives it other addresses
	withAddresses(t, kept...)
	for _, p := range kept {
		if got := addressesOf(p); !slices.Equal(got, had[p.name]) {
			t.Errorf("pod %s had %v, and has %v", p.name, had[p.name], got)
		}
		reachable(t, p)
	}
	reachEachOther(t, kept...)
	outAre(t, 8)
	within(t, time.Minute, func() error { return sound(t, kept...) })
}

// addressesOf returns a pod's addresses as text.
func addressesOf(p *pod) []string {
	var all []string
	for _, a := range p.nics[0].addrs {
		all = append(all, a.String())
	}
	return all
}

// power cuts a node's power, or gives it back: cluster.sh says what that is.
func power(t *testing.T, verb, node string) {
	t.Helper()
	if verb == "_off" {
		machines[node].Close()
		machines[node] = nil
	}
	// Without a pipe, as what boots doesn't end.
	if err := exec.Command(filepath.Join(root, "integration/e2e/cluster.sh"), verb, strings.TrimPrefix(node, "node")).Run(); err != nil {
		t.Fatalf("%s of %s: %v", verb, node, err)
	}
}

// reopen opens a machine again, and starts its server.
func reopen(node string) error {
	n, err := testbed.OpenNetns(node, "/run/netns/"+node)
	if err != nil {
		return err
	}
	if _, err := serve(n); err != nil {
		return err
	}
	machines[node] = n
	return nil
}

// addressesRestored has pods that the backup knows and that run on, "before"; pods that it has and
// that were deleted since, "deleted"; and pods that it doesn't know, "since". Those made first after the restore
// are "after".
func addressesRestored(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 10)
	deployment(t, "before", "", 2)
	before := deployedBy(t, "before", 2)
	withAddresses(t, before...)
	deployment(t, "deleted", "", 2)
	deleted := deployedBy(t, "deleted", 2)
	withAddresses(t, deleted...)
	had := map[string][]string{}
	for _, p := range before {
		had[p.name] = addressesOf(p)
	}
	restore := backUp(t)
	tool(t, "", "kubectl", "delete", "deployment", "deleted", "--cascade=foreground")
	outAre(t, 4)
	deployment(t, "since", "", 6) // of ten addresses, so some are those of pods that were deleted
	since := deployedBy(t, "since", 6)
	withAddresses(t, since...)
	var stops []func()
	for _, p := range since {
		stops = append(stops, watchWire(t, p.nics[0].addrs[0].String()))
	}

	controllers(t, 0)
	restore()
	controllers(t, 0)
	deployment(t, "after", "", 4)
	tool(t, "", "kubectl", "wait", "--for=condition=Ready", "--timeout=3m", "node/node1", "node/node2")
	tool(t, "", "kubectl", "rollout", "restart", "daemonset/multihome", "--namespace", "kube-system")
	tool(t, "", "kubectl", "rollout", "status", "daemonset/multihome", "--namespace", "kube-system", "--timeout", "2m")
	controllers(t, 1)

	after := deployedBy(t, "after", 4)
	withAddresses(t, after...)
	// Pods that were withdrawn aren't served again, and say so.
	for _, p := range deleted {
		within(t, 2*time.Minute, func() error {
			if all := strings.Join(events(t, p.uid), "\n"); !strings.Contains(all, "were withdrawn in this boot of the node") {
				return fmt.Errorf("pod %s: no event says that it was withdrawn: %s", p.name, all)
			}
			return nil
		})
		tool(t, "", "kubectl", "delete", "pod", p.name, "--timeout=1m")
	}
	for _, stop := range stops {
		stop()
	}
	deleted = deployedBy(t, "deleted", 2)
	withAddresses(t, deleted...)
	withAddresses(t, before...)
	for _, p := range before {
		if !slices.Equal(addressesOf(p), had[p.name]) {
			t.Errorf("pod %s had %v, and has %v", p.name, had[p.name], addressesOf(p))
		}
	}
	all := slices.Concat(before, deleted, after)
	for _, p := range all {
		reachable(t, p)
	}
	reachEachOther(t, all...)
	outAre(t, 2*len(all))
	tool(t, "", "kubectl", "delete", "deployment", "before", "deleted", "after", "--cascade=foreground")
	outAre(t, 0)
}

// backUp copies etcd's data. What it returns has etcd start with the copy, and everything that
// Kubernetes' documentation has restarted after that.
func backUp(t *testing.T) (restore func()) {
	t.Helper()
	signal := func(daemon string, s syscall.Signal) {
		t.Helper()
		pid, err := daemonPID("cp", daemon)
		if err == nil {
			err = syscall.Kill(pid, s)
		}
		if err != nil {
			t.Fatalf("%s: %v", daemon, err)
		}
	}
	signal("etcd", syscall.SIGSTOP)
	out, err := exec.Command("cp", "-a", "/run/etcd", "/run/etcd.backup").CombinedOutput()
	signal("etcd", syscall.SIGCONT)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func() {
		t.Helper()
		if err := os.Rename("/run/etcd.backup", "/run/etcd.restored"); err != nil {
			t.Fatal(err)
		}
		for _, daemon := range []string{"etcd", "apiserver", "controller-manager", "scheduler"} {
			signal(daemon, syscall.SIGKILL)
		}
		for _, node := range []string{"node1", "node2"} {
			restart(t, node, "kubelet")
			restart(t, node, "proxy")
		}
		within(t, 2*time.Minute, func() error {
			body, err := request("GET", "/readyz", nil)
			if err != nil {
				return err
			}
			return body.Close()
		})
		if _, err := os.Stat("/run/etcd.restored"); err == nil {
			t.Fatal("the control: etcd didn't take the backup")
		}
	}
}
