// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"

	"github.com/multihome/multihome/integration/guide"
	"github.com/multihome/multihome/pkg/testbed"
)

// port80 is where the demo answers in each pod.
const port80 = 80

// exchange sends a request from a namespace to a pod's address, and checks the answer and
// that both passed the wires of one LAN alone.
func (d *demo) exchange(from *testbed.Netns, to *pod, addr netip.Addr, lan string) (err error) {
	capture, err := d.router.Capture("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	answer, err := from.Ask("tcp", netip.AddrPortFrom(addr, port80), testbed.Socket{})
	if err != nil {
		return fmt.Errorf("%s asks %s of %s: %w", from.Name(), addr, to.Name(), err)
	}
	frames, err := capture.Frames()
	if err != nil {
		return err
	}
	if answer.Server != to.Name() {
		return fmt.Errorf("%s asks %s: %s answers, want %s", from.Name(), addr, answer.Server, to.Name())
	}
	if err := guide.OnWire(frames, lanOf, lan, answer.Local.Addr(), addr); err != nil {
		return fmt.Errorf("%s asks %s of %s: %w", from.Name(), addr, to.Name(), err)
	}
	d.say("  %s → %s of %s on %s: answered, on the wire of %s only", from.Name(), addr, to.Name(), to.node.Name(), lan)
	return nil
}

// betweenPods lets each pod ask each one on another node by a NIC, which is in a LAN.
func (d *demo) betweenPods(pods []*pod, nic, lan string) error {
	d.say("\nRequests between pods by %s:", nic)
	asked := false
	for _, from := range pods {
		for _, to := range pods {
			if from.node == to.node {
				continue
			}
			addr, err := to.address(nic)
			if err != nil {
				return err
			}
			if err := d.exchange(from.Netns, to, addr.Addr(), lan); err != nil {
				return err
			}
			asked = true
		}
	}
	if !asked {
		return fmt.Errorf("all pods are on %s, want pods on both nodes", pods[0].node.Name())
	}
	return nil
}

// fromNode lets a pod's node ask it, as the kubelet's probes do.
func (d *demo) fromNode(to *pod) error {
	addr, err := to.address("eth0")
	if err != nil {
		return err
	}
	answer, err := to.node.Ask("tcp", netip.AddrPortFrom(addr.Addr(), port80), testbed.Socket{})
	if err != nil {
		return fmt.Errorf("%s asks %s of %s: %w", to.node.Name(), addr, to.Name(), err)
	}
	if answer.Server != to.Name() {
		return fmt.Errorf("%s asks %s: %s answers, want %s", to.node.Name(), addr, answer.Server, to.Name())
	}
	d.say("\nA request of a pod's own node, as by its probes:\n  %s → %s of %s: answered", to.node.Name(), addr.Addr(), to.Name())
	return nil
}

// byService lets each pod ask a ClusterIP until each pod has answered.
func (d *demo) byService(ctx context.Context, pods []*pod, clusterIP netip.Addr) error {
	d.say("\nRequests to the ClusterIP %s, by kube-proxy:", clusterIP)
	for _, from := range pods {
		var answered []string
		err := d.until(ctx, func() error {
			answer, err := from.Ask("tcp", netip.AddrPortFrom(clusterIP, port80), testbed.Socket{})
			if err != nil {
				return fmt.Errorf("%s asks the ClusterIP %s: %w", from.Name(), clusterIP, err)
			}
			if !slices.ContainsFunc(pods, func(p *pod) bool { return p.Name() == answer.Server }) {
				return fmt.Errorf("%s asks the ClusterIP %s: %s answers, want a pod of the Service", from.Name(), clusterIP, answer.Server)
			}
			if !slices.Contains(answered, answer.Server) {
				answered = append(answered, answer.Server)
			}
			if len(answered) < len(pods) {
				return fmt.Errorf("%s asks the ClusterIP %s: only %v answer", from.Name(), clusterIP, answered)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Sort(answered)
		d.say("  %s → %s: answered by %v", from.Name(), clusterIP, answered)
	}
	return nil
}

// address returns the IPv4 address of a pod's NIC.
func (p *pod) address(nic string) (netip.Prefix, error) {
	var out string
	err := p.Do(func() (err error) {
		out, err = output(exec.Command("ip", "addr", "show", "dev", nic))
		return err
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	addr, err := guide.AddressOf(out, nic)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s: %w", p.Name(), err)
	}
	return addr, nil
}
