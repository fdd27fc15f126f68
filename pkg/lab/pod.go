// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path/filepath"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/nettest"
)

// Pod is a pod: a container ID, a namespace, and what the plugins answered for
// each of its NICs.
type Pod struct {
	*nettest.Netns
	NetNS       string // CNI_NETNS, a path in the node's files
	ContainerID string
	Results     map[string]*types100.Result
}

// podsDir is where the node knows the namespaces of pods.
const podsDir = "/run/netns"

// NewPod makes a pod without a NIC. The container ID follows from the name, by which
// the node knows the namespace.
func (l *Lab) NewPod(name string) (*Pod, error) {
	n, err := nettest.NewNetns(name)
	if err != nil {
		return nil, err
	}
	l.closeLater(n)
	id := sha256.Sum256([]byte(name))
	pod := &Pod{
		Netns:       n,
		NetNS:       filepath.Join(podsDir, name),
		ContainerID: hex.EncodeToString(id[:]),
		Results:     map[string]*types100.Result{},
	}
	return pod, l.Node.Pin(n, pod.NetNS)
}

// Addrs returns the addresses that the plugins gave to a NIC.
func (p *Pod) Addrs(ifname string) []netip.Prefix {
	result := p.Results[ifname]
	if result == nil {
		return nil
	}
	var addrs []netip.Prefix
	for _, ip := range result.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			bits, _ := ip.Address.Mask.Size()
			addrs = append(addrs, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	return addrs
}

// way is the pod's link to its node: a link of its own, or else its first NIC.
func (p *Pod) way() string {
	for _, i := range p.Results[NIC].Interfaces {
		if i.Name == "veth0" {
			return i.Name
		}
	}
	return NIC
}

// HostEnd returns the name of the node's link to the pod, as the result of a NIC
// tells it, or "" if there is none.
func (p *Pod) HostEnd(ifname string) string {
	result := p.Results[ifname]
	if result == nil {
		return ""
	}
	for _, i := range result.Interfaces {
		if i.Sandbox == "" {
			return i.Name
		}
	}
	return ""
}
