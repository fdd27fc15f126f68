// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/multihome/multihome/pkg/testbed"
)

// node is a simulated node.
type node struct {
	*testbed.Machine
	addr    netip.Addr
	pods    netip.Prefix // of the cluster network
	kubelet *kubelet
}

// newNode makes the i-th node: its namespaces, its NICs, its agent, kube-proxy and kubelet.
func (d *demo) newNode(ctx context.Context, i int) error {
	m, err := testbed.NewMachine(fmt.Sprintf("node%d", i))
	if err != nil {
		return err
	}
	d.closers = append(d.closers, m)
	n := &node{
		Machine: m,
		addr:    netip.AddrFrom4([4]byte{10, 6, 168, byte(122 + i)}),
		pods:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24),
	}
	d.nodes = append(d.nodes, n)
	if err := d.connect(n); err != nil {
		return err
	}
	if err := relayAPI(ctx, n, d.server); err != nil {
		return err
	}
	if n.kubelet, err = newKubelet(d, n); err != nil {
		return err
	}
	if err := n.kubelet.register(ctx); err != nil {
		return err
	}
	d.goUntilEnd(func() { n.kubelet.watch(ctx) })
	d.start(ctx, n, filepath.Join(d.root, "bin/multihome-agent"), "--node", n.Name(), "--defaults", "/run/coordinator.json", "--metrics-address", "0", "--health-address", "0")
	proxy := filepath.Join(d.dir, n.Name()+"-proxy.yaml")
	if err := os.WriteFile(proxy, []byte(proxyConfig(n)), 0o600); err != nil {
		return err
	}
	d.start(ctx, n, filepath.Join(d.root, ".cache/e2e/bin/kube-proxy"), "--config", proxy)
	return nil
}

// proxyConfig is kube-proxy's configuration. What comes from outside of the cluster network,
// such as pods of the LAN, is masqueraded. It changes nothing that isn't the node's own.
func proxyConfig(n *node) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
hostnameOverride: %s
bindAddress: 127.0.0.1
clientConnection: {kubeconfig: %q}
conntrack: {tcpBeLiberal: true, maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, n.Name(), os.Getenv("KUBECONFIG"))
}

// multusConfig is the node's configuration of Multus, as the runtime reads it. Pods whose
// annotations say nothing else have their first NIC in the cluster network.
func multusConfig(n *node, plugins string) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "multus", "plugins": [{"type": "multus", "kubeconfig": %q,
 "binDir": %q, "logLevel": "error", "logToStderr": false,
 "delegates": [{"cniVersion": "1.0.0", "name": "cluster", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
   "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}]}]}`, os.Getenv("KUBECONFIG"), plugins, n.pods)
}

// start runs a program on a node until ctx ends, with a log in the demo's directory. If it
// ends by itself, the demo fails.
func (d *demo) start(ctx context.Context, n *node, argv ...string) {
	name := filepath.Base(argv[0]) + " on " + n.Name()
	log := filepath.Join(d.dir, strings.ReplaceAll(name, " ", "-")+".log")
	d.goUntilEnd(func() {
		// Run stays on its thread, so the program ends with it.
		err := n.Run(func() error {
			f, err := os.Create(log)
			if err != nil {
				return err
			}
			defer f.Close()
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Stdout, cmd.Stderr = f, f
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
			return errors.Join(cmd.Run(), errors.New("it ended"))
		})
		if ctx.Err() == nil {
			text, _ := os.ReadFile(log) // what is there
			d.fail(fmt.Errorf("%s: %w; its log ends:\n%s", name, err, text[max(0, len(text)-2000):]))
		}
	})
}
