// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// clones is a kind of another project, with the subresource scale.
var clones = schema.GroupVersionKind{Group: "apps.kruise.test", Version: "v1alpha1", Kind: "CloneSet"}

// kind installs the kind.
func (b *bench) kind() {
	b.Helper()
	open := apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}
	object, spec := open, open
	spec.Properties = map[string]apiextensionsv1.JSONSchemaProps{"replicas": {Type: "integer"}}
	object.Properties = map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}
	b.Kind(clones, object, &apiextensionsv1.CustomResourceSubresources{
		Status: &apiextensionsv1.CustomResourceSubresourceStatus{},
		Scale:  &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas"},
	})
}

// cloneSet makes an object of the kind, and n pods of it, as its controller would.
func (b *bench) cloneSet(name string, n int, annotations map[string]string) *unstructured.Unstructured {
	b.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(n)}}}
	u.SetGroupVersionKind(clones)
	u.SetNamespace(b.NS)
	u.SetName(name)
	texts := map[string]any{}
	for k, v := range annotations {
		texts[k] = v
	}
	_ = unstructured.SetNestedMap(u.Object, texts, "spec", "template", "metadata", "annotations")
	b.Eventually("making "+name, func() error { return b.C.Create(b.Context(), u) }) // discovery may be late
	for i := range n {
		b.clone(u, i, annotations)
	}
	return u
}

func (b *bench) clone(of *unstructured.Unstructured, i int, annotations map[string]string) *corev1.Pod {
	b.Helper()
	t := template(of.GetName(), annotations)
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Namespace, p.Name = b.NS, fmt.Sprintf("%s-%c", of.GetName(), 'a'+i)
	p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(of, clones)}
	b.Create(p)
	return p
}

// TestT00001: pods of a third-party controller take addresses of a pool, any, and give them back.
func TestT00001(t *testing.T) {
	b := newBench(t)
	b.kind()
	b.Node("node1")
	b.Network("lan", "")
	b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.10-10.6.0.12"}}}})
	b.start(nil)
	b.machines()
	annotations := map[string]string{ipam.NetworksAnnotation: "lan", "ipam.spidernet.io/ippool": `{"ipv4":["pool"]}`}
	set := b.cloneSet("clones", 3, annotations)
	b.running("clones", 3)
	b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "clones-b"}})
	b.clone(set, 3, annotations)
	got := b.running("clones", 3)
	if got["clones-d"] != "10.6.0.11/16" && got["clones-d"] != "10.6.0.10/16" && got["clones-d"] != "10.6.0.12/16" {
		t.Errorf("they have %v", got)
	}
	if err := b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	b.used("pool", 0)
}

// used waits until a pool says how many of its addresses are allocated.
func (b *bench) used(pool string, want int64) {
	b.Helper()
	b.Eventually("pool "+pool, func() error {
		p := &v2beta1.SpiderIPPool{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: pool}, p); err != nil {
			return err
		}
		if p.Status.AllocatedIPCount == nil || *p.Status.AllocatedIPCount != want {
			return fmt.Errorf("status %+v, want %d", p.Status, want)
		}
		return nil
	})
}

// TestT00002: a third-party controller's pods get a pool of a subnet: of a fixed number of
// addresses, or, if the settings name the kind, of as many more than replicas as they want.
func TestT00002(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprintf("the settings name the kind: %t", named), func(t *testing.T) {
			b := newBench(t)
			b.kind()
			b.Node("node1")
			b.Network("lan", "")
			b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
			if named { // as the chart allows it
				testcluster.Allow(t, "clonesets",
					rbacv1.PolicyRule{APIGroups: []string{clones.Group}, Resources: []string{"clonesets"}, Verbs: []string{"get", "list", "watch"}},
					rbacv1.PolicyRule{APIGroups: []string{clones.Group}, Resources: []string{"clonesets/scale"}, Verbs: []string{"get"}})
			}
			b.start(nil, func(o *applications.Options) {
				if named {
					o.Kinds = []schema.GroupVersionKind{clones}
				}
			})
			b.machines()
			fixed := with(subnets("s"), ipam.IPNumberAnnotation, "3")
			set := b.cloneSet("fixed", 2, fixed)
			b.pools(set, "auto-fixed-v4-net1-UID 10.6.0.10-10.6.0.12")
			b.running("fixed", 2)
			b.clone(set, 2, fixed)
			b.running("fixed", 3)
			more := b.clone(set, 3, fixed)
			b.waits(more.Name, "no IPv4 address for net1: pool auto-fixed-v4-net1-")
			b.waits(more.Name, "3 of 3 addresses are in use")
			b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "fixed-a"}})
			b.running("fixed", 3)
			b.counts("s", 3)

			scaled := b.cloneSet("scaled", 2, with(subnets("s"), ipam.IPNumberAnnotation, "+1"))
			if !named {
				b.says(scaled, "PoolsUnclear", "want a fixed number, such as 5, or the kind in the chart's controlplane.applicationKinds")
				b.counts("s", 3)
			} else {
				b.running("scaled", 2)
				b.size("auto-scaled", 3)
				patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":4}}`))
				if err := b.C.Patch(t.Context(), scaled, patch); err != nil {
					t.Fatal(err)
				}
				b.size("auto-scaled", 5)
				b.counts("s", 8)
			}
			for _, u := range []*unstructured.Unstructured{set, scaled} {
				b.Delete(u)
			}
			if err := b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
				t.Fatal(err)
			}
			b.counts("s", 0)
			b.Eventually("the pools are gone", func() error {
				var pools v2beta1.SpiderIPPoolList
				if err := b.C.List(t.Context(), &pools); err != nil || len(pools.Items) == 0 {
					return err
				}
				return errors.New(strings.TrimSpace(pools.Items[0].Name))
			})
		})
	}
}

// TestBetween: a ReplicaSet or a Job is between a third-party controller and its pods, which get a pool of it
// of a fixed number of addresses, and keep it when the next ReplicaSet comes.
func TestBetween(t *testing.T) {
	b := newBench(t)
	b.kind()
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.start(nil)
	b.machines()
	fixed := with(subnets("s"), ipam.IPNumberAnnotation, "3")
	set := b.cloneSet("rolled", 0, fixed)
	between := func(name string, replicas int32) {
		tmpl := template("rolled", fixed)
		rs := &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"by": name}}, Template: tmpl}}
		rs.Spec.Template.Labels = map[string]string{"app": "rolled", "by": name}
		rs.Namespace, rs.Name = b.NS, name
		rs.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, clones)}
		b.Create(rs)
	}
	between("rolled-1", 2)
	b.pools(set, "auto-rolled-v4-net1-UID 10.6.0.10-10.6.0.12")
	b.running("rolled", 2)
	between("rolled-2", 1)
	b.running("rolled", 3)
	b.pools(set, "auto-rolled-v4-net1-UID 10.6.0.10-10.6.0.12")

	jobs := b.cloneSet("jobs", 0, fixed)
	tmpl := template("jobs", with(fixed, ipam.IPNumberAnnotation, "+1"))
	tmpl.Spec.RestartPolicy = corev1.RestartPolicyNever
	job := &batchv1.Job{Spec: batchv1.JobSpec{Template: tmpl}}
	job.Namespace, job.Name = b.NS, "jobs-1"
	job.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(jobs, clones)}
	b.Create(job)
	b.says(jobs, "PoolsUnclear", "want a fixed number, such as 5, or the kind in the chart's controlplane.applicationKinds")
}
