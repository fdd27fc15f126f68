// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/integration/guide"
)

var testApp = client.MatchingLabels{"app": "test-app"}

// fixedAddresses shows a Deployment whose pods have two NICs with fixed addresses:
// docs/fixed-addresses.md.
func (d *demo) fixedAddresses(ctx context.Context) error {
	d.title("Fixed addresses for two NICs: docs/fixed-addresses.md")
	if err := d.newApplication(ctx); err != nil {
		return err
	}
	ranges, err := d.rangesOf(ctx, 2, 3)
	if err != nil {
		return err
	}
	if err := d.wayOfPod(ctx); err != nil {
		return err
	}
	if err := d.restarted(ctx, ranges); err != nil {
		return err
	}
	if err := d.scaled(ctx); err != nil {
		return err
	}
	return d.applicationGone(ctx)
}

// newApplication makes subnets, networks and the Deployment.
func (d *demo) newApplication(ctx context.Context) error {
	if err := d.do(ctx, "kubectl", "apply", "-f", "examples/fixed-addresses/subnets.yaml"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.Subnets(0), "kubectl", "get", "spidersubnet"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "apply", "-f", "examples/fixed-addresses/networks.yaml"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "apply", "-f", "examples/fixed-addresses/test-app.yaml"); err != nil {
		return err
	}
	return d.show(ctx, guide.RunningPods(2, guide.AppNICs[0].Subnet, nil), "kubectl", "get", "po", "-l", "app=test-app", "-o", "wide")
}

// rangesOf shows subnets and pools, and returns the ranges of the pools, in the order of guide.AppNICs.
func (d *demo) rangesOf(ctx context.Context, allocated, total int) ([]guide.Interval, error) {
	if err := d.show(ctx, guide.Subnets(total), "kubectl", "get", "spidersubnet"); err != nil {
		return nil, err
	}
	var pools string
	err := d.show(ctx, func(text string) error {
		pools = text
		return guide.Pools(allocated, total)(text)
	}, "kubectl", "get", "spiderippool")
	if err != nil {
		return nil, err
	}
	var out []guide.Interval
	for _, n := range guide.AppNICs {
		var found guide.Interval
		err := d.show(ctx, func(text string) (err error) {
			found, err = guide.OneInterval(text, total, n.Subnet)
			return err
		}, "kubectl", "get", "spiderippool", guide.PoolOf(pools, n.Name), "-o", "jsonpath={.spec.ips}")
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

// wayOfPod shows the NICs, routes and rules of a pod, and sends traffic.
func (d *demo) wayOfPod(ctx context.Context) error {
	pods, err := d.podsOf(ctx, 2, testApp)
	if err != nil {
		return err
	}
	p := pods[0]
	eth0, err := p.address("eth0")
	if err != nil {
		return err
	}
	net1, err := p.address("net1")
	if err != nil {
		return err
	}
	if !guide.AppNICs[0].Subnet.Has(eth0.Addr()) || !guide.AppNICs[1].Subnet.Has(net1.Addr()) {
		return fmt.Errorf("%s has %s and %s: want addresses of %s and %s", p.Name(), eth0, net1, guide.AppNICs[0].Subnet, guide.AppNICs[1].Subnet)
	}
	d.say("\nThere is no kubelet for kubectl exec: these commands run in the namespace of %s on %s.", p.Name(), p.node.Name())
	for _, c := range guide.InPod(eth0, net1, p.node.addr) {
		if err := d.showIn(ctx, p.Netns, c.Check, strings.Fields(c.Command)...); err != nil {
			return err
		}
	}
	if err := d.do(ctx, "kubectl", "expose", "deployment", "test-app", "--port", "80"); err != nil {
		return err
	}
	return d.traffic(ctx, pods)
}

// traffic sends requests to pods of test-app in every way.
func (d *demo) traffic(ctx context.Context, pods []*pod) error {
	for _, n := range guide.AppNICs {
		if err := d.betweenPods(pods, n.Name, n.LAN); err != nil {
			return err
		}
	}
	var service corev1.Service
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: "default", Name: "test-app"}, &service); err != nil {
		return err
	}
	clusterIP, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		return err
	}
	if err := d.byService(ctx, pods, clusterIP); err != nil {
		return err
	}
	if err := d.fromOutside(pods[0]); err != nil {
		return err
	}
	return d.fromNode(pods[0])
}

// fromOutside lets a client behind the router ask both NICs of a pod: the answer takes the
// NIC of the request.
func (d *demo) fromOutside(to *pod) error {
	d.say("\nRequests of a client behind the router:")
	for _, n := range guide.AppNICs {
		addr, err := to.address(n.Name)
		if err != nil {
			return err
		}
		if err := d.exchange(d.outside, to, addr.Addr(), n.LAN); err != nil {
			return err
		}
	}
	return nil
}

// restarted deletes the pods: the new ones have addresses of the same ranges.
func (d *demo) restarted(ctx context.Context, before []guide.Interval) error {
	pods, err := d.podsOf(ctx, 2, testApp)
	if err != nil {
		return err
	}
	var former []string
	for _, p := range pods {
		former = append(former, p.Name())
	}
	if err := d.do(ctx, "kubectl", "delete", "po", "-l", "app=test-app"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.RunningPods(2, before[0], former), "kubectl", "get", "po", "-l", "app=test-app", "-o", "wide"); err != nil {
		return err
	}
	after, err := d.rangesOf(ctx, 2, 3)
	if err != nil {
		return err
	}
	for i := range before {
		if after[i] != before[i] {
			return fmt.Errorf("the pool of %s has %s after its pods were deleted, want %s as before", guide.AppNICs[i].Name, after[i], before[i])
		}
	}
	return nil
}

// scaled scales to 3: both pools have 4 addresses then.
func (d *demo) scaled(ctx context.Context) error {
	if err := d.do(ctx, "kubectl", "scale", "deploy", "test-app", "--replicas", "3"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.RunningPods(3, guide.AppNICs[0].Subnet, nil), "kubectl", "get", "po", "-l", "app=test-app", "-o", "wide"); err != nil {
		return err
	}
	ranges, err := d.rangesOf(ctx, 3, 4)
	if err != nil {
		return err
	}
	pods, err := d.podsOf(ctx, 3, testApp)
	if err != nil {
		return err
	}
	for _, p := range pods {
		for i, n := range guide.AppNICs {
			addr, err := p.address(n.Name)
			if err != nil {
				return err
			}
			if !ranges[i].Has(addr.Addr()) {
				return fmt.Errorf("%s of %s has %s, want an address of %s", n.Name, p.Name(), addr, ranges[i])
			}
		}
	}
	return d.traffic(ctx, pods)
}

// applicationGone deletes all: the addresses go back to the subnets.
func (d *demo) applicationGone(ctx context.Context) error {
	if err := d.do(ctx, "kubectl", "delete", "service", "test-app"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "delete", "-f", "examples/fixed-addresses/test-app.yaml"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.Subnets(0), "kubectl", "get", "spidersubnet"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "delete", "-f", "examples/fixed-addresses/networks.yaml", "-f", "examples/fixed-addresses/subnets.yaml"); err != nil {
		return err
	}
	return d.nothingOut(ctx)
}
