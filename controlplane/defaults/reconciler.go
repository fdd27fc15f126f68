// SPDX-License-Identifier: Apache-2.0

package defaults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	apilabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
)

const (
	name = "default" // of the one SpiderCoordinator

	// Pools of Calico and Cilium aren't watched: their kinds come and go.
	resync = time.Minute
	// After an error of the API server.
	again = 5 * time.Second
	// Many Nodes may come at once.
	settle = time.Second
)

type reconciler struct {
	client client.Client // for the status
	live   client.Reader
	nodes  client.Reader // a cache
}

// Add adds the reconciler of the SpiderCoordinator default to a manager, whose scheme must
// have the kinds of core/v1, networking.k8s.io/v1 and v2beta1.
//
// It reads live, and watches only what tells it when: the metadata of two ConfigMaps, of
// ServiceCIDRs and of the Pods of the control plane, and the Nodes' CIDRs.
func Add(mgr ctrl.Manager) error {
	control, err := apilabels.NewRequirement(labels[0], selection.In, programs)
	if err != nil {
		return err
	}
	pods, services := metadata("v1", "Pod"), metadata("networking.k8s.io/v1", "ServiceCIDR")
	main, err := newCache(mgr, map[client.Object]cache.ByObject{
		&corev1.Node{}: {Transform: stripNode},
		pods:           {Namespaces: map[string]cache.Config{system: {}}, Label: apilabels.NewSelector().Add(*control)},
	})
	if err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), live: mgr.GetAPIReader(), nodes: main}
	b := ctrl.NewControllerManagedBy(mgr).Named("defaults").For(&v2beta1.SpiderCoordinator{}).
		WatchesRawSource(source.TypedKind(main, client.Object(&corev1.Node{}), nodeEvents())).
		WatchesRawSource(source.TypedKind(main, client.Object(pods), handler.EnqueueRequestsFromMapFunc(theOne)))

	// Kubernetes has ServiceCIDR networking.k8s.io/v1 since 1.33.
	_, err = mgr.GetRESTMapper().RESTMapping(networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR").GroupKind(), "v1")
	if err != nil && !meta.IsNoMatchError(err) {
		return fmt.Errorf("look for the kind ServiceCIDR: %w", err)
	}
	if err == nil {
		b = b.WatchesRawSource(source.TypedKind(main, client.Object(services), handler.EnqueueRequestsFromMapFunc(theOne)))
	}
	for _, configMap := range []string{"kubeadm-config", "cilium-config"} {
		// A selector by name: the role allows no others.
		o := metadata("v1", "ConfigMap")
		c, err := newCache(mgr, map[client.Object]cache.ByObject{
			o: {Namespaces: map[string]cache.Config{system: {}}, Field: fields.OneTermEqualSelector("metadata.name", configMap)},
		})
		if err != nil {
			return err
		}
		b = b.WatchesRawSource(source.TypedKind(c, client.Object(o), handler.EnqueueRequestsFromMapFunc(theOne)))
	}
	return b.Complete(r)
}

// newCache makes a cache that the manager starts.
func newCache(mgr ctrl.Manager, objects map[client.Object]cache.ByObject) (cache.Cache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), ByObject: objects})
	if err != nil {
		return nil, err
	}
	return c, mgr.Add(c)
}

func metadata(apiVersion, kind string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}}
}

// stripNode keeps of a Node what the reconciler reads.
func stripNode(o any) (any, error) {
	if n, ok := o.(*corev1.Node); ok {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion},
			Spec:       corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs},
		}, nil
	}
	return o, nil
}

func theOne(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}

// nodeEvents asks for a reconcile when the CIDRs of the Nodes have changed: not at each
// heartbeat of a kubelet.
func nodeEvents() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	later := func(q queue) { q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}, settle) }
	return handler.Funcs{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { later(q) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { later(q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if !slices.Equal(e.ObjectOld.(*corev1.Node).Spec.PodCIDRs, e.ObjectNew.(*corev1.Node).Spec.PodCIDRs) {
				later(q)
			}
		},
	}
}

// Reconcile brings the status up to date.
func (r *reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var c v2beta1.SpiderCoordinator
	if err := r.live.Get(ctx, client.ObjectKey{Name: name}, &c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s := observe(ctx, r.live, r.nodes)
	if err := ctx.Err(); err != nil { // not an answer of the API server
		return ctrl.Result{}, err
	}
	before := c.DeepCopy()
	c.Status = Discover(c.Spec, s, c.Status, c.Generation)
	if !equality.Semantic.DeepEqual(before.Status, c.Status) {
		if ready := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Ready); ready.LastTransitionTime.IsZero() {
			ready.LastTransitionTime = metav1.Now()
		}
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, &c, patch); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		ctrl.LoggerFrom(ctx).Info("wrote the status", "phase", c.Status.Phase, "reason", c.Status.Reason,
			"serviceCIDR", c.Status.ServiceCIDR, "overlayPodCIDR", c.Status.OverlayPodCIDR)
	}
	next := resync
	if s.err() != nil {
		next = again
	} else {
		metrics.DefaultsFound()
	}
	return ctrl.Result{RequeueAfter: next}, nil
}

// err returns the errors of reading, nil if everything was read.
func (s Sources) err() error {
	return errors.Join(s.ServiceCIDRs.Err, s.Kubeadm.Err, s.ControllerManagers.Err, s.APIServers.Err,
		s.Nodes.Err, s.CalicoPools.Err, s.Cilium.Err, s.CiliumPools.Err)
}
