// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// allocate gets the addresses that a claim lacks, and others for those in quarantine: all of
// them or none. It returns how long to wait if there are none. began is when the controller was called, and led.
func (c *Controller) allocate(ctx context.Context, o *Observed, began time.Time) (time.Duration, error) {
	claim, stay := o.replaced()
	needs, reason, why, err := c.needs(ctx, o, claim)
	if err != nil {
		return 0, err
	}
	needs = besides(needs, stay, c.spaceOf)
	if why != "" {
		return c.stepBack(ctx, o, reason, why)
	}
	held, rest := adopt(o, needs, c.namedByAnother)
	if len(rest) > 0 {
		if err := c.caughtUp(ctx, o.Claim); err != nil {
			return 0, err
		}
	}
	leave, err := c.alone(o.Claim)
	if err != nil {
		return 0, err
	}
	defer leave()
	kept, err := c.inherit(ctx, o, rest) // after the wait, in which another pod of the identity may have got some
	if err != nil {
		return 0, err
	}
	if kept.Why != "" {
		return c.stepBack(ctx, o, kept.Reason, kept.Why)
	}
	held = append(held, kept.Take...)
	granted, lack := c.apply(o, kept.Rest)
	if len(lack) > 0 {
		if err := c.undo(ctx, o); err != nil {
			return 0, err
		}
		reason, message, err := c.lacking(ctx, lack)
		if err != nil {
			return 0, err
		}
		return again, c.say(ctx, o, reason, message)
	}
	if why := c.takeMACs(claim, held, granted); why != "" {
		c.mu.Lock()
		c.takeBack(grants{got: granted})
		c.mu.Unlock()
		return c.stepBack(ctx, o, v2beta1.Conflict, why)
	}
	attempt := c.newAttempt()
	got := make([]*v1alpha1.IPAddress, len(held)+len(granted))
	err = c.Each(len(got), func(i int) (err error) {
		if i < len(held) {
			got[i], err = c.renew(ctx, held[i], attempt)
		} else {
			got[i], err = c.create(ctx, o, granted[i-len(held)], attempt)
		}
		return err
	})
	if err != nil {
		c.mu.Lock()
		for i, g := range granted {
			if got[len(held)+i] == nil { // if it was made all the same, the cache will say so
				c.free(g.Key)
			}
		}
		c.mu.Unlock()
		return 0, err
	}
	if len(granted) > 0 && c.Now().Sub(began) > Fresh {
		if err := c.confirm(ctx, o, got[len(held):]); err != nil {
			return 0, err
		}
	}
	next := claim.DeepCopy()
	next.Status.Phase = v2beta1.Allocated
	current, left := c.current(claim, slices.Concat(got, stay))
	next.Status.Current = current
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v2beta1.Ready, Status: metav1.ConditionTrue, Reason: v2beta1.Allocated, Message: "all NICs have their addresses",
		ObservedGeneration: claim.Generation, LastTransitionTime: metav1.NewTime(c.Now()),
	})
	if err := c.Writer.Status().Update(ctx, next); err != nil {
		return 0, err
	}
	ctrl.LoggerFrom(ctx).Info("the claim has its addresses", "podUID", claim.Spec.PodUID, "addresses", len(got))
	if claim.Status.Current == nil {
		c.took(o.Pod)
	}
	o.Claim = next
	c.wrote(o.Key, next, got)
	for _, r := range left {
		c.tell(o.Pod, nil, "RouteUnused", fmt.Sprintf("annotation ipam.spidernet.io/routes: no NIC of the pod has a subnet with %s, the gateway to %s: want a gateway in the subnet of one of its NICs", r.Gw, r.Dst))
	}
	for _, a := range got {
		o.Addresses[a.Name] = a
	}
	return 0, nil
}

// confirm looks, when the addresses are made that were decided on long ago, whether claims name them: another controller
// may lead since, have given one to its pod, and somebody may have deleted that IPAddress. Such an address is given back.
func (c *Controller) confirm(ctx context.Context, o *Observed, made []*v1alpha1.IPAddress) error {
	if err := c.followsAll(ctx); err != nil {
		return err // they are this pod's in vain until it is looked at again
	}
	for _, a := range made {
		if c.namedByAnother(a) {
			if err := c.giveBack(ctx, a, o.Claim.Spec.PodUID); err != nil {
				return err
			}
			delete(o.Addresses, a.Name)
			return decidedLongAgo(o.Claim.Name)
		}
	}
	return nil
}

// namedByAnother reports whether a claim names an address that its pod's own claim doesn't name.
func (c *Controller) namedByAnother(a *v1alpha1.IPAddress) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Named(keyOf(a))
}

// stepBack takes a claim out of the line, gives back what it took, and says why.
func (c *Controller) stepBack(ctx context.Context, o *Observed, reason, why string) (time.Duration, error) {
	c.mu.Lock()
	c.quit(o.Key)
	c.mu.Unlock()
	if err := c.undo(ctx, o); err != nil {
		return 0, err
	}
	return again, c.say(ctx, o, reason, why)
}

// adopt splits needs into those for which the pod holds an address already, of an earlier
// attempt, and the rest. An address that another claim names isn't one, unless the pod uses it.
func adopt(o *Observed, needs []ipam.Need, others func(*v1alpha1.IPAddress) bool) (held []*v1alpha1.IPAddress, rest []ipam.Need) {
	named := Named(o.Claim)
	used := map[string]bool{}
	for _, n := range needs {
		i := slices.IndexFunc(o.sorted(), func(a *v1alpha1.IPAddress) bool {
			return named[a.Name] == nil && !used[a.Name] && a.Spec.State != v1alpha1.Quarantined && keyOf(a).Addr.Is6() == n.IPv6 &&
				(n.Takes(a.Spec.Pool, keyOf(a).Addr) && !others(a) || o.used(a)) &&
				slices.ContainsFunc(a.Spec.Holders, func(h v1alpha1.Holder) bool {
					return h.PodUID == o.Claim.Spec.PodUID && h.Interface == n.Interface
				})
		})
		if i < 0 {
			rest = append(rest, n)
			continue
		}
		a := o.sorted()[i]
		used[a.Name] = true
		held = append(held, a)
	}
	return held, rest
}

// apply puts a claim into the line, if it isn't there, and returns what it gets, or what is
// lacking.
func (c *Controller) apply(o *Observed, needs []ipam.Need) ([]ipam.Grant, []ipam.Lack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid := o.Claim.Spec.PodUID
	if former, ok := c.granted[o.Key]; ok {
		delete(c.granted, o.Key)
		if former.uid == uid && slices.EqualFunc(former.got, needs, func(g ipam.Grant, n ipam.Need) bool {
			return g.Interface == n.Interface && g.IPv6 == n.IPv6 && n.Takes(g.Pool, g.Key.Addr) && !c.ledger.Named(g.Key)
		}) {
			return former.got, nil
		}
		c.takeBack(former)
	}
	delete(c.line, o.Key)
	delete(c.seeking, o.Key)
	if len(needs) == 0 {
		return nil, nil
	}
	c.line[o.Key] = ipam.Applicant{ID: uid, Since: o.Claim.Spec.Since.Time, Needs: needs}
	lacks := c.serve(o.Key)
	got := c.granted[o.Key].got
	delete(c.granted, o.Key)
	return got, lacks
}

// serve gives the line what is free, and wakes those who got something, but for one. It says what that one lacks.
func (c *Controller) serve(except types.NamespacedName) []ipam.Lack {
	line := make([]ipam.Applicant, 0, len(c.line))
	for _, a := range c.line {
		line = append(line, a)
	}
	granted, lacks := c.ledger.Allocate(c.Now(), line, c.line[except].ID)
	got := map[types.NamespacedName]ipam.Applicant{}
	for key, a := range c.line {
		if granted[a.ID] != nil {
			got[key] = a
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(got), compareNames) {
		id := got[key].ID
		c.granted[key] = grants{id, granted[id]}
		delete(c.line, key)
		if key != except {
			c.Wake(key)
		}
	}
	return lacks
}

func compareNames(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// leave forgets a pod that needs nothing any more.
func (c *Controller) leave(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seeking, key)
	c.quit(key)
}

// quit takes a pod out of the line, and takes back what it was granted and didn't use.
func (c *Controller) quit(key types.NamespacedName) {
	if a, ok := c.line[key]; ok {
		c.ledger.Leave(a.ID)
		delete(c.line, key)
	}
	c.takeBack(c.granted[key])
	delete(c.granted, key)
}

// takeBack takes back what a pod was granted and didn't use: all of it before the line gets any, which
// then has promises of its own.
func (c *Controller) takeBack(g grants) {
	freed := false
	for _, g := range g.got {
		freed = c.ledger.Clear(g.Key, ipam.Promise) || freed
	}
	if freed {
		c.serve(types.NamespacedName{})
	}
}

// free takes back that an address is promised. If it is free now, the line gets it.
func (c *Controller) free(k ipam.Key) {
	if c.ledger.Clear(k, ipam.Promise) {
		c.serve(types.NamespacedName{})
	}
}

// undo gives back what an earlier attempt took for the claim: it holds all or nothing.
func (c *Controller) undo(ctx context.Context, o *Observed) error {
	for _, a := range o.sorted() {
		if o.inVain(a) {
			if err := c.giveBack(ctx, a, o.Claim.Spec.PodUID); err != nil {
				return err
			}
			delete(o.Addresses, a.Name)
		}
	}
	return nil
}

// renew makes an address that an earlier attempt took this attempt's. The object is another
// one after that, so whatever was on its way to delete it fails.
func (c *Controller) renew(ctx context.Context, a *v1alpha1.IPAddress, attempt string) (*v1alpha1.IPAddress, error) {
	next := a.DeepCopy()
	next.Spec.Attempt = attempt
	c.gives(next)
	if err := c.Writer.Update(ctx, next); err != nil {
		return nil, err
	}
	return next, nil
}

// create takes a granted address by creating its object. An answer that isn't clear is no
// answer: it looks whether the object is there, and whose it is.
func (c *Controller) create(ctx context.Context, o *Observed, g ipam.Grant, attempt string) (*v1alpha1.IPAddress, error) {
	if g.Kept {
		return c.takeKept(ctx, o, g, attempt)
	}
	a := Address(g.Key, g.Pool, holder(o.Claim, g.Interface))
	a.Spec.Identity, a.Spec.Attempt = identity(o.Claim, g.Interface), attempt
	c.gives(a)
	err := c.Writer.Create(ctx, a)
	if err == nil {
		return a, nil
	}
	now, reading := get(ctx, c.Live, client.ObjectKey{Name: a.Name}, &v1alpha1.IPAddress{})
	switch {
	case reading != nil || now == nil:
		return nil, err
	case now.Spec.Attempt == attempt:
		return now, nil
	}
	c.mu.Lock()
	c.mark(now) // the cache doesn't know it yet
	c.mu.Unlock()
	return nil, apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("ipaddresses").GroupResource(), a.Name,
		fmt.Errorf("it belongs to %s already", holders(now)))
}

// takeKept takes a granted address of an application's pool: its object says from now on which
// pod holds it. Nobody but the API server says whether it was free.
func (c *Controller) takeKept(ctx context.Context, o *Observed, g ipam.Grant, attempt string) (*v1alpha1.IPAddress, error) {
	name := g.Key.String()
	a, err := get(ctx, c.Live, client.ObjectKey{Name: name}, &v1alpha1.IPAddress{})
	if err != nil {
		return nil, err
	}
	if s := specOf(a); a == nil || s.Pool != g.Pool || s.Application == nil || s.State != v1alpha1.Reserved || s.Identity != nil || len(s.Holders) > 0 {
		return nil, c.outdated(name, g.Key, a)
	}
	next := claimed(a, identity(o.Claim, g.Interface), holder(o.Claim, g.Interface))
	next.Spec.Attempt = attempt
	c.gives(next)
	if err = c.Writer.Update(ctx, next); err == nil {
		return next, nil
	}
	now, reading := get(ctx, c.Live, client.ObjectKey{Name: name}, &v1alpha1.IPAddress{})
	switch {
	case reading != nil:
		return nil, err
	case specOf(now).Attempt == attempt:
		return now, nil
	}
	return nil, c.outdated(name, g.Key, now)
}

func specOf(a *v1alpha1.IPAddress) v1alpha1.IPAddressSpec {
	if a == nil {
		return v1alpha1.IPAddressSpec{}
	}
	return a.Spec
}

// outdated notes what the API server has, which the cache doesn't know yet.
func (c *Controller) outdated(name string, k ipam.Key, now *v1alpha1.IPAddress) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now == nil {
		c.ledger.Keep(k, "", 0)
	} else {
		c.mark(now)
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("ipaddresses").GroupResource(), name, errors.New("somebody else was faster"))
}

// keyOfHeld returns the key of an address that a node reports.
func keyOfHeld(h v1alpha1.Held) (ipam.Key, bool) {
	addr, err := netip.ParseAddr(h.Address)
	return ipam.Key{Space: h.Network, Addr: addr}, err == nil
}
