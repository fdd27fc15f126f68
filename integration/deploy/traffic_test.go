// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// clusterNetwork makes an eth0 as the cluster's own CNI may.
const clusterNetwork = `{
	"cniVersion": "1.0.0",
	"name": "cluster",
	"plugins": [{
		"type": "bridge",
		"bridge": "cni0",
		"isGateway": true,
		"ipam": {
			"type": "host-local",
			"ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244::/64"}]],
			"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
		}
	}]
}`

// The port of the servers.
const port = 8080

// TestExamplesWork gives a pod the NICs of an example, with the plugins that `make
// build cni-plugins` built, in the LANs of the example. The example whose network needs
// 8021q runs only in the cluster.
func TestExamplesWork(t *testing.T) {
	for name, example := range examples(t) {
		if name == "vlan.yaml" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			l, err := lab.New(lab.Ens192(), lab.Ens224())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			pod, err := l.NewPod("web")
			if err != nil {
				t.Fatal(err)
			}
			networks := map[string]string{}
			for _, n := range example.networks {
				networks[n.Name] = n.Spec.Config
			}
			first := selections(t, example, "v1.multus-cni.io/default-network")
			if len(first) == 0 {
				add(t, l, pod, clusterNetwork, lab.NIC, nil)
			}
			for _, s := range append(first, selections(t, example, "k8s.v1.cni.cncf.io/networks")...) {
				nic := s.Interface
				if nic == "" {
					nic = lab.NIC
				}
				add(t, l, pod, networks[s.Name], nic, append(s.IPs, s.Args.IPs...))
			}
			reachable(t, l, pod)
		})
	}
}

// add gives the pod a NIC with addresses, in the way in which Multus passes cni-args
// on, and expects CHECK to pass.
func add(t *testing.T, l *lab.Lab, pod *lab.Pod, config, nic string, ips []string) {
	t.Helper()
	var list map[string]any
	if err := json.Unmarshal([]byte(config), &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list["plugins"].([]any) {
		if ips != nil {
			p.(map[string]any)["args"] = map[string]any{"cni": map[string]any{"ips": ips}}
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Network(string(text), "../../bin", "../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []func(context.Context, *lab.Pod, string) error{n.Add, n.Check} {
		if err := verb(t.Context(), pod, nic); err != nil {
			t.Fatal(err)
		}
	}
}

// reachable checks that the node, and a host in each LAN, reach each address of each
// underlay NIC, and that the NIC's address reaches them.
func reachable(t *testing.T, l *lab.Lab, pod *lab.Pod) {
	t.Helper()
	hosts := []*testbed.Netns{l.Node.Netns}
	for _, lan := range l.LANs {
		hosts = append(hosts, lan.Client)
	}
	for _, n := range append(hosts, pod.Netns) {
		server, err := n.Serve(port, testbed.Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	asked := 0
	for _, lan := range l.LANs {
		for _, nic := range []string{lab.NIC, "net1"} {
			for _, own := range pod.Addrs(nic) {
				if !within(lan.Node, own) {
					continue
				}
				asked++
				for _, h := range hosts {
					answered(t, fmt.Sprintf("%s to %s", h.Name(), own), h, netip.AddrPortFrom(own.Addr(), port), netip.Addr{}, pod.Name())
				}
				for by, addrs := range map[*testbed.Netns][]netip.Prefix{lan.Client: lan.Host, l.Node.Netns: lan.Node} {
					for _, a := range addrs {
						if within([]netip.Prefix{own}, a) {
							answered(t, fmt.Sprintf("%s to %s", own, a), pod.Netns, netip.AddrPortFrom(a.Addr(), port), own.Addr(), by.Name())
						}
					}
				}
			}
		}
	}
	if asked == 0 {
		t.Error("the pod has no address in a LAN")
	}
}

// answered sends a request, and expects an answer by a namespace.
func answered(t *testing.T, what string, from *testbed.Netns, to netip.AddrPort, source netip.Addr, by string) {
	t.Helper()
	answer, err := from.Ask("tcp", to, testbed.Socket{Source: source})
	if err != nil || answer.Server != by {
		t.Errorf("%s: answered by %q, want %s (%v)", what, answer.Server, by, err)
	}
}

// within reports whether one of the subnets holds the address.
func within(subnets []netip.Prefix, a netip.Prefix) bool {
	for _, s := range subnets {
		if s.Masked() == a.Masked() {
			return true
		}
	}
	return false
}
