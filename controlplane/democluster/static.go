// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/integration/guide"
	"github.com/multihome/multihome/pkg/testbed"
)

const staticExamples = "examples/static-macvlan/"

// staticMacvlan shows pods with a second NIC whose address and MAC are given, or are of a
// VLANSubnet: docs/static-macvlan.md.
func (d *demo) staticMacvlan(ctx context.Context) error {
	d.title("A NIC with a given address and MAC: docs/static-macvlan.md")
	subnet, err := d.vlanSubnetFile()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		check   func(string) error
		command []string
	}{
		{nil, []string{"kubectl", "apply", "-f", staticExamples + "static-macvlan-cni.yml"}},
		{nil, []string{"kubectl", "apply", "-f", subnet}},
		{guide.VLANSubnet, []string{"kubectl", "get", "vlansubnets"}},
		{nil, []string{"kubectl", "apply", "-f", staticExamples + "pod-1.yml"}},
		{nil, []string{"kubectl", "apply", "-f", staticExamples + "pod-2.yml"}},
	} {
		if err := d.show(ctx, c.check, c.command...); err != nil {
			return err
		}
	}
	first, err := d.staticPod(ctx, "samplepod1")
	if err != nil {
		return err
	}
	second, err := d.staticPod(ctx, "samplepod2")
	if err != nil {
		return err
	}
	var address netip.Prefix
	err = d.show(ctx, func(text string) (err error) {
		address, err = guide.StaticPods(text, string(first.uid), string(second.uid))
		return err
	}, "kubectl", "get", "staticpods")
	if err != nil {
		return err
	}
	if err := d.showIn(ctx, first.Netns, guide.StaticNIC(guide.StaticAddress, guide.StaticMAC), "ip", "a"); err != nil {
		return err
	}
	if err := d.showIn(ctx, second.Netns, guide.StaticNIC(address, ""), "ip", "a"); err != nil {
		return err
	}
	for _, n := range []*node{first.node, second.node} {
		if err := d.showIn(ctx, n.Netns, guide.OnParent("mv1.100", "eth0"), "ip", "link", "ls", "mv1.100"); err != nil {
			return err
		}
	}
	if err := d.betweenPods([]*pod{first, second}, "net1", "eth0"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "delete", "-f", staticExamples+"pod-1.yml", "-f", staticExamples+"pod-2.yml"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.Empty, "kubectl", "get", "staticpods", "-o", "name"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "delete", "vlansubnet/mv1.100", "net-attach-def/static-macvlan-cni"); err != nil {
		return err
	}
	return d.nothingOut(ctx)
}

// vlanSubnetFile returns the file of the guide's VLANSubnet. A kernel without VLANs needs one
// without the VLAN.
func (d *demo) vlanSubnetFile() (path string, err error) {
	path = staticExamples + "vlan-subnet.yml"
	if knows, err := testbed.KnowsLinks("vlan"); knows || err != nil {
		return path, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	without, err := guide.WithoutVLAN(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	d.say("This machine's kernel has no VLANs (8021q), so the VLANSubnet is applied without its VLAN: mv1.100 is a macvlan then.")
	path = filepath.Join(d.dir, "vlan-subnet.yml")
	return path, os.WriteFile(path, []byte(without), 0o600)
}

// staticPod waits until a pod runs.
func (d *demo) staticPod(ctx context.Context, name string) (*pod, error) {
	pods, err := d.podsOf(ctx, 1, client.MatchingFields{"metadata.name": name})
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	return pods[0], nil
}
