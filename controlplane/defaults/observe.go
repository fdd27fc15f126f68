// SPDX-License-Identifier: Apache-2.0

package defaults

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const system = "kube-system"

// The kinds of others. None of them needs to be there.
var (
	calicoPool = schema.GroupVersionKind{Group: "crd.projectcalico.org", Version: "v1", Kind: "IPPool"}
	ciliumPool = schema.GroupVersionKind{Group: "cilium.io", Version: "v2alpha1", Kind: "CiliumPodIPPool"}
)

// The programs of the control plane, and the labels by which their Pods are found: kubeadm,
// RKE2 and Talos set component, bootkube and its heirs k8s-app.
var (
	programs = []string{"kube-controller-manager", "kube-apiserver"}
	labels   = []string{"component", "k8s-app"}
)

// observe reads the sources: Nodes from a cache, all else from the API server.
func observe(ctx context.Context, live, nodes client.Reader) Sources {
	s := Sources{Kubeadm: configMap(ctx, live, "kubeadm-config"), Cilium: configMap(ctx, live, "cilium-config")}

	var services networkingv1.ServiceCIDRList
	s.ServiceCIDRs.Err = list(ctx, live, &services)
	for _, c := range services.Items { // one that is being deleted stays for as long as Services use it
		s.ServiceCIDRs.Items = append(s.ServiceCIDRs.Items, Object{c.Name, c.Spec.CIDRs})
	}

	var all corev1.NodeList
	s.Nodes.Err = list(ctx, nodes, &all)
	for _, n := range all.Items {
		s.Nodes.Items = append(s.Nodes.Items, Object{n.Name, n.Spec.PodCIDRs})
	}

	s.ControllerManagers = commandLines(ctx, live, programs[0])
	s.APIServers = commandLines(ctx, live, programs[1])
	s.CalicoPools = pools(ctx, live, calicoPool, calicoCIDRs)
	s.CiliumPools = pools(ctx, live, ciliumPool, ciliumCIDRs)
	return s
}

func configMap(ctx context.Context, live client.Reader, name string) ConfigMap {
	var c corev1.ConfigMap
	err := live.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &c)
	if apierrors.IsNotFound(err) {
		return ConfigMap{}
	}
	if err == nil && c.Data == nil {
		c.Data = map[string]string{}
	}
	return ConfigMap{c.Data, err}
}

// commandLines reads the Pods of a program.
func commandLines(ctx context.Context, live client.Reader, program string) Objects {
	var out Objects
	for _, label := range labels {
		var pods corev1.PodList
		if out.Err = list(ctx, live, &pods, client.InNamespace(system), client.MatchingLabels{label: program}); out.Err != nil {
			return out
		}
		for _, p := range pods.Items {
			var words []string
			for _, c := range p.Spec.Containers {
				words = slices.Concat(words, c.Command, c.Args)
			}
			out.Items = append(out.Items, Object{p.Name, words})
		}
	}
	return out
}

// pools reads the objects of a kind of others that have CIDRs for pods.
func pools(ctx context.Context, live client.Reader, kind schema.GroupVersionKind, cidrs func(map[string]any) []string) Objects {
	var pools unstructured.UnstructuredList
	pools.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	out := Objects{Err: list(ctx, live, &pools)}
	for _, p := range pools.Items {
		spec, _, _ := unstructured.NestedMap(p.Object, "spec")
		if c := cidrs(spec); len(c) > 0 {
			out.Items = append(out.Items, Object{p.GetName(), c})
		}
	}
	return out
}

// calicoCIDRs returns the CIDR of an IPPool that isn't disabled, and is for workloads
// (libcalico-go, IPPoolSpec.AllowedUses; without it, it is).
func calicoCIDRs(spec map[string]any) []string {
	disabled, _, _ := unstructured.NestedBool(spec, "disabled")
	uses, _, _ := unstructured.NestedStringSlice(spec, "allowedUses")
	cidr, _, _ := unstructured.NestedString(spec, "cidr")
	if disabled || cidr == "" || len(uses) > 0 && !slices.Contains(uses, "Workload") {
		return nil
	}
	return []string{cidr}
}

// ciliumCIDRs returns the CIDRs of a CiliumPodIPPool (api v2alpha1, IPPoolSpec).
func ciliumCIDRs(spec map[string]any) []string {
	v4, _, _ := unstructured.NestedStringSlice(spec, "ipv4", "cidrs")
	v6, _, _ := unstructured.NestedStringSlice(spec, "ipv6", "cidrs")
	return slices.Concat(v4, v6)
}

// list lists, and takes a kind that the cluster doesn't have for an empty list.
func list(ctx context.Context, r client.Reader, into client.ObjectList, opts ...client.ListOption) error {
	err := r.List(ctx, into, opts...)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
