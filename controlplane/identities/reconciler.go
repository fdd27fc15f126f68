// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// ByOwner is an index of IPAddresses and claims, by [Key.String] of their identities' owners.
const ByOwner = "owner"

const (
	// round is how often an owner is looked at that no watch tells of: KubeVirt's kinds may
	// not be there.
	round = time.Minute
	// longest is how long one reconciliation may take. What was written by then is seen
	// the next time.
	longest = 30 * time.Second
)

// Key names an owner of identities.
type Key struct{ Kind, Namespace, Name string }

// KeyOf returns the owner of an identity.
func KeyOf(o *v1alpha1.Owner) Key { return Key{o.Kind, o.Namespace, o.Name} }

func (k Key) String() string { return k.Kind + "/" + k.Namespace + "/" + k.Name }

// Index adds the index to the manager's cache.
func Index(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.IPAddress{}, ByOwner, func(o client.Object) []string {
		return entry(o.(*v1alpha1.IPAddress).Spec.Identity)
	})
	if err != nil {
		return err
	}
	return mgr.GetFieldIndexer().IndexField(ctx, &v2beta1.SpiderEndpoint{}, ByOwner, func(o client.Object) []string {
		return entry(o.(*v2beta1.SpiderEndpoint).Spec.Identity)
	})
}

func entry(id *v1alpha1.Owner) []string {
	if id == nil {
		return nil
	}
	return []string{KeyOf(id).String()}
}

// Collector frees what is kept for identities that are over.
type Collector struct {
	Cache  client.Reader
	Live   client.Reader
	Writer client.Client
}

// Add adds the collector to a manager, for which Index was called.
func Add(mgr ctrl.Manager) error {
	c := &Collector{Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: client.WithFieldOwner(mgr.GetClient(), "multihome-controller")}
	one := func(k Key) []Key { return []Key{k} }
	return builder.TypedControllerManagedBy[Key](mgr).Named("identities").
		Watches(&v1alpha1.IPAddress{}, mapped(func(_ context.Context, o client.Object) []Key {
			if id := o.(*v1alpha1.IPAddress).Spec.Identity; id != nil && o.(*v1alpha1.IPAddress).Spec.State == v1alpha1.Reserved {
				return one(KeyOf(id))
			}
			return nil
		})).
		Watches(&appsv1.StatefulSet{}, mapped(func(_ context.Context, o client.Object) []Key {
			return one(Key{StatefulSet, o.GetNamespace(), o.GetName()})
		})).
		Watches(&v2beta1.SpiderIPPool{}, mapped(c.all)).
		Watches(&v2beta1.SpiderSubnet{}, mapped(c.all)).
		WithOptions(controller.TypedOptions[Key]{ReconciliationTimeout: longest}).
		Complete(reconcile.TypedFunc[Key](func(ctx context.Context, k Key) (ctrl.Result, error) {
			wait, err := c.Reconcile(ctx, k)
			if apierrors.IsConflict(err) { // somebody took the address: the watch tells
				return ctrl.Result{RequeueAfter: time.Second}, nil
			}
			return ctrl.Result{RequeueAfter: wait}, err
		}))
}

// mapped returns a handler that has the owners reconciled that f returns.
func mapped(f func(context.Context, client.Object) []Key) handler.TypedEventHandler[client.Object, Key] {
	return handler.TypedEnqueueRequestsFromMapFunc(f)
}

// all returns the owners of all identities: a policy is another one now.
func (c *Collector) all(ctx context.Context, _ client.Object) []Key {
	var list v1alpha1.IPAddressList
	if c.Cache.List(ctx, &list, client.UnsafeDisableDeepCopy) != nil {
		return nil
	}
	seen := map[Key]bool{}
	var out []Key
	for i := range list.Items {
		if id := list.Items[i].Spec.Identity; id != nil && !seen[KeyOf(id)] {
			seen[KeyOf(id)] = true
			out = append(out, KeyOf(id))
		}
	}
	return out
}

// Reconcile frees what is kept for an owner's identities that are over. It returns how long to
// wait before it is to be called again if nothing else happens; 0: not at all. The owner is as
// the API server has it, and each write carries the version of the address that it was decided
// on: whoever took it meanwhile keeps it.
func (c *Collector) Reconcile(ctx context.Context, k Key) (time.Duration, error) {
	o, err := c.observe(ctx, k)
	if err != nil || len(o.Addresses) == 0 {
		return 0, err
	}
	var wrong []error
	for _, a := range Decide(o) {
		wrong = append(wrong, c.free(ctx, a))
	}
	if err := errors.Join(wrong...); err != nil {
		return 0, err
	}
	if k.Kind == VirtualMachine || slices.ContainsFunc(o.Pods, func(p Pod) bool { return !p.Runs }) {
		return round, nil
	}
	return 0, nil
}

// free takes an address from its identity, as it was observed.
func (c *Collector) free(ctx context.Context, a *v1alpha1.IPAddress) error {
	ctrl.LoggerFrom(ctx).Info("the identity is over", "address", a.Name, "identity", KeyOf(a.Spec.Identity).String(), "ordinal", a.Spec.Identity.Ordinal)
	if next := Freed(a); next != nil {
		return client.IgnoreNotFound(c.Writer.Update(ctx, next))
	}
	return client.IgnoreNotFound(c.Writer.Delete(ctx, a, client.Preconditions{UID: ptr.To(a.UID), ResourceVersion: ptr.To(a.ResourceVersion)}))
}

// observe reads the addresses that are kept by the cache, and if there are some, the owner and
// its pools by the API server.
func (c *Collector) observe(ctx context.Context, k Key) (Observed, error) {
	o := Observed{Policies: map[string]Policy{}}
	var list v1alpha1.IPAddressList
	if err := c.Cache.List(ctx, &list, client.MatchingFields{ByOwner: k.String()}); err != nil {
		return o, err
	}
	for _, a := range list.Items {
		if a.Spec.State == v1alpha1.Reserved {
			o.Addresses = append(o.Addresses, a)
		}
	}
	if len(o.Addresses) == 0 {
		return o, nil
	}
	var err error
	if o.Owner, err = c.owner(ctx, k); err != nil {
		return o, err
	}
	if o.Pods, err = c.pods(ctx, k, o.Addresses); err != nil {
		return o, err
	}
	for _, a := range o.Addresses {
		if _, known := o.Policies[a.Spec.Pool]; known {
			continue
		}
		if o.Policies[a.Spec.Pool], err = ReadPolicy(ctx, c.Live, a.Spec.Pool); err != nil {
			return o, err
		}
	}
	return o, nil
}

// pods returns the pods of the identities of addresses: those with claims, and of a StatefulSet
// those without. Only where the cache says that one runs without an address's NIC, or with another
// address, the API server is asked.
func (c *Collector) pods(ctx context.Context, k Key, addresses []v1alpha1.IPAddress) ([]Pod, error) {
	var claims v2beta1.SpiderEndpointList
	if err := c.Cache.List(ctx, &claims, client.MatchingFields{ByOwner: k.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	names := map[client.ObjectKey]*v1alpha1.Owner{}
	for i := range claims.Items {
		names[client.ObjectKeyFromObject(&claims.Items[i])] = claims.Items[i].Spec.Identity
	}
	for _, a := range addresses {
		if id := a.Spec.Identity; id.Ordinal != nil {
			names[client.ObjectKey{Namespace: k.Namespace, Name: fmt.Sprintf("%s-%d", k.Name, *id.Ordinal)}] = id
		}
	}
	var out []Pod
	for key, id := range names {
		p, err := c.pod(ctx, c.Cache, key, id)
		without := func(a v1alpha1.IPAddress) bool {
			return Same(a.Spec.Identity, id) && (!slices.Contains(p.NICs, a.Spec.Identity.Interface) || p.hasAnother(&a))
		}
		if err == nil && p.Runs && slices.ContainsFunc(addresses, without) {
			p, err = c.pod(ctx, c.Live, key, id)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// pod reads a pod of an identity, and its claim. One that isn't there doesn't run.
func (c *Collector) pod(ctx context.Context, from client.Reader, key client.ObjectKey, id *v1alpha1.Owner) (Pod, error) {
	out := Pod{Identity: id}
	pod, claim := &corev1.Pod{}, &v2beta1.SpiderEndpoint{}
	if err := from.Get(ctx, key, pod); err != nil {
		return out, client.IgnoreNotFound(err)
	}
	out.Runs = pod.Status.Phase == corev1.PodRunning && Same(Of(pod), id)
	switch err := from.Get(ctx, key, claim); {
	case apierrors.IsNotFound(err):
		return out, nil
	case err != nil:
		return out, err
	}
	for _, n := range claim.Spec.NICs {
		out.NICs = append(out.NICs, n.Interface)
	}
	if claim.Status.Current != nil {
		out.Addresses = map[string][]netip.Addr{}
		for _, n := range claim.Status.Current.IPs {
			for _, text := range []string{n.IPv4, n.IPv6} {
				if p, err := netip.ParsePrefix(text); err == nil {
					out.Addresses[n.Interface] = append(out.Addresses[n.Interface], p.Addr())
				}
			}
		}
	}
	out.Runs = out.Runs && pods.UID(pod) == claim.Spec.PodUID && claim.Status.Phase == v2beta1.Allocated
	return out, nil
}

func (c *Collector) owner(ctx context.Context, k Key) (Owner, error) {
	key := client.ObjectKey{Namespace: k.Namespace, Name: k.Name}
	if k.Kind == StatefulSet {
		s := &appsv1.StatefulSet{}
		if err := c.Live.Get(ctx, key, s); err != nil {
			return Owner{Gone: true}, client.IgnoreNotFound(err)
		}
		out := Owner{UID: string(s.UID), Replicas: ptr.Deref(s.Spec.Replicas, 1)}
		if s.Spec.Ordinals != nil {
			out.Start = s.Spec.Ordinals.Start
		}
		return out, nil
	}
	switch vm, err := Machine(ctx, c.Live, VirtualMachine, key); {
	case err != nil:
		return Owner{}, err
	case vm != nil:
		return Owner{UID: string(vm.UID)}, nil
	}
	vmi, err := Machine(ctx, c.Live, Instance, key)
	return Owner{Gone: vmi == nil}, err
}

// ReadPolicy reads the policy of a pool from the API server. A pool that is gone has none, and
// neither has a VLANSubnet or a SpiderSubnet that stands for one. It is an error if nothing says yet whether a
// subnet has the pool.
func ReadPolicy(ctx context.Context, live client.Reader, name string) (Policy, error) {
	if strings.Contains(name, "/") { // ipam.VLANSubnetPool, ipam.SubnetPool: no name of a SpiderIPPool
		return Policy{}, nil
	}
	pool := &v2beta1.SpiderIPPool{}
	if err := live.Get(ctx, client.ObjectKey{Name: name}, pool); err != nil {
		return Policy{}, client.IgnoreNotFound(err)
	}
	var of string
	switch auto := ipam.AutoPoolOf(pool.Annotations); {
	case auto != nil:
		of = auto.Subnet
	case pool.Status.Inherited != nil:
		of = pool.Status.Inherited.Subnet
	case len(pool.Status.Conditions) == 0:
		return Policy{}, fmt.Errorf("SpiderIPPool %s has no status yet, so its policy isn't known", name)
	default:
		return PolicyOf(pool, nil), nil
	}
	subnet := &v2beta1.SpiderSubnet{}
	if err := live.Get(ctx, client.ObjectKey{Name: of}, subnet); err != nil {
		return PolicyOf(pool, nil), client.IgnoreNotFound(err)
	}
	return PolicyOf(pool, subnet), nil
}
