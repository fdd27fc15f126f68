// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/pkg/ipam"
)

// The methods in this file serve who makes pools of subnets.

// Synced reports whether the controller has seen all that there was when it started. Before
// that it can't tell what is free.
func (c *Controller) Synced(ctx context.Context) bool { return c.synced(ctx) }

// Subnet returns what a SpiderSubnet can hand out, with the addresses that are taken; false if
// there is no such subnet.
func (c *Controller) Subnet(name string) (ipam.Standing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, there := c.pools.standing[ipam.SubnetPool+name]
	return s, there
}

// Reserve promises up to n addresses of a subnet, the lowest ones that are free. Each promise
// ends when its IPAddress is made, or by Unreserve.
func (c *Controller) Reserve(subnet string, n int) []ipam.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Reserve(ipam.SubnetPool+subnet, n)
}

// Unreserve takes a promise back. now is the IPAddress that somebody else has made, nil if none
// is known.
func (c *Controller) Unreserve(k ipam.Key, now *v1alpha1.IPAddress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now != nil {
		c.mark(now)
	}
	c.free(k)
}

// NICs returns the networks of a pod, and which of its NICs want addresses by its annotations.
// wrong says what is wrong with these, err why they couldn't be read.
func (c *Controller) NICs(ctx context.Context, pod ipam.PodFacts) (all []ipam.Attachment, intent ipam.Intent, wrong, err error) {
	all, wrong = ipam.Attachments(pod, c.Settings)
	if wrong != nil || len(all) == 0 {
		return all, intent, wrong, nil
	}
	ns, err := c.namespace(ctx, pod.Namespace)
	if err != nil || ns == nil {
		return all, intent, nil, err
	}
	intent, wrong, err = c.nics(ctx, pod, ns.Annotations, all)
	return all, intent, wrong, err
}

// nics returns the NICs of a pod that want addresses.
func (c *Controller) nics(ctx context.Context, pod ipam.PodFacts, namespace map[string]string, all []ipam.Attachment) (intent ipam.Intent, wrong, err error) {
	configs := map[string]string{}
	for _, a := range all {
		if a.Name == "" {
			continue
		}
		found, err := get(ctx, c.Cache, client.ObjectKey{Namespace: a.Namespace, Name: a.Name}, &nad.NetworkAttachmentDefinition{})
		if err != nil {
			return intent, nil, err
		}
		if found != nil {
			configs[a.NAD()] = found.Spec.Config
		}
	}
	intent, wrong = ipam.NICs(pod, namespace, all, configs)
	return intent, wrong, nil
}
