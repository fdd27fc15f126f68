// SPDX-License-Identifier: Apache-2.0

package staticpods

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

const (
	// soon is when to look again after a write: the cache has it by then.
	soon = 50 * time.Millisecond
	// longest is how long one reconciliation may take.
	longest = 30 * time.Second
)

// Add adds the controller to a manager, whose scheme has the kinds of api/v2beta1 and
// api/staticmacvlan.
func Add(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("staticpods").
		For(&v2beta1.SpiderEndpoint{}).
		Watches(&staticmacvlan.StaticPod{}, &handler.EnqueueRequestForObject{}).
		WithOptions(controller.Options{ReconciliationTimeout: longest}).
		Complete(&reconciler{cache: mgr.GetClient(), writer: mgr.GetClient()})
}

type reconciler struct {
	cache  client.Reader
	writer client.Client
}

// Reconcile takes the next step for a name. Each write carries what it was decided on; where
// somebody else was faster, the next look is soon.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	claim, now := &v2beta1.SpiderEndpoint{}, &staticmacvlan.StaticPod{}
	switch err := r.cache.Get(ctx, req.NamespacedName, claim); {
	case apierrors.IsNotFound(err):
		claim = nil
	case err != nil:
		return ctrl.Result{}, err
	}
	switch err := r.cache.Get(ctx, req.NamespacedName, now); {
	case apierrors.IsNotFound(err):
		now = nil
	case err != nil:
		return ctrl.Result{}, err
	}
	var err error
	switch create, update, remove := Decide(claim, now); {
	case create != nil:
		err = r.writer.Create(ctx, create)
	case update != nil:
		err = r.writer.Update(ctx, update)
	case remove != nil:
		err = r.writer.Delete(ctx, remove, client.Preconditions{UID: ptr.To(remove.UID), ResourceVersion: ptr.To(remove.ResourceVersion)})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: soon}, nil
	}
	return ctrl.Result{}, err
}
