// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/owners"
	"github.com/multihome/multihome/pkg/ipam"
)

const (
	workers = 32
	// parallel is how many requests of one claim are on their way at a time.
	parallel = 8
	// longest is how long one reconciliation may take.
	longest = 30 * time.Second
	// mostOfEvent is how many bytes of a message an event has: 1,024 with the rest
	// (kubernetes/pkg/apis/core/validation/events.go, NoteLengthLimit).
	mostOfEvent = 1000
	// glance is how long to wait for the cache before it is looked at again.
	glance = 2 * time.Millisecond
	// round is how often everything is looked at again.
	round = 10 * time.Minute

	byNode  = "node"    // of IPAddresses and claims, by their nodes
	waiting = "waiting" // of claims: those of pods that have no addresses yet
)

// outputs are annotations that others write for users, and that can be larger than all the
// rest of a pod.
var outputs = []string{"k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status", corev1.LastAppliedConfigAnnotation}

// StripPod removes from a pod in the cache what this package doesn't read. It is a transform
// of the manager's cache.
func StripPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	for _, name := range outputs {
		delete(p.Annotations, name)
	}
	return &corev1.Pod{
		TypeMeta: p.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
			Labels: p.Labels, Annotations: p.Annotations, OwnerReferences: p.OwnerReferences,
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}, nil
}

// Index adds the indexes that the package reads.
func Index(ctx context.Context, mgr ctrl.Manager) error {
	for _, x := range []struct {
		of   client.Object
		name string
		keys client.IndexerFunc
	}{
		{&v1alpha1.IPAddress{}, byHolder, func(o client.Object) []string {
			return each(o.(*v1alpha1.IPAddress).Spec.Holders, func(h v1alpha1.Holder) string { return h.Namespace + "/" + h.Pod })
		}},
		{&v1alpha1.IPAddress{}, byUID, func(o client.Object) []string {
			return each(o.(*v1alpha1.IPAddress).Spec.Holders, func(h v1alpha1.Holder) string { return h.PodUID })
		}},
		{&v1alpha1.IPAddress{}, byNode, func(o client.Object) []string {
			return each(o.(*v1alpha1.IPAddress).Spec.Holders, func(h v1alpha1.Holder) string { return h.Node })
		}},
		{&v2beta1.SpiderEndpoint{}, byUID, func(o client.Object) []string { return []string{o.(*v2beta1.SpiderEndpoint).Spec.PodUID} }},
		{&v2beta1.SpiderEndpoint{}, byNode, func(o client.Object) []string { return []string{o.(*v2beta1.SpiderEndpoint).Spec.NodeName} }},
		{&v2beta1.SpiderEndpoint{}, waiting, func(o client.Object) []string {
			if o.(*v2beta1.SpiderEndpoint).Status.Current == nil {
				return []string{waiting}
			}
			return nil
		}},
		{&v1alpha1.NodeSpool{}, bySandbox, func(o client.Object) []string {
			var out []string
			for _, name := range onNode(o.(*v1alpha1.NodeSpool)) {
				out = append(out, name.String())
			}
			return out
		}},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, x.of, x.name, x.keys); err != nil {
			return err
		}
	}
	return nil
}

func each[T any](list []T, f func(T) string) []string {
	var out []string
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}

// onNode returns the names of the pods that a node reports.
func onNode(s *v1alpha1.NodeSpool) []types.NamespacedName {
	var out []types.NamespacedName
	for _, x := range s.Status.Sandboxes {
		out = append(out, types.NamespacedName{Namespace: x.Namespace, Name: x.Pod})
	}
	for _, x := range s.Status.Wants {
		out = append(out, types.NamespacedName{Namespace: x.Namespace, Name: x.Pod})
	}
	for _, x := range s.Status.Conflicts {
		out = append(out, types.NamespacedName{Namespace: x.Namespace, Name: x.Pod})
	}
	return out
}

// Add adds the controllers to a manager whose cache strips pods by StripPod. Index must have
// been called. It returns the one that gives addresses.
func Add(ctx context.Context, mgr ctrl.Manager, settings ipam.Settings) (*Controller, error) {
	wakes := make(chan event.GenericEvent, 1024)
	host, _ := os.Hostname()
	recorder := mgr.GetEventRecorder("multihome-controller")
	c := &Controller{
		Cache: mgr.GetClient(), Live: mgr.GetAPIReader(), Writer: client.WithFieldOwner(mgr.GetClient(), "multihome-controller"),
		Now: time.Now, Identity: host + "-" + uuid.NewString()[:8], Settings: settings,
		Owners: owners.Finder{Cache: mgr.GetClient(), Live: mgr.GetAPIReader()},
		Each: func(n int, f func(int) error) error {
			var g errgroup.Group
			g.SetLimit(parallel)
			for i := range n {
				g.Go(func() error { return f(i) })
			}
			return g.Wait()
		},
		Until: func(is func() bool) bool {
			for waited := time.Duration(0); waited < patience; waited += glance {
				if is() {
					return true
				}
				time.Sleep(glance)
			}
			return is()
		},
		Event: func(pod *corev1.Pod, about *v1alpha1.IPAddress, reason, message string) {
			if len(message) > mostOfEvent {
				message = strings.ToValidUTF8(message[:mostOfEvent], "") + "..."
			}
			var related runtime.Object
			if about != nil {
				related = about
			}
			recorder.Eventf(pod, related, corev1.EventTypeWarning, reason, "Allocate", "%s", message)
		},
	}
	// Wake is called with the controller's lock held, and must not wait.
	c.Wake = func(key types.NamespacedName) {
		e := event.GenericEvent{Object: &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}}
		select {
		case wakes <- e:
		default:
			go func() { wakes <- e }()
		}
	}
	f := &follower{c: c}
	c.synced = f.synced
	if err := f.follow(ctx, mgr); err != nil {
		return nil, err
	}
	if err := c.addPods(mgr, f, wakes); err != nil {
		return nil, err
	}
	err := ctrl.NewControllerManagedBy(mgr).Named("nodespools").For(&v1alpha1.NodeSpool{}).
		Watches(&v1alpha1.IPAddress{}, onNodesOf, builder.WithPredicates(deleted)).
		Watches(&v2beta1.SpiderEndpoint{}, onNodesOf, builder.WithPredicates(deleted)).
		Complete(reconcile.Func(func(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
			return result(0, c.ReconcileNode(ctx, req.Name))
		}))
	if err != nil {
		return nil, err
	}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{{}} })
	err = ctrl.NewControllerManagedBy(mgr).Named("stocks").
		Watches(&v2beta1.SpiderIPPool{}, all).Watches(&v2beta1.SpiderSubnet{}, all).Watches(&v2beta1.SpiderReservedIP{}, all).
		Watches(&staticmacvlan.VLANSubnet{}, all).
		Complete(reconcile.Func(func(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
			c.lead()
			return ctrl.Result{}, c.OnPools(ctx)
		}))
	if err != nil {
		return nil, err
	}
	return c, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(round):
				if err := c.Collect(ctx); err != nil {
					mgr.GetLogger().Error(err, "the round of the collector isn't complete")
				}
			}
		}
	}))
}

// addPods adds the controller that reconciles pods by name.
func (c *Controller) addPods(mgr ctrl.Manager, f *follower, wakes chan event.GenericEvent) error {
	holders := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return requests(append(namesOf(o.(*v1alpha1.IPAddress)), c.othersOf(ctx, o.(*v1alpha1.IPAddress))...))
	})
	reported := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		s := o.(*v1alpha1.NodeSpool)
		out := onNode(s)
		for _, uid := range s.Status.Withdrawn {
			out = append(out, c.namesBy(ctx, byUID, uid)...)
		}
		return requests(out)
	})
	onThe := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return requests(c.namesBy(ctx, byNode, o.GetName()))
	})
	forNetworks := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return requests(c.namesBy(ctx, waiting, waiting))
	})
	inThe := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		return requests(slices.DeleteFunc(c.namesBy(ctx, waiting, waiting), func(name types.NamespacedName) bool { return name.Namespace != o.GetName() }))
	})
	return ctrl.NewControllerManagedBy(mgr).Named("addresses").
		For(&v2beta1.SpiderEndpoint{}).
		Watches(&corev1.Pod{}, &handler.EnqueueRequestForObject{}).
		Watches(&v1alpha1.IPAddress{}, holders).
		Watches(&v1alpha1.NodeSpool{}, reported).
		Watches(&corev1.Node{}, onThe, builder.WithPredicates(nodeChanged)).
		Watches(&nad.NetworkAttachmentDefinition{}, forNetworks).
		Watches(&staticmacvlan.VLANSubnet{}, forNetworks).
		Watches(&corev1.Namespace{}, inThe, builder.WithPredicates(predicate.Or(predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(source.Channel(wakes, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: longest, EnableWarmup: ptr.To(true)}).
		Complete(reconcile.Func(func(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
			if !f.synced(ctx) { // nothing is handed out before everything was listed
				return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil
			}
			wait, err := c.Reconcile(ctx, req.NamespacedName)
			return result(wait, err)
		}))
}

// result returns the result of a reconciliation. Where somebody else was faster, the next look
// is soon, and no failure.
func result(wait time.Duration, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil
	}
	return ctrl.Result{RequeueAfter: wait}, err
}

func requests(names []types.NamespacedName) []reconcile.Request {
	var out []reconcile.Request
	for _, name := range names {
		out = append(out, reconcile.Request{NamespacedName: name})
	}
	return out
}

// namesOf returns the pods that hold an address.
func namesOf(a *v1alpha1.IPAddress) []types.NamespacedName {
	var out []types.NamespacedName
	for _, h := range a.Spec.Holders {
		out = append(out, types.NamespacedName{Namespace: h.Namespace, Name: h.Pod})
	}
	return out
}

// namesBy returns the pods of the claims and IPAddresses in an entry of an index.
func (c *Controller) namesBy(ctx context.Context, index, entry string) []types.NamespacedName {
	var out []types.NamespacedName
	var claims v2beta1.SpiderEndpointList
	if c.Cache.List(ctx, &claims, client.MatchingFields{index: entry}, client.UnsafeDisableDeepCopy) == nil {
		for i := range claims.Items {
			out = append(out, client.ObjectKeyFromObject(&claims.Items[i]))
		}
	}
	var held v1alpha1.IPAddressList
	if index != waiting && c.Cache.List(ctx, &held, client.MatchingFields{index: entry}, client.UnsafeDisableDeepCopy) == nil {
		for i := range held.Items {
			out = append(out, namesOf(&held.Items[i])...)
		}
	}
	return out
}

// onNodesOf has the nodes reconciled that an IPAddress or a claim names: what they are asked
// about it doesn't matter any more.
var onNodesOf = handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
	var out []types.NamespacedName
	switch o := o.(type) {
	case *v1alpha1.IPAddress:
		for _, h := range o.Spec.Holders {
			out = append(out, types.NamespacedName{Name: h.Node})
		}
	case *v2beta1.SpiderEndpoint:
		out = append(out, types.NamespacedName{Name: o.Spec.NodeName})
	}
	return requests(out)
})

// deleted lets through that an object is gone.
var deleted = predicate.Funcs{
	CreateFunc:  func(event.CreateEvent) bool { return false },
	UpdateFunc:  func(event.UpdateEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// nodeChanged lets through what changes whether a node's machine can run pods, and which pools
// they have.
var nodeChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		former, now := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return fenced(former) != fenced(now) || former.Status.NodeInfo.MachineID != now.Status.NodeInfo.MachineID ||
			!maps.Equal(former.Labels, now.Labels)
	},
}

// follower calls the controller for each change in the cache.
type follower struct {
	c      *Controller
	regs   []toolscache.ResourceEventHandlerRegistration
	mu     sync.Mutex
	hasAll bool
}

func (f *follower) follow(ctx context.Context, mgr ctrl.Manager) error {
	c := f.c
	for _, x := range []struct {
		of      client.Object
		handler toolscache.ResourceEventHandlerDetailedFuncs
	}{
		{&v1alpha1.IPAddress{}, changes(c.OnAddress)},
		{&v2beta1.SpiderEndpoint{}, changes(c.OnClaim)},
		{&v1alpha1.NodeSpool{}, changes(c.OnSpool)},
		{&corev1.Node{}, changes(c.OnNode)},
		{&corev1.Pod{}, changes(c.OnPod)},
	} {
		informer, err := mgr.GetCache().GetInformer(ctx, x.of)
		if err != nil {
			return err
		}
		reg, err := informer.AddEventHandler(x.handler)
		if err != nil {
			return err
		}
		f.regs = append(f.regs, reg)
	}
	return nil
}

// changes returns a handler that calls f with what an object was and what it is.
func changes[T any](f func(former, now *T)) toolscache.ResourceEventHandlerDetailedFuncs {
	as := func(o any) *T {
		if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		now, _ := o.(*T)
		return now
	}
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(o any, _ bool) { f(nil, as(o)) },
		UpdateFunc: func(former, now any) { f(as(former), as(now)) },
		DeleteFunc: func(o any) {
			if former := as(o); former != nil {
				f(former, nil)
			}
		},
	}
}

// synced reports whether the controller has seen all that there was when it started, and the
// pools.
func (f *follower) synced(ctx context.Context) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hasAll {
		return true
	}
	for _, r := range f.regs {
		if !r.HasSynced() {
			return false
		}
	}
	f.hasAll = f.c.OnPools(ctx) == nil
	return f.hasAll
}

// Collect has everything looked at again: what no event told of, or what an event that was
// lost would have.
func (c *Controller) Collect(ctx context.Context) error {
	c.lead()
	var claims v2beta1.SpiderEndpointList
	var held v1alpha1.IPAddressList
	for _, list := range []client.ObjectList{&claims, &held} {
		if err := c.Cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return err
		}
	}
	names := map[types.NamespacedName]bool{}
	for i := range claims.Items {
		names[client.ObjectKeyFromObject(&claims.Items[i])] = true
	}
	seen := map[ipam.Key]bool{}
	for i := range held.Items {
		seen[keyOf(&held.Items[i])] = true
		if over(&held.Items[i], c.Now()) {
			if err := c.release(ctx, &held.Items[i]); err != nil {
				return err
			}
		}
		for _, name := range namesOf(&held.Items[i]) {
			names[name] = true
		}
	}
	c.mu.Lock()
	for _, l := range c.lost {
		names[l.key] = true
	}
	for _, name := range slices.SortedFunc(maps.Keys(names), compareNames) {
		c.Wake(name)
	}
	c.mu.Unlock()
	if err := c.forgetNodes(ctx); err != nil {
		return err
	}
	return c.sweep(ctx, seen)
}

// forgetNodes deletes the NodeSpools of Nodes that are deleted: nothing that they said counts any more. An
// agent that still runs makes its own again.
func (c *Controller) forgetNodes(ctx context.Context) error {
	var spools v1alpha1.NodeSpoolList
	if err := c.Cache.List(ctx, &spools, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range spools.Items {
		s := &spools.Items[i]
		key := client.ObjectKey{Name: s.Name}
		node, err := get(ctx, c.Cache, key, &corev1.Node{})
		if err == nil && node == nil {
			node, err = get(ctx, c.Live, key, &corev1.Node{})
		}
		if err == nil && node == nil {
			err = ignoreConflict(c.Writer.Delete(ctx, s, client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep clears marks of addresses whose IPAddress isn't in the cache and isn't there: of one
// that came and went while the cache looked away.
func (c *Controller) sweep(ctx context.Context, seen map[ipam.Key]bool) error {
	c.mu.Lock()
	marked := c.ledger.Marked(ipam.Object | ipam.Kept)
	c.mu.Unlock()
	for _, k := range marked {
		if seen[k] {
			continue
		}
		a, err := get(ctx, c.Live, client.ObjectKey{Name: k.String()}, &v1alpha1.IPAddress{})
		if err != nil {
			return err
		}
		if a == nil {
			metrics.Collected(metrics.Cleared)
			c.mu.Lock()
			if c.ledger.Keep(k, "", 0) {
				c.serve(types.NamespacedName{})
			}
			c.mu.Unlock()
		}
	}
	return nil
}
