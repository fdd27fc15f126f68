// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// mendingCases test what a node's agent keeps right by itself.
var mendingCases = []testCase{
	{name: "mending", what: "rules, routes, neighbours and nftables of living pods are deleted, the node gets another address and loses it: the agent brings back what they need; without one they stay broken", run: mending},
	{name: "mending-hundred", what: "a hundred pods on the node: their rules and nftables, and the node's rules, routes and neighbours are deleted", run: mendingHundred},
	{name: "service-cidr", what: "a second ServiceCIDR is added: living pods reach a Service in it", run: serviceCIDR},
}

func mending(t *testing.T) {
	installControlplane(t)
	lanNetwork(t, 1, 20)
	deployment(t, "mended", "node1", 2)
	pods := deployedBy(t, "mended", 2)
	withAddresses(t, pods...)
	p := pods[0]
	for _, p := range pods {
		reachable(t, p)
	}
	node := machines["node1"]
	flush := "ip -4 rule flush; ip -6 rule flush"

	// It deletes rules and routes that it doesn't know (ManageForeignRoutingPolicyRules and
	// ManageForeignRoutes in networkd.conf(5)).
	networkd := `for v in -4 -6; do
		ip $v rule | grep -v 'lookup \(local\|main\|default\)' | while read p rest; do ip $v rule del pref ${p%:}; done
		ip $v route flush table 500; done`

	agents(t, "node2")
	// Without table main the kubelet couldn't start an agent.
	run(t, node, "sh", "-c", flush+"; for f in -4 -6; do ip $f rule add pref 32766 lookup main; done")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if broken(p) == nil {
			t.Fatal("the control: nobody mends, and everything works")
		}
	}
	agents(t, "")
	comesBack(t, "an agent starts again", pods...)

	for _, s := range []struct {
		what, script string
		at           *testbed.Netns
	}{
		{"ip route flush table 500 on the node", "ip -4 route flush table 500; ip -6 route flush table 500", node},
		{"the neighbours on the node", "ip neigh flush nud permanent; ip -6 neigh flush nud permanent", node},
		{"ip rule flush in a pod", flush, p.Netns},
		{"nft flush ruleset in a pod", "nft flush ruleset", p.Netns},
		{"ip rule flush on the node", flush, node},
		{"what systemd-networkd does when it is reloaded", networkd, node},
	} {
		run(t, s.at, "sh", "-c", s.script)
		comesBack(t, s.what, pods...)
	}

	another := netip.MustParseAddr("10.6.0.77")
	run(t, node, "ip", "addr", "add", another.String()+"/16", "dev", "ens192")
	asks := question{from: p.Netns, to: netip.AddrPortFrom(another, 8080), answers: "node1", sees: of(another, p.first())}
	within(t, 30*time.Second, func() error { _, err := asks.ask(); return err })
	run(t, node, "ip", "addr", "del", another.String()+"/16", "dev", "ens192")
	within(t, 30*time.Second, func() error {
		if has := run(t, p.Netns, "ip", "route", "get", another.String()); !strings.Contains(has, "dev eth0") {
			return fmt.Errorf("the pod still looks for %s at its node: %s", another, has)
		}
		return nil
	})
	comesBack(t, "an address that the node lost", pods...)
	within(t, 30*time.Second, func() error { return sound(t, pods...) })
}

// broken returns an error if a pod doesn't reach, or isn't reached.
func broken(p *pod) error {
	for _, q := range append(p.asked(), p.asking()...) {
		if _, err := q.ask(); err != nil {
			return err
		}
	}
	return nil
}

// comesBack waits until all traffic of the pods works again, and prints how long that took.
func comesBack(t *testing.T, after string, pods ...*pod) {
	t.Helper()
	began := time.Now()
	for _, p := range pods {
		within(t, time.Minute, func() error { return broken(p) })
	}
	fmt.Printf("mending: after %s all requests are answered again, the last of them after %.1f s\n", after, time.Since(began).Seconds())
}

// mendingHundred has routes and neighbours deleted on a node with a hundred pods, and the rules
// and nftables in each of them, without an agent there; then rules, routes and neighbours on the node, and
// measures until all requests are answered again.
func mendingHundred(t *testing.T) {
	const n = 100
	installControlplane(t)
	lanNetwork(t, 1, n+10)
	deployment(t, "hundred", "node1", 0)
	for some := 10; some <= n; some += 10 { // all at once starve the API server of a small machine
		tool(t, "", "kubectl", "scale", "deployment", "hundred", fmt.Sprintf("--replicas=%d", some))
		within(t, 5*time.Minute, func() error {
			time.Sleep(time.Second)
			if ready := tool(t, "", "kubectl", "get", "deployment", "hundred", "-o", "jsonpath={.status.readyReplicas}"); ready != fmt.Sprint(some) {
				return fmt.Errorf("%s of %d pods are ready", ready, some)
			}
			return nil
		})
	}
	pods := deployedBy(t, "hundred", n)
	withAddresses(t, pods...)
	// From another LAN to each pod, and from the pod to its node and to a Service.
	var all, some []question
	for _, p := range pods {
		for _, a := range p.first() {
			all = append(all,
				question{from: machines["client"], to: netip.AddrPortFrom(a, p.port()), answers: p.name, sees: of(a, clientAddrs)},
				question{from: p.Netns, to: netip.AddrPortFrom(of(a, nodeAddrs(p.node)), 8080), answers: p.node, sees: a},
				question{from: p.Netns, to: netip.AddrPortFrom(of(a, webService), 80)})
		}
		some = append(some, all[len(all)-1])
	}
	unanswered := func(all []question) (left int) {
		var mu sync.Mutex
		var asking sync.WaitGroup
		for i := range 10 {
			asking.Go(func() {
				for j := i; j < len(all); j += 10 {
					if _, err := all[j].ask(); err != nil {
						mu.Lock()
						left++
						mu.Unlock()
					}
				}
			})
		}
		asking.Wait()
		return left
	}
	back := func() {
		t.Helper()
		within(t, 2*time.Minute, func() error {
			if left := unanswered(all); left > 0 {
				return fmt.Errorf("%d of %d requests aren't answered", left, len(all))
			}
			return nil
		})
	}
	began := time.Now()
	if left := unanswered(all); left > 0 {
		t.Fatalf("%d of %d requests aren't answered before anything is deleted", left, len(all))
	}
	round := time.Since(began)
	node := machines["node1"]
	flush := "ip -4 rule flush; ip -6 rule flush"
	agents(t, "node2")
	run(t, node, "sh", "-c", "ip -4 route flush table 500; ip -6 route flush table 500; ip neigh flush nud permanent; ip -6 neigh flush nud permanent")
	for _, p := range pods {
		run(t, p.Netns, "sh", "-c", flush+"; nft flush ruleset")
	}
	if left := unanswered(some); left < n {
		t.Fatalf("the control: nobody mends, and %d of %d requests aren't answered", left, n)
	}
	agents(t, "")
	back()
	run(t, node, "sh", "-c", flush+"; ip -4 route flush table 500; ip -6 route flush table 500; ip neigh flush nud permanent; ip -6 neigh flush nud permanent")
	began = time.Now()
	back()
	fmt.Printf("mending-hundred: after the node's rules, table 500 and neighbours were deleted, all of %d requests of %d pods are answered again after %.1f s, of which asking them all takes %.1f s\n",
		len(all), n, time.Since(began).Seconds(), round.Seconds())
}

func serviceCIDR(t *testing.T) {
	installControlplane(t)
	lanNetworkWith(t, 1, 20, "{}")
	applyText(t, "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderCoordinator\nmetadata: {name: default}\nspec: {}\n")
	within(t, 30*time.Second, func() error {
		if phase := tool(t, "", "kubectl", "get", "spidercoordinator", "default", "-o", "jsonpath={.status.phase}"); phase != "Synced" {
			return fmt.Errorf("phase %q", phase)
		}
		return nil
	})
	deployment(t, "served", "node1", 1)
	pods := deployedBy(t, "served", 1)
	withAddresses(t, pods...)
	p := pods[0]
	askAll(t, []question{{from: p.Netns, to: netip.AddrPortFrom(of(p.first()[0], webService), 80)}})

	const cidr = "10.99.0.0/24"
	applyText(t, "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: further}\nspec: {cidrs: ["+cidr+"]}\n")
	t.Cleanup(func() { tool(t, "", "kubectl", "delete", "servicecidr", "further", "--wait=false") })
	var s service
	within(t, 30*time.Second, func() error { // until the API server has seen it
		ready := tool(t, "", "kubectl", "get", "servicecidr", "further", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if ready != "True" {
			return fmt.Errorf("ServiceCIDR further: Ready %q", ready)
		}
		return nil
	})
	s = newService(t, "further", "web", object{"clusterIP": "10.99.0.10", "ipFamilyPolicy": "SingleStack", "ipFamilies": []string{"IPv4"}})
	began := time.Now()
	q := question{from: p.Netns, to: netip.AddrPortFrom(s.addrs[0], 80)}
	within(t, time.Minute, func() error { _, err := q.ask(); return err })
	fmt.Printf("service-cidr: a living pod reached a Service of the second ServiceCIDR %.1f s after the Service was made\n", time.Since(began).Seconds())
	wantIn(t, run(t, p.Netns, "ip", "route", "get", s.addrs[0].String()), "dev veth0")
}
