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

// pod is a namespace in the state before coordinator: the plugins before it made a macvlan
// NIC with addresses and a default route.
type pod struct {
	*testbed.Netns
	id        string
	addresses []netip.Prefix
	result    *current.Result // of the plugins before
}

// podsMade counts the pods. Each pod derives its addresses from its number.
var podsMade int

// newPod makes a pod with a macvlan NIC eth0.
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

// nextAddresses returns an IPv4 and an IPv6 address for the pod that was made last. The place
// is the third byte of the first IPv4 address, and v6 is a format for the pod's number.
func nextAddresses(place int, v6 string) []netip.Prefix {
	i := podsMade % (1 << 12)
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.6.%d.%d/16", place+i>>8, i&255)),
		netip.MustParsePrefix(fmt.Sprintf(v6, i)),
	}
}

// addNIC adds a macvlan with addresses to a pod, and default routes if it is eth0. It returns
// the result of the plugins that do so in a cluster.
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

// newOverlayPod makes a pod like Calico's: eth0 is a veth to the node, and its gateway is
// outside of its subnet.
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

// hostEnd returns the name of the host's link to a pod from the result of an ADD.
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

// join returns the addresses of prefixes with commas between them.
func join(prefixes []netip.Prefix) string {
	var s []string
	for _, p := range prefixes {
		s = append(s, p.Addr().String())
	}
	return strings.Join(s, ",")
}
