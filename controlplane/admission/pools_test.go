// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/pkg/ipam"
)

// ofPools returns a SpiderIPPool, SpiderSubnet or SpiderReservedIP, in the network of the test.
func (c *cluster) ofPools(kind, name string, spec map[string]any) *unstructured.Unstructured {
	if kind != ipam.ReservedKind {
		spec["network"] = c.namespace
		if spec["subnet"] == nil {
			spec["subnet"] = "10.6.0.0/16"
		}
	}
	return c.object(map[string]any{"kind": kind, "metadata": map[string]any{"name": c.namespace + "-" + name}, "spec": spec})
}

func list(of ...string) []any {
	out := make([]any, len(of))
	for i := range of {
		out[i] = of[i]
	}
	return out
}

// TestPoolsBesideOthers has what the webhook alone sees, for it takes a look at others.
func TestPoolsBesideOthers(t *testing.T) {
	c := newCluster(t)
	r := c.serve(t, nil)
	c.webhook(t, r.address)
	c.served(t)
	pool := c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.1-10.6.1.9")})
	c.make(t, pool)
	c.make(t, c.ofPools(ipam.PoolKind, "b", map[string]any{"ips": list("10.6.1.20-10.6.1.29")}))
	small := c.ofPools(ipam.PoolKind, "small", map[string]any{"subnet": "10.8.0.0/24", "ips": list("10.8.0.1-10.8.0.9")})
	c.make(t, small)
	subnet := c.ofPools(ipam.SubnetKind, "s", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.1-10.8.0.20"), "excludeIPs": list("10.8.0.15")})
	c.make(t, subnet)
	address := &v1alpha1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.6.1.5." + c.namespace},
		Spec: v1alpha1.IPAddressSpec{Address: "10.6.1.5", Network: c.namespace, Pool: pool.GetName(), State: v1alpha1.Allocated,
			Holders: []v1alpha1.Holder{{Namespace: "default", Pod: "web"}}},
	}
	c.make(t, address)
	shop := ipam.Application{Group: "apps", Kind: "Deployment", Namespace: "default", Name: "shop", UID: "u-1"}
	auto := ipam.AutoPool{Application: shop, Interface: "net1", Subnet: subnet.GetName()}
	autoPool := c.ofPools(ipam.PoolKind, "auto", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.17-10.8.0.19")})
	autoPool.SetAnnotations(map[string]string{ipam.AutoAnnotation: auto.Annotation()})
	c.make(t, autoPool)
	for addr, a := range map[string]v1alpha1.IPAddressSpec{
		"10.8.0.17": {Pool: autoPool.GetName(), State: v1alpha1.Reserved},
		"10.8.0.18": {Pool: autoPool.GetName(), State: v1alpha1.Allocated, Holders: []v1alpha1.Holder{{Namespace: "default", Pod: "shop-1"}}},
		"10.8.0.19": {Pool: autoPool.GetName(), State: v1alpha1.Reserved, Identity: &v1alpha1.Owner{Kind: "StatefulSet", Namespace: "default", Name: "shop"}},
		"10.8.0.20": {Pool: ipam.SubnetPool + subnet.GetName(), State: v1alpha1.Allocated, Holders: []v1alpha1.Holder{{Namespace: "default", Pod: "bare"}}},
	} {
		if a.Address, a.Network = addr, c.namespace; a.Pool == autoPool.GetName() {
			a.Application = &v1alpha1.Owner{Group: shop.Group, Kind: shop.Kind, Namespace: shop.Namespace, Name: shop.Name, UID: shop.UID}
		}
		c.make(t, &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr + "." + c.namespace}, Spec: a})
	}
	excluding := func(addr string) *unstructured.Unstructured {
		return c.ofPools(ipam.SubnetKind, "s", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.1-10.8.0.20"), "excludeIPs": list("10.8.0.15", addr)})
	}
	elsewhere := c.ofPools(ipam.PoolKind, "new", map[string]any{"ips": list("10.6.1.1-10.6.1.9")})
	if err := unstructured.SetNestedField(elsewhere.Object, c.namespace+"x", "spec", "network"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		o      *unstructured.Unstructured
		update bool
		want   string // %s is the start of names
	}{
		{"D00001, a new pool", c.ofPools(ipam.PoolKind, "new", map[string]any{"ips": list("10.6.1.9-10.6.1.20")}), false,
			"spec.ips: 10.6.1.9: SpiderIPPool %[1]s-a has the same: want other addresses, or another network; spec.ips: 10.6.1.20: SpiderIPPool %[1]s-b has the same"},
		{"D00001, a changed pool", c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.1-10.6.1.25")}), true, "spec.ips: 10.6.1.20-10.6.1.25: SpiderIPPool %s-b has the same"},
		{"what the other excludes not", c.ofPools(ipam.PoolKind, "new", map[string]any{"ips": list("10.6.1.1-10.6.1.12"), "excludeIPs": list("10.6.1.1-10.6.1.9")}), false, ""},
		{"another network", elsewhere, false, ""},
		{"another subnet of the network", c.ofPools(ipam.PoolKind, "new", map[string]any{"subnet": "10.6.1.0/24", "ips": list("10.6.1.99")}), false,
			"warning: spec.subnet: 10.6.1.0/24 overlaps with 10.6.0.0/16 of SpiderIPPool"},
		{"a router that another pool hands out", c.ofPools(ipam.PoolKind, "new", map[string]any{"ips": list("10.6.1.99"), "gateway": "10.6.1.5"}), false,
			"warning: spec.gateway: 10.6.1.5: SpiderIPPool %s-a hands it out"},
		{"S00003, an address in use is excluded", c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.1-10.6.1.9"), "excludeIPs": list("10.6.1.5")}), true,
			"spec.excludeIPs: 10.6.1.5: want it not excluded as long as pod default/web uses it"},
		{"I00002, an address in use is removed", c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.1-10.6.1.4")}), true,
			"spec.ips: 10.6.1.5: want it in ips as long as pod default/web uses it"},
		{"I00002, others are removed", c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.5")}), true, ""},
		{"I00004, S00004, what the subnet excludes", c.ofPools(ipam.PoolKind, "new", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.14-10.8.0.16")}), false,
			"spec.ips: 10.8.0.15: want addresses that SpiderSubnet %s-s has: its ips without its excludeIPs"},
		{"what the subnet hasn't", c.ofPools(ipam.PoolKind, "small", map[string]any{"subnet": "10.8.0.0/24", "ips": list("10.8.0.1-10.8.0.9", "10.8.0.99")}), true,
			"spec.ips: 10.8.0.99: want addresses that SpiderSubnet %s-s has"},
		{"S00004, excluded in the pool", c.ofPools(ipam.PoolKind, "new", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.14-10.8.0.16"), "excludeIPs": list("10.8.0.15")}), false, ""},
		{"an overlapping subnet", c.ofPools(ipam.SubnetKind, "new", map[string]any{"subnet": "10.8.5.0/24"}), false,
			"spec.subnet: 10.8.5.0/24 overlaps with 10.8.0.0/16 of SpiderSubnet %s-s: want another subnet, or another network"},
		{"I00002, a subnet without what a pool has", c.ofPools(ipam.SubnetKind, "s", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.1-10.8.0.5")}), true,
			"spec.ips: 10.8.0.6-10.8.0.9: want it in ips, and not in excludeIPs, as long as SpiderIPPool %s-small has it"},
		{"a subnet without what an application has to spare", excluding("10.8.0.17"), true, ""},
		{"a subnet without what an application's pod has", excluding("10.8.0.18"), true, "spec.excludeIPs: 10.8.0.18: want it not excluded as long as pod default/shop-1 uses it"},
		{"a subnet without what an application's pod has and what it has to spare", c.ofPools(ipam.SubnetKind, "s", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.1-10.8.0.16", "10.8.0.19-10.8.0.20")}), true,
			"spec.ips: 10.8.0.18: want it in ips as long as pod default/shop-1 uses it"},
		{"a subnet without what is kept for an application's pod", excluding("10.8.0.19"), true, "spec.excludeIPs: 10.8.0.19: want it not excluded as long as Deployment default/shop uses it"},
		{"a subnet without what a pod has straight from it", excluding("10.8.0.20"), true, "spec.excludeIPs: 10.8.0.20: want it not excluded as long as pod default/bare uses it"},
		{"I00001, a subnet that grows", c.ofPools(ipam.SubnetKind, "s", map[string]any{"subnet": "10.8.0.0/16", "ips": list("10.8.0.1-10.8.0.99")}), true, ""},
		{"a new subnet around a pool", c.ofPools(ipam.SubnetKind, "new", map[string]any{"ips": list("10.6.1.4-10.6.1.99")}), false,
			"warning: spec.ips: 10.6.1.1-10.6.1.3: SpiderIPPool %s-a has it, and hands it out no more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, warning := strings.CutPrefix(tt.want, "warning: ")
			if strings.Contains(want, "%") {
				want = fmt.Sprintf(want, c.namespace)
			}
			until(t, want, func() bool { // the webhook has the others from a cache
				refused, warnings := c.try(func() error {
					if !tt.update {
						return c.Create(t.Context(), tt.o.DeepCopy(), client.DryRunAll)
					}
					now := tt.o.DeepCopy()
					if err := c.Get(t.Context(), client.ObjectKeyFromObject(now), now); err != nil {
						t.Fatal(err)
					}
					now.Object["spec"] = tt.o.Object["spec"]
					return c.Update(t.Context(), now, client.DryRunAll)
				})
				if warning {
					return refused == "" && strings.Contains(strings.Join(warnings, "\n"), want)
				}
				return (refused == "") == (want == "") && strings.Contains(refused, want) && (want == "" || strings.Contains(refused, "admission webhook"))
			})
		})
	}
	t.Run("the others can't be read", func(t *testing.T) {
		h := &handler{reader: broken{c}}
		for _, o := range []*unstructured.Unstructured{pool, subnet} {
			changed := o.DeepCopy()
			changed.SetAnnotations(map[string]string{"a": "b"})
			response := h.Handle(t.Context(), review(t, admissionv1.Update, changed, o))
			if said := strings.Join(response.Warnings, "\n"); !response.Allowed || !strings.Contains(said, "not checked whether ") || !strings.Contains(said, ": no answer") {
				t.Errorf("%+v", response)
			}
		}
	})
}

// TestNoPoolIsStuck has a pool that became invalid (spiderpool #1203): what changes neither
// spec nor annotations goes through, and so does everything of one that is being deleted.
func TestNoPoolIsStuck(t *testing.T) {
	c := newCluster(t)
	c.make(t, c.ofPools(ipam.PoolKind, "a", map[string]any{"ips": list("10.6.1.1-10.6.1.9")}))
	o := c.ofPools(ipam.PoolKind, "b", map[string]any{"ips": list("10.6.1.9-10.6.1.1", "10.6.1.1-10.6.1.9"), "gateway": "10.6.1.5"})
	o.SetFinalizers([]string{"test.example/a", "test.example/b"})
	c.make(t, o)
	r := c.serve(t, nil)
	c.webhook(t, r.address)
	c.served(t)
	until(t, "a change is checked", func() bool {
		refused, _ := c.try(func() error {
			return c.Patch(t.Context(), o.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec": {"disable": true}}`)), client.DryRunAll)
		})
		return strings.Contains(refused, "want the lower address first")
	})
	for _, patch := range []string{`{"metadata": {"labels": {"a": "b"}}}`, `{"metadata": {"finalizers": ["test.example/b"]}}`} {
		if err := c.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Errorf("%s: %v", patch, err)
		}
	}
	if err := c.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, patch := range []string{`{"spec": {"disable": true}}`, `{"metadata": {"finalizers": null}}`} {
		if err := c.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

// TestGreatestPool has as much in every list as the schema allows: the API server's budget for
// rules is enough for it.
func TestGreatestPool(t *testing.T) {
	c := newCluster(t)
	many := func(n int, f func(i int) any) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	spec := map[string]any{
		"ipVersion": int64(6), "subnet": "fd00:6666:7777:8888:9999:aaaa:0000:0001/64", "gateway": "fd00:6666:7777:8888:ffff:ffff:ffff:ffff",
		"ips": many(1024, func(i int) any {
			return fmt.Sprintf("fd00:6666:7777:8888:9999:aaaa:%04x:0000-fd00:6666:7777:8888:9999:aaaa:%04[1]x:ffff", i)
		}),
		"excludeIPs": many(1024, func(i int) any {
			return fmt.Sprintf("fd00:6666:7777:8888:9999:aaaa:%04x:0001-fd00:6666:7777:8888:9999:aaaa:%04[1]x:000f", i)
		}),
		"routes": many(64, func(i int) any {
			return map[string]any{"dst": fmt.Sprintf("fd00:6666:7777:%04x:0000:0000:0000:0000/64", i), "gw": "fd00:6666:7777:8888:ffff:ffff:ffff:fffe"}
		}),
		"nodeName":      many(5000, func(i int) any { return fmt.Sprintf("node-%d.%s", i, strings.Repeat("a", 50)) }),
		"namespaceName": many(1024, func(i int) any { return fmt.Sprintf("namespace-%d-%s", i, strings.Repeat("a", 40)) }),
		"multusName":    many(1024, func(i int) any { return fmt.Sprintf("namespace-%d/network-%[1]d-%s", i, strings.Repeat("a", 40)) }),
	}
	o := c.ofPools(ipam.PoolKind, "great", spec)
	if refused, _ := c.dryRun(o); refused != "" {
		t.Errorf("%.2000s", refused)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if faults := ipam.Lint(ipam.PoolKind, text); len(faults) > 0 {
		t.Error(faults)
	}
	t.Logf("%d bytes", len(text))
}
