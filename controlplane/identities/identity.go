// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"context"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
)

// Kinds of owners of identities. KubeVirt makes a VirtualMachineInstance of the name of its
// VirtualMachine; one without a VirtualMachine is an identity all the same.
const (
	StatefulSet    = "StatefulSet"
	VirtualMachine = "VirtualMachine"

	// KubeVirt is the group of VirtualMachine and Instance.
	KubeVirt = "kubevirt.io"
	// Instance is what a pod of a virtual machine has as its controller.
	Instance = "VirtualMachineInstance"
)

// Of returns the identity of a pod; nil: it has none. Of a virtual machine it doesn't know the
// UID: the pod names its instance alone, which is another one after each start.
func Of(p *corev1.Pod) *v1alpha1.Owner {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil {
		return nil
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	switch {
	case group == appsv1.GroupName && owner.Kind == StatefulSet:
		n, ok := ordinal(p.Name, owner.Name)
		if !ok {
			return nil
		}
		return &v1alpha1.Owner{Group: group, Kind: owner.Kind, Namespace: p.Namespace, Name: owner.Name, UID: string(owner.UID), Ordinal: ptr.To(n)}
	case group == KubeVirt && owner.Kind == Instance:
		return &v1alpha1.Owner{Group: group, Kind: VirtualMachine, Namespace: p.Namespace, Name: owner.Name}
	}
	return nil
}

// ordinal returns the number in the name of a StatefulSet's pod
// (kubernetes/pkg/controller/statefulset/stateful_set_utils.go, getPodName).
func ordinal(pod, set string) (int32, bool) {
	text, found := strings.CutPrefix(pod, set+"-")
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), found && err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
}

// Find returns the identity of a pod, with the UID of its virtual machine, if there is one.
func Find(ctx context.Context, live client.Reader, p *corev1.Pod) (*v1alpha1.Owner, error) {
	id := Of(p)
	if id == nil || id.Kind != VirtualMachine {
		return id, nil
	}
	vm, err := Machine(ctx, live, VirtualMachine, client.ObjectKey{Namespace: id.Namespace, Name: id.Name})
	if err != nil {
		return nil, err
	}
	if vm != nil {
		id.UID = string(vm.UID)
	}
	return id, nil
}

// Machine reads a VirtualMachine or an Instance; nil: there is none, or KubeVirt isn't installed. The
// controller may only get them, so live is the API server.
func Machine(ctx context.Context, live client.Reader, kind string, key client.ObjectKey) (*metav1.PartialObjectMetadata, error) {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: KubeVirt, Version: "v1", Kind: kind})
	err := live.Get(ctx, key, o)
	switch {
	case err == nil:
		return o, nil
	case apierrors.IsNotFound(err):
		return nil, nil
	case meta.IsNoMatchError(err): // perhaps discovery is late
		crd := &metav1.PartialObjectMetadata{}
		crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		name := strings.ToLower(kind) + "s." + KubeVirt
		if reading := live.Get(ctx, client.ObjectKey{Name: name}, crd); apierrors.IsNotFound(reading) {
			return nil, nil
		}
	}
	return nil, err
}

// Same reports whether two identities are of one pod of one name, whatever their UIDs.
func Same(a, b *v1alpha1.Owner) bool {
	return a != nil && b != nil && a.Group == b.Group && a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name && ptr.Equal(a.Ordinal, b.Ordinal)
}

// Another reports whether an address is of a former owner: one of the same name, and another
// UID. One that isn't known can be any.
func Another(address, now string) bool { return address != "" && now != "" && address != now }
