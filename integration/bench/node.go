// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/multihome/multihome/pkg/testbed"
)

// These are the sizes of a busy node. The routes in table main are IPv4 routes. The kernel
// walks all IPv6 routes whenever a link goes up or down, for any program, and that would hide
// the time of a plugin.
const (
	otherPods        = 500
	serviceAddresses = 5000
	hostRoutes       = 100000
)

const nic = "ens192"

var (
	nodeAddresses = []netip.Prefix{netip.MustParsePrefix("10.6.168.123/16"), netip.MustParsePrefix("fd00:6::123/64")}
	gateways      = []netip.Addr{netip.MustParseAddr("10.6.0.1"), netip.MustParseAddr("fd00:6::1")}
)

// node is a machine with a NIC on an otherwise empty LAN, and with rules like kube-proxy's,
// because these turn on connection tracking on every node.
type node struct {
	*testbed.Machine
	lan *testbed.Netns
	plugins
}

func newNode(name string, p plugins) (*node, error) {
	m, err := testbed.NewMachine(name)
	if err != nil {
		return nil, err
	}
	lan, err := testbed.NewNetns("LAN of " + name)
	if err != nil {
		m.Close()
		return nil, err
	}
	n := &node{m, lan, p}
	if err := n.wire(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *node) wire() error {
	if err := testbed.ConnectVeth(n.Netns, nic, n.lan, "port"); err != nil {
		return err
	}
	if err := n.AddAddrs(nic, nodeAddresses...); err != nil {
		return err
	}
	if err := n.EnableForwarding(); err != nil {
		return err
	}
	if err := n.openSpool(); err != nil {
		return err
	}
	return n.SetServices(testbed.Service{
		ClusterIP: netip.MustParseAddrPort("10.96.0.10:53"),
		Endpoint:  netip.MustParseAddrPort("10.6.0.53:53"),
	})
}

func (n *node) Close() {
	n.Machine.Close()
	n.lan.Close()
}

// crowd makes the node busy. It returns the namespace with the far ends of the other pods'
// links.
func (n *node) crowd(ctx context.Context) (*testbed.Netns, error) {
	others, err := testbed.NewNetns("other pods")
	if err != nil {
		return nil, err
	}
	var v4, v6 batch
	for _, b := range []*batch{&v4, &v6} {
		b.line("rule add from all priority 1000 lookup 500 protocol 109")
	}
	for i := range otherPods {
		link, mac := fmt.Sprintf("veth%011x", i), fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)
		v4.line("link add %s up type veth peer name peer%d netns %s", link, i, others.Path())
		for b, a := range map[*batch]string{&v4: fmt.Sprintf("10.6.%d.%d", 128+i>>8, i&255), &v6: fmt.Sprintf("fd00:6::2:%x", i)} {
			b.line("route add %s dev %s table 500 protocol 109", a, link)
			b.line("neigh add %s dev %s lladdr %s nud permanent", a, link, mac)
		}
	}
	err = n.run(ctx, &v4, &v6)
	if err == nil {
		err = n.addServices(ctx, 0, serviceAddresses)
	}
	if err == nil {
		err = n.addRoutes(ctx, 0, hostRoutes)
	}
	if err == nil {
		err = n.fillSpool(otherPods)
	}
	if err != nil {
		others.Close()
		return nil, fmt.Errorf("make the node busy: %w", err)
	}
	return others, nil
}

// addServices adds the service addresses with numbers in [from, to) to a link, as kube-proxy
// does in mode ipvs. Half of them are IPv6.
func (n *node) addServices(ctx context.Context, from, to int) error {
	var v4, v6 batch
	if from == 0 {
		v4.line("link add kube-ipvs0 type bridge") // only the name matters, not the type
	}
	for i := from / 2; i < to/2; i++ {
		v4.line("address add 10.100.%d.%d/32 dev kube-ipvs0", i>>8, i&255)
		v6.line("address add fd00:10:96::1:%x/128 dev kube-ipvs0 nodad", i)
	}
	return n.run(ctx, &v4, &v6)
}

// addRoutes adds the host routes with numbers in [from, to).
func (n *node) addRoutes(ctx context.Context, from, to int) error {
	var v4 batch
	for i := from; i < to; i++ {
		v4.line("route add 172.%d.%d.%d via %s", 16+i>>16, i>>8&255, i&255, gateways[0])
	}
	return n.run(ctx, &v4, &batch{})
}

func (n *node) run(ctx context.Context, v4, v6 *batch) error {
	return n.Do(func() error {
		return errors.Join(v4.run(ctx, "-4"), v6.run(ctx, "-6"))
	})
}

// batch is input for ip(8), for one address family.
type batch struct{ bytes.Buffer }

func (b *batch) line(format string, a ...any) { fmt.Fprintf(b, format+"\n", a...) }

func (b *batch) run(ctx context.Context, family string) error {
	cmd := exec.CommandContext(ctx, "ip", family, "-batch", "-")
	cmd.Stdin = b
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s -batch: %w: %.500s", family, err, out)
	}
	return nil
}
