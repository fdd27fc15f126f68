// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// patience is how long a name isn't looked at because the cache lacks what was written about
// it. The events that bring it have the name looked at; without them the API server is asked.
const patience = time.Second

// Fresh is how long what a leading controller decided is good: another one leads at the earliest this long
// after the leader gave up (the lease less the time in which it must be renewed).
const Fresh = 2 * time.Second

// written are the versions of the objects that the controller wrote when it gave a pod its
// addresses.
type written struct {
	at        time.Time
	claim     string
	addresses map[string]string // by name
}

// wrote notes what was written for a pod that has its addresses now.
func (c *Controller) wrote(key types.NamespacedName, claim *v2beta1.SpiderEndpoint, got []*v1alpha1.IPAddress) {
	w := written{c.Now(), claim.ResourceVersion, map[string]string{}}
	for _, a := range got {
		w.addresses[a.Name] = a.ResourceVersion
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes[key] = w
}

// behind returns how long to wait for a cache that lacks what this controller wrote about a
// name; 0 if it has it, or if the wait is over.
func (c *Controller) behind(o Observed) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, known := c.writes[o.Key]
	if !known {
		return 0
	}
	if wait := w.at.Add(patience).Sub(c.Now()); wait > 0 && w.missing(o) {
		return wait
	}
	delete(c.writes, o.Key)
	return 0
}

// missing reports whether what was observed is older than what was written.
func (w written) missing(o Observed) bool {
	if o.Claim == nil || older(o.Claim.ResourceVersion, w.claim) {
		return true
	}
	for name, version := range w.addresses {
		if a := o.Addresses[name]; a == nil || older(a.ResourceVersion, version) {
			return true
		}
	}
	return false
}

// page is how many claims are listed at once.
const page = 500

// caughtUp waits until the cache has a claim as the API server has it, and with it what all claims
// named until then. Of an address whose IPAddress somebody deleted only a claim says whose it is.
func (c *Controller) caughtUp(ctx context.Context, claim *v2beta1.SpiderEndpoint) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	return c.follows(claim.Name, claim.ResourceVersion)
}

// begin waits, once in the controller's life, until the cache has all claims that there are:
// what a controller starts with may be older than what a former one wrote, and the
// claim of a pod that waits older than both. Others wait meanwhile.
func (c *Controller) begin(ctx context.Context) error {
	if !c.Until(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.begun || !c.begins
	}) {
		return cacheLacks("all of them")
	}
	c.mu.Lock()
	begun, others := c.begun, c.begins
	c.begins = !begun
	c.mu.Unlock()
	switch {
	case begun:
		return nil
	case others:
		return c.begin(ctx)
	}
	err := c.followsAll(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begins, c.begun = false, err == nil
	return err
}

// followsAll waits until the cache has the newest claim that there is.
func (c *Controller) followsAll(ctx context.Context) error {
	newest := metav1.ObjectMeta{}
	for next := ""; ; {
		list := metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(v2beta1.GroupVersion.WithKind("SpiderEndpointList"))
		if err := c.Live.List(ctx, &list, client.Limit(page), client.Continue(next)); err != nil {
			return err
		}
		for _, claim := range list.Items {
			if newest.ResourceVersion == "" || older(newest.ResourceVersion, claim.ResourceVersion) {
				newest = claim.ObjectMeta
			}
		}
		if next = list.Continue; next == "" {
			break
		}
	}
	if newest.ResourceVersion == "" {
		return nil
	}
	return c.follows(newest.Name, newest.ResourceVersion)
}

// follows waits until the cache has a claim in a version, or a newer one of another.
func (c *Controller) follows(name, version string) error {
	if !c.Until(func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.newest != "" && !older(c.newest, version)
	}) {
		return cacheLacks(name)
	}
	return nil
}

// decidedLongAgo is the error that another controller may lead since the addresses were granted.
func decidedLongAgo(claim string) error {
	return apierrors.NewConflict(v2beta1.GroupVersion.WithResource("spiderendpoints").GroupResource(), claim, errors.New("its addresses were granted long ago"))
}

// cacheLacks is the error that the cache lacks a claim.
func cacheLacks(claim string) error {
	return apierrors.NewConflict(v2beta1.GroupVersion.WithResource("spiderendpoints").GroupResource(), claim, errors.New("the cache is older"))
}

// older compares versions of one object. A version that isn't a number is taken for a newer one.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
