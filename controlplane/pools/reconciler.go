// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

const (
	// settle is the least time between two reconciliations, and so between two writes of
	// a status.
	settle = time.Second
	// longest is how long one reconciliation may take. What was written by then is seen
	// the next time.
	longest = 30 * time.Second
)

// Index adds the index v1alpha1.ByPool to the manager's cache, which the webhook reads too.
func Index(ctx context.Context, mgr ctrl.Manager) error {
	return mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.IPAddress{}, v1alpha1.ByPool, func(o client.Object) []string {
		return []string{o.(*v1alpha1.IPAddress).Spec.Pool}
	})
}

// Add adds the controller to a manager, whose scheme has the kinds of api/v2beta1 and
// api/v1alpha1.
func Add(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "all"}}}
	})
	return ctrl.NewControllerManagedBy(mgr).Named("pools").
		Watches(&v2beta1.SpiderIPPool{}, all).
		Watches(&v2beta1.SpiderSubnet{}, all).
		Watches(&v2beta1.SpiderReservedIP{}, all).
		Watches(&staticmacvlan.VLANSubnet{}, all).
		Watches(&v1alpha1.IPAddress{}, all).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, ReconciliationTimeout: longest}).
		Complete(&Reconciler{Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: mgr.GetClient(), Now: time.Now})
}

// Reconciler looks after all pools at once.
type Reconciler struct {
	Cache  client.Reader
	Live   client.Reader
	Writer client.Client
	// Now returns the time.
	Now  func() time.Time
	last time.Time // when the last reconciliation ended
}

// Reconcile writes what is to be written. Each write carries what it was decided on.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	now := r.Now()
	if wait := settle - now.Sub(r.last); wait > 0 && wait <= settle { // more: the clock was set back
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	defer func() { r.last = r.Now() }()
	o, err := r.observe(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	var wrong []error
	again := false
	versions := map[types.UID]string{} // of objects that are written twice
	for _, w := range Decide(o, metav1.NewTime(now)) {
		if v := versions[w.Now.GetUID()]; v != "" {
			w.Now = w.Now.DeepCopyObject().(client.Object)
			w.Now.SetResourceVersion(v)
		}
		err := r.write(ctx, w)
		versions[w.Now.GetUID()] = w.Next.GetResourceVersion()
		switch {
		case apierrors.IsConflict(err): // the watch brings what somebody else wrote
			again = true
		case err != nil:
			wrong = append(wrong, err)
		}
	}
	if again {
		return ctrl.Result{RequeueAfter: settle}, errors.Join(wrong...)
	}
	return ctrl.Result{}, errors.Join(wrong...)
}

// observe reads the cache.
func (r *Reconciler) observe(ctx context.Context) (Observed, error) {
	var pools v2beta1.SpiderIPPoolList
	var subnets v2beta1.SpiderSubnetList
	var reserved v2beta1.SpiderReservedIPList
	var vlans staticmacvlan.VLANSubnetList
	var addresses v1alpha1.IPAddressList
	for _, list := range []client.ObjectList{&pools, &subnets, &reserved, &vlans, &addresses} {
		// Decide changes copies alone.
		if err := r.Cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return Observed{}, err
		}
	}
	return Observed{Pools: pools.Items, Subnets: subnets.Items, Reserved: reserved.Items, VLANs: vlans.Items, Addresses: addresses.Items}, nil
}

// write writes an object's status or finalizers. The API server refuses it if the object
// isn't any more what it was decided on.
func (r *Reconciler) write(ctx context.Context, w Write) error {
	if w.Freed != "" {
		used, err := r.used(ctx, w.Freed)
		if used || err != nil {
			return err
		}
	}
	patch := client.MergeFromWithOptions(w.Now, client.MergeFromWithOptimisticLock{})
	var err error
	if w.Status {
		err = r.Writer.Status().Patch(ctx, w.Next, patch)
	} else {
		err = r.Writer.Patch(ctx, w.Next, patch)
	}
	return client.IgnoreNotFound(err)
}

// used reports whether the API server has an address of the pool that is in use. The cache
// may be too old to have it.
func (r *Reconciler) used(ctx context.Context, pool string) (bool, error) {
	var addresses v1alpha1.IPAddressList
	if err := r.Live.List(ctx, &addresses, client.MatchingFields{v1alpha1.ByPool: pool}); err != nil {
		return false, fmt.Errorf("addresses of SpiderIPPool %s: %w", pool, err)
	}
	for i := range addresses.Items {
		if addresses.Items[i].InUse() {
			return true, nil
		}
	}
	return false, nil
}
