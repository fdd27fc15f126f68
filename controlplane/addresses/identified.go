// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// person is an identity, whatever its UID: all that [identities.Same] takes for the same have one.
type person struct {
	group, kind, namespace, name string
	ordinal                      int32
}

func personOf(id *v1alpha1.Owner) person {
	return person{id.Group, id.Kind, id.Namespace, id.Name, ptr.Deref(id.Ordinal, -1)}
}

// alone waits until no other pod of a claim's identity is being given addresses, and has others wait
// until the returned function is called. Otherwise two pods of a virtual machine get an address each
// if they look at the same time, and neither has one yet.
func (c *Controller) alone(claim *v2beta1.SpiderEndpoint) (leave func(), err error) {
	id := claim.Spec.Identity
	if id == nil {
		return func() {}, nil
	}
	p := personOf(id)
	enter := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.inside[p] {
			return false
		}
		c.inside[p] = true
		return true
	}
	free := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.inside[p]
	}
	for !enter() {
		if !c.Until(free) {
			return nil, apierrors.NewConflict(v2beta1.GroupVersion.WithResource("spiderendpoints").GroupResource(), claim.Name,
				fmt.Errorf("another pod of %s %s/%s is being given addresses", id.Kind, id.Namespace, id.Name))
		}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.inside, p)
	}, nil
}

// gives notes that an IPAddress is about to get an identity, until the cache has it.
func (c *Controller) gives(a *v1alpha1.IPAddress) {
	if a.Spec.Identity == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := personOf(a.Spec.Identity)
	if c.given[p] == nil {
		c.given[p] = map[string]bool{}
	}
	c.given[p][a.Name] = true
}

// has notes that the cache has an IPAddress with its identity, or that it hasn't that identity after
// all. The controller's lock is held.
func (c *Controller) has(id *v1alpha1.Owner, name string) {
	if id == nil {
		return
	}
	p := personOf(id)
	delete(c.given[p], name)
	if len(c.given[p]) == 0 {
		delete(c.given, p)
	}
}

// givenTo returns the names of the IPAddresses that got an identity by this controller, and that the
// cache may not have with it.
func (c *Controller) givenTo(id *v1alpha1.Owner) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.given[personOf(id)]))
}
