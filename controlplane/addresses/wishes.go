// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// wishes finds which NICs of a living pod want addresses: by its annotations, as long as it was
// told none, and by what a plugin on the node asks for.
func (c *Controller) wishes(ctx context.Context, o *Observed) error {
	asked, decided := wants(o), o.decided()
	if decided && len(asked) == 0 {
		return nil
	}
	pod := facts(o.Pod)
	all, err := ipam.Attachments(pod, c.Settings)
	switch {
	case err != nil:
		o.refused(err)
		return nil
	case len(all) == 0 && len(asked) == 0:
		return nil
	}
	ns, err := c.namespace(ctx, o.Key.Namespace)
	if err != nil || ns == nil { // without its namespace the pod is about to go
		return err
	}
	if !decided {
		if pod.Start, err = c.start(ctx, o, pod); err != nil || o.Unclear != "" {
			return err
		}
		if err := c.intent(ctx, o, pod, ns.Annotations, all); err != nil {
			return err
		}
	}
	for _, w := range asked {
		nic, err := ipam.LateNIC(pod, ns.Annotations, all, w)
		if err != nil {
			o.refused(err)
			return nil
		}
		o.Late = append(o.Late, v2beta1.EndpointNIC(nic))
	}
	return nil
}

// refused notes that the pod can't have what it asks for.
func (o *Observed) refused(err error) { o.Unclear, o.Hopeless = err.Error(), true }

// intent finds the NICs that a pod's annotations name.
func (c *Controller) intent(ctx context.Context, o *Observed, pod ipam.PodFacts, namespace map[string]string, all []ipam.Attachment) error {
	intent, wrong, err := c.nics(ctx, pod, namespace, all)
	if err != nil {
		return err
	}
	switch {
	case wrong != nil:
		o.refused(wrong)
	case len(intent.Missing) > 0:
		o.Unclear = fmt.Sprintf("NetworkAttachmentDefinition %s of the pod's annotations isn't there (yet)", strings.Join(intent.Missing, ", "))
	}
	if o.Unclear == "" {
		if err := c.checkStatic(ctx, o, intent.NICs); err != nil {
			return err
		}
	}
	for _, n := range intent.NICs {
		o.Wanted = append(o.Wanted, v2beta1.EndpointNIC(n))
	}
	if o.Unclear != "" {
		o.Wanted = nil
	}
	return nil
}

// wants returns what plugins ask for the pod, as its node reports.
func wants(o *Observed) []ipam.Want {
	spool := o.Nodes[o.Pod.Spec.NodeName].Spool
	if spool == nil {
		return nil
	}
	var out []ipam.Want
	for _, w := range spool.Status.Wants {
		if w.PodUID == pods.UID(o.Pod) && w.Namespace == o.Key.Namespace && w.Pod == o.Key.Name {
			out = append(out, wanted(w))
		}
	}
	return out
}

func wanted(w v1alpha1.Want) ipam.Want {
	return ipam.Want{
		Interface: w.Interface, Network: w.Network, IPv4Pools: w.DefaultIPv4IPPool, IPv6Pools: w.DefaultIPv6IPPool,
		CleanGateway: w.CleanGateway, MasterSubnets: w.MasterSubnets,
	}
}

func facts(p *corev1.Pod) ipam.PodFacts {
	return ipam.PodFacts{
		Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Annotations: p.Annotations,
		NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork, Phase: string(p.Status.Phase), Ordinal: ordinal(p),
	}
}
