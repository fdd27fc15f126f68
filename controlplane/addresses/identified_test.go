// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// TestGivenTo: what an identity got is known until the cache has it, whatever the instance and the NIC.
func TestGivenTo(t *testing.T) {
	c := &Controller{}
	c.init()
	of := func(ordinal int32, uid string) *v1alpha1.Owner {
		return &v1alpha1.Owner{Kind: "StatefulSet", Namespace: "shop", Name: "web", Ordinal: ptr.To(ordinal), UID: uid, Interface: "net" + uid}
	}
	address := func(name string, id *v1alpha1.Owner) *v1alpha1.IPAddress {
		a := &v1alpha1.IPAddress{}
		a.Name, a.Spec.Identity = name, id
		return a
	}
	want := func(names ...string) {
		t.Helper()
		if got := c.givenTo(of(1, "9")); !slices.Equal(got, names) {
			t.Errorf("given: %v, want %v", got, names)
		}
	}
	c.gives(address("10.6.0.2", of(1, "1")))
	c.gives(address("10.6.0.1", of(1, "2")))
	c.gives(address("10.6.0.3", of(2, "1")))
	c.gives(address("10.6.0.4", nil))
	want("10.6.0.1", "10.6.0.2")
	c.OnAddress(nil, address("10.6.0.2", nil)) // the cache has it as it was
	want("10.6.0.1", "10.6.0.2")
	c.OnAddress(nil, address("10.6.0.2", of(1, "1")))
	want("10.6.0.1")
	c.OnAddress(nil, address("10.6.0.1", of(1, "1")))
	c.OnAddress(nil, address("10.6.0.3", of(2, "1")))
	want()
	if len(c.given) > 0 {
		t.Errorf("still remembered: %v", c.given)
	}
}

// TestAlone: one pod of an identity at a time is given addresses; those without one don't wait.
func TestAlone(t *testing.T) {
	c := &Controller{Until: func(is func() bool) bool { return is() }}
	c.init()
	claim := func(id *v1alpha1.Owner) *v2beta1.SpiderEndpoint {
		return &v2beta1.SpiderEndpoint{Spec: v2beta1.SpiderEndpointSpec{Identity: id}}
	}
	enter := func(id *v1alpha1.Owner) func() {
		t.Helper()
		leave, err := c.alone(claim(id))
		if err != nil {
			t.Fatalf("%v waits: %v", id, err)
		}
		return leave
	}
	a, b := &v1alpha1.Owner{Kind: "VirtualMachine", Namespace: "shop", Name: "a"}, &v1alpha1.Owner{Kind: "VirtualMachine", Namespace: "shop", Name: "b"}
	enter(nil)
	enter(nil)
	leave := enter(a)
	enter(b)
	if _, err := c.alone(claim(a)); !apierrors.IsConflict(err) {
		t.Errorf("another pod of the same machine doesn't wait: %v", err)
	}
	leave()
	enter(a)
}
