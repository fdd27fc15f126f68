// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// identity returns whose an address of a claim's NIC is, if the pod has a fixed identity.
func identity(c *v2beta1.SpiderEndpoint, nic string) *v1alpha1.Owner {
	out := c.Spec.Identity.DeepCopy()
	if out != nil {
		out.Interface = nic
	}
	return out
}

// adopted has the identity of a pod go on that outlived its StatefulSet: one that was made again under its
// name has adopted the pod, which never ended. Also a pod that ends is looked at, as long as it is there.
func (o Observed) adopted() Step {
	c := o.Claim
	if c == nil || o.Pod == nil || pods.UID(o.Pod) != c.Spec.PodUID {
		return Step{}
	}
	id := identities.Of(o.Pod)
	goesOn := func(has *v1alpha1.Owner) bool { return identities.Same(id, has) && identities.Another(has.UID, id.UID) }
	if goesOn(c.Spec.Identity) {
		next := c.DeepCopy()
		next.Spec.Identity.UID = id.UID
		return Step{Kind: UpdateClaim, Claim: next}
	}
	for _, a := range o.sorted() {
		if goesOn(a.Spec.Identity) && a.HeldBy(c.Spec.PodUID) {
			next := a.DeepCopy()
			next.Spec.Identity.UID = id.UID
			return Step{Kind: UpdateAddress, Address: next}
		}
	}
	return Step{}
}

// join returns an address as it is with the claim's pod as one more holder, if the claim says
// that the pod has it; nil: another pod has it, or the pod is its holder. The two pods of a live
// migration may have one address, nobody else: a former instance's pod may be told late what it had, and
// its successor has it now. One without a holder was deleted by somebody, and made anew for its
// application's pool.
func join(c *v2beta1.SpiderEndpoint, a *v1alpha1.IPAddress, h v1alpha1.Holder, migrates bool) *v1alpha1.IPAddress {
	id := identity(c, h.Interface)
	anew := len(a.Spec.Holders) == 0 && a.Spec.Identity == nil
	if a.HeldBy(h.PodUID) || !anew && !ours(id, a) || a.Spec.State == v1alpha1.Quarantined || len(a.Spec.Holders) > 0 && (!shared(a) || !migrates) {
		return nil
	}
	return claimed(a, id, h)
}

// ours reports whether an address has an identity and its NIC, whatever the UIDs.
func ours(id *v1alpha1.Owner, a *v1alpha1.IPAddress) bool {
	return identities.Same(id, a.Spec.Identity) && id.Interface == a.Spec.Identity.Interface
}

// shared reports whether one more pod may have an address that a pod has, if it's of the same instance.
func shared(a *v1alpha1.IPAddress) bool {
	return a.Spec.Identity != nil && a.Spec.Identity.Kind == identities.VirtualMachine && len(a.Spec.Holders) == 1
}

// claimed returns an address as it is with one more holder.
func claimed(a *v1alpha1.IPAddress, id *v1alpha1.Owner, h v1alpha1.Holder) *v1alpha1.IPAddress {
	next := a.DeepCopy()
	next.Spec.State, next.Spec.ReleasedAt = v1alpha1.Allocated, nil
	next.Spec.Holders = append(next.Spec.Holders, h)
	next.Spec.Identity = id
	return next
}

// keptAddress is what is known about an address that has the identity of a claim.
type keptAddress struct {
	*v1alpha1.IPAddress
	// Migrates says that its holder lives, and is a pod of the same instance of a virtual
	// machine: the claim's pod is the target of a live migration, or was its source.
	Migrates bool
	// Retained says that a new owner of the same name gets it.
	Retained bool
	// Moved says that its pool was made anew, with another subnet or in another network.
	Moved bool
}

// inheritance is what a claim does about the addresses of its identity.
type inheritance struct {
	Take   []*v1alpha1.IPAddress // as they are to be
	GiveUp []*v1alpha1.IPAddress // nobody holds them, and the pod can't have them any more
	Rest   []ipam.Need           // what is to be allocated
	Why    string                // why the pod gets nothing; "": it does
	Reason string                // the condition's, if it gets nothing
}

// inherited decides what a claim does about the addresses of its identity, which are sorted. If there
// are two for a NIC, the one that was given back first is the one that the identity had: a write that
// came late, when the pod was gone already, took the other.
func inherited(c *v2beta1.SpiderEndpoint, needs []ipam.Need, all []keptAddress) inheritance {
	var out inheritance
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b keptAddress) int {
		return ptr.Deref(a.Spec.ReleasedAt, metav1.Time{}).Compare(ptr.Deref(b.Spec.ReleasedAt, metav1.Time{}).Time)
	})
	used := map[string]bool{}
	fits := func(n ipam.Need, a keptAddress) bool {
		return !used[a.Name] && !a.Moved && ours(identity(c, n.Interface), a.IPAddress) && keyOf(a.IPAddress).Addr.Is6() == n.IPv6 &&
			(n.Takes(a.Spec.Pool, keyOf(a.IPAddress).Addr) || n.Keeps(a.Spec.Pool)) && a.Spec.State != v1alpha1.Quarantined
	}
	passes := func(a keptAddress, id *v1alpha1.Owner) bool {
		return a.Retained || !identities.Another(a.Spec.Identity.UID, id.UID)
	}
	keeps := map[string]bool{} // the NICs that have an address of a disabled pool
	for _, n := range needs {
		for _, a := range all {
			if n.Keeps(a.Spec.Pool) && fits(n, a) && (len(a.Spec.Holders) > 0 || passes(a, identity(c, n.Interface))) {
				keeps[n.Interface] = true
			}
		}
	}
	for _, n := range needs {
		if keeps[n.Interface] && n.Keep != nil {
			n.Pools = n.Keep.Pools
		}
		id := identity(c, n.Interface)
		// What the pod has by an earlier attempt comes first, then what others hold: the
		// address that the machine has is the one to share or to wait for.
		i := slices.IndexFunc(all, func(a keptAddress) bool { return fits(n, a) && a.HeldBy(c.Spec.PodUID) })
		if i < 0 {
			i = slices.IndexFunc(all, func(a keptAddress) bool { return fits(n, a) && len(a.Spec.Holders) > 0 })
		}
		if i < 0 {
			i = slices.IndexFunc(all, func(a keptAddress) bool { return fits(n, a) && passes(a, id) })
		}
		if i < 0 {
			if len(n.Pools) == 0 && n.Keep != nil {
				return inheritance{Why: n.Keep.Why, Reason: noPool}
			}
			out.Rest = append(out.Rest, n)
			continue
		}
		a := all[i]
		used[a.Name] = true
		switch {
		case a.HeldBy(c.Spec.PodUID):
			out.Take = append(out.Take, a.IPAddress)
		case len(a.Spec.Holders) > 0 && (!shared(a.IPAddress) || !a.Migrates):
			why := fmt.Sprintf("address %s of %s %s/%s is kept for this pod, and still belongs to %s: it waits until that node says that it isn't in use there",
				a.Spec.Address, id.Kind, id.Namespace, id.Name, holders(a.IPAddress))
			return inheritance{Why: why, Reason: v2beta1.Waiting}
		default:
			out.Take = append(out.Take, claimed(a.IPAddress, id, holder(c, n.Interface)))
		}
	}
	for _, a := range all {
		asked := slices.ContainsFunc(needs, func(n ipam.Need) bool { return ours(identity(c, n.Interface), a.IPAddress) })
		if asked && !used[a.Name] && a.Spec.State == v1alpha1.Reserved && len(a.Spec.Holders) == 0 {
			out.GiveUp = append(out.GiveUp, a.IPAddress)
		}
	}
	return out
}

// inherit decides what a claim does about the addresses that are kept for its identity, and takes from it those that
// the pod can't have any more. Which addresses there are the cache says, and what this controller wrote, and what
// they are the API server.
func (c *Controller) inherit(ctx context.Context, o *Observed, needs []ipam.Need) (inheritance, error) {
	if o.Claim.Spec.Identity == nil || len(needs) == 0 {
		return inheritance{Rest: needs}, nil
	}
	all, err := c.keptFor(ctx, o)
	if err != nil {
		return inheritance{}, err
	}
	plan := inherited(o.Claim, needs, all)
	for _, a := range plan.GiveUp {
		if err := c.giveUp(ctx, a); err != nil {
			return inheritance{}, err
		}
	}
	return plan, nil
}

// keptFor returns the addresses that are kept for a claim's identity, sorted.
func (c *Controller) keptFor(ctx context.Context, o *Observed) ([]keptAddress, error) {
	id := o.Claim.Spec.Identity
	names := c.givenTo(id) // before the cache is asked, which may have them a moment later
	var list v1alpha1.IPAddressList
	if err := c.Cache.List(ctx, &list, client.MatchingFields{identities.ByOwner: identities.KeyOf(id).String()}); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if a := &list.Items[i]; identities.Same(id, a.Spec.Identity) && !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	var all []keptAddress
	for _, name := range names {
		a, err := get(ctx, c.Live, client.ObjectKey{Name: name}, &v1alpha1.IPAddress{})
		if err != nil {
			return nil, err
		}
		if a == nil || !identities.Same(id, a.Spec.Identity) {
			c.mu.Lock()
			c.has(id, name)
			c.mu.Unlock()
			continue
		}
		k := keptAddress{IPAddress: a, Moved: c.moved(a)}
		if identities.Another(a.Spec.Identity.UID, id.UID) {
			policy, err := identities.ReadPolicy(ctx, c.Live, a.Spec.Pool)
			if err != nil {
				return nil, err
			}
			k.Retained = policy.RetainDeleted
		}
		if shared(a) {
			if k.Migrates, err = c.migrates(ctx, o.Pod, a.Spec.Holders[0]); err != nil {
				return nil, err
			}
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b keptAddress) int { return keyOf(a.IPAddress).Compare(keyOf(b.IPAddress)) })
	return all, nil
}

// moved reports whether an address isn't of its pool's subnet and network any more.
func (c *Controller) moved(a *v1alpha1.IPAddress) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, there := c.pools.standing[a.Spec.Pool]
	return there && s.Prefix.IsValid() && (s.Space != a.Spec.Network || !s.Prefix.Contains(keyOf(a).Addr))
}

// migrates reports whether a pod that holds an address lives, and is of the same instance of a
// virtual machine as another pod.
func (c *Controller) migrates(ctx context.Context, p *corev1.Pod, h v1alpha1.Holder) (bool, error) {
	other, err := get(ctx, c.Live, client.ObjectKey{Namespace: h.Namespace, Name: h.Pod}, &corev1.Pod{})
	if err != nil || !Alive(other) || string(other.UID) != h.PodUID {
		return false, err
	}
	a, b := metav1.GetControllerOfNoCopy(p), metav1.GetControllerOfNoCopy(other)
	return a != nil && b != nil && a.UID == b.UID, nil
}

// giveUp takes an address from its identity.
func (c *Controller) giveUp(ctx context.Context, a *v1alpha1.IPAddress) error {
	if next := identities.Freed(a); next != nil {
		return c.Writer.Update(ctx, next)
	}
	return c.Delete(ctx, a)
}

// othersOf returns the pods of the virtual machine that has an address: each has a name of its
// own, and may wait for the address of a former one.
func (c *Controller) othersOf(ctx context.Context, a *v1alpha1.IPAddress) []types.NamespacedName {
	if a.Spec.Identity == nil || a.Spec.Identity.Kind != identities.VirtualMachine {
		return nil
	}
	return c.namesBy(ctx, identities.ByOwner, identities.KeyOf(a.Spec.Identity).String())
}
