// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/testbed"
)

// pod is a namespace as the plugins before coordinator leave it: with a macvlan
// NIC that has its addresses and its default route.
type pod struct {
	*testbed.Netns
	id        string
	addresses []netip.Prefix
	result    *current.Result // of the plugins before
}

// podsMade numbers the pods: each has addresses of its own.
var podsMade int

func (n *node) newPod() (*pod, error) {
	podsMade++
	netns, err := testbed.NewNetns("pod")
	if err != nil {
		return nil, err
	}
	p := &pod{Netns: netns, id: fmt.Sprintf("%064x", podsMade), addresses: nextAddresses(16, "fd00:6::1:%x/64")}
	p.result, err = p.addNIC(n, "eth0", p.addresses)
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// nextAddresses returns the addresses of the pod made last, from its place in
// 10.6.0.0/16 and in a format of IPv6.
func nextAddresses(place int, v6 string) []netip.Prefix {
	i := podsMade % (1 << 12)
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.6.%d.%d/16", place+i>>8, i&255)),
		netip.MustParsePrefix(fmt.Sprintf(v6, i)),
	}
}

// addNIC gives a pod a macvlan with addresses, and the default routes if it has
// none, and returns the result of the plugins that would have done so.
func (p *pod) addNIC(n *node, name string, addresses []netip.Prefix) (*current.Result, error) {
	if err := n.AddMacvlan(nic, p.Netns, name); err != nil {
		return nil, err
	}
	if err := p.AddAddrs(name, addresses...); err != nil {
		return nil, err
	}
	mac, err := p.MAC(name)
	if err != nil {
		return nil, err
	}
	result := &current.Result{
		CNIVersion: cniVersion,
		Interfaces: []*current.Interface{{Name: name, Mac: mac.String(), Sandbox: p.Path()}},
	}
	for _, a := range addresses {
		gateway := a.Masked().Addr().Next()
		if name == "eth0" {
			if err := p.AddRoutes(testbed.Route{Dst: netip.PrefixFrom(a.Addr(), 0).Masked(), Via: gateway, Dev: name}); err != nil {
				return nil, err
			}
		}
		result.IPs = append(result.IPs, &current.IPConfig{
			Interface: current.Int(0),
			Address:   net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())},
			Gateway:   gateway.AsSlice(),
		})
	}
	return result, nil
}

// newOverlayPod makes a pod whose eth0 is a veth to the node with a gateway that
// is not in its subnet, as Calico makes it.
func (n *node) newOverlayPod() (*pod, error) {
	podsMade++
	netns, err := testbed.NewNetns("overlay pod")
	if err != nil {
		return nil, err
	}
	p := &pod{Netns: netns, id: fmt.Sprintf("%064x", podsMade)}
	hostEnd, gateway := fmt.Sprintf("cali%011x", podsMade), netip.MustParseAddr("169.254.1.1")
	address := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(podsMade >> 8), byte(podsMade)}), 32)
	err = testbed.ConnectVeth(n.Netns, hostEnd, p.Netns, "eth0")
	if err == nil {
		err = p.AddAddrs("eth0", address)
	}
	if err == nil {
		err = p.AddRoutes(
			testbed.Route{Dst: netip.PrefixFrom(gateway, 32), Dev: "eth0"},
			testbed.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway, Dev: "eth0"})
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
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
