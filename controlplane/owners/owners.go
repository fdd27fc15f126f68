// SPDX-License-Identifier: Apache-2.0

// Package owners finds the application to which a pod belongs.
package owners

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// Finder finds applications.
type Finder struct {
	Cache client.Reader
	Live  client.Reader // asked for what the cache doesn't have (yet)
}

// Top returns the application of a pod: its controller, or the Deployment (or another kind) of
// its ReplicaSet, or the CronJob of its Job, or the VirtualMachine that has the name of its instance, which
// is another one after each start. It is nil for a bare pod, and for a static one.
func (f Finder) Top(ctx context.Context, pod *corev1.Pod) (*ipam.Application, error) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil || ref.Kind == "Node" && ref.APIVersion == "v1" {
		return nil, nil
	}
	if id := identities.Of(pod); id != nil && id.Kind == identities.VirtualMachine {
		id, err := identities.Find(ctx, f.Live, pod)
		if err != nil {
			return nil, err
		}
		if id.UID != "" {
			return &ipam.Application{Group: id.Group, Kind: id.Kind, Namespace: id.Namespace, Name: id.Name, UID: id.UID}, nil
		}
		return application(pod.Namespace, ref), nil
	}
	var between client.Object
	switch application(pod.Namespace, ref).Group + "/" + ref.Kind {
	case appsv1.GroupName + "/ReplicaSet":
		between = &appsv1.ReplicaSet{}
	case batchv1.GroupName + "/Job":
		between = &batchv1.Job{}
	default:
		return application(pod.Namespace, ref), nil
	}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: ref.Name}
	err := f.Cache.Get(ctx, key, between)
	if apierrors.IsNotFound(err) || err == nil && between.GetUID() != ref.UID {
		err = f.Live.Get(ctx, key, between)
	}
	switch {
	case apierrors.IsNotFound(err) || err == nil && between.GetUID() != ref.UID: // the pod is about to go
		return application(pod.Namespace, ref), nil
	case err != nil:
		return nil, err
	}
	if top := metav1.GetControllerOf(between); top != nil {
		ref = top
	}
	return application(pod.Namespace, ref), nil
}

func application(namespace string, ref *metav1.OwnerReference) *ipam.Application {
	gv, _ := schema.ParseGroupVersion(ref.APIVersion) // "" of what the API server can't have
	return &ipam.Application{Group: gv.Group, Kind: ref.Kind, Namespace: namespace, Name: ref.Name, UID: string(ref.UID)}
}
