// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/e2e/answer"
	"github.com/multihome/multihome/integration/guide"
	"github.com/multihome/multihome/pkg/testbed"
)

// guideCases do what users' guides do, with the files of examples/ as they are, and want what
// the guides print.
var guideCases = []testCase{
	{name: "fixed-addresses", what: "docs/fixed-addresses.md: pools of a Deployment for two NICs, its pods deleted, scaled; traffic by both NICs and to a ClusterIP on the wire", run: fixedAddresses},
	{name: "static-macvlan", what: "docs/static-macvlan.md: pods with a given address and MAC, and with an address of the VLANSubnet; traffic on the wire. Without 8021q, the VLANSubnet has no VLAN; with it in integration/uml", run: staticMacvlan},
}

// shown repeats a command of kubectl until the check has nothing against what it prints, which
// it returns.
func shown(t *testing.T, check func(string) error, args ...string) (text string) {
	t.Helper()
	within(t, 90*time.Second, func() error {
		text = tool(t, "", "kubectl", args...)
		if err := check(text); err != nil {
			return fmt.Errorf("kubectl %s: %w:\n%s", strings.Join(args, " "), err, text)
		}
		return nil
	})
	return text
}

// shownIn runs a command in a namespace, once, and checks what it prints.
func shownIn(t *testing.T, n *testbed.Netns, check func(string) error, command ...string) {
	t.Helper()
	text := run(t, n, command...)
	if err := check(text); err != nil {
		t.Errorf("%s: %s: %v:\n%s", n.Name(), strings.Join(command, " "), err, text)
	}
}

func fixedAddresses(t *testing.T) {
	const examples = "examples/fixed-addresses/"
	installControlplane(t)
	apply(t, "-f", examples+"subnets.yaml")
	shown(t, guide.Subnets(0), "get", "spidersubnet")
	apply(t, "-f", examples+"networks.yaml")
	apply(t, "-f", examples+"test-app.yaml")
	pods := testApp(t, 2, guide.AppNICs[0].Subnet, nil)
	before := poolsOfApp(t, pods, 3)

	for _, p := range pods {
		eth0, net1 := netip.PrefixFrom(p.nics[0].addrs[0], 16), netip.PrefixFrom(p.nics[1].addrs[0], 16)
		for _, c := range guide.InPod(eth0, net1, nodeAddrs(p.node)[0]) {
			shownIn(t, p.Netns, c.Check, strings.Fields(c.Command)...)
		}
	}
	tool(t, "", "kubectl", "expose", "deployment", "test-app", "--port", "80")
	t.Cleanup(func() { call(t, "DELETE", servicesAt+"/test-app", nil, nil) })
	appTraffic(t, pods)

	tool(t, "", "kubectl", "delete", "po", "-l", "app=test-app")
	pods = testApp(t, 2, before[0], pods)
	if after := poolsOfApp(t, pods, 3); !slices.Equal(after, before) {
		t.Errorf("the pools have %v after the pods were deleted, want %v as before", after, before)
	}
	tool(t, "", "kubectl", "scale", "deploy", "test-app", "--replicas", "3")
	pods = testApp(t, 3, guide.AppNICs[0].Subnet, nil)
	poolsOfApp(t, pods, 4)
	appTraffic(t, pods)

	tool(t, "", "kubectl", "delete", "-f", examples+"test-app.yaml")
	outAre(t, 0)
	shown(t, guide.Subnets(0), "get", "spidersubnet")
	shown(t, guide.Empty, "get", "spiderippool,spiderendpoint", "-o", "name")
}

// testApp waits until so many pods of test-app run, with addresses of a range and none of the
// former pods. It returns them with the addresses that their NICs have.
func testApp(t *testing.T, replicas int, of guide.Interval, former []*pod) []*pod {
	t.Helper()
	var names []string
	for _, p := range former {
		names = append(names, p.name)
	}
	pods := deployedBy(t, "test-app", replicas)
	shown(t, guide.RunningPods(replicas, of, names), "get", "po", "-l", "app=test-app", "-o", "wide")
	for _, p := range pods {
		p.nics = []nic{{name: "eth0", lan: 6, made: "kube-system/macvlan-conf-ens192"}, {name: "net1", lan: 7, made: "kube-system/macvlan-conf-ens224"}}
		p.wait(t)
		text := run(t, p.Netns, "ip", "a")
		for i := range p.nics {
			a, err := guide.AddressOf(text, p.nics[i].name)
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			p.nics[i].addrs = addrs(a.Addr().String())
		}
	}
	return pods
}

// poolsOfApp checks subnets, pools and IPAddresses of test-app, and returns the ranges of the
// pools, in the order of guide.AppNICs. The pools have so many addresses; the pods hold those
// of their NICs, and the others are kept for the application.
func poolsOfApp(t *testing.T, pods []*pod, total int) []guide.Interval {
	t.Helper()
	shown(t, guide.Subnets(total), "get", "spidersubnet")
	text := shown(t, guide.Pools(len(pods), total), "get", "spiderippool")
	var list struct {
		Items []struct {
			Spec struct {
				Address     netip.Addr
				Pool, State string
				Holders     []struct{ Pod, PodUID, Interface, Node string }
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "", "kubectl", "get", "ipaddresses.multihome.io", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, a := range list.Items {
		got = append(got, fmt.Sprint(a.Spec.Address, " ", a.Spec.Pool, " ", a.Spec.State, " ", a.Spec.Holders))
	}
	var ranges []guide.Interval
	for i, n := range guide.AppNICs {
		pool := guide.PoolOf(text, n.Name)
		var found guide.Interval
		shown(t, func(ips string) (err error) {
			found, err = guide.OneInterval(ips, total, n.Subnet)
			return err
		}, "get", "spiderippool", pool, "-o", "jsonpath={.spec.ips}")
		ranges = append(ranges, found)
		holders := map[netip.Addr]string{}
		for _, p := range pods {
			a := p.nics[i].addrs[0]
			holders[a] = fmt.Sprintf("Allocated [{%s %s %s %s}]", p.name, p.uid, n.Name, p.node)
			if claim := claimed(t, p.name, n.Name); !slices.Equal(claim, p.nics[i].addrs) {
				t.Errorf("%s of %s has %s, its claim has %v", n.Name, p.name, a, claim)
			}
		}
		for a := found.First; found.Has(a); a = a.Next() {
			state, held := holders[a]
			if !held {
				state = "Reserved []"
			}
			want = append(want, fmt.Sprint(a, " ", pool, " ", state))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("IPAddresses:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, p := range pods {
		if ips := p.status(t).Status.PodIPs; len(ips) != 1 || ips[0].IP != p.nics[0].addrs[0] {
			t.Errorf("pod %s has podIPs %v, and %v at eth0", p.name, ips, p.nics[0].addrs)
		}
	}
	return ranges
}

// appTraffic lets the pods of test-app ask each other by both NICs and by their Service, and
// everybody ask them.
func appTraffic(t *testing.T, pods []*pod) {
	t.Helper()
	for i, n := range guide.AppNICs {
		betweenNodes(t, pods, func(p *pod) netip.AddrPort { return netip.AddrPortFrom(p.nics[i].addrs[0], 80) }, n.LAN)
	}
	reachEachOther(t, pods...) // those on one node, too
	for _, p := range pods {
		askAll(t, p.asked())
	}
	var service struct {
		Spec struct{ ClusterIP netip.Addr }
	}
	call(t, "GET", servicesAt+"/test-app", nil, &service)
	to := netip.AddrPortFrom(service.Spec.ClusterIP, 80)
	for _, from := range pods {
		served := map[string]bool{}
		within(t, time.Minute, func() error {
			a, frames, err := watched(question{from: from.Netns, to: to})
			if err != nil {
				return err
			}
			i := slices.IndexFunc(pods, func(p *pod) bool { return p.name == a.Server })
			if i < 0 {
				return fmt.Errorf("%s asks the ClusterIP %s: answered by %s, want a pod of test-app", from.name, to, a.Server)
			}
			served[a.Server] = true
			if pods[i].node != from.node {
				if err := guide.OnWire(frames, lanOf, "ens192", a.Client.Addr(), pods[i].nics[0].addrs[0]); err != nil {
					return err
				}
			}
			if len(served) < len(pods) {
				return fmt.Errorf("%s asks the ClusterIP %s: only %v answer", from.name, to, served)
			}
			return nil
		})
	}
}

// betweenNodes lets each pod ask each one on the other node at an address, and checks that
// requests and answers pass the wires of that LAN alone.
func betweenNodes(t *testing.T, pods []*pod, at func(*pod) netip.AddrPort, lan string) {
	t.Helper()
	asked := 0
	for _, from := range pods {
		for _, to := range pods {
			if from.node == to.node {
				continue
			}
			asked++
			a, frames, err := watched(question{from: from.Netns, to: at(to), answers: to.name})
			if err == nil {
				err = guide.OnWire(frames, lanOf, lan, a.Client.Addr(), at(to).Addr())
			}
			if err != nil {
				t.Errorf("%s on %s asks %s on %s: %v", from.name, from.node, to.name, to.node, err)
			}
		}
	}
	if asked == 0 {
		t.Errorf("all pods are on %s, want pods on both nodes", pods[0].node)
	}
}

// watched sends a request, and returns the frames that passed the router and its switches
// meanwhile.
func watched(q question) (a answer.Answer, frames []testbed.Frame, err error) {
	capture, err := machines["router"].Capture("")
	if err != nil {
		return a, nil, err
	}
	defer capture.Close()
	if a, err = q.ask(); err != nil {
		return a, nil, err
	}
	frames, err = capture.Frames()
	return a, frames, err
}

// lanOf returns the LAN of a link of the router's by the nodes' NIC in it: the nodes' ports are
// called node1.192, node1.eth0.
func lanOf(link string) string {
	machine, nic, _ := strings.Cut(link, ".")
	switch {
	case !strings.HasPrefix(machine, "node"):
		return ""
	case strings.HasPrefix(nic, "eth"):
		return nic
	default:
		return "ens" + nic
	}
}

func staticMacvlan(t *testing.T) {
	const examples = "examples/static-macvlan/"
	installControlplane(t)
	for _, node := range []string{"node1", "node2"} {
		port := node + ".eth0"
		if err := testbed.ConnectVeth(machines["router"], port, machines[node], "eth0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := machines["router"].DeleteLink(port); err != nil {
				t.Error(err)
			}
		})
		if err := machines["router"].SetMaster(port, "lan8"); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, "-f", examples+"static-macvlan-cni.yml")
	subnet, err := os.ReadFile(filepath.Join(root, examples+"vlan-subnet.yml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := string(subnet)
	if knows, err := testbed.KnowsLinks("vlan"); err != nil {
		t.Fatal(err)
	} else if !knows {
		if manifest, err = guide.WithoutVLAN(manifest); err != nil {
			t.Fatal(err)
		}
	}
	applyText(t, manifest)
	shown(t, guide.VLANSubnet, "get", "vlansubnets")

	// The pods name no node, and their traffic is to pass the wire: the second one is kept
	// from the first one's.
	var pods []*pod
	for i, name := range []string{"samplepod1", "samplepod2"} {
		apply(t, "-f", fmt.Sprintf("%spod-%d.yml", examples, i+1))
		p := &pod{name: name, nics: []nic{{name: "net1", lan: 8, made: namespace + "/static-macvlan-cni"}}}
		p.uid = p.status(t).Metadata.UID
		p.wait(t)
		if i == 0 {
			tool(t, "", "kubectl", "cordon", p.node)
			t.Cleanup(func() { tool(t, "", "kubectl", "uncordon", p.node) })
		}
		server, err := serve(p.Netns)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		pods = append(pods, p)
	}
	address := guide.StaticAddress
	var second netip.Prefix
	shown(t, func(text string) (err error) {
		second, err = guide.StaticPods(text, pods[0].uid, pods[1].uid)
		return err
	}, "get", "staticpods")
	shownIn(t, pods[0].Netns, guide.StaticNIC(address, guide.StaticMAC), "ip", "a")
	shownIn(t, pods[1].Netns, guide.StaticNIC(second, ""), "ip", "a")
	pods[0].nics[0].addrs, pods[1].nics[0].addrs = addrs(address.Addr().String()), addrs(second.Addr().String())
	for _, p := range pods {
		shownIn(t, machines[p.node], guide.OnParent("mv1.100", "eth0"), "ip", "link", "ls", "mv1.100")
		if claim := claimed(t, p.name, "net1"); !slices.Equal(claim, p.nics[0].addrs) {
			t.Errorf("pod %s has the claim %v, want %v", p.name, claim, p.nics[0].addrs)
		}
	}
	betweenNodes(t, pods, func(p *pod) netip.AddrPort { return netip.AddrPortFrom(p.nics[0].addrs[0], 8080) }, "eth0")

	tool(t, "", "kubectl", "delete", "--grace-period=1", "-f", examples+"pod-1.yml", "-f", examples+"pod-2.yml")
	shown(t, guide.Empty, "get", "staticpods", "-o", "name")
	outAre(t, 0)
}
