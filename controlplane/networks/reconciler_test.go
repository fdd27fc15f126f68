// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"context"
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// TestOrphanedMeanwhile deletes a config with --cascade=orphan after the first reading of a
// reconciliation whose cache is old: the NetworkAttachmentDefinition stays nobody's.
func TestOrphanedMeanwhile(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v2beta1.AddToScheme, nad.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := config("net", 0)
	c.Annotations = nil
	attachment := desired(nil, &c)
	server := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&c).WithObjects(&c, attachment).Build()
	cache := fake.NewClientBuilder().WithScheme(scheme).WithObjects(unwritten(c)).
		WithIndex(&v2beta1.SpiderMultusConfig{}, byName, func(o client.Object) []string { return []string{NameOf(o.(*v2beta1.SpiderMultusConfig))} }).
		WithIndex(&v2beta1.SpiderMultusConfig{}, byLink, func(client.Object) []string { return nil }).Build()
	orphaned := false
	live := interceptor.NewClient(server, interceptor.Funcs{Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		err := w.Get(ctx, key, o, opts...)
		if orphaned {
			return err
		}
		orphaned = true
		now := &nad.NetworkAttachmentDefinition{}
		if err := w.Get(ctx, client.ObjectKeyFromObject(attachment), now); err != nil {
			t.Fatal(err)
		}
		now.OwnerReferences = nil
		if err := errors.Join(w.Update(ctx, now), w.Delete(ctx, unwritten(c))); err != nil {
			t.Fatal(err)
		}
		return err
	}})
	r := &reconciler{cache: cache, live: live, writer: client.WithFieldOwner(server, Manager)}
	key := types.NamespacedName{Namespace: "ns", Name: "net"}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	now := &nad.NetworkAttachmentDefinition{}
	if err := server.Get(t.Context(), key, now); err != nil || !orphaned || metav1.GetControllerOf(now) != nil {
		t.Errorf("%v: it is of %v, who is gone", err, now.OwnerReferences)
	}
}

// unwritten returns a config as it was before it was written.
func unwritten(c v2beta1.SpiderMultusConfig) *v2beta1.SpiderMultusConfig {
	out := c.DeepCopy()
	out.ResourceVersion = ""
	return out
}
