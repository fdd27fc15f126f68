// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestWithoutSubnets: the pods of an application name no subnets any more. Its pool goes, as one of a
// NIC does that the annotations don't name any more. One that the application has left, because it
// doesn't exist any more, stays if its label says so.
func TestWithoutSubnets(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app", UID: "u-1"}}
	is := ipam.AutoPool{
		Application: ipam.Application{Group: "apps", Kind: "Deployment", Namespace: "ns", Name: "app", UID: "u-1"},
		Interface:   "net1", Subnet: "s",
	}
	pool := &v2beta1.SpiderIPPool{
		ObjectMeta: metav1.ObjectMeta{Name: is.Name(1), Labels: map[string]string{ipam.ReclaimLabel: "false"}, Annotations: map[string]string{ipam.AutoAnnotation: is.Annotation()}},
		Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.0.0.0/24"}},
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, v1alpha1.AddToScheme, v2beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range map[string]struct {
		objects []client.Object
		stays   bool
	}{
		"the application is there": {[]client.Object{pool, d}, false},
		"it is deleted":            {[]client.Object{pool}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(x.objects...).
				WithIndex(&v2beta1.SpiderIPPool{}, "application", func(o client.Object) []string {
					return []string{applications.KeyOf(ipam.AutoPoolOf(o.GetAnnotations()).Application).String()}
				}).
				WithIndex(&v1alpha1.IPAddress{}, "application", func(client.Object) []string { return nil }).
				WithIndex(&v1alpha1.IPAddress{}, v1alpha1.ByPool, func(client.Object) []string { return nil }).
				Build()
			r := &applications.Reconciler{
				Cache: c, Live: c, Writer: c, Now: time.Now,
				Each: func(int, func(int) error) error { return nil },
			}
			if _, err := r.Reconcile(t.Context(), applications.KeyOf(is.Application)); err != nil {
				t.Fatal(err)
			}
			switch err := c.Get(t.Context(), client.ObjectKeyFromObject(pool), &v2beta1.SpiderIPPool{}); {
			case client.IgnoreNotFound(err) != nil:
				t.Fatal(err)
			case apierrors.IsNotFound(err) == x.stays:
				t.Errorf("the pool stays: %t, want %t", !x.stays, x.stays)
			}
		})
	}
}
