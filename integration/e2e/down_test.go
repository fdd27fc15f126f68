// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// downCases test what works without the parts of the control plane.
var downCases = []testCase{
	{name: "down", what: "agents, controller and API server are down, in every combination: living pods go on, agents mend them, and pods of networks without pools start as long as an API server says what to start", run: down},
}

func down(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 20)
	deployment(t, "kept", "", 2)
	pods := deployedBy(t, "kept", 2)
	withAddresses(t, pods...)
	t.Cleanup(func() { agents(t, "") }) // or the pools would wait for them
	goesOn := func() {
		for _, p := range pods {
			reachable(t, p)
		}
		reachEachOther(t, pods...)
	}
	for _, there := range []struct{ controller, agents bool }{{true, true}, {false, true}, {false, false}, {true, false}} {
		controllers(t, map[bool]int{true: 1}[there.controller])
		agents(t, map[bool]string{false: "no-node"}[there.agents])
		goesOn()
		p := start(t, &pod{name: name(t, "new"), node: "node1", nics: []nic{newNIC("eth0", 6, nil)}})
		reachable(t, p)
		p.delete(t)

		thaw := freezeServer(t)
		goesOn()
		if there.agents {
			run(t, pods[0].Netns, "sh", "-c", "ip -4 rule flush; ip -6 rule flush")
			comesBack(t, fmt.Sprintf("ip rule flush without an API server, controller there: %t", there.controller), pods...)
		}
		thaw()
	}
	controllers(t, 1)
	agents(t, "")
	tool(t, "", "kubectl", "delete", "deployment", "kept", "--cascade=foreground")
	outAre(t, 0)
}

// controllers has so many controllers run.
func controllers(t *testing.T, replicas int) {
	t.Helper()
	tool(t, "", "kubectl", "scale", "deployment", "multihome-controller", "--namespace", "kube-system", fmt.Sprintf("--replicas=%d", replicas))
	within(t, 2*time.Minute, func() error {
		// As many as there should be, none of them on its way out.
		pods := tool(t, "", "kubectl", "get", "pods", "--namespace", "kube-system", "-l", "app.kubernetes.io/name=multihome-controller",
			"-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{.metadata.deletionTimestamp}{"\n"}{end}`)
		if want := strings.Repeat("True\n", replicas); pods != want {
			return fmt.Errorf("controllers are ready: %q, want %q", pods, want)
		}
		return nil
	})
}

// freezeServer stops the API server, which then answers nobody, until the test calls thaw or ends.
func freezeServer(t *testing.T) (thaw func()) {
	t.Helper()
	pid, err := daemonPID("cp", "apiserver")
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	client := server
	client.Timeout = patience
	if answer, err := client.Get("https://127.0.0.1:6443/readyz"); err == nil {
		answer.Body.Close()
		t.Error("the control: a stopped API server answers")
	}
	thaw = func() { syscall.Kill(pid, syscall.SIGCONT) } //nolint:errcheck // it is there, or has been started again
	t.Cleanup(thaw)
	return thaw
}
