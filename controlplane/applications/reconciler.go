// SPDX-License-Identifier: Apache-2.0

package applications

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

const (
	exhausted = "SubnetExhausted"

	settle = time.Second     // the least time between two writes of a pool's spec.ips
	look   = 2 * time.Second // how long to wait before a subnet that had too few addresses is asked again
	round  = time.Minute     // how often a virtual machine is looked at that is stopped: no watch tells of its end
	steps  = 20              // of one reconciliation, at most
	batch  = 1000            // addresses by which a pool grows in one step, at most
)

// Stock has the addresses of subnets: package addresses has it.
type Stock interface {
	Subnet(name string) (ipam.Standing, bool)
	Reserve(subnet string, n int) []ipam.Key
	Unreserve(k ipam.Key, now *v1alpha1.IPAddress)
	Delete(ctx context.Context, a *v1alpha1.IPAddress) error
	NICs(ctx context.Context, pod ipam.PodFacts) (all []ipam.Attachment, intent ipam.Intent, wrong, err error)
}

// Reconciler gives applications their pools. Several may exist, of which one leads.
type Reconciler struct {
	Cache  client.Reader
	Live   client.Reader
	Writer client.Client
	Stock  Stock
	// Now returns the time.
	Now func() time.Time
	// Each calls f for 0 to n-1, perhaps at the same time, and returns the first error.
	Each func(n int, f func(i int) error) error
	// Event publishes a warning about an application.
	Event func(about ipam.Application, reason, message string)
	// Number is how many addresses a pool has whose application doesn't say.
	Number ipam.Number
	// Kinds are those of other projects whose objects have the subresource scale.
	Kinds map[schema.GroupKind]schema.GroupVersionKind

	mu       sync.Mutex
	rendered map[types.UID]time.Time // when spec.ips of a pool was written
	said     map[Key][]Says
}

// Reconcile brings the pools of a name in line. It returns how long to wait before it is to be
// called again if nothing else happens; 0: not at all.
func (r *Reconciler) Reconcile(ctx context.Context, k Key) (time.Duration, error) {
	o, err := r.observe(ctx, r.Cache, k)
	if err != nil {
		return 0, err
	}
	p := Decide(o)
	r.say(o, k, p.Says)
	if p.Empty() {
		return wait(o, p), nil
	}
	for range steps {
		if o, err = r.observe(ctx, r.Live, k); err != nil {
			return 0, err
		}
		p = Decide(o)
		if p.Empty() {
			break
		}
		lacks, later, err := r.apply(ctx, o, p)
		r.say(o, k, append(p.Says, lacks...))
		switch {
		case err != nil:
			return 0, err
		case len(lacks) > 0:
			return look, nil
		case later > 0:
			return later, nil
		}
	}
	return wait(o, p), nil
}

// wait returns how long to wait for what no event tells.
func wait(o Observed, p Plan) time.Duration {
	switch {
	case slices.ContainsFunc(p.Says, func(s Says) bool { return s.Reason != "FewSpareAddresses" }):
		return look
	case o.App != nil && o.App.Stopped && len(o.Pools) > 0:
		return round
	}
	return 0
}

// say publishes what wasn't said before.
func (r *Reconciler) say(o Observed, k Key, all []Says) {
	if o.App == nil {
		all = nil
	}
	r.mu.Lock()
	if r.said == nil {
		r.said = map[Key][]Says{}
	}
	former := r.said[k]
	if r.said[k] = all; len(all) == 0 {
		delete(r.said, k)
	}
	r.mu.Unlock()
	for _, s := range all {
		if !slices.Contains(former, s) {
			r.Event(o.App.Application, s.Reason, s.Message)
		}
	}
}

// observe reads what is known about a name. Which pools and addresses there are to read, the
// cache says in both cases.
func (r *Reconciler) observe(ctx context.Context, from client.Reader, k Key) (Observed, error) {
	o := Observed{Addresses: map[string][]*v1alpha1.IPAddress{}, Subnets: map[string]Subnet{}, Retains: map[string]bool{}}
	var err error
	if o.App, err = r.app(ctx, from, k); err != nil {
		return o, err
	}
	names := map[string]bool{}
	var pools v2beta1.SpiderIPPoolList
	if err := r.Cache.List(ctx, &pools, client.MatchingFields{byApplication: k.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return o, err
	}
	for i := range pools.Items {
		names[pools.Items[i].Name] = true
	}
	var addresses v1alpha1.IPAddressList
	if err := r.Cache.List(ctx, &addresses, client.MatchingFields{byApplication: k.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return o, err
	}
	for i := range addresses.Items {
		names[addresses.Items[i].Spec.Pool] = true
	}
	if o.App != nil {
		for _, want := range o.App.Wanted {
			names[want.Name(1)] = true
			if err := r.subnet(ctx, &o, want.Subnet); err != nil {
				return o, err
			}
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		if err := r.pool(ctx, from, &o, k, name); err != nil {
			return o, err
		}
	}
	return o, r.former(ctx, from, &o)
}

// former finds which pools of a former application of the name hold addresses that stay for App's pods, where
// App has no pool yet.
func (r *Reconciler) former(ctx context.Context, from client.Reader, o *Observed) error {
	if o.App == nil {
		return nil
	}
	has := map[ipam.AutoPool]bool{}
	for _, pool := range o.Pools {
		has[*ipam.AutoPoolOf(pool.Annotations)] = true
	}
	for _, pool := range o.Pools {
		is := *ipam.AutoPoolOf(pool.Annotations)
		is.Application = o.App.Application
		kept := slices.DeleteFunc(slices.Clone(o.Addresses[pool.Name]), func(a *v1alpha1.IPAddress) bool { return a.Spec.Identity == nil })
		if len(kept) == 0 || has[is] || !slices.Contains(o.App.Wanted, is) {
			continue
		}
		policy, err := identities.ReadPolicy(ctx, from, pool.Name)
		if err != nil {
			return err
		}
		goes := policy.RetainDeleted
		for i := 0; i < len(kept) && !goes; i++ {
			if goes, err = r.goesOn(ctx, from, o.App, kept[i]); err != nil {
				return err
			}
		}
		if goes {
			o.Retains[pool.Name] = true
		}
	}
	return nil
}

// goesOn reports whether the identity of an address of a former application is one of an application of the
// name that was made later: its pod was left without a controller, and this one has adopted it, or will.
func (r *Reconciler) goesOn(ctx context.Context, from client.Reader, app *App, a *v1alpha1.IPAddress) (bool, error) {
	if a.Spec.Identity.UID == app.UID {
		return true, nil
	}
	for _, h := range a.Spec.Holders {
		p := &corev1.Pod{}
		if err := from.Get(ctx, client.ObjectKey{Namespace: h.Namespace, Name: h.Pod}, p); client.IgnoreNotFound(err) != nil {
			return false, err
		} else if err == nil && string(p.UID) == h.PodUID && outlives(p, app.UID) {
			return true, nil
		}
	}
	return false, nil
}

// outlives reports whether a pod of a former application is one of that of a UID, or can be.
func outlives(p *corev1.Pod, uid string) bool {
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
		return string(owner.UID) == uid
	}
	return p.DeletionTimestamp.IsZero()
}

// pool reads a pool and its addresses.
func (r *Reconciler) pool(ctx context.Context, from client.Reader, o *Observed, k Key, name string) error {
	pool := &v2beta1.SpiderIPPool{}
	switch err := from.Get(ctx, client.ObjectKey{Name: name}, pool); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	default:
		is := ipam.AutoPoolOf(pool.Annotations)
		if is == nil || KeyOf(is.Application) != k {
			return nil // another one's, of this name
		}
		o.Pools = append(o.Pools, pool)
	}
	var addresses v1alpha1.IPAddressList
	if err := from.List(ctx, &addresses, client.MatchingFields{v1alpha1.ByPool: name}); err != nil {
		return err
	}
	for i := range addresses.Items {
		o.Addresses[name] = append(o.Addresses[name], &addresses.Items[i])
	}
	return nil
}

// subnet reads a subnet.
func (r *Reconciler) subnet(ctx context.Context, o *Observed, name string) error {
	s := &v2beta1.SpiderSubnet{}
	if err := r.Cache.Get(ctx, client.ObjectKey{Name: name}, s); err != nil {
		return client.IgnoreNotFound(err)
	}
	if standing, there := r.Stock.Subnet(name); there {
		o.Subnets[name] = Subnet{s.Spec, standing}
	}
	return nil
}

// apply does what is planned, as far as it can. It returns what subnets lack, and how long
// spec.ips of a pool is to wait.
func (r *Reconciler) apply(ctx context.Context, o Observed, p Plan) (lacks []Says, later time.Duration, err error) {
	var wrong []error
	add := func(err error) { wrong = append(wrong, err) }
	for _, pool := range p.Update {
		add(r.Writer.Update(ctx, pool))
	}
	add(r.Each(len(p.Adopt), func(i int) error { return r.Writer.Update(ctx, p.Adopt[i]) }))
	add(r.Each(len(p.Free), func(i int) error { return r.Stock.Delete(ctx, p.Free[i]) }))
	for _, pool := range p.Create {
		add(r.Writer.Create(ctx, pool))
	}
	for _, g := range p.Grow {
		lack, err := r.grow(ctx, o, g)
		add(err)
		lacks = append(lacks, lack...)
	}
	if len(p.Update) == 0 { // else the pools have other versions now
		for _, pool := range p.Render {
			wait, err := r.render(ctx, pool)
			add(err)
			later = max(later, wait)
		}
	}
	for _, pool := range p.Delete {
		add(client.IgnoreNotFound(r.Writer.Delete(ctx, pool, client.Preconditions{UID: ptr.To(pool.UID), ResourceVersion: ptr.To(pool.ResourceVersion)})))
	}
	return lacks, later, errors.Join(wrong...)
}

// grow makes the IPAddresses by which a pool grows.
func (r *Reconciler) grow(ctx context.Context, o Observed, g Grow) ([]Says, error) {
	want := min(g.N, batch)
	keys := r.Stock.Reserve(g.Subnet, want)
	owner := ownerOf(g.Application)
	err := r.Each(len(keys), func(i int) error {
		k := keys[i]
		a := &v1alpha1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: k.String()},
			Spec:       v1alpha1.IPAddressSpec{Address: k.Addr.String(), Network: k.Space, Pool: g.Pool, State: v1alpha1.Reserved, Application: &owner},
		}
		err := r.Writer.Create(ctx, a)
		if err == nil {
			return nil
		}
		now := &v1alpha1.IPAddress{}
		if r.Live.Get(ctx, client.ObjectKey{Name: a.Name}, now) != nil { // if it was made all the same, the cache will say so
			now = nil
		}
		r.Stock.Unreserve(k, now)
		return err
	})
	if err != nil || len(keys) == want {
		return nil, err
	}
	subnet := o.Subnets[g.Subnet]
	return []Says{{exhausted, "pool " + g.Pool + " has fewer addresses than it needs: SpiderSubnet " + g.Subnet + " (" + subnet.Spec.Subnet + ") has none left: give it more in spec.ips"}}, nil
}

// render writes spec.ips of a pool, but not twice in a second.
func (r *Reconciler) render(ctx context.Context, pool *v2beta1.SpiderIPPool) (time.Duration, error) {
	r.mu.Lock()
	if r.rendered == nil {
		r.rendered = map[types.UID]time.Time{}
	}
	now := r.Now()
	since := now.Sub(r.rendered[pool.UID])
	r.mu.Unlock()
	if since >= 0 && since < settle {
		return settle - since, nil
	}
	err := r.Writer.Update(ctx, pool)
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, t := range r.rendered {
		if now.Sub(t) > time.Minute {
			delete(r.rendered, uid)
		}
	}
	if err == nil {
		r.rendered[pool.UID] = now
	}
	return 0, err
}
