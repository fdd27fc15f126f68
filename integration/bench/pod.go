// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/nettest"
)

// pod is a namespace as the plugins before coordinator leave it: with a macvlan
// NIC that has its addresses and its default route.
type pod struct {
	*nettest.Netns
	id        string
	addresses []netip.Prefix
	result    *current.Result // of the plugins before
}

// podsMade numbers the pods: each has addresses of its own.
var podsMade int

func (n *node) newPod() (*pod, error) {
	podsMade++
	i := podsMade % (1 << 13)
	netns, err := nettest.NewNetns("pod")
	if err != nil {
		return nil, err
	}
	p := &pod{Netns: netns, id: fmt.Sprintf("%064x", podsMade), addresses: []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.6.%d.%d/16", 16+i>>8, i&255)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:6::1:%x/64", i)),
	}}
	if err := p.wire(n); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *pod) wire(n *node) error {
	if err := n.AddMacvlan(nic, p.Netns, "eth0"); err != nil {
		return err
	}
	if err := p.AddAddrs("eth0", p.addresses...); err != nil {
		return err
	}
	mac, err := p.MAC("eth0")
	if err != nil {
		return err
	}
	p.result = &current.Result{
		CNIVersion: cniVersion,
		Interfaces: []*current.Interface{{Name: "eth0", Mac: mac.String(), Sandbox: p.Path()}},
	}
	for i, a := range p.addresses {
		gateway := gateways[i]
		if err := p.AddRoutes(nettest.Route{Dst: netip.PrefixFrom(a.Addr(), 0).Masked(), Via: gateway, Dev: "eth0"}); err != nil {
			return err
		}
		p.result.IPs = append(p.result.IPs, &current.IPConfig{
			Interface: current.Int(0),
			Address:   net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())},
			Gateway:   gateway.AsSlice(),
		})
	}
	return nil
}

// hostEnd is the name of the host's link to a pod in the result of an ADD.
func hostEnd(added []byte) (string, error) {
	var result current.Result
	if err := json.Unmarshal(added, &result); err != nil {
		return "", err
	}
	for _, i := range result.Interfaces {
		if i.Sandbox == "" && strings.HasPrefix(i.Name, "veth") {
			return i.Name, nil
		}
	}
	return "", fmt.Errorf("no host end in %s", added)
}

func join(prefixes []netip.Prefix) string {
	var s []string
	for _, p := range prefixes {
		s = append(s, p.Addr().String())
	}
	return strings.Join(s, ",")
}
