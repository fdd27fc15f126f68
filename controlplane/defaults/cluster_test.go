// SPDX-License-Identifier: Apache-2.0

package defaults

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netconf"
)

// writes counts the requests of a client that aren't reads, and those of them that don't
// say on which version of the object they were decided.
type writes struct {
	http.RoundTripper
	n, blind atomic.Int64
}

func (w *writes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		w.n.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(body, []byte(`"resourceVersion":"`)) {
			w.blind.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return w.RoundTripper.RoundTrip(r)
}

type world struct {
	*testing.T
	client.Client
	writes     writes
	reconciler *reconciler // as the manager's, with its clients
}

// start runs a manager with the reconciler until the test ends.
func start(t *testing.T) *world {
	t.Helper()
	c := testcluster.Config(t)
	ctrl.SetLogger(logr.Discard())
	scheme := testcluster.Scheme(t)
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	own, err := client.New(c, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Client: own}
	counted := testcluster.Config(t)
	counted.Wrap(func(rt http.RoundTripper) http.RoundTripper { w.writes.RoundTripper = rt; return &w.writes })
	mgr, err := ctrl.NewManager(counted, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Add(mgr); err != nil {
		t.Fatal(err)
	}
	w.reconciler = &reconciler{mgr.GetClient(), mgr.GetAPIReader(), mgr.GetAPIReader()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// make creates an object, which goes at the test's end.
func (w *world) make(o client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), o); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { w.remove(o) })
}

func (w *world) remove(o client.Object) {
	w.Helper()
	if err := client.IgnoreNotFound(w.Delete(context.Background(), o, client.GracePeriodSeconds(0))); err != nil {
		w.Error(err)
	}
}

// edit changes the spec.
func (w *world) edit(change func(*netconf.ClusterCoordinator)) {
	w.Helper()
	var c v2beta1.SpiderCoordinator
	if err := w.Get(w.Context(), client.ObjectKey{Name: "default"}, &c); err != nil {
		w.Fatal(err)
	}
	before := c.DeepCopy()
	change(&c.Spec)
	if err := w.Patch(w.Context(), &c, client.MergeFrom(before)); err != nil {
		w.Fatal(err)
	}
}

// want waits for a status, of the object's generation.
func (w *world) want(phase string, pods, services []string, says string) {
	w.Helper()
	var c v2beta1.SpiderCoordinator
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := w.Get(w.Context(), client.ObjectKey{Name: "default"}, &c); err != nil {
			w.Fatal(err)
		}
		ready := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Ready)
		if ready != nil && ready.ObservedGeneration == c.Generation && c.Status.Phase == phase && strings.Contains(ready.Message, says) &&
			slices.Equal(c.Status.OverlayPodCIDR, pods) && slices.Equal(c.Status.ServiceCIDR, services) {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("got %+v, want %s, pods %v, services %v, %q", c.Status, phase, pods, services, says)
		}
	}
}

// TestCluster goes through the sources on a real API server, whose ServiceCIDR kubernetes
// is there from the start.
func TestCluster(t *testing.T) {
	w := start(t)
	var kubernetes networkingv1.ServiceCIDR
	if err := w.Get(t.Context(), client.ObjectKey{Name: "kubernetes"}, &kubernetes); err != nil {
		t.Fatal(err)
	}
	services := kubernetes.Spec.CIDRs
	w.make(&v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: "default"}})

	t.Log("V00002: auto, no network of pods")
	w.want("Synced", nil, services, "no pod CIDRs: no source has any")

	t.Log("V00011: cluster, neither ConfigMap nor Pod")
	w.edit(func(s *netconf.ClusterCoordinator) { s.PodCIDRType = "cluster" })
	w.want("NotReady", nil, services, "no pod CIDRs in ConfigMap kube-system/kubeadm-config")

	t.Log("V00009: Nodes, then arguments, then kubeadm's ConfigMap")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "defaults-a"}, Spec: corev1.NodeSpec{PodCIDR: "10.42.0.0/24", PodCIDRs: []string{"10.42.0.0/24"}}}
	w.make(node)
	w.want("Synced", []string{"10.42.0.0/24"}, services, "pod CIDRs of Node.spec.podCIDRs")
	w.remove(node)
	w.want("NotReady", []string{"10.42.0.0/24"}, services, "the list of before stays")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "kube-controller-manager-a", Labels: map[string]string{"component": "kube-controller-manager"}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			Containers:                   []corev1.Container{{Name: "a", Image: "a", Command: []string{"kube-controller-manager", "--cluster-cidr=10.43.0.0/16"}}},
		},
	}
	w.make(pod)
	w.want("Synced", []string{"10.43.0.0/16"}, services, "--cluster-cidr of kube-controller-manager")
	w.remove(pod)
	w.want("NotReady", []string{"10.43.0.0/16"}, services, "the list of before stays")
	kubeadm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "kubeadm-config"},
		Data:       map[string]string{"ClusterConfiguration": "networking: {podSubnet: 'fd00:44::/56,10.44.0.0/16', serviceSubnet: " + services[0] + "}"},
	}
	w.make(kubeadm)
	w.want("Synced", []string{"10.44.0.0/16", "fd00:44::/56"}, services, "pod CIDRs of ConfigMap kube-system/kubeadm-config")

	t.Log("V00010: a ServiceCIDR that is added later")
	more := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "defaults-more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"172.30.0.0/16"}}}
	w.make(more)
	w.want("Synced", []string{"10.44.0.0/16", "fd00:44::/56"}, slices.Concat(services, more.Spec.CIDRs), "ServiceCIDR defaults-more, kubernetes")
	w.remove(more)
	w.want("Synced", []string{"10.44.0.0/16", "fd00:44::/56"}, services, "ServiceCIDR kubernetes")

	t.Log("nothing is written while nothing changes")
	var before, after v2beta1.SpiderCoordinator
	count := w.writes.n.Load()
	if err := w.Get(t.Context(), client.ObjectKey{Name: "default"}, &before); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := w.reconciler.Reconcile(t.Context(), ctrl.Request{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Get(t.Context(), client.ObjectKey{Name: "default"}, &after); err != nil {
		t.Fatal(err)
	}
	if before.ResourceVersion != after.ResourceVersion || w.writes.n.Load() != count {
		t.Errorf("the status was written: resourceVersion %s, was %s; %d requests", after.ResourceVersion, before.ResourceVersion, w.writes.n.Load()-count)
	}
	if count == 0 {
		t.Error("no write was counted at all")
	}
	if n := w.writes.blind.Load(); n > 0 {
		t.Errorf("%d writes have no resourceVersion", n)
	}

	t.Log("V00006, V00008: the source goes, the list stays")
	w.remove(kubeadm)
	w.want("NotReady", []string{"10.44.0.0/16", "fd00:44::/56"}, services, "fill spec.overlayPodCIDR")

	t.Log("V00007, V00005: lists in the spec, then none")
	w.edit(func(s *netconf.ClusterCoordinator) { s.OverlayPodCIDR = []string{"10.45.1.2/16"} })
	w.want("Synced", []string{"10.45.0.0/16"}, services, "pod CIDRs of spec.overlayPodCIDR")
	w.edit(func(s *netconf.ClusterCoordinator) { s.OverlayPodCIDR, s.PodCIDRType = nil, "none" })
	w.want("Synced", nil, services, "spec.podCIDRType is none")

	t.Log("V00001, V00003: Calico's kind comes later")
	w.edit(func(s *netconf.ClusterCoordinator) { s.PodCIDRType = "calico" })
	w.want("NotReady", nil, services, "no pod CIDRs in Calico IPPool objects")
	w.kind("ippools", calicoPool.Group, calicoPool.Version, calicoPool.Kind)
	w.pool("crd.projectcalico.org/v1", "IPPool", map[string]any{"cidr": "192.168.0.0/16"})
	w.edit(func(s *netconf.ClusterCoordinator) { s.PodCIDRType = "auto" })
	w.want("Synced", []string{"192.168.0.0/16"}, services, "Calico IPPool defaults")

	t.Log("V00001, V00004: Cilium")
	w.kind("ciliumpodippools", ciliumPool.Group, ciliumPool.Version, ciliumPool.Kind)
	w.pool("cilium.io/v2alpha1", "CiliumPodIPPool", map[string]any{"ipv4": map[string]any{"cidrs": []any{"10.46.0.0/16"}}})
	cilium := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "cilium-config"}, Data: map[string]string{"ipam": "multi-pool"}}
	w.make(cilium)
	w.want("Synced", []string{"10.46.0.0/16"}, services, "CiliumPodIPPool defaults")
	cilium.Data = map[string]string{"ipam": "cluster-pool", "cluster-pool-ipv4-cidr": "10.47.0.0/16"}
	if err := w.Update(t.Context(), cilium); err != nil {
		t.Fatal(err)
	}
	w.want("Synced", []string{"10.47.0.0/16"}, services, "ConfigMap kube-system/cilium-config")
}

// kind installs a kind of others, without a schema.
func (w *world) kind(plural, group, version, kind string) {
	w.Helper()
	w.make(&apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group, Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.ClusterScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: strings.ToLower(kind), Kind: kind, ListKind: kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
			}},
		},
	})
}

// pool creates a pool as soon as its kind is served.
func (w *world) pool(apiVersion, kind string, spec map[string]any) {
	w.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "defaults"}, "spec": spec}}
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := w.Create(w.Context(), o)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.Fatal(err)
		}
	}
}
