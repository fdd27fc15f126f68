// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
)

// TestNamespace: a namespace that the cache doesn't have yet is read from the API server.
func TestNamespace(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	reader := func(names ...string) client.Reader {
		b := fake.NewClientBuilder().WithScheme(scheme)
		for _, n := range names {
			b = b.WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}})
		}
		return b.Build()
	}
	for name, x := range map[string]struct {
		c    *Controller
		want bool
	}{
		"in the cache":                    {&Controller{Cache: reader("test"), Live: reader()}, true},
		"only the API server has it":      {&Controller{Cache: reader("other"), Live: reader("other", "test")}, true},
		"it isn't there, or not any more": {&Controller{Cache: reader("other"), Live: reader("other")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := x.c.namespace(t.Context(), "test")
			if err != nil || (n != nil) != x.want {
				t.Errorf("%v, %v: want it: %t", n, err, x.want)
			}
		})
	}
}

// TestForgetNodes: the NodeSpool of a Node that is deleted goes, and no other one.
func TestForgetNodes(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	spool := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: "node1", UID: "1", ResourceVersion: "7"}}
	for name, x := range map[string]struct {
		cache, live []client.Object
		stays       bool
	}{
		"the Node is deleted":                 {[]client.Object{spool}, []client.Object{spool}, false},
		"the Node is there":                   {[]client.Object{spool, node}, []client.Object{spool, node}, true},
		"the cache doesn't have the Node yet": {[]client.Object{spool}, []client.Object{spool, node}, true},
		"the NodeSpool is gone":               {[]client.Object{spool}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(x.live...).Build()
			c := &Controller{Cache: fake.NewClientBuilder().WithScheme(scheme).WithObjects(x.cache...).Build(), Live: live, Writer: live}
			if err := c.forgetNodes(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := live.Get(t.Context(), client.ObjectKey{Name: "node1"}, &v1alpha1.NodeSpool{})
			if (err == nil) != x.stays {
				t.Errorf("%v: want it to stay: %t", err, x.stays)
			}
		})
	}
}

// TestCollectFirst: a round of the collector in a cluster in which nothing has happened yet.
func TestCollectFirst(t *testing.T) {
	if err := (&Controller{Cache: nothing{}}).Collect(t.Context()); err != nil {
		t.Error(err)
	}
}

// nothing is a cache without objects.
type nothing struct{ client.Reader }

func (nothing) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }
