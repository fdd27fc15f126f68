// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// ordinal returns the number of a StatefulSet's pod, nil of another pod.
func ordinal(p *corev1.Pod) *int {
	id := identities.Of(p)
	if id == nil || id.Ordinal == nil {
		return nil
	}
	return ptr.To(int(*id.Ordinal))
}

// start returns the first ordinal of the pod's StatefulSet, where a list of addresses asks for
// it. It is read from the API server: the cache may have the pod and not its StatefulSet.
func (c *Controller) start(ctx context.Context, o *Observed, pod ipam.PodFacts) (int, error) {
	if pod.Ordinal == nil || !strings.Contains(pod.Annotations[ipam.StaticIPAnnotation], "-") {
		return 0, nil
	}
	owner := metav1.GetControllerOfNoCopy(o.Pod)
	set, err := get(ctx, c.Live, client.ObjectKey{Namespace: o.Key.Namespace, Name: owner.Name}, &appsv1.StatefulSet{})
	switch {
	case err != nil:
		return 0, err
	case set == nil || set.UID != owner.UID:
		o.Unclear = fmt.Sprintf("StatefulSet %s/%s of the pod isn't there: annotation %s has a list, and it isn't known which entry is the pod's", o.Key.Namespace, owner.Name, ipam.StaticIPAnnotation)
		return 0, nil
	case set.Spec.Ordinals == nil:
		return 0, nil
	}
	return int(set.Spec.Ordinals.Start), nil
}

// checkStatic looks whether there are the VLANSubnets that a pod's annotations name, and
// whether a pod can have the addresses that they name.
func (c *Controller) checkStatic(ctx context.Context, o *Observed, nics []ipam.NIC) error {
	for _, n := range nics {
		if n.Static == nil {
			continue
		}
		v, err := get(ctx, c.Cache, client.ObjectKey{Name: n.Static.VLANSubnet}, &staticmacvlan.VLANSubnet{})
		if err != nil {
			return err
		}
		if v == nil {
			o.Unclear = fmt.Sprintf("VLANSubnet %s of the pod's annotation %s isn't there (yet)", n.Static.VLANSubnet, ipam.VLANAnnotation)
		} else if why := v.VLANSubnet().RefusesNIC(n); why != "" {
			o.Unclear, o.Hopeless = why, true
			return nil
		}
	}
	return nil
}

// staticNeed returns the address that a NIC on a VLANSubnet needs, or why it can't have one.
func (c *Controller) staticNeed(claim *v2beta1.SpiderEndpoint, nic ipam.NIC) (need ipam.Need, reason, why string) {
	c.mu.Lock()
	v, ok := c.pools.vlans[nic.Static.VLANSubnet]
	standing := c.pools.standing[ipam.VLANSubnetPool(v.Name)]
	c.mu.Unlock()
	what := fmt.Sprintf("no address for %s: VLANSubnet %s: ", nic.Interface, nic.Static.VLANSubnet)
	switch {
	case !ok:
		return ipam.Need{}, noPool, what + "there is no such VLANSubnet"
	case standing.Reason != "":
		return ipam.Need{}, noPool, what + standing.Reason
	}
	if why := v.RefusesNIC(nic); why != "" {
		return ipam.Need{}, noPool, why
	}
	need = v.Need(nic)
	free := len(need.Addresses) == 0
	for _, a := range need.Addresses {
		if standing.Free.Contains(a) {
			free = true
		}
	}
	if !free {
		return ipam.Need{}, noPool, what + strings.Join(nic.Static.IPs, ", ") + ": reserved by a SpiderReservedIP, or excluded by a SpiderSubnet"
	}
	need, why = c.lessMACs(claim, nic, need)
	return need, v2beta1.Conflict, why
}

// lacking says what a claim waits for: pools with free addresses, or those that other pods
// have.
func (c *Controller) lacking(ctx context.Context, lacks []ipam.Lack) (reason, message string, err error) {
	reason = exhausted
	var said []string
	for _, l := range lacks {
		if len(l.Addresses) == 0 {
			said = append(said, l.Message)
			continue
		}
		reason = v2beta1.Conflict
		text, err := c.heldBy(ctx, l)
		if err != nil {
			return "", "", err
		}
		said = append(said, text)
	}
	return reason, strings.Join(said, "; "), nil
}

// heldBy says who has the addresses of which a NIC wants one.
func (c *Controller) heldBy(ctx context.Context, l ipam.Lack) (string, error) {
	const most = 3 // addresses in a message
	c.mu.Lock()
	space := c.pools.standing[l.Pools[0]].Space
	c.mu.Unlock()
	var said []string
	for i, a := range l.Addresses {
		if i == most {
			said = append(said, fmt.Sprintf("and %d more are in use", len(l.Addresses)-most))
			break
		}
		held, err := get(ctx, c.Cache, client.ObjectKey{Name: ipam.Key{Space: space, Addr: a}.String()}, &v1alpha1.IPAddress{})
		if err != nil {
			return "", err
		}
		by := "on its way to another pod, or back"
		switch {
		case held != nil && len(held.Spec.Holders) > 0:
			by = "held by " + held.Spec.Holders[0].Namespace + "/" + held.Spec.Holders[0].Pod
		case held != nil && held.Spec.Quarantine != nil:
			by = "in quarantine: another machine, with MAC " + held.Spec.Quarantine.MAC + ", has it"
		case held != nil:
			by = "kept for its owner"
		}
		said = append(said, fmt.Sprintf("%s is %s", a, by))
	}
	return fmt.Sprintf("%s waits: %s", l.Interface, strings.Join(said, ", ")), nil
}

// fillStatic puts the MAC and the node's link into what a claim says about a NIC on a
// VLANSubnet.
func (c *Controller) fillStatic(n *v2beta1.NICAddresses, nic v2beta1.EndpointNIC, a *v1alpha1.IPAddress) {
	if nic.Static == nil {
		return
	}
	addr, err := netip.ParseAddr(a.Spec.Address)
	if err == nil {
		n.MAC = nic.Static.MAC(addr)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.pools.vlans[nic.Static.VLANSubnet]; ok {
		link := v.Link()
		n.Link = &link
	}
}
