// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

const (
	// confinement is how long nobody gets an address that another machine of the LAN has.
	confinement = time.Hour
	// most is how many addresses of a pool are in quarantine at once, and never more than
	// half of them: one machine that answers for all addresses must not empty the pool.
	most = 10
)

// Reported is what a node says about an address of a pod that another machine has.
type Reported struct {
	Node, MachineID string
	v1alpha1.Conflict
}

// key returns the name of the IPAddress.
func (r Reported) key() string {
	addr, _ := netip.ParseAddr(r.Address)
	return ipam.Key{Space: r.Network, Addr: addr}.String()
}

// crowded reports whether a pool of some addresses has as many in quarantine as it may.
func crowded(total int64, inQuarantine int) bool {
	return int64(inQuarantine) >= min(most, (total+1)/2)
}

// reported returns the reports about the living pod of the claim, by its own node, with the
// addresses that it holds.
func (o Observed) reported(do func(r Reported, a *v1alpha1.IPAddress)) {
	c := o.Claim
	for _, r := range o.Reported {
		a := o.Addresses[r.key()]
		if a != nil && a.HeldBy(c.Spec.PodUID) && r.PodUID == c.Spec.PodUID && r.Node == c.Spec.NodeName && same(r.MachineID, c.Spec.MachineID) {
			do(r, a)
		}
	}
}

// conflicts returns the next step about addresses that other machines have. Each is put into
// quarantine first, while the pod holds it and its claim names it. Then the claim gets another
// one. At last its node says that nothing there has it any more, and the pod doesn't hold it
// any more. If there is no other one, and the node says nothing of a conflict any more, a later ADD has got it and
// nobody answered: the pod has it as before.
func (o Observed) conflicts() Step {
	named, uid := Named(o.Claim), o.Claim.Spec.PodUID
	var next Step
	said := map[string]bool{}
	o.reported(func(r Reported, a *v1alpha1.IPAddress) {
		said[a.Name] = true
		switch isNamed := named[a.Name] != nil; {
		case next.Kind != Nothing:
		case isNamed && a.Spec.State == v1alpha1.Allocated && !r.Withdrawn && o.stays(r, a) == "":
			next = Step{Kind: Quarantine, Address: a, MAC: r.MAC, Message: fmt.Sprintf(
				"address %s of %s is in use by another machine, with MAC %s: nobody gets it for an hour, and this pod gets another one", r.Address, r.Interface, r.MAC)}
		case !isNamed && a.Spec.State == v1alpha1.Quarantined && r.Withdrawn:
			next = Step{Kind: GiveBack, Address: a, UID: uid}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(named)) {
		switch a := o.Addresses[name]; {
		case next.Kind != Nothing || a.Spec.State != v1alpha1.Quarantined:
		case said[name] || o.Nodes[o.Claim.Spec.NodeName].Spool == nil:
			next = Step{Kind: Allocate}
		default:
			a = a.DeepCopy()
			a.Spec.State, a.Spec.Quarantine = v1alpha1.Allocated, nil
			next = Step{Kind: UpdateAddress, Address: a}
		}
	}
	return next
}

// stays says why a pod can't have another address than the one that another machine has, "" if
// it can.
func (o Observed) stays(r Reported, a *v1alpha1.IPAddress) string {
	i := slices.IndexFunc(o.Claim.Spec.NICs, func(n v2beta1.EndpointNIC) bool { return n.Interface == r.Interface })
	switch {
	case o.Claim.Spec.Identity != nil || a.Spec.Identity != nil:
		return "it is fixed"
	case i >= 0 && o.Claim.Spec.NICs[i].Static != nil && len(o.Claim.Spec.NICs[i].Static.IPs) > 0:
		return "the pod names it"
	case len(a.Spec.Holders) > 1:
		return "two pods have it"
	case o.Crowded[a.Spec.Pool]:
		return fmt.Sprintf("pool %s has as many addresses in quarantine as it may: does a machine of the LAN answer for all of them (proxy ARP)?", a.Spec.Pool)
	}
	return ""
}

// Stay is an address that another machine has, and that the pod keeps.
type Stay struct {
	Address *v1alpha1.IPAddress
	Message string
}

// Stays says which addresses of a living pod other machines have, and why the pod keeps them.
func (o Observed) Stays() []Stay {
	var out []Stay
	if o.Claim == nil || !Alive(o.Pod) {
		return nil
	}
	o.reported(func(r Reported, a *v1alpha1.IPAddress) {
		why := o.stays(r, a)
		if why != "" && a.Spec.State == v1alpha1.Allocated && !r.Withdrawn {
			out = append(out, Stay{a, fmt.Sprintf("address %s of %s is in use by another machine, with MAC %s. The pod gets no other one: %s", r.Address, r.Interface, r.MAC, why)})
		}
	})
	return out
}

// crowd notes which pools have as many addresses in quarantine as they may.
func (c *Controller) crowd(o *Observed) {
	if len(o.Reported) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o.Crowded = map[string]bool{}
	for _, a := range o.sorted() {
		o.Crowded[a.Spec.Pool] = c.crowded(a.Spec.Pool)
	}
}

// crowded reports whether a pool has as many addresses in quarantine as it may.
func (c *Controller) crowded(pool string) bool {
	total, _ := c.ledger.Counts(pool)
	return crowded(total, len(c.quarantined[pool]))
}

// confine notes whether an address of a pool is in quarantine.
func (c *Controller) confine(a *v1alpha1.IPAddress, is bool) {
	of := c.quarantined[a.Spec.Pool]
	switch {
	case !is:
		delete(of, a.Name)
	case of == nil:
		c.quarantined[a.Spec.Pool] = map[string]bool{a.Name: true}
	default:
		of[a.Name] = true
	}
}

// quarantine takes the step that puts an address into quarantine, unless others of the pool
// were meanwhile.
func (c *Controller) quarantine(ctx context.Context, o *Observed, s Step) error {
	a, pool := s.Address.DeepCopy(), s.Address.Spec.Pool
	c.mu.Lock()
	o.Crowded[pool] = c.crowded(pool)
	if !o.Crowded[pool] {
		c.confine(a, true)
	}
	c.mu.Unlock()
	if o.Crowded[pool] {
		return nil
	}
	a.Spec.State, a.Spec.Quarantine = v1alpha1.Quarantined, &v1alpha1.Quarantine{Since: metav1.NewTime(c.Now()), MAC: s.MAC}
	if err := c.Writer.Update(ctx, a); err != nil {
		c.mu.Lock()
		c.confine(a, false) // if it was done all the same, the cache will say so
		c.mu.Unlock()
		return err
	}
	o.Addresses[a.Name] = a
	ctrl.LoggerFrom(ctx).Info("another machine has the address", "address", a.Name, "mac", s.MAC)
	c.tell(o.Pod, a, addressConflict, s.Message)
	return nil
}

// replaced returns a claim without the NICs of which an address is in quarantine, and the
// other addresses of these NICs, which stay.
func (o Observed) replaced() (without *v2beta1.SpiderEndpoint, stay []*v1alpha1.IPAddress) {
	bad := map[string]bool{}
	named := Named(o.Claim)
	for name := range named {
		if a := o.Addresses[name]; a != nil && a.Spec.State == v1alpha1.Quarantined {
			bad[named[name].Spec.Holders[0].Interface] = true
		}
	}
	if len(bad) == 0 {
		return o.Claim, nil
	}
	without = o.Claim.DeepCopy()
	without.Status.Current.IPs = slices.DeleteFunc(without.Status.Current.IPs, func(n v2beta1.NICAddresses) bool { return bad[n.Interface] })
	for _, a := range o.sorted() {
		if named[a.Name] != nil && bad[named[a.Name].Spec.Holders[0].Interface] && a.Spec.State != v1alpha1.Quarantined {
			stay = append(stay, a)
		}
	}
	return without, stay
}

// besides returns what NICs need besides the addresses that stay: the other family, in the same
// network.
func besides(needs []ipam.Need, stay []*v1alpha1.IPAddress, spaceOf func(pool string) string) []ipam.Need {
	var out []ipam.Need
	for _, n := range needs {
		has := false
		for _, a := range stay {
			if a.Spec.Holders[0].Interface != n.Interface {
				continue
			}
			has = has || keyOf(a).Addr.Is6() == n.IPv6
			other := func(pool string) bool { return spaceOf(pool) != a.Spec.Network }
			n.Pools = slices.DeleteFunc(slices.Clone(n.Pools), other)
			if k := n.Keep; k != nil {
				n.Keep = &ipam.Keep{Disabled: slices.DeleteFunc(slices.Clone(k.Disabled), other), Pools: slices.DeleteFunc(slices.Clone(k.Pools), other), Why: k.Why}
			}
		}
		if !has {
			out = append(out, n)
		}
	}
	return out
}

// over reports whether the quarantine of an address is over: its time, and that of the pod that
// held it.
func over(a *v1alpha1.IPAddress, now time.Time) bool {
	q := a.Spec.Quarantine
	return a.Spec.State == v1alpha1.Quarantined && len(a.Spec.Holders) == 0 && (q == nil || now.Sub(q.Since.Time) >= confinement)
}

// release frees an address whose quarantine is over, as it was observed. One in the pool of an
// application stays there.
func (c *Controller) release(ctx context.Context, a *v1alpha1.IPAddress) error {
	if a.Spec.Application == nil {
		return ignoreConflict(c.Delete(ctx, a))
	}
	now := metav1.NewTime(c.Now())
	next := a.DeepCopy()
	next.Spec.State, next.Spec.Quarantine, next.Spec.ReleasedAt = v1alpha1.Reserved, nil, &now
	return ignoreConflict(c.Writer.Update(ctx, next))
}

func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
