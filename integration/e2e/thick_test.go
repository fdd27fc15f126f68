// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"
)

// thickCases run what others run, with Multus as a daemon.
var thickCases = []testCase{
	{name: "multus-thick-underlay", cluster: "multus-thick", what: "C00003: two NICs on the underlay", run: underlayTwoNICs},
	{name: "multus-thick-overlay", cluster: "multus-thick", what: "C00004: two NICs beside the cluster network's", run: overlayTwoNICs},
	{name: "multus-thick-refused", cluster: "multus-thick", what: "C00007: an address that another host has is refused until it has it no longer", run: conflict},
	{name: "multus-thick-recreated", cluster: "multus-thick", what: "a pod is deleted and made again on another node", run: recreated},
	{name: "multus-thick-addresses", cluster: "multus-thick", what: "addresses of pools, sandboxes killed, the agent away", run: addresses},
	{name: "multus-thick-killed", cluster: "multus-thick", what: "the daemon is killed again and again while pods are made and deleted: all work, and nothing is left", run: daemonKilled},
	{name: "multus-thick-nothing-left", cluster: "multus-thick", what: "without pods the nodes have no link, route or neighbour of ours", run: nothingLeft},
}

// daemonKilled has Multus' daemon killed while it makes pods, and while it deletes them: then
// nobody calls the plugins' DEL for some of them.
func daemonKilled(t *testing.T) {
	const replicas = 8
	installControlplane(t)
	lanNetwork(t, 1, 2*replicas)
	for range 2 {
		stop := killAgain(t, "multus-daemon")
		deployment(t, "killed", "", replicas)
		pods := deployedBy(t, "killed", replicas)
		time.Sleep(5 * time.Second)
		stop()
		withAddresses(t, pods...)
		for _, p := range pods {
			reachable(t, p)
		}
		stop = killAgain(t, "multus-daemon")
		tool(t, "", "kubectl", "delete", "deployment", "killed", "--cascade=foreground")
		stop()
		outAre(t, 0)
	}
}

// killAgain kills a daemon of the nodes every second, until the test calls stop or ends.
func killAgain(t *testing.T, daemon string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			for _, node := range []string{"node1", "node2"} {
				pid, err := daemonPID(node, daemon)
				if err == nil {
					err = syscall.Kill(pid, syscall.SIGKILL)
				}
				if err != nil && !errors.Is(err, syscall.ESRCH) {
					t.Error(err)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return stop
}
