// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/conditions"
)

const (
	workers = 8
	// longest is how long one reconciliation may take: an API server that never answers must
	// not hold a worker for ever. What was written by then is seen the next time.
	longest = 30 * time.Second

	byName = "nad"  // the index of configs by the name that they want
	byLink = "link" // the index of configs by type and link
)

// Add adds the controller to a manager, whose scheme has the kinds of api/v2beta1 and
// api/nad.
func Add(ctx context.Context, mgr ctrl.Manager) error {
	for index, of := range map[string]func(*v2beta1.SpiderMultusConfig) string{
		byName: NameOf,
		byLink: func(c *v2beta1.SpiderMultusConfig) string { return onLink(c, false) },
	} {
		err := mgr.GetFieldIndexer().IndexField(ctx, &v2beta1.SpiderMultusConfig{}, index, func(o client.Object) []string {
			if value := of(o.(*v2beta1.SpiderMultusConfig)); value != "" {
				return []string{value}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r := &reconciler{cache: mgr.GetClient(), live: mgr.GetAPIReader(), writer: client.WithFieldOwner(mgr.GetClient(), Manager)}
	// An update is mapped twice, as the object was and as it is: a former name is looked at too, and
	// those that were beside it.
	wanted := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		c := o.(*v2beta1.SpiderMultusConfig)
		out := []reconcile.Request{{NamespacedName: wants(c)}}
		beside, err := r.beside(ctx, c)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "looking for those beside a SpiderMultusConfig")
		}
		for i := range beside {
			out = append(out, reconcile.Request{NamespacedName: wants(&beside[i])})
		}
		return out
	})
	return ctrl.NewControllerManagedBy(mgr).Named("networks").
		For(&nad.NetworkAttachmentDefinition{}).
		Watches(&v2beta1.SpiderMultusConfig{}, wanted).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: longest}).
		Complete(r)
}

// wants returns the NetworkAttachmentDefinition that a config wants.
func wants(c *v2beta1.SpiderMultusConfig) types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: NameOf(c)}
}

// reconciler looks after one name of a NetworkAttachmentDefinition at a time.
type reconciler struct {
	cache  client.Reader
	live   client.Reader
	writer client.Client
}

// Reconcile decides by the cache, and if something is to be written, again by what the API
// server has.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o, err := r.observe(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	d := Decide(o)
	if d.Write != Nothing {
		if o, err = r.again(ctx, o); err != nil {
			return ctrl.Result{}, err
		}
		d = Decide(o)
		if err := r.write(ctx, o, d); err != nil {
			return lost(r.refused(ctx, d, err))
		}
	}
	for _, v := range d.Verdicts {
		if err := r.say(ctx, v, d); err != nil {
			return lost(err)
		}
	}
	return ctrl.Result{}, nil
}

// lost returns the result after an error. Where somebody else was faster, the watch brings
// what he wrote; the wait is for an event that is lost.
func lost(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	return ctrl.Result{}, err
}

// observe reads the cache.
func (r *reconciler) observe(ctx context.Context, key types.NamespacedName) (Observed, error) {
	o := Observed{Key: key}
	var configs v2beta1.SpiderMultusConfigList
	if err := r.cache.List(ctx, &configs, client.InNamespace(key.Namespace), client.MatchingFields{byName: key.Name}); err != nil {
		return o, err
	}
	o.Configs = configs.Items
	for i := range o.Configs {
		beside, err := r.beside(ctx, &o.Configs[i])
		if err != nil {
			return o, err
		}
		o.Beside = append(o.Beside, beside...)
	}
	return r.withNAD(ctx, r.cache, o)
}

// beside returns the configs, of any namespace, that put NICs of the other type on the link of one.
func (r *reconciler) beside(ctx context.Context, c *v2beta1.SpiderMultusConfig) ([]v2beta1.SpiderMultusConfig, error) {
	link := onLink(c, true)
	if link == "" {
		return nil, nil
	}
	var list v2beta1.SpiderMultusConfigList
	err := r.cache.List(ctx, &list, client.MatchingFields{byLink: link})
	return list.Items, err
}

// again reads from the API server what observe found in the cache: the
// NetworkAttachmentDefinition first. A config that is deleted with --cascade=orphan after that
// changes the NetworkAttachmentDefinition, so that the write is refused. In the other order it
// would be given to a config that is gone, and the garbage collector would take it.
func (r *reconciler) again(ctx context.Context, cached Observed) (Observed, error) {
	o, err := r.withNAD(ctx, r.live, Observed{Key: cached.Key, Beside: cached.Beside})
	if err != nil {
		return o, err
	}
	for _, c := range cached.Configs {
		now := v2beta1.SpiderMultusConfig{}
		switch err := r.live.Get(ctx, client.ObjectKeyFromObject(&c), &now); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return o, err
		case NameOf(&now) == o.Key.Name:
			o.Configs = append(o.Configs, now)
		}
	}
	return o, nil
}

// withNAD adds the NetworkAttachmentDefinition and the config that controls it.
func (r *reconciler) withNAD(ctx context.Context, from client.Reader, o Observed) (Observed, error) {
	found := &nad.NetworkAttachmentDefinition{}
	switch err := from.Get(ctx, o.Key, found); {
	case apierrors.IsNotFound(err):
		return o, nil
	case err != nil:
		return o, err
	}
	o.NAD = found
	ref := controllerOf(found)
	if ref == nil || !isConfig(ref) {
		return o, nil
	}
	owner := &v2beta1.SpiderMultusConfig{}
	err := from.Get(ctx, types.NamespacedName{Namespace: o.Key.Namespace, Name: ref.Name}, owner)
	if err == nil && owner.UID == ref.UID {
		o.Owner = owner
	}
	return o, client.IgnoreNotFound(err)
}

// write writes what was decided. The API server refuses it if the
// NetworkAttachmentDefinition isn't any more what it was decided on.
func (r *reconciler) write(ctx context.Context, o Observed, d Decision) error {
	log := ctrl.LoggerFrom(ctx)
	switch d.Write {
	case Create:
		log.Info("creating the NetworkAttachmentDefinition")
		return r.writer.Create(ctx, d.NAD.DeepCopy())
	case Update:
		log.Info("updating the NetworkAttachmentDefinition")
		return r.writer.Patch(ctx, d.NAD.DeepCopy(), client.MergeFromWithOptions(o.NAD, client.MergeFromWithOptimisticLock{}))
	case Delete:
		log.Info("deleting the NetworkAttachmentDefinition, which its SpiderMultusConfig wants no more")
		err := r.writer.Delete(ctx, d.NAD, client.Preconditions{UID: ptr.To(d.NAD.UID), ResourceVersion: ptr.To(d.NAD.ResourceVersion)})
		return client.IgnoreNotFound(err)
	}
	return nil
}

// refused says in the configs' conditions why the API server didn't take a write, if another
// try leads to the same. It returns the error if another try may help.
func (r *reconciler) refused(ctx context.Context, d Decision, err error) error {
	reason := v2beta1.Refused
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		reason = v2beta1.Terminated
	case !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err):
		return err
	}
	for _, v := range d.Verdicts {
		if v.Has {
			v.Has, v.Reason, v.Message = false, reason, fmt.Sprintf("the API server doesn't take NetworkAttachmentDefinition %s: %v", client.ObjectKeyFromObject(d.NAD), err)
		}
		if err := r.say(ctx, v, d); err != nil {
			return err
		}
	}
	if reason == v2beta1.Terminated { // it can't come back
		return nil
	}
	return err
}

// say writes a config's status, if it doesn't say so already.
func (r *reconciler) say(ctx context.Context, v Verdict, d Decision) error {
	now := v.Config
	next := now.DeepCopy()
	if next.Status = Status(now, v, d, metav1.Now()); equalStatus(now.Status, next.Status) {
		return nil
	}
	err := r.writer.Status().Patch(ctx, next, client.MergeFromWithOptions(now, client.MergeFromWithOptimisticLock{}))
	return client.IgnoreNotFound(err)
}

// Status returns the status of a config: what it was, with what is to be said. A condition
// that stays as it was keeps its time.
func Status(c *v2beta1.SpiderMultusConfig, v Verdict, d Decision, now metav1.Time) v2beta1.SpiderMultusConfigStatus {
	out := *c.Status.DeepCopy()
	out.NetworkAttachmentDefinition = ""
	if v.Has && d.NAD != nil {
		out.NetworkAttachmentDefinition = d.NAD.Name
	}
	ready := metav1.Condition{
		Type: v2beta1.Ready, Status: metav1.ConditionFalse, Reason: v.Reason, Message: v.Message,
		ObservedGeneration: c.Generation, LastTransitionTime: now,
	}
	if v.Reason == v2beta1.Written {
		ready.Status = metav1.ConditionTrue
	}
	conditions.Set(&out.Conditions, ready)
	if v.Warnings == "" {
		meta.RemoveStatusCondition(&out.Conditions, v2beta1.Unadvised)
	} else {
		conditions.Set(&out.Conditions, metav1.Condition{
			Type: v2beta1.Unadvised, Status: metav1.ConditionTrue, Reason: v2beta1.Unadvised, Message: v.Warnings,
			ObservedGeneration: c.Generation, LastTransitionTime: now,
		})
	}
	return out
}

func equalStatus(a, b v2beta1.SpiderMultusConfigStatus) bool {
	return a.NetworkAttachmentDefinition == b.NetworkAttachmentDefinition && conditions.Same(a.Conditions, b.Conditions)
}
