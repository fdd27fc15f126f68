// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path/filepath"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/testbed"
)

// Pod is a pod: a container ID, a namespace, and the plugins' result for each NIC.
type Pod struct {
	*testbed.Netns
	NetNS       string // CNI_NETNS, a path in the node's files
	ContainerID string
	Results     map[string]*types100.Result
}

// UID is the pod's UID.
func (p *Pod) UID() string { return PodUID(p.Name()) }

// PodUID is the UID that a pod of this name has or will have.
func PodUID(name string) string { return containerID(name)[:32] }

func containerID(name string) string {
	id := sha256.Sum256([]byte(name))
	return hex.EncodeToString(id[:])
}

// podsDir is the node's directory of pods' namespaces.
const podsDir = "/run/netns"

// NewPod makes a pod without a NIC. Its namespace has the pod's name on the node, and
// the container ID is derived from it.
func (l *Lab) NewPod(name string) (*Pod, error) {
	n, err := testbed.NewNetns(name)
	if err != nil {
		return nil, err
	}
	l.closeLater(n)
	pod := &Pod{
		Netns:       n,
		NetNS:       filepath.Join(podsDir, name),
		ContainerID: containerID(name),
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

// way returns the pod's link to its node: veth0, or else its first NIC.
func (p *Pod) way() string {
	for _, i := range p.Results[NIC].Interfaces {
		if i.Name == "veth0" {
			return i.Name
		}
	}
	return NIC
}

// HostEnd returns the name of the node's link to the pod, by the result of a NIC; "" if
// there is none.
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
