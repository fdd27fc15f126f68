// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/spool"
)

// hasNetworks reports whether a pod names networks of its own (Multus, pkg/types).
func hasNetworks(p *corev1.Pod) bool {
	return p.Annotations["k8s.v1.cni.cncf.io/networks"] != "" || p.Annotations["v1.multus-cni.io/default-network"] != ""
}

// whyNot says why a claim's addresses can't be served, "" if they can.
func whyNot(c *v2beta1.SpiderEndpoint, ours bool) string {
	switch {
	case c.Status.Withdrawn != nil:
		return fmt.Sprintf("the claim %s/%s has been withdrawn: the controller makes another one", c.Namespace, c.Name)
	case !ours:
		return fmt.Sprintf("the claim %s/%s is for node %s and another machine: the controller makes another one", c.Namespace, c.Name, c.Spec.NodeName)
	case c.Status.Phase != v2beta1.Allocated || c.Status.Current == nil:
		reason := fmt.Sprintf("the claim %s/%s is %s", c.Namespace, c.Name, cmp.Or(c.Status.Phase, v2beta1.Pending))
		if ready := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Ready); ready != nil && ready.Message != "" {
			reason = ready.Message
		}
		return reason
	}
	return ""
}

// stopped returns what pods/<uid> is while a pod is withdrawn. The file stays so that an agent
// that is killed meanwhile knows the name of the pod's claim.
func stopped(p spool.Pod, uid string) spool.Pod {
	return spool.Pod{Namespace: p.Namespace, Name: p.Name, UID: uid, Reason: fmt.Sprintf("pod %s/%s is gone or has finished: its addresses are given back", p.Namespace, p.Name)}
}

// nics returns what the claim's NICs have.
func nics(c *v2beta1.SpiderEndpoint) ([]spool.NIC, error) {
	wanted := map[string]v2beta1.EndpointNIC{}
	for _, n := range c.Spec.NICs {
		wanted[n.Interface] = n
	}
	var out []spool.NIC
	for _, n := range c.Status.Current.IPs {
		of, ok := wanted[n.Interface]
		if !ok {
			return nil, fmt.Errorf("the claim %s/%s has addresses for %s, which its spec lacks", c.Namespace, c.Name, n.Interface)
		}
		nic := spool.NIC{Interface: n.Interface, Network: of.Network, MAC: n.MAC, DefaultRouteNIC: of.DefaultRouteNIC}
		if n.Link != nil {
			nic.Link = &spool.Link{Name: n.Link.Name, Master: n.Link.Master, VLAN: n.Link.VLAN, Mode: n.Link.Mode}
		}
		for _, x := range []struct{ address, gateway, pool string }{
			{n.IPv4, n.IPv4Gateway, n.IPv4Pool}, {n.IPv6, n.IPv6Gateway, n.IPv6Pool},
		} {
			if x.address == "" {
				continue
			}
			a := spool.Address{Space: n.AddressSpace, Pool: x.pool}
			var err error
			if a.Address, err = netip.ParsePrefix(x.address); err != nil {
				return nil, fmt.Errorf("the claim %s/%s: %s: %w", c.Namespace, c.Name, n.Interface, err)
			}
			if x.gateway != "" && !n.CleanGateway {
				if a.Gateway, err = netip.ParseAddr(x.gateway); err != nil {
					return nil, fmt.Errorf("the claim %s/%s: %s: gateway: %w", c.Namespace, c.Name, n.Interface, err)
				}
			}
			nic.Addresses = append(nic.Addresses, a)
		}
		for _, r := range n.Routes {
			dst, err := netip.ParsePrefix(r.Dst)
			if err != nil {
				return nil, fmt.Errorf("the claim %s/%s: %s: route %s: %w", c.Namespace, c.Name, n.Interface, r.Dst, err)
			}
			gw, err := netip.ParseAddr(r.Gw)
			if err != nil {
				return nil, fmt.Errorf("the claim %s/%s: %s: route %s: gateway: %w", c.Namespace, c.Name, n.Interface, r.Dst, err)
			}
			nic.Routes = append(nic.Routes, spool.Route{Dst: dst, Gw: gw})
		}
		out = append(out, nic)
	}
	return out, nil
}

// keyOf returns which IPAddress an address has.
func keyOf(a spool.Address) ipam.Key {
	return ipam.Key{Space: a.Space, Addr: a.Address.Addr()}
}
