// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/nettest"
)

// chain is ifacer, macvlan on what it makes, and coordinator.
const chain = `{
	"cniVersion": "1.1.0", "name": "lan",
	"plugins": [
		{"type": "ifacer", %s, "removeUnused": true},
		{"type": "macvlan", "master": "%s", "mode": "bridge", "ipam": {"type": "host-local", "dataDir": "/run/cni/networks",
			"ranges": [[{"subnet": "172.100.0.0/16", "rangeStart": "172.100.0.100", "rangeEnd": "172.100.0.200"}]]}},
		{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12"]}
	]
}`

var (
	peerAddr = netip.MustParseAddr("172.100.0.1")
	nodeAddr = netip.MustParseAddr("10.6.168.123")
)

// TestChainVLAN: pods on a VLAN of a NIC.
func TestChainVLAN(t *testing.T) {
	c := newChain(t, `"interfaces": ["ens192"], "vlanID": 100`, "ens192.100", 100)
	c.works()
	c.ends()
}

// TestChainBond: pods on a VLAN of a bond, also when its active member fails.
func TestChainBond(t *testing.T) {
	c := newChain(t, `"interfaces": ["ens192", "ens224"], "vlanID": 200, "bond": {"name": "bond0", "mode": 1, "options": "primary=ens192; miimon=50"}`, "bond0.200", 200)
	c.works()
	c.node.eventually("ip -d link show bond0", "active_slave ens192 ")
	if err := c.node.sw.SetDown("ens192"); err != nil {
		t.Fatal(err)
	}
	c.node.eventually("ip -d link show bond0", "active_slave ens224 ")
	c.works()
	c.ends()
}

// chained is a node with two pods, and a host in their VLAN.
type chained struct {
	t     *testing.T
	node  *node
	list  *libcni.NetworkConfigList
	cni   *libcni.CNIConfig
	pods  []*nettest.Netns
	addrs []netip.Addr
	peer  *nettest.Netns
	vlan  int
}

func newChain(t *testing.T, keys, master string, vlan int) *chained {
	t.Helper()
	withoutNftables(t)
	c := &chained{t: t, node: newNode(t, "ens160", "ens192", "ens224"), vlan: vlan}
	c.node.sh("ip addr add 10.6.168.123/16 dev ens160; ip route add default via 10.6.0.1")
	c.peer = c.netns("peer")
	if err := nettest.ConnectVeth(c.node.sw, "peer", c.peer, "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := c.node.sw.SetMaster("peer", "br0"); err != nil {
		t.Fatal(err)
	}
	c.in(c.peer, fmt.Sprintf("ip link add link eth0 name vlan type vlan id %d; ip link set vlan up; ip addr add %s/16 dev vlan", vlan, peerAddr))
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	c.cni = libcni.NewCNIConfigWithCacheDir([]string{bin, filepath.Join(bin, "cni")}, "/run/cni/cache", nil)
	if c.list, err = libcni.NetworkConfFromBytes(fmt.Appendf(nil, chain, keys, master)); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		pod := c.netns(fmt.Sprint("pod", i))
		c.pods = append(c.pods, pod)
		var result types.Result
		c.run("ADD", func(ctx context.Context) (err error) {
			result, err = c.cni.AddNetworkList(ctx, c.list, c.conf(i))
			return err
		})
		r, err := types100.NewResultFromResult(result)
		if err != nil {
			t.Fatal(err)
		}
		addr, ok := netip.AddrFromSlice(r.IPs[0].Address.IP.To4())
		if !ok {
			t.Fatalf("no IPv4 address: %v", r)
		}
		c.addrs = append(c.addrs, addr)
	}
	return c
}

// withoutNftables keeps the kernel from loading nf_tables: this one's can be talked
// to, but holds no table of family inet, ip or ip6, and coordinator's markBackend
// "auto" takes nf_tables that answers for one that works. Without it, that finds
// iptables-legacy.
func withoutNftables(t *testing.T) {
	t.Helper()
	const setting = "/proc/sys/kernel/modprobe"
	before, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "modprobe-") // iptables runs it, too, with another /run
	if err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(dir, "modprobe")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *nfnetlink-subsys-10) exit 1 ;; esac\nexec %s \"$@\"\n", bytes.TrimSpace(before))
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(setting, []byte(wrapper), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.WriteFile(setting, before, 0), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if modules, err := os.ReadFile("/proc/modules"); err != nil || bytes.Contains(modules, []byte("nf_tables ")) {
		t.Fatalf("nf_tables is loaded already: %v", err)
	}
}

func (c *chained) netns(name string) *nettest.Netns {
	c.t.Helper()
	n, err := nettest.NewNetns(name)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { n.Close() })
	return n
}

func (c *chained) in(n *nettest.Netns, script string) {
	c.t.Helper()
	err := n.Do(func() error {
		if out, err := exec.Command("sh", "-euc", script).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *chained) conf(pod int) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: fmt.Sprint("pod", pod), NetNS: c.pods[pod].Path(), IfName: "eth0"}
}

func (c *chained) run(verb string, f func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := c.node.Run(func() error { return f(ctx) }); err != nil {
		c.t.Fatalf("%s: %v", verb, err)
	}
}

// works: pods reach each other, the VLAN, and their node, both ways, with the
// VLAN's tag on the wire.
func (c *chained) works() {
	c.t.Helper()
	for i := range c.pods {
		c.run("CHECK", func(ctx context.Context) error { return c.cni.CheckNetworkList(ctx, c.list, c.conf(i)) })
		for _, way := range []struct {
			from *nettest.Netns
			to   netip.Addr
		}{{c.pods[i], peerAddr}, {c.peer, c.addrs[i]}, {c.pods[i], nodeAddr}, {c.node.Netns, c.addrs[i]}, {c.pods[i], c.addrs[1-i]}} {
			if err := way.from.Ping(way.to, nettest.Socket{}); err != nil {
				c.t.Errorf("%s to %s: %v", way.from.Name(), way.to, err)
			}
		}
	}
	c.tagged()
}

// tagged looks at the port of the host in the VLAN, where frames are as they are
// on the wire.
func (c *chained) tagged() {
	c.t.Helper()
	dump := exec.Command("timeout", "20", "tcpdump", "-i", "eth0", "-n", "-e", "-c", "1", "--immediate-mode",
		fmt.Sprintf("vlan %d and icmp and src %s", c.vlan, c.addrs[0]))
	var out strings.Builder
	dump.Stdout, dump.Stderr = &out, &out
	if err := c.peer.Do(dump.Start); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- dump.Wait() }()
	for {
		if err := c.pods[0].Ping(peerAddr, nettest.Socket{}); err != nil {
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

// ends: STATUS and GC work, and with the last pod everything goes.
func (c *chained) ends() {
	c.t.Helper()
	c.run("STATUS", func(ctx context.Context) error { return c.cni.GetStatusNetworkList(ctx, c.list) })
	c.run("GC", func(ctx context.Context) error {
		return c.cni.GCNetworkList(ctx, c.list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{
			{ContainerID: "pod0", IfName: "eth0"}, {ContainerID: "pod1", IfName: "eth0"},
		}})
	})
	c.works()
	for i := range c.pods {
		c.run("DEL", func(ctx context.Context) error { return c.cni.DelNetworkList(ctx, c.list, c.conf(i)) })
	}
	c.node.lacks("bond0")
	if out := c.node.sh("ip link show type vlan"); out != "" {
		c.t.Errorf("left over: %s", out)
	}
}
