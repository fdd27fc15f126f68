// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/testbed"
)

// chain is ifacer, a main plugin on its link, and coordinator.
type chain struct {
	ifacer      string // ifacer's keys
	main        string // the main plugin, without its comma
	master      string
	vlan        int    // the VLAN of its link
	coordinator string // further keys, each with a comma in front
}

const conflist = `{
	"cniVersion": "1.1.0", "name": "lan",
	"plugins": [
		{"type": "ifacer", %s, "removeUnused": true},
		{%s, "master": "%s", "ipam": {"type": "host-local",
			"ranges": [[{"subnet": "172.100.0.0/16", "rangeStart": "172.100.0.100", "rangeEnd": "172.100.0.103"}]]}},
		{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12"]%s}
	]
}`

const (
	macvlan = `"type": "macvlan", "mode": "bridge"`
	ipvlan  = `"type": "ipvlan", "mode": "%s"`
)

// onVLAN returns the chain of a main plugin on a VLAN of a NIC.
func onVLAN(main string) chain {
	return chain{ifacer: `"interfaces": ["ens192"], "vlanID": 100`, main: main, master: "ens192.100", vlan: 100}
}

var (
	peerAddr = netip.MustParseAddr("172.100.0.1")
	nodeAddr = netip.MustParseAddr("10.6.168.123")
)

// TestChainVLAN puts pods on a VLAN of a NIC.
func TestChainVLAN(t *testing.T) {
	c := newChain(t, onVLAN(macvlan))
	c.addPods()
	c.works()
	c.ends()
}

// TestChainIPVLAN does the same with ipvlan. Its layer 3 modes answer no ARP: the node
// has an address in the VLAN, so that its packets find the pods.
func TestChainIPVLAN(t *testing.T) {
	for _, mode := range []string{"l2", "l3", "l3s"} {
		t.Run(mode, func(t *testing.T) {
			conf := onVLAN(fmt.Sprintf(ipvlan, mode))
			conf.coordinator = `, "nodeAddresses": ["10.6.168.123"]` // without the router's, which comes later
			c := newChain(t, conf)
			c.addPods()
			if mode == "l2" {
				c.works()
				c.ends()
				return
			}
			const router = "172.100.0.2"
			c.node.sh("ip addr add " + router + "/16 dev ens192.100")
			c.in(c.peer, "ip route add 172.100.0.100/30 via "+router)
			c.works()
			c.outlives()
			c.node.sh("ip addr del " + router + "/16 dev ens192.100") // ifacer keeps a VLAN that has addresses
			c.deletes()
		})
	}
}

// TestChainBond puts pods on a VLAN of a bond, whose active member fails later.
func TestChainBond(t *testing.T) {
	c := newChain(t, chain{
		ifacer: `"interfaces": ["ens192", "ens224"], "vlanID": 200, "bond": {"name": "bond0", "mode": 1, "options": "primary=ens192; miimon=50"}`,
		main:   macvlan, master: "bond0.200", vlan: 200,
	})
	c.addPods()
	c.works()
	c.node.eventually("ip -d link show bond0", "active_slave ens192 ")
	if err := c.node.sw.SetDown("ens192"); err != nil {
		t.Fatal(err)
	}
	c.node.eventually("ip -d link show bond0", "active_slave ens224 ")
	c.works()
	c.ends()
}

// TestChainWithoutCoordinator is the control: with main plugins alone, a pod and its
// node don't reach each other.
func TestChainWithoutCoordinator(t *testing.T) {
	for _, main := range []string{macvlan, fmt.Sprintf(ipvlan, "l2"), fmt.Sprintf(ipvlan, "l3"), fmt.Sprintf(ipvlan, "l3s")} {
		t.Run(main, func(t *testing.T) {
			c := newChain(t, onVLAN(main))
			c.list.Plugins = c.list.Plugins[:2]
			c.addPods()
			if err := c.pods[0].Ping(nodeAddr, testbed.Socket{}); err == nil {
				t.Errorf("pod0 reaches %s", nodeAddr)
			}
			if err := c.node.Ping(c.addrs[0], testbed.Socket{}); err == nil {
				t.Errorf("the node reaches %s", c.addrs[0])
			}
		})
	}
}

// TestMarksOnOldKernel runs on a kernel whose nf_tables answers, but has no table of
// family inet, ip or ip6. Unless the configuration demands nftables, iptables-legacy is
// used.
func TestMarksOnOldKernel(t *testing.T) {
	for _, backend := range []string{"auto", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			c := newChain(t, marksBy(backend))
			c.addPods()
			c.works()
			if rules := c.in(c.pods[0], "iptables-legacy -t mangle -S"); strings.Count(rules, "-N MULTIHOME") != 2 {
				t.Errorf("want two chains:\n%s", rules)
			}
			c.ends()
			if rules := c.in(c.pods[0], "iptables-legacy -t mangle -S"); strings.Contains(rules, "MULTIHOME") {
				t.Errorf("left over:\n%s", rules)
			}
		})
	}
	t.Run("nftables", func(t *testing.T) {
		c := newChain(t, marksBy("nftables"))
		before := c.node.sh("ip -br link")
		if _, err := c.addPod("pod0"); err == nil || !strings.Contains(err.Error(), "nf_tables has no such family") {
			t.Errorf("ADD with an nf_tables that lacks the family: %v", err)
		}
		c.run("DEL", func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.conf(0)) })
		if after := c.node.sh("ip -br link"); after != before {
			t.Errorf("DEL left links:\n%s\nwant\n%s", after, before)
		}
	})
}

func marksBy(backend string) chain {
	conf := onVLAN(macvlan)
	conf.coordinator = fmt.Sprintf(`, "markBackend": %q`, backend)
	return conf
}

// chained is a node with two pods, and a host in their VLAN.
type chained struct {
	t     *testing.T
	node  *node
	list  *libcni.NetworkConfigList
	cni   *libcni.CNIConfig
	pods  []*testbed.Netns
	addrs []netip.Addr
	peer  *testbed.Netns
	vlan  int
}

// newChain makes a node for a chain, and a host in its VLAN.
func newChain(t *testing.T, conf chain) *chained {
	t.Helper()
	return newChained(t, conf.vlan, fmt.Appendf(nil, conflist, conf.ifacer, conf.main, conf.master, conf.coordinator))
}

// newChained makes a node for a list of plugins, and a host in the VLAN of its pods, or in
// the LAN if that is 0.
func newChained(t *testing.T, vlan int, list []byte) *chained {
	t.Helper()
	c := &chained{t: t, node: newNode(t, "ens160", "ens192", "ens224"), vlan: vlan}
	c.node.sh("ip addr add 10.6.168.123/16 dev ens160; ip route add default via 10.6.0.1")
	c.peer = c.netns("peer")
	if err := testbed.ConnectVeth(c.node.sw, "peer", c.peer, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := c.node.sw.SetMaster("peer", "br0"); err != nil {
		t.Fatal(err)
	}
	link := "eth0"
	if vlan > 0 {
		link = "vlan"
		c.in(c.peer, fmt.Sprintf("ip link add link eth0 name vlan type vlan id %d; ip link set vlan up", vlan))
	}
	c.in(c.peer, fmt.Sprintf("ip addr add %s/16 dev %s", peerAddr, link))
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	c.cni = libcni.NewCNIConfig([]string{bin, filepath.Join(bin, "cni")}, nil)
	if c.list, err = libcni.NetworkConfFromBytes(list); err != nil {
		t.Fatal(err)
	}
	return c
}

// addPods adds two pods.
func (c *chained) addPods() { c.t.Helper(); c.addSomePods(2) }

func (c *chained) addSomePods(n int) {
	c.t.Helper()
	for i := range n {
		addr, err := c.addPod(fmt.Sprint("pod", i))
		if err != nil {
			c.t.Fatal(err)
		}
		c.addrs = append(c.addrs, addr)
	}
}

// addPod adds a pod, and returns its IPv4 address.
func (c *chained) addPod(name string) (addr netip.Addr, err error) {
	c.t.Helper()
	c.pods = append(c.pods, c.netns(name))
	err = c.try(func(ctx context.Context) error {
		result, err := c.cni.AddNetworkList(ctx, c.list, c.conf(len(c.pods)-1))
		if err != nil {
			return err
		}
		r, err := types100.NewResultFromResult(result)
		if err != nil {
			return err
		}
		addr, _ = netip.AddrFromSlice(r.IPs[0].Address.IP.To4())
		return nil
	})
	return addr, err
}

func (c *chained) netns(name string) *testbed.Netns {
	c.t.Helper()
	n, err := testbed.NewNetns(name)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { n.Close() })
	return n
}

// in runs a script in a namespace, which must succeed, and returns its output.
func (c *chained) in(n *testbed.Netns, script string) string {
	c.t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command("sh", "-euc", script).CombinedOutput()
		return err
	})
	if err != nil {
		c.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

func (c *chained) conf(pod int) *libcni.RuntimeConf {
	name := fmt.Sprint("pod", pod)
	return &libcni.RuntimeConf{ContainerID: name, NetNS: c.pods[pod].Path(), IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", name},
	}}
}

// try runs a verb on the node; run does the same for a verb that must succeed.
func (c *chained) try(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Minute)
	defer cancel()
	return c.node.Run(func() error { return f(ctx) })
}

func (c *chained) run(verb string, f func(context.Context) error) {
	c.t.Helper()
	if err := c.try(f); err != nil {
		c.t.Fatalf("%s: %v", verb, err)
	}
}

// works checks that pods reach each other, the VLAN, and their node, in both
// directions, with the VLAN's tag on the wire.
func (c *chained) works() {
	c.t.Helper()
	for i := range c.pods {
		c.run("CHECK", func(ctx context.Context) error { return c.cni.CheckNetworkList(ctx, c.list, c.conf(i)) })
		for _, way := range []struct {
			from *testbed.Netns
			to   netip.Addr
		}{{c.pods[i], peerAddr}, {c.peer, c.addrs[i]}, {c.pods[i], nodeAddr}, {c.node.Netns, c.addrs[i]}, {c.pods[i], c.addrs[len(c.addrs)-1-i]}} {
			if err := reach(way.from, way.to); err != nil {
				c.t.Errorf("%s to %s: %v", way.from.Name(), way.to, err)
			}
		}
	}
	if c.vlan > 0 {
		c.tagged()
	}
}

// reach pings an address until one of three echo requests is answered: a slow guest may
// lose one while it resolves the neighbour.
func reach(from *testbed.Netns, to netip.Addr) (err error) {
	for range 3 {
		if err = from.Ping(to, testbed.Socket{}); err == nil {
			return nil
		}
	}
	return err
}

// tagged checks the frames at the port of the host in the VLAN, where they are as on
// the wire.
func (c *chained) tagged() {
	c.t.Helper()
	dump := exec.Command("timeout", "300", "tcpdump", "-i", "eth0", "-n", "-e", "-c", "1", "--immediate-mode",
		fmt.Sprintf("vlan %d and icmp and src %s", c.vlan, c.addrs[0]))
	var out strings.Builder
	dump.Stdout, dump.Stderr = &out, &out
	if err := c.peer.Do(dump.Start); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- dump.Wait() }()
	for {
		if err := c.pods[0].Ping(peerAddr, testbed.Socket{}); err != nil {
			c.t.Errorf("pod0 to %s: %v", peerAddr, err)
		}
		select {
		case err := <-done:
			if err != nil || !strings.Contains(out.String(), fmt.Sprintf("vlan %d,", c.vlan)) {
				c.t.Errorf("no frame with tag %d: %v: %s", c.vlan, err, out.String())
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ends checks that pods outlive STATUS and GC, and that everything goes with the last
// pod.
func (c *chained) ends() {
	c.t.Helper()
	c.outlives()
	c.deletes()
}

// outlives checks that pods work after STATUS and GC.
func (c *chained) outlives() {
	c.t.Helper()
	c.run("STATUS", func(ctx context.Context) error { return c.cni.GetStatusNetworkList(ctx, c.list) })
	c.run("GC", func(ctx context.Context) error {
		return c.cni.GCNetworkList(ctx, c.list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{
			{ContainerID: "pod0", IfName: "eth0"}, {ContainerID: "pod1", IfName: "eth0"},
		}})
	})
	c.works()
}

// deletes checks that everything goes with the last pod.
func (c *chained) deletes() {
	c.t.Helper()
	for i := range c.pods {
		c.run("DEL", func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.conf(i)) })
	}
	c.node.lacks("bond0")
	if out := c.node.sh("ip link show type vlan"); out != "" {
		c.t.Errorf("left over: %s", out)
	}
}
