// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// service is the part of a Service that the tests read.
type service struct {
	name     string
	addrs    []netip.Addr
	nodePort uint16
}

// newService makes a dual-stack Service in front of the pods with a label, at port 80.
func newService(t *testing.T, name, app string, further object) service {
	t.Helper()
	spec := object{"selector": object{"app": app}, "ipFamilyPolicy": "RequireDualStack",
		"ports": []object{{"port": 80, "targetPort": 80}}}
	maps.Copy(spec, further)
	var made struct {
		Spec struct {
			ClusterIPs []string
			Ports      []struct{ NodePort uint16 }
		}
	}
	call(t, "POST", servicesAt, object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name}, "spec": spec}, &made)
	t.Cleanup(func() { call(t, "DELETE", servicesAt+"/"+name, nil, nil) })
	s := service{name: name, nodePort: made.Spec.Ports[0].NodePort}
	for _, a := range made.Spec.ClusterIPs {
		if a != "None" {
			s.addrs = append(s.addrs, netip.MustParseAddr(a))
		}
	}
	return s
}

// settles repeats a request until the answer is right: kube-proxy and the kubelet need
// a moment to see a new object.
func settles(t *testing.T, q question) {
	t.Helper()
	within(t, 30*time.Second, func() error {
		_, err := q.ask()
		return err
	})
}

// served checks that each of these servers, and no other, answers requests to the
// address.
func served(t *testing.T, q question, servers ...string) {
	t.Helper()
	missing := slices.Clone(servers)
	for range 40 {
		a, err := q.ask()
		if err == nil && !slices.Contains(servers, a.Server) {
			err = fmt.Errorf("%s asks %s: answered by %s, want one of %v", q.from.Name(), q.to, a.Server, servers)
		}
		if err != nil {
			t.Error(err)
			return
		}
		missing = slices.DeleteFunc(missing, func(s string) bool { return s == a.Server })
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("%s asks %s: never answered by %v", q.from.Name(), q.to, missing)
}

var proxyMode = regexp.MustCompile(`(?m)^mode: .*$`)

// setProxyMode restarts both nodes' kube-proxy in a mode.
func setProxyMode(t *testing.T, mode string) {
	t.Helper()
	for _, node := range []string{"node1", "node2"} {
		file := filepath.Join(state, node, "proxy.yaml")
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, proxyMode.ReplaceAll(b, []byte("mode: "+mode)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		restart(t, node, "proxy")
		within(t, time.Minute, func() error {
			table := "KUBE-SERVICES"
			list := []string{"iptables-save"}
			if mode == "nftables" {
				table, list = "service-ips", []string{"nft", "list", "table", "ip", "kube-proxy"}
			}
			var out []byte
			err := machines[node].Do(func() (err error) {
				out, err = exec.Command(list[0], list[1:]...).Output()
				return err
			})
			if err == nil && !strings.Contains(string(out), table) {
				err = fmt.Errorf("%s: kube-proxy has made no %s yet", node, table)
			}
			return err
		})
	}
}

// serviceCases are the same for each mode of kube-proxy that the kernel supports.
func serviceCases() []testCase {
	var all []testCase
	for _, mode := range []string{"nftables", "ipvs", "iptables"} { // the last mode stays
		c := testCase{name: "services-" + mode, what: "ClusterIP, NodePort Cluster and Local, headless; underlay and overlay pods, both families",
			run: func(t *testing.T) { servicesIn(t, mode) }}
		if _, err := os.Stat("/proc/net/ip_vs"); mode == "ipvs" && err != nil {
			c = testCase{name: c.name, notCovered: "this kernel has no IP_VS"}
		}
		all = append(all, c)
	}
	return all
}

func servicesIn(t *testing.T, mode string) {
	setProxyMode(t, mode)
	var underlay, overlay []*pod
	for _, node := range []string{"node1", "node2"} {
		underlay = append(underlay, start(t, &pod{name: "under-" + node, node: node, app: "under",
			nics: []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)}}))
		overlay = append(overlay, start(t, &pod{name: "over-" + node, node: node, app: "over",
			nics: []nic{newNIC("net1", 7, nil)}}))
	}
	clients := []*testbed.Netns{machines["node1"], machines["node2"]}
	for _, p := range slices.Concat(underlay, overlay, web) {
		clients = append(clients, p.Netns)
	}
	for _, pods := range [][]*pod{underlay, overlay} {
		app := pods[0].app
		t.Run(app, func(t *testing.T) {
			cluster := newService(t, app+"-cluster", app, object{"type": "NodePort"})
			local := newService(t, app+"-local", app, object{"type": "NodePort", "externalTrafficPolicy": "Local"})
			headless := newService(t, app+"-headless", app, object{"clusterIP": "None"})
			for _, s := range []service{cluster, local} {
				for _, a := range s.addrs {
					for _, c := range clients {
						q := question{from: c, to: netip.AddrPortFrom(a, 80)}
						settles(t, q)
						served(t, q, pods[0].name, pods[1].name)
					}
				}
			}
			for i, node := range []string{"node1", "node2"} {
				for _, a := range nodeAddrs(node) {
					for _, c := range append(clients[2:], machines["client"]) {
						q := question{from: c, to: netip.AddrPortFrom(a, cluster.nodePort)}
						settles(t, q)
						served(t, q, pods[0].name, pods[1].name)
					}
					q := question{from: machines["client"], to: netip.AddrPortFrom(a, local.nodePort),
						sees: of(a, clientAddrs), pod: pods[i], replyBy: pods[i].link()}
					settles(t, q)
					served(t, q, pods[i].name)
				}
			}
			isHeadless(t, headless.name, pods)
		})
	}
}

// isHeadless checks that a Service without an address has the pods' addresses as endpoints.
func isHeadless(t *testing.T, name string, pods []*pod) {
	t.Helper()
	var want []string
	for _, p := range pods {
		for _, a := range p.first() {
			want = append(want, a.String())
		}
	}
	slices.Sort(want)
	within(t, 30*time.Second, func() error {
		var list struct {
			Items []struct {
				Endpoints []struct{ Addresses []string }
			}
		}
		call(t, "GET", endpointsAt+"?labelSelector=kubernetes.io/service-name="+name, nil, &list)
		var got []string
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				got = append(got, e.Addresses...)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("endpoints of %s: %v, want %v", name, got, want)
		}
		return nil
	})
}
