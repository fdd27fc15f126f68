// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// kind is a kind of object in the simulated API server.
type kind int

const (
	pods kind = iota
	nodes
	claims
	addresses
	spools
	pools
	subnets
	reserved
	namespaceKind
	nads
	vlans
	// Of workloads, which are in worlds with applications alone.
	deployments
	replicaSets
	statefulSets
	virtualMachines
	instances
	kinds
)

func kindOf(o any) kind {
	switch o := o.(type) {
	case *corev1.Pod, *corev1.PodList:
		return pods
	case *corev1.Node, *corev1.NodeList:
		return nodes
	case *v2beta1.SpiderEndpoint, *v2beta1.SpiderEndpointList:
		return claims
	case *v1alpha1.IPAddress, *v1alpha1.IPAddressList:
		return addresses
	case *v1alpha1.NodeSpool, *v1alpha1.NodeSpoolList:
		return spools
	case *v2beta1.SpiderIPPool, *v2beta1.SpiderIPPoolList:
		return pools
	case *v2beta1.SpiderSubnet, *v2beta1.SpiderSubnetList:
		return subnets
	case *v2beta1.SpiderReservedIP, *v2beta1.SpiderReservedIPList:
		return reserved
	case *corev1.Namespace:
		return namespaceKind
	case *nad.NetworkAttachmentDefinition:
		return nads
	case *staticmacvlan.VLANSubnet, *staticmacvlan.VLANSubnetList:
		return vlans
	case *appsv1.Deployment:
		return deployments
	case *appsv1.ReplicaSet:
		return replicaSets
	case *appsv1.StatefulSet:
		return statefulSets
	case *metav1.PartialObjectMetadata:
		switch o.Kind {
		case identities.VirtualMachine:
			return virtualMachines
		case instance:
			return instances
		}
	case *metav1.PartialObjectMetadataList:
		return claims
	}
	panic(fmt.Sprintf("%T: no kind of the simulation", o))
}

// resource returns the name of a kind in errors.
func (k kind) resource() schema.GroupResource {
	return schema.GroupResource{Resource: [...]string{"pods", "nodes", "spiderendpoints", "ipaddresses", "nodespools", "spiderippools", "spidersubnets", "spiderreservedips", "namespaces", "network-attachment-definitions", "vlansubnets",
		"deployments", "replicasets", "statefulsets", "virtualmachines", "virtualmachineinstances"}[k]}
}

// objects are the objects of a kind, which nobody changes: each write replaces one.
type objects map[types.NamespacedName]client.Object

// event is a change of an object: former is nil if it is new, now if it is deleted.
type event struct {
	key         types.NamespacedName
	former, now client.Object
}

// both returns the object before and after the event, as far as there are both.
func (e event) both() []client.Object {
	return slices.DeleteFunc([]client.Object{e.former, e.now}, func(o client.Object) bool { return o == nil })
}

// server is an API server with its etcd.
type server struct {
	w       *world
	objects [kinds]objects
	log     [kinds][]event
	rv, uid int
}

func newServer(w *world) *server {
	s := &server{w: w}
	for k := range s.objects {
		s.objects[k] = objects{}
	}
	return s
}

// put replaces an object; now is nil if it is deleted.
func (s *server) put(k kind, key types.NamespacedName, now client.Object) {
	former := s.objects[k][key]
	if now == nil {
		delete(s.objects[k], key)
	} else {
		s.rv++
		now.SetResourceVersion(strconv.Itoa(s.rv))
		s.objects[k][key] = now
	}
	s.log[k] = append(s.log[k], event{key, former, now})
	s.w.moved(former, now)
}

// create makes an object.
func (s *server) create(o client.Object) error {
	k, key := kindOf(o), client.ObjectKeyFromObject(o)
	if s.objects[k][key] != nil && (k != addresses || s.w.protects(CreateByName)) {
		return apierrors.NewAlreadyExists(k.resource(), key.Name)
	}
	s.uid++
	o.SetUID(types.UID(fmt.Sprintf("%s-%d", k.resource().Resource, s.uid)))
	o.SetGeneration(1)
	if t := o.GetCreationTimestamp(); t.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(s.w.now))
	}
	stored := deepCopy(o)
	if c, ok := stored.(*v2beta1.SpiderEndpoint); ok {
		c.Status = v2beta1.SpiderEndpointStatus{}
	}
	if c, ok := stored.(*v1alpha1.NodeSpool); ok {
		c.Status = v1alpha1.NodeSpoolStatus{}
	}
	s.put(k, key, stored)
	o.SetResourceVersion(stored.GetResourceVersion())
	return nil
}

// update replaces an object, or its status only.
func (s *server) update(o client.Object, status bool) error {
	k, key := kindOf(o), client.ObjectKeyFromObject(o)
	former := s.objects[k][key]
	switch {
	case former == nil:
		return apierrors.NewNotFound(k.resource(), key.Name)
	case s.w.protects(Preconditions) && (s.w.protects(TakenAsSeen) || !member(former)) && (o.GetUID() != former.GetUID() || o.GetResourceVersion() != former.GetResourceVersion()):
		return apierrors.NewConflict(k.resource(), key.Name, errors.New("the object has been modified"))
	}
	next := deepCopy(o)
	switch n := next.(type) {
	case *v2beta1.SpiderEndpoint:
		f := former.(*v2beta1.SpiderEndpoint)
		if status {
			n.Spec = *f.Spec.DeepCopy()
		} else {
			n.Status = *f.Status.DeepCopy()
			n.Generation = f.Generation + 1
		}
	case *v1alpha1.NodeSpool:
		f := former.(*v1alpha1.NodeSpool)
		if status {
			n.Spec = *f.Spec.DeepCopy()
		} else {
			n.Status = *f.Status.DeepCopy()
		}
	case *v2beta1.SpiderIPPool:
		f := former.(*v2beta1.SpiderIPPool)
		if status {
			n.Spec, n.ObjectMeta = *f.Spec.DeepCopy(), *f.ObjectMeta.DeepCopy()
		} else {
			n.Status = *f.Status.DeepCopy()
			if !reflect.DeepEqual(n.Spec, f.Spec) {
				n.Generation = f.Generation + 1
			}
		}
	case *v2beta1.SpiderSubnet:
		n.Spec, n.ObjectMeta = *former.(*v2beta1.SpiderSubnet).Spec.DeepCopy(), *former.(*v2beta1.SpiderSubnet).ObjectMeta.DeepCopy()
	}
	rv := former.GetResourceVersion()
	s.put(k, key, next)
	if a, ok := next.(*v1alpha1.IPAddress); ok && !s.w.protects(Renewed) && a.Spec.Attempt != former.(*v1alpha1.IPAddress).Spec.Attempt {
		next.SetResourceVersion(rv)
	}
	o.SetResourceVersion(next.GetResourceVersion())
	o.SetGeneration(next.GetGeneration())
	return nil
}

// member reports whether an object is an address in an application's pool.
func member(o client.Object) bool {
	a, is := o.(*v1alpha1.IPAddress)
	return is && a.Spec.Application != nil
}

// patch changes an object by a patch that carries the version on which it was decided. So what it
// makes of the object is what it was decided to become.
func (s *server) patch(o client.Object, patch client.Patch, status bool) error {
	data, err := patch.Data(o)
	if err != nil {
		return err
	}
	var on metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &on); err != nil {
		return err
	}
	next := deepCopy(o)
	next.SetResourceVersion(on.ResourceVersion)
	if err := s.update(next, status); err != nil {
		return err
	}
	o.SetResourceVersion(next.GetResourceVersion())
	return nil
}

// remove deletes an object, if it is as the preconditions say.
func (s *server) remove(k kind, key types.NamespacedName, p *metav1.Preconditions) error {
	former := s.objects[k][key]
	if former == nil {
		return apierrors.NewNotFound(k.resource(), key.Name)
	}
	if p != nil && s.w.protects(Preconditions) &&
		(p.UID != nil && *p.UID != former.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != former.GetResourceVersion()) {
		return apierrors.NewConflict(k.resource(), key.Name, errors.New("the object has been modified"))
	}
	s.put(k, key, nil)
	return nil
}

// writes is a client as a process has one: each request is a step, and may go wrong.
type writes struct {
	client.Client // nil: of its methods only those below are called
	p             *process
}

func (c writes) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return c.p.request("create "+name(o), func() error { return c.p.w.api.create(o) })
}

func (c writes) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	return c.p.request("update "+name(o), func() error { return c.p.w.api.update(o, false) })
}

func (c writes) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	var d client.DeleteOptions
	d.ApplyOptions(opts)
	return c.p.request("delete "+name(o), func() error {
		return c.p.w.api.remove(kindOf(o), client.ObjectKeyFromObject(o), d.Preconditions)
	})
}

func (c writes) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.PatchOption) error {
	return c.p.request("patch "+name(o), func() error { return c.p.w.api.patch(o, patch, false) })
}

func (c writes) Status() client.SubResourceWriter { return statusWrites{p: c.p} }

type statusWrites struct {
	client.SubResourceWriter // nil, too
	p                        *process
}

func (c statusWrites) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	return c.p.request("update the status of "+name(o), func() error { return c.p.w.api.update(o, true) })
}

func (c statusWrites) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	return c.p.request("patch the status of "+name(o), func() error { return c.p.w.api.patch(o, patch, true) })
}

// live reads from the API server.
type live struct{ p *process }

func (r live) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	defer r.p.w.withoutUIDs(into)
	if !r.p.w.protects(LiveReads) {
		return r.p.view.get(key, into)
	}
	return r.p.request("get "+kindOf(into).resource().Resource+" "+key.Name, func() error {
		return read(r.p.w.api.objects[kindOf(into)], key, into)
	})
}

func (r live) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	defer r.p.w.withoutUIDs(into)
	if _, all := into.(*metav1.PartialObjectMetadataList); all && !r.p.w.protects(Begun) {
		return nil
	}
	return r.p.request("list "+kindOf(into).resource().Resource, func() error {
		return list(r.p.w.api.objects[kindOf(into)], into, opts)
	})
}

// view is what a process has seen of the API server: its cache.
type view struct {
	objects [kinds]objects
	at      [kinds]int // the next event in the server's log
}

// newView lists everything: as it is, or as it was a while ago, as a list from a watch cache
// of another API server may be (kubernetes.io, "Semantics for get and list": resourceVersion
// 0 means any version).
func newView(s *server, behind func(k kind) int) *view {
	v := &view{}
	for k := range kinds {
		v.objects[k] = maps.Clone(s.objects[k])
		v.at[k] = len(s.log[k])
		for range min(behind(k), v.at[k]) {
			v.at[k]--
			e := s.log[k][v.at[k]]
			if e.former == nil {
				delete(v.objects[k], e.key)
			} else {
				v.objects[k][e.key] = e.former
			}
		}
	}
	return v
}

// next takes in the next event of a kind.
func (v *view) next(s *server, k kind) (event, bool) {
	if v.at[k] == len(s.log[k]) {
		return event{}, false
	}
	e := s.log[k][v.at[k]]
	v.at[k]++
	if e.now == nil {
		delete(v.objects[k], e.key)
	} else {
		v.objects[k][e.key] = e.now
	}
	return e, true
}

func (v *view) get(key client.ObjectKey, into client.Object) error {
	return read(v.objects[kindOf(into)], key, into)
}

// cached reads from a view.
type cached struct{ p *process }

func (c cached) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	defer c.p.w.withoutUIDs(into)
	return c.p.view.get(key, into)
}

func (c cached) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	defer c.p.w.withoutUIDs(into)
	return list(c.p.view.objects[kindOf(into)], into, opts)
}

// read copies an object.
func read(from objects, key types.NamespacedName, into client.Object) error {
	o := from[key]
	if o == nil {
		return apierrors.NewNotFound(kindOf(into).resource(), key.Name)
	}
	switch into := into.(type) {
	case *corev1.Pod:
		o.(*corev1.Pod).DeepCopyInto(into)
	case *corev1.Node:
		o.(*corev1.Node).DeepCopyInto(into)
	case *v2beta1.SpiderEndpoint:
		o.(*v2beta1.SpiderEndpoint).DeepCopyInto(into)
	case *v1alpha1.IPAddress:
		o.(*v1alpha1.IPAddress).DeepCopyInto(into)
	case *v1alpha1.NodeSpool:
		o.(*v1alpha1.NodeSpool).DeepCopyInto(into)
	case *corev1.Namespace:
		o.(*corev1.Namespace).DeepCopyInto(into)
	case *nad.NetworkAttachmentDefinition:
		o.(*nad.NetworkAttachmentDefinition).DeepCopyInto(into)
	case *v2beta1.SpiderIPPool:
		o.(*v2beta1.SpiderIPPool).DeepCopyInto(into)
	case *v2beta1.SpiderSubnet:
		o.(*v2beta1.SpiderSubnet).DeepCopyInto(into)
	case *staticmacvlan.VLANSubnet:
		o.(*staticmacvlan.VLANSubnet).DeepCopyInto(into)
	case *appsv1.Deployment:
		o.(*appsv1.Deployment).DeepCopyInto(into)
	case *appsv1.ReplicaSet:
		o.(*appsv1.ReplicaSet).DeepCopyInto(into)
	case *appsv1.StatefulSet:
		o.(*appsv1.StatefulSet).DeepCopyInto(into)
	case *metav1.PartialObjectMetadata:
		o.(*metav1.PartialObjectMetadata).DeepCopyInto(into)
	default:
		panic(fmt.Sprintf("%T: can't be read here", into))
	}
	return nil
}

// list copies the objects that the options select, in the order of their names.
func list(from objects, into client.ObjectList, opts []client.ListOption) error {
	var l client.ListOptions
	l.ApplyOptions(opts)
	var keys []types.NamespacedName
	for key, o := range from {
		if (l.Namespace == "" || l.Namespace == key.Namespace) && selected(o, l) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	share := l.UnsafeDisableDeepCopy != nil && *l.UnsafeDisableDeepCopy
	switch into := into.(type) {
	case *corev1.PodList:
		into.Items = itemsOf[corev1.Pod](from, keys, share)
	case *v2beta1.SpiderEndpointList:
		into.Items = itemsOf[v2beta1.SpiderEndpoint](from, keys, share)
	case *v1alpha1.IPAddressList:
		into.Items = itemsOf[v1alpha1.IPAddress](from, keys, share)
	case *v1alpha1.NodeSpoolList:
		into.Items = itemsOf[v1alpha1.NodeSpool](from, keys, share)
	case *v2beta1.SpiderIPPoolList:
		into.Items = itemsOf[v2beta1.SpiderIPPool](from, keys, share)
	case *v2beta1.SpiderSubnetList:
		into.Items = itemsOf[v2beta1.SpiderSubnet](from, keys, share)
	case *v2beta1.SpiderReservedIPList:
		into.Items = itemsOf[v2beta1.SpiderReservedIP](from, keys, share)
	case *staticmacvlan.VLANSubnetList:
		into.Items = itemsOf[staticmacvlan.VLANSubnet](from, keys, share)
	case *metav1.PartialObjectMetadataList:
		for _, key := range keys {
			into.Items = append(into.Items, metav1.PartialObjectMetadata{ObjectMeta: *from[key].(*v2beta1.SpiderEndpoint).ObjectMeta.DeepCopy()})
		}
	default:
		panic(fmt.Sprintf("%T: can't be listed here", into))
	}
	return nil
}

// itemsOf copies the objects of a list, or shares what is in them.
func itemsOf[T any, P interface {
	*T
	client.Object
	DeepCopyInto(into *T)
}](from objects, keys []types.NamespacedName, share bool) []T {
	if len(keys) == 0 {
		return nil
	}
	out := make([]T, len(keys))
	for i, key := range keys {
		if o := from[key].(P); share {
			out[i] = *o
		} else {
			o.DeepCopyInto(&out[i])
		}
	}
	return out
}

// selected reports whether an object is in the index entry that is asked for, or on the node.
func selected(o client.Object, l client.ListOptions) bool {
	if l.FieldSelector == nil {
		return true
	}
	for _, r := range l.FieldSelector.Requirements() {
		if !slices.Contains(entries(o, r.Field), r.Value) {
			return false
		}
	}
	return true
}

// entries returns the entries of an index in which an object is, as the packages that read them
// say, or its field.
func entries(o client.Object, index string) []string {
	var out []string
	switch o := o.(type) {
	case *corev1.Pod:
		return []string{o.Spec.NodeName}
	case *v1alpha1.IPAddress:
		switch index {
		case v1alpha1.ByPool:
			return []string{o.Spec.Pool}
		case "application":
			if a := o.Spec.Application; a != nil {
				return []string{applications.Key{Group: a.Group, Kind: a.Kind, Namespace: a.Namespace, Name: a.Name}.String()}
			}
		case identities.ByOwner:
			if o.Spec.Identity != nil {
				return []string{identities.KeyOf(o.Spec.Identity).String()}
			}
		default: // the pods that hold it
			for _, h := range o.Spec.Holders {
				out = append(out, h.PodUID, h.Namespace+"/"+h.Pod)
			}
		}
	case *v2beta1.SpiderEndpoint:
		switch {
		case index != identities.ByOwner:
			return []string{o.Spec.PodUID}
		case o.Spec.Identity != nil:
			return []string{identities.KeyOf(o.Spec.Identity).String()}
		}
	case *v2beta1.SpiderIPPool:
		if is := ipam.AutoPoolOf(o.Annotations); is != nil {
			return []string{applications.KeyOf(is.Application).String()}
		}
	case *v1alpha1.NodeSpool:
		for _, s := range o.Status.Sandboxes {
			out = append(out, s.Namespace+"/"+s.Pod)
		}
		for _, s := range o.Status.Wants {
			out = append(out, s.Namespace+"/"+s.Pod)
		}
	}
	return out
}

func deepCopy(o client.Object) client.Object { return o.DeepCopyObject().(client.Object) }

func name(o client.Object) string { return kindOf(o).resource().Resource + " " + o.GetName() }

// timeout is the answer of a server that didn't answer in time.
func timeout(what string) error {
	return apierrors.NewTimeoutError(fmt.Sprintf("%s: no answer", what), int(time.Second))
}
