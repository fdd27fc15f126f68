// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// otherPluginCases test chains of other plugins, and other forms of coordinator's
// chain.
var otherPluginCases = []testCase{
	{name: "host-link-macvlan", what: "coordinator with hostLink macvlan, two NICs", run: hostLinkMacvlan, sound: true},
	{name: "route-bridge", what: "route with the node's macvlan instead of coordinator", run: routeBridge},
	{name: "overlay-ptp", what: "overlay by ptp, one NIC besides", run: overlayPtp, sound: true},
}

// nodeCases test events of pods and nodes.
var nodeCases = []testCase{
	{name: "probes", what: "the kubelet's readiness and liveness probes of underlay and overlay pods, no restarts", run: probes},
	{name: "network-status", what: "the annotation has each NIC's addresses", run: networkStatus},
	{name: "recreated", what: "a pod is deleted and made again with its name and addresses, on another node", run: recreated},
	{name: "overlay-recreated", what: "the same beside the cluster network, on the same node: the other pods that asked it do reach it", run: overlayRecreated},
	{name: "nics-changed", what: "a pod is made again with other NICs", run: nicsChanged},
	{name: "restart-containerd", what: "containerd is killed: pods go on, new ones start", run: func(t *testing.T) { restarted(t, "containerd") }},
	{name: "restart-kubelet", what: "the kubelet is killed: pods go on, new ones start", run: func(t *testing.T) { restarted(t, "kubelet") }},
	{name: "nothing-left", what: "without pods the nodes have no link, route or neighbour of ours", run: nothingLeft},
	{name: "performance", what: "50 pods at once, with and without coordinator; the figures are above", run: performance},
}

func hostLinkMacvlan(t *testing.T) {
	shared := object{"hostLink": "macvlan"}
	p := start(t, &pod{name: name(t, "a"), node: "node1", hostLink: "eth0",
		nics: []nic{newNIC("eth0", 6, shared), newNIC("net1", 7, shared)}})
	q := start(t, &pod{name: name(t, "b"), node: "node1", hostLink: "eth0", nics: []nic{newNIC("eth0", 6, shared)}})
	reachable(t, p)
	reachable(t, q)
	reachEachOther(t, p, q)
}

func routeBridge(t *testing.T) {
	n := newNIC("eth0", 6, nil)
	n.chain = []object{{"type": "route", "master": "ens192", "bridge": "ens192.host"}}
	p := start(t, &pod{name: name(t, "a"), node: "node2", hostLink: "eth0", nics: []nic{n}})
	askAll(t, p.asked())
	for _, a := range nodeAddrs("node2") {
		askAll(t, []question{{from: p.Netns, to: netip.AddrPortFrom(a, 8080), answers: "node2", sees: of(a, p.first())}})
	}
}

func overlayPtp(t *testing.T) {
	eth0 := nic{name: "eth0", first: object{"type": "ptp", "ipam": object{"type": "host-local",
		"ranges": [][]object{{{"subnet": "10.244.1.128/25"}}, {{"subnet": "fd00:10:244:1:1::/80"}}},
		"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}}}}}
	p := one(t, eth0, newNIC("net1", 7, nil))
	reachable(t, p)
}

func probes(t *testing.T) {
	a, b := pair(t, func() []nic { return []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)} })
	c := start(t, &pod{name: name(t, "c"), node: "node1", nics: []nic{newNIC("net1", 7, nil)}})
	time.Sleep(10 * time.Second) // ten probes of each sort
	for _, p := range []*pod{a, b, c} {
		s := p.status(t)
		if !s.ready() || len(s.Status.ContainerStatuses) != 1 || s.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("pod %s: ready %v, containers %v; events: %s", p.name, s.ready(), s.Status.ContainerStatuses, events(t, p.uid))
		}
	}
}

func networkStatus(t *testing.T) {
	under := one(t, newNIC("eth0", 6, nil), newNIC("net1", 7, nil))
	over := start(t, &pod{name: name(t, "b"), node: "node2", nics: []nic{newNIC("net1", 7, nil), newNIC("net2", 8, nil)}})
	for _, p := range []*pod{under, over} {
		var networks []struct {
			Interface string
			IPs       []netip.Addr
			Default   bool
		}
		text := p.status(t).Metadata.Annotations["k8s.v1.cni.cncf.io/network-status"]
		if err := json.Unmarshal([]byte(text), &networks); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		want := map[string][]netip.Addr{"eth0": p.first()}
		for _, n := range p.further() {
			want[n.name] = n.addrs
		}
		got := map[string][]netip.Addr{}
		for _, n := range networks {
			got[n.Interface] = append(got[n.Interface], n.IPs...)
			if n.Default != (n.Interface == "eth0") {
				t.Errorf("pod %s: %s has default %v", p.name, n.Interface, n.Default)
			}
		}
		if p.underlay() {
			want["veth0"] = nil // Multus lists each interface of a result
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("pod %s (-want +got):\n%s", p.name, diff)
		}
	}
}

func recreated(t *testing.T) {
	p := &pod{name: name(t, "a"), nics: []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)}}
	for _, node := range []string{"node1", "node2", "node1"} {
		p.node = node
		start(t, p)
		reachable(t, p)
		p.delete(t)
	}
}

func overlayRecreated(t *testing.T) {
	p := &pod{name: name(t, "a"), node: "node1", nics: []nic{newNIC("net1", 7, nil)}}
	for range 2 {
		start(t, p)
		for _, w := range web {
			askAll(t, w.to(p))
		}
		p.delete(t)
	}
}

func nicsChanged(t *testing.T) {
	eth0, net1, net2 := newNIC("eth0", 6, nil), newNIC("net1", 7, nil), newNIC("net2", 8, nil)
	p := &pod{name: name(t, "a"), node: "node1"}
	for _, nics := range [][]nic{{eth0, net1}, {eth0, net1, net2}, {eth0, net2}, {eth0}, {eth0, net1}} {
		p.nics = nics
		start(t, p)
		reachable(t, p)
		p.delete(t)
	}
}

func restarted(t *testing.T, daemon string) {
	a, b := pair(t, func() []nic { return []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)} })
	before := a.status(t)
	restart(t, "node1", daemon)
	reachable(t, a)
	c := start(t, &pod{name: name(t, "c"), node: "node1", nics: []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)}})
	reachable(t, c)
	reachEachOther(t, a, b, c)
	if after := a.status(t); after.Metadata.UID != before.Metadata.UID || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("pod %s was started again", a.name)
	}
}

func nothingLeft(t *testing.T) {
	for _, node := range []string{"node1", "node2"} {
		within(t, time.Minute, func() error {
			var left []string
			for _, c := range []struct{ command, ours string }{
				{"ip -o link", "multihome:"},
				{"ip -4 route show table all", "table 500"},
				{"ip -6 route show table all", "table 500"},
				{"ip neigh", "PERMANENT"},
			} {
				for line := range strings.Lines(run(t, machines[node], strings.Fields(c.command)...)) {
					// GC removes the node's macvlan, if it is configured to. Flannel has neighbours of its own.
					if strings.Contains(line, c.ours) && !strings.Contains(line, "ens192.host") && !strings.Contains(line, " dev flannel") {
						left = append(left, c.command+": "+line)
					}
				}
			}
			if left != nil {
				return fmt.Errorf("%s has\n%s", node, strings.Join(left, ""))
			}
			return nil
		})
	}
}

// performance prints how long 50 pods created at once take until they are ready, with
// and without coordinator, in turn.
func performance(t *testing.T) {
	const rounds, atOnce = 3, 50
	took := map[bool][]time.Duration{}
	for range rounds {
		for _, with := range []bool{false, true} {
			var pods []*pod
			for i := range atOnce {
				n := newNIC("eth0", 6, nil)
				if !with {
					n.chain = nil
				}
				pods = append(pods, &pod{name: fmt.Sprintf("many-%d", i), node: fmt.Sprintf("node%d", 1+i%2), noProbe: true, nics: []nic{n}})
			}
			took[with] = append(took[with], startAll(t, pods)...)
		}
	}
	for with, chain := range map[bool]string{false: "macvlan", true: "macvlan, coordinator"} {
		slices.Sort(took[with])
		at := func(percent int) float64 { return took[with][(len(took[with])-1)*percent/100].Seconds() }
		fmt.Printf("%d pods at once, %d times, by %s: created to ready, median %.1f s, quartiles %.1f to %.1f s, slowest %.1f s\n",
			atOnce, rounds, chain, at(50), at(25), at(75), at(100))
	}
}

// startAll creates pods, waits until they are ready and deletes them. It returns the
// time that each took.
func startAll(t *testing.T, pods []*pod) []time.Duration {
	t.Helper()
	body, err := request("GET", podsAt+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	created := map[string]time.Time{}
	for _, p := range pods {
		created[p.name] = time.Now()
		p.create(t)
	}
	var took []time.Duration
	for d := json.NewDecoder(body); len(created) > 0; {
		var event struct{ Object podStatus }
		if err := d.Decode(&event); err != nil {
			t.Fatal(err)
		}
		if at, ok := created[event.Object.Metadata.Name]; ok && event.Object.ready() {
			took = append(took, time.Since(at))
			delete(created, event.Object.Metadata.Name)
		}
	}
	for _, p := range pods {
		call(t, "DELETE", podsAt+"/"+p.name, nil, nil)
	}
	for _, p := range pods {
		p.delete(t)
	}
	return took
}
