// SPDX-License-Identifier: Apache-2.0

package applications

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

const (
	workers  = 8
	parallel = 16 // requests of one application that are on their way at a time
	soon     = 50 * time.Millisecond
	longest  = 60 * time.Second // that one reconciliation may take

	byApplication = "application" // of SpiderIPPools and IPAddresses, by the application's Key
	byOwner       = "owner"       // of pods that name subnets, and of those of virtual machines, by the Key of their controller
)

// Options are settings of all applications.
type Options struct {
	Number ipam.Number // of addresses, where an application doesn't say
	// Kinds of other projects whose objects have the subresource scale.
	Kinds []schema.GroupVersionKind
}

// ParseKinds reads kinds as GROUP/VERSION/KIND, with commas between them.
func ParseKinds(text string) ([]schema.GroupVersionKind, error) {
	var out []schema.GroupVersionKind
	for item := range strings.SplitSeq(text, ",") {
		parts := strings.Split(item, "/")
		if len(parts) != 3 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("%q: want GROUP/VERSION/KIND, such as apps.kruise.io/v1alpha1/CloneSet", item)
		}
		out = append(out, schema.GroupVersionKind{Group: parts[0], Version: parts[1], Kind: parts[2]})
	}
	return out, nil
}

// Strip removes from a workload in the cache what this package and package owners don't read.
// It is a transform of the manager's cache.
func Strip(o any) (any, error) {
	short := func(m metav1.ObjectMeta) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
			OwnerReferences: m.OwnerReferences, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		}
	}
	pods := func(t corev1.PodTemplateSpec) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: t.Labels, Annotations: t.Annotations}, Spec: corev1.PodSpec{HostNetwork: t.Spec.HostNetwork},
		}
	}
	job := func(s batchv1.JobSpec) batchv1.JobSpec {
		return batchv1.JobSpec{Completions: s.Completions, Parallelism: s.Parallelism, Template: pods(s.Template)}
	}
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &appsv1.Deployment{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta), Spec: appsv1.DeploymentSpec{
			Replicas: o.Spec.Replicas, Strategy: o.Spec.Strategy, Template: pods(o.Spec.Template),
		}}, nil
	case *appsv1.ReplicaSet:
		out := &appsv1.ReplicaSet{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta)}
		if metav1.GetControllerOf(o) == nil {
			out.Spec = appsv1.ReplicaSetSpec{Replicas: o.Spec.Replicas, Template: pods(o.Spec.Template)}
		}
		return out, nil
	case *appsv1.StatefulSet:
		return &appsv1.StatefulSet{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta), Spec: appsv1.StatefulSetSpec{
			Replicas: o.Spec.Replicas, Ordinals: o.Spec.Ordinals, Template: pods(o.Spec.Template),
			PersistentVolumeClaimRetentionPolicy: o.Spec.PersistentVolumeClaimRetentionPolicy,
		}}, nil
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta),
			Spec:   appsv1.DaemonSetSpec{UpdateStrategy: o.Spec.UpdateStrategy, Template: pods(o.Spec.Template)},
			Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: o.Status.DesiredNumberScheduled}}, nil
	case *batchv1.Job:
		out := &batchv1.Job{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta)}
		if metav1.GetControllerOf(o) == nil {
			out.Spec = job(o.Spec)
		}
		return out, nil
	case *batchv1.CronJob:
		return &batchv1.CronJob{TypeMeta: o.TypeMeta, ObjectMeta: short(o.ObjectMeta), Spec: batchv1.CronJobSpec{
			JobTemplate: batchv1.JobTemplateSpec{Spec: job(o.Spec.JobTemplate.Spec)},
		}}, nil
	}
	return o, nil
}

// ByObject returns how the manager's cache is to keep workloads.
func ByObject() map[client.Object]cache.ByObject {
	out := map[client.Object]cache.ByObject{}
	for _, o := range builtIn() {
		out[o] = cache.ByObject{Transform: Strip}
	}
	return out
}

// Index adds the indexes that the package reads.
func Index(ctx context.Context, mgr ctrl.Manager) error {
	for _, x := range []struct {
		of   client.Object
		name string
		key  func(client.Object) (Key, bool)
	}{
		{&v2beta1.SpiderIPPool{}, byApplication, ofPool},
		{&v1alpha1.IPAddress{}, byApplication, ofAddress},
		{&corev1.Pod{}, byOwner, ofPod},
	} {
		err := mgr.GetFieldIndexer().IndexField(ctx, x.of, x.name, func(o client.Object) []string {
			if k, ok := x.key(o); ok {
				return []string{k.String()}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ofPool returns whose pool it is.
func ofPool(o client.Object) (Key, bool) {
	is := ipam.AutoPoolOf(o.GetAnnotations())
	if is == nil {
		return Key{}, false
	}
	return KeyOf(is.Application), true
}

// ofAddress returns in whose pool an address is.
func ofAddress(o client.Object) (Key, bool) {
	a := o.(*v1alpha1.IPAddress).Spec.Application
	if a == nil {
		return Key{}, false
	}
	return Key{a.Group, a.Kind, a.Namespace, a.Name}, true
}

// ofPod returns the controller of a pod that names subnets. Pods of a virtual machine that name none any
// more have it give its pools back, so they count as well.
func ofPod(o client.Object) (Key, bool) {
	k, ok := ofController(o)
	return k, ok && (ipam.WantsSubnets(o.GetAnnotations()) || k.isInstance())
}

// ofController returns the controller of an object.
func ofController(o client.Object) (Key, bool) {
	ref := metav1.GetControllerOf(o)
	if ref == nil {
		return Key{}, false
	}
	gv, _ := schema.ParseGroupVersion(ref.APIVersion) // "" of what the API server can't have
	return Key{gv.Group, ref.Kind, o.GetNamespace(), ref.Name}, true
}

// Add adds the controller to a manager, beside the one that has the addresses of subnets. Index
// must have been called.
func Add(mgr ctrl.Manager, stock *addresses.Controller, options Options) error {
	recorder := mgr.GetEventRecorder("multihome-controller")
	r := &Reconciler{
		Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: client.WithFieldOwner(mgr.GetClient(), "multihome-controller"),
		Stock: stock, Now: time.Now, Number: options.Number, Kinds: map[schema.GroupKind]schema.GroupVersionKind{},
		Each: func(n int, f func(int) error) error {
			var g errgroup.Group
			g.SetLimit(parallel)
			for i := range n {
				g.Go(func() error { return f(i) })
			}
			return g.Wait()
		},
	}
	r.Event = func(about ipam.Application, reason, message string) {
		gvk := schema.GroupVersionKind{Group: about.Group, Version: "v1", Kind: about.Kind}
		if other, ok := r.Kinds[gvk.GroupKind()]; ok {
			gvk = other
		}
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: about.Namespace, Name: about.Name, UID: types.UID(about.UID)}}
		o.SetGroupVersionKind(gvk)
		recorder.Eventf(o, nil, corev1.EventTypeWarning, reason, "Reserve", "%s", message)
	}
	// One event in the channel stands for all that came before it is read.
	restocked := make(chan event.TypedGenericEvent[client.Object], 1)
	stock.Restocked = func() {
		select {
		case restocked <- event.TypedGenericEvent[client.Object]{Object: &v2beta1.SpiderSubnet{}}:
		default:
		}
	}
	b := builder.TypedControllerManagedBy[Key](mgr).Named("applications").
		Watches(&v2beta1.SpiderIPPool{}, mapped(ofPool)).
		Watches(&v1alpha1.IPAddress{}, handler.TypedEnqueueRequestsFromMapFunc(r.ofMember), builder.WithPredicates(counts)).
		Watches(&v1alpha1.IPAddress{}, r.lacking()).
		Watches(&corev1.Pod{}, handler.TypedEnqueueRequestsFromMapFunc(r.ofUnknown)).
		Watches(&v2beta1.SpiderSubnet{}, r.all()).
		WatchesRawSource(source.TypedChannel(restocked, r.all()))
	for _, o := range builtIn() {
		b = b.Watches(o, mapped(r.ofWorkload))
	}
	for _, gvk := range options.Kinds {
		if _, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version); meta.IsNoMatchError(err) {
			mgr.GetLogger().Info("there is no such kind; its pods get pools of a fixed number until the controller is started again", "kind", gvk)
			continue
		} else if err != nil {
			return err
		}
		r.Kinds[gvk.GroupKind()] = gvk
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(gvk)
		b = b.Watches(o, mapped(r.ofWorkload))
	}
	return b.WithOptions(controller.TypedOptions[Key]{MaxConcurrentReconciles: workers, ReconciliationTimeout: longest}).
		Complete(reconcile.TypedFunc[Key](func(ctx context.Context, k Key) (ctrl.Result, error) {
			if !stock.Synced(ctx) { // what is free isn't known yet
				return ctrl.Result{RequeueAfter: soon}, nil
			}
			wait, err := r.Reconcile(ctx, k)
			if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) { // somebody else was faster
				return ctrl.Result{RequeueAfter: soon}, nil
			}
			return ctrl.Result{RequeueAfter: wait}, err
		}))
}

func mapped(f func(client.Object) (Key, bool)) handler.TypedEventHandler[client.Object, Key] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []Key {
		if k, ok := f(o); ok {
			return []Key{k}
		}
		return nil
	})
}

// ofWorkload returns the name of a workload whose pods name subnets, or that of the unread one above it.
func (r *Reconciler) ofWorkload(o client.Object) (Key, bool) {
	t := templateOf(o)
	switch {
	case t == nil:
		return r.above(o)
	case !ipam.WantsSubnets(t.Annotations):
		return Key{}, false
	}
	for kind, known := range builtIn() {
		if fmt.Sprintf("%T", known) == fmt.Sprintf("%T", o) {
			return Key{kind.Group, kind.Kind, o.GetNamespace(), o.GetName()}, true
		}
	}
	gvk := o.GetObjectKind().GroupVersionKind()
	return Key{gvk.Group, gvk.Kind, o.GetNamespace(), o.GetName()}, true
}

// ofMember returns in whose pool an address is. One that somebody deleted and that was made again,
// because its pod has it, doesn't say so itself.
func (r *Reconciler) ofMember(ctx context.Context, o client.Object) []Key {
	k, ok := ofAddress(o)
	pool := &v2beta1.SpiderIPPool{}
	if !ok && r.Cache.Get(ctx, client.ObjectKey{Name: o.(*v1alpha1.IPAddress).Spec.Pool}, pool) == nil {
		k, ok = ofPool(pool)
	}
	if !ok {
		return nil
	}
	return []Key{k}
}

// ofUnknown returns the application of a pod, if it is of a kind that isn't read. A ReplicaSet or Job
// may be between the two; if the cache doesn't have it yet, its own event comes (ofWorkload).
func (r *Reconciler) ofUnknown(ctx context.Context, o client.Object) []Key {
	k, ok := ofPod(o)
	switch {
	case !ok:
		return nil
	case k.isInstance():
		return r.ofInstance(ctx, o, k)
	}
	if between, known := builtIn()[schema.GroupKind{Group: k.Group, Kind: k.Kind}]; known {
		if r.Cache.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: k.Name}, between) != nil {
			return nil
		}
		if k, ok = r.above(between); !ok {
			return nil
		}
	}
	if r.reads(k) {
		return nil
	}
	return []Key{k}
}

// ofInstance returns the applications that a pod of a virtual machine's instance may be of: the machine, or
// the instance. If it names no subnets, these are looked at only if they have pools.
func (r *Reconciler) ofInstance(ctx context.Context, pod client.Object, k Key) []Key {
	return slices.DeleteFunc([]Key{k.machine(), k}, func(k Key) bool {
		var pools v2beta1.SpiderIPPoolList
		return !ipam.WantsSubnets(pod.GetAnnotations()) &&
			r.Cache.List(ctx, &pools, client.MatchingFields{byApplication: k.String()}, client.UnsafeDisableDeepCopy) == nil && len(pools.Items) == 0
	})
}

// above returns the controller of a workload that has no pods of its own, if it is of a kind that isn't read.
func (r *Reconciler) above(o client.Object) (Key, bool) {
	if templateOf(o) != nil {
		return Key{}, false
	}
	k, ok := ofController(o)
	return k, ok && !r.reads(k)
}

// reads reports whether the controller may read applications of a kind.
func (r *Reconciler) reads(k Key) bool {
	kind := schema.GroupKind{Group: k.Group, Kind: k.Kind}
	_, known := builtIn()[kind]
	_, third := r.Kinds[kind]
	return known || third
}

// all has all applications reconciled that have pools, when a subnet or what it can hand out
// has changed.
func (r *Reconciler) all() handler.TypedEventHandler[client.Object, Key] {
	all := func(ctx context.Context, q workqueue.TypedRateLimitingInterface[Key]) {
		var pools v2beta1.SpiderIPPoolList
		if r.Cache.List(ctx, &pools, client.UnsafeDisableDeepCopy) != nil {
			return
		}
		keys := map[Key]bool{}
		for i := range pools.Items {
			if k, ok := ofPool(&pools.Items[i]); ok {
				keys[k] = true
			}
		}
		for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b Key) int { return strings.Compare(a.String(), b.String()) }) {
			q.AddAfter(k, settle)
		}
	}
	return handler.TypedFuncs[client.Object, Key]{
		CreateFunc: func(ctx context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[Key]) {
			all(ctx, q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[Key]) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() {
				all(ctx, q)
			}
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[Key]) {
			all(ctx, q)
		},
		GenericFunc: func(ctx context.Context, _ event.GenericEvent, q workqueue.TypedRateLimitingInterface[Key]) {
			all(ctx, q)
		},
	}
}

// lacking has the applications reconciled whose subnet had too few addresses, when one is free.
func (r *Reconciler) lacking() handler.TypedEventHandler[client.Object, Key] {
	return handler.TypedFuncs[client.Object, Key]{
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[Key]) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for k, said := range r.said {
				if slices.ContainsFunc(said, func(s Says) bool { return s.Reason == exhausted }) {
					q.AddAfter(k, soon) // the stock hears of it at the same time
				}
			}
		},
	}
}

// counts lets through what changes how many addresses a pool has, or how many may go.
var counts = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		former, now := e.ObjectOld.(*v1alpha1.IPAddress).Spec, e.ObjectNew.(*v1alpha1.IPAddress).Spec
		return now.State != v1alpha1.Allocated || former.Pool != now.Pool || (former.Application == nil) != (now.Application == nil)
	},
}
