// SPDX-License-Identifier: Apache-2.0

package applications

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// Key is a name of an application.
type Key struct{ Group, Kind, Namespace, Name string }

// KeyOf returns the name of an application.
func KeyOf(a ipam.Application) Key { return Key{a.Group, a.Kind, a.Namespace, a.Name} }

func (k Key) String() string {
	return strings.Join([]string{k.Group, k.Kind, k.Namespace, k.Name}, "/")
}

// isMachine reports whether it is a virtual machine of KubeVirt.
func (k Key) isMachine() bool {
	return k.Group == identities.KubeVirt && k.Kind == identities.VirtualMachine
}

// isInstance reports whether it is an instance of one.
func (k Key) isInstance() bool {
	return k.Group == identities.KubeVirt && k.Kind == identities.Instance
}

// machine returns the virtual machine of an instance, and instance the reverse: they have one name.
func (k Key) machine() Key  { return Key{k.Group, identities.VirtualMachine, k.Namespace, k.Name} }
func (k Key) instance() Key { return Key{k.Group, identities.Instance, k.Namespace, k.Name} }

// builtIn are the kinds of Kubernetes that have pods.
func builtIn() map[schema.GroupKind]client.Object {
	return map[schema.GroupKind]client.Object{
		{Group: appsv1.GroupName, Kind: "Deployment"}:  &appsv1.Deployment{},
		{Group: appsv1.GroupName, Kind: "ReplicaSet"}:  &appsv1.ReplicaSet{},
		{Group: appsv1.GroupName, Kind: "StatefulSet"}: &appsv1.StatefulSet{},
		{Group: appsv1.GroupName, Kind: "DaemonSet"}:   &appsv1.DaemonSet{},
		{Group: batchv1.GroupName, Kind: "Job"}:        &batchv1.Job{},
		{Group: batchv1.GroupName, Kind: "CronJob"}:    &batchv1.CronJob{},
	}
}

// template is what a workload says about its pods.
type template struct {
	metav1.ObjectMeta
	hostNetwork bool
	replicas    int
	surge       int
}

// templateOf reads a workload; nil: it has no pods of its own.
func templateOf(o client.Object) *template {
	of := func(t corev1.PodTemplateSpec, replicas int) *template {
		return &template{ObjectMeta: t.ObjectMeta, hostNetwork: t.Spec.HostNetwork, replicas: replicas}
	}
	switch o := o.(type) {
	case *appsv1.Deployment:
		t := of(o.Spec.Template, number(o.Spec.Replicas, 1))
		if s := o.Spec.Strategy; s.Type == appsv1.RollingUpdateDeploymentStrategyType && s.RollingUpdate != nil {
			t.surge = surge(s.RollingUpdate.MaxSurge, t.replicas)
		}
		return t
	case *appsv1.ReplicaSet:
		if metav1.GetControllerOf(o) != nil {
			return nil
		}
		return of(o.Spec.Template, number(o.Spec.Replicas, 1))
	case *appsv1.StatefulSet:
		return of(o.Spec.Template, number(o.Spec.Replicas, 1))
	case *appsv1.DaemonSet:
		t := of(o.Spec.Template, int(o.Status.DesiredNumberScheduled))
		if s := o.Spec.UpdateStrategy; s.Type == appsv1.RollingUpdateDaemonSetStrategyType && s.RollingUpdate != nil {
			t.surge = surge(s.RollingUpdate.MaxSurge, t.replicas)
		}
		return t
	case *batchv1.Job:
		if metav1.GetControllerOf(o) != nil {
			return nil
		}
		return of(o.Spec.Template, ipam.JobReplicas(o.Spec.Completions, o.Spec.Parallelism))
	case *batchv1.CronJob:
		job := o.Spec.JobTemplate.Spec
		return of(job.Template, ipam.JobReplicas(job.Completions, job.Parallelism))
	case *unstructured.Unstructured:
		t := &template{}
		annotations, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations")
		labels, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "labels")
		t.Annotations, t.Labels = annotations, labels
		t.hostNetwork, _, _ = unstructured.NestedBool(o.Object, "spec", "template", "spec", "hostNetwork")
		return t
	}
	return nil
}

func number(n *int32, without int) int {
	if n == nil {
		return without
	}
	return int(*n)
}

// surge returns how many pods more than replicas a rolling update starts with a maxSurge
// (kubernetes/pkg/controller/deployment/util, ResolveFenceposts; daemon/util, SurgeCount).
func surge(most *intstr.IntOrString, replicas int) int {
	if most == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(most, replicas, true)
	if err != nil {
		return 0
	}
	return n
}

// app returns the application of a name; nil if there is none.
func (r *Reconciler) app(ctx context.Context, from client.Reader, k Key) (*App, error) {
	kind := schema.GroupKind{Group: k.Group, Kind: k.Kind}
	o, known := builtIn()[kind]
	gvk, third := r.Kinds[kind]
	switch {
	case k.isMachine() || k.isInstance():
		return r.ofMachine(ctx, k)
	case known:
	case third:
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gvk)
		o = u
	default:
		return r.ofPods(ctx, k)
	}
	err := from.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: k.Name}, o)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	is := ipam.Application{Group: k.Group, Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: string(o.GetUID())}
	t := templateOf(o)
	switch {
	case t == nil:
		return nil, nil
	case t.hostNetwork || !ipam.WantsSubnets(t.Annotations):
		return &App{Application: is}, nil
	}
	if third {
		scale := &unstructured.Unstructured{} // as the object: the client mixes no kinds of clients
		scale.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
		switch err := r.Writer.SubResource("scale").Get(ctx, o, scale); {
		case apierrors.IsNotFound(err):
			t.replicas = 0
		case err != nil:
			return nil, fmt.Errorf("scale of %s %s/%s: %w", k.Kind, k.Namespace, k.Name, err)
		default:
			n, _, err := unstructured.NestedInt64(scale.Object, "spec", "replicas")
			if err != nil {
				return nil, fmt.Errorf("scale of %s %s/%s: %w", k.Kind, k.Namespace, k.Name, err)
			}
			t.replicas = int(n)
		}
	}
	return r.read(ctx, is, t)
}

// read reads what a workload's pods want.
func (r *Reconciler) read(ctx context.Context, is ipam.Application, t *template) (*App, error) {
	app := &App{Application: is, Replicas: t.replicas, Surge: t.surge}
	pod := ipam.PodFacts{Namespace: is.Namespace, Labels: t.Labels, Annotations: t.Annotations}
	all, intent, wrong, err := r.Stock.NICs(ctx, pod)
	if err != nil {
		return nil, err
	}
	if wrong == nil {
		app.Settings, wrong = ipam.ReadPoolSettings(t.Annotations, r.Number)
	}
	if wrong == nil {
		app.Wanted, wrong = ipam.AutoPools(is, pod, all, intent.NICs)
	}
	_, each := t.Annotations[ipam.SubnetsAnnotation]
	switch {
	case wrong != nil:
		app.Unclear = wrong.Error()
	case len(intent.Missing) > 0 && !each:
		app.Unclear = fmt.Sprintf("NetworkAttachmentDefinition %s of the pods' annotations isn't there (yet)", strings.Join(intent.Missing, ", "))
	}
	return app, nil
}

// ofMachine returns a virtual machine, or an instance without one. What it wants its newest pod says, and a
// stopped machine has none.
func (r *Reconciler) ofMachine(ctx context.Context, k Key) (*App, error) {
	key := client.ObjectKey{Namespace: k.Namespace, Name: k.Name}
	found, err := identities.Machine(ctx, r.Live, identities.VirtualMachine, key)
	if err != nil {
		return nil, err
	}
	if k.isInstance() {
		if found != nil { // the machine is the application
			return nil, nil
		}
		if found, err = identities.Machine(ctx, r.Live, identities.Instance, key); err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, nil
	}
	if over, _ := ofController(found); k.isInstance() && over.isMachine() { // which is gone, and it goes as well
		return nil, nil
	}
	is := ipam.Application{Group: k.Group, Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: string(found.UID)}
	var list corev1.PodList
	if err := r.Cache.List(ctx, &list, client.InNamespace(k.Namespace), client.MatchingFields{byOwner: k.instance().String()}); err != nil {
		return nil, err
	}
	var newest *corev1.Pod
	for i := range list.Items {
		p := &list.Items[i]
		ended := !p.DeletionTimestamp.IsZero() || pods.Finished(p) || k.isInstance() && !metav1.IsControlledBy(p, found)
		if !ended && (newest == nil || newest.CreationTimestamp.Before(&p.CreationTimestamp)) {
			newest = p
		}
	}
	switch {
	case newest == nil:
		return &App{Application: is, Stopped: true}, nil
	case newest.Spec.HostNetwork || !ipam.WantsSubnets(newest.Annotations):
		return &App{Application: is}, nil
	}
	return r.read(ctx, is, &template{ObjectMeta: metav1.ObjectMeta{Annotations: newest.Annotations, Labels: newest.Labels}, replicas: 1})
}

// ofPods returns an application of a kind that the controller may not read, by its pods: these
// say which subnets, and a fixed number.
func (r *Reconciler) ofPods(ctx context.Context, k Key) (*App, error) {
	between, uid, err := r.between(ctx, k)
	if err != nil {
		return nil, err
	}
	var newest *corev1.Pod
	for _, owner := range append(between, k) {
		var pods corev1.PodList
		if err := r.Cache.List(ctx, &pods, client.InNamespace(k.Namespace), client.MatchingFields{byOwner: owner.String()}); err != nil {
			return nil, err
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			if !ipam.WantsSubnets(p.Annotations) || p.Spec.HostNetwork || newest != nil && !newest.CreationTimestamp.Before(&p.CreationTimestamp) {
				continue
			}
			if newest = p; owner == k {
				uid = metav1.GetControllerOf(p).UID
			}
		}
	}
	if newest == nil {
		return nil, nil
	}
	app, err := r.read(ctx, ipam.Application{
		Group: k.Group, Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: string(uid),
	}, &template{ObjectMeta: metav1.ObjectMeta{Annotations: newest.Annotations, Labels: newest.Labels}})
	if app != nil && app.Unclear == "" && app.Settings.Number.More {
		app.Unclear = fmt.Sprintf("annotation %s of the pod: %s: %s %s/%s is of a kind whose replicas the controller may not read: want a fixed number, such as 5, or the kind in the chart's controlplane.applicationKinds",
			ipam.IPNumberAnnotation, app.Settings.Number, k.Kind, k.Namespace, k.Name)
	}
	return app, err
}

// between returns the ReplicaSets and Jobs of an application of another kind, and the application's UID
// as the newest of them has it.
func (r *Reconciler) between(ctx context.Context, k Key) (out []Key, uid types.UID, err error) {
	var sets appsv1.ReplicaSetList
	var jobs batchv1.JobList
	for _, list := range []client.ObjectList{&sets, &jobs} {
		if err := r.Cache.List(ctx, list, client.InNamespace(k.Namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, "", err
		}
	}
	var newest metav1.Time
	add := func(group, kind string, o client.Object) {
		if over, ok := ofController(o); !ok || over != k {
			return
		}
		out = append(out, Key{group, kind, k.Namespace, o.GetName()})
		if made := o.GetCreationTimestamp(); uid == "" || newest.Before(&made) {
			newest, uid = made, metav1.GetControllerOf(o).UID
		}
	}
	for i := range sets.Items {
		add(appsv1.GroupName, "ReplicaSet", &sets.Items[i])
	}
	for i := range jobs.Items {
		add(batchv1.GroupName, "Job", &jobs.Items[i])
	}
	return out, uid, nil
}
