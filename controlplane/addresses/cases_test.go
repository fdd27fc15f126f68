// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// v4 and v6 return the spec of a pool of 10.N.0.0/16 or fd00:N::/64.
func v4(n int, ips string, change ...func(*ipam.PoolSpec)) ipam.PoolSpec {
	return spec(fmt.Sprintf("10.%d.0.0/16", n), strings.Fields(ips), change)
}

func v6(n int, ips string, change ...func(*ipam.PoolSpec)) ipam.PoolSpec {
	return spec(fmt.Sprintf("fd00:%d::/64", n), strings.Fields(ips), change)
}

func spec(subnet string, ips []string, change []func(*ipam.PoolSpec)) ipam.PoolSpec {
	s := ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet, IPs: ips}}
	for _, f := range change {
		f(&s)
	}
	return s
}

func labels(key, value string) *ipam.Selector {
	return &ipam.Selector{MatchLabels: map[string]string{key: value}}
}

// TestSelection: which addresses a pod gets, or why it gets none. The node is node1, zone a.
func TestSelection(t *testing.T) {
	const ippool, ippools = ipam.IPPoolAnnotation, ipam.IPPoolsAnnotation
	one := func(name string, s ipam.PoolSpec) map[string]ipam.PoolSpec { return map[string]ipam.PoolSpec{name: s} }
	abc := map[string]ipam.PoolSpec{"a": v4(1, "10.1.0.5"), "b": v4(2, "10.2.0.5"), "c": v4(3, "10.3.0.5")}
	dual := map[string]ipam.PoolSpec{"a": v4(1, "10.1.0.5"), "b": v6(2, "fd00:2::5")}
	affine := func(change func(*ipam.PoolSpec)) map[string]ipam.PoolSpec {
		return map[string]ipam.PoolSpec{"a": v4(1, "10.1.0.5", change)}
	}
	fromA := `,"default_ipv4_ippool":["a"]`
	for _, x := range []struct {
		name        string
		pools       map[string]ipam.PoolSpec
		keys        string // of the network's ipam
		networks    string // default: net
		namespace   map[string]string
		annotations map[string]string
		want, waits string
	}{
		{name: "A00003: an annotation that isn't JSON", pools: abc, annotations: map[string]string{ippool: `{"ipv4":`}, waits: "annotation ipam.spidernet.io/ippool of the pod"},
		{name: "A00004: the pod's pool, not the namespace's or the network's", pools: abc, keys: fromA, namespace: map[string]string{ipam.DefaultIPv4Annotation: `["b"]`},
			annotations: map[string]string{ippool: `{"ipv4":["c"]}`}, want: "net1 10.3.0.5/16"},
		{name: "A00004: the namespace's pool, not the network's", pools: abc, keys: fromA, namespace: map[string]string{ipam.DefaultIPv4Annotation: `["b"]`}, want: "net1 10.2.0.5/16"},
		{name: "A00004: the network's pool", pools: abc, keys: fromA, want: "net1 10.1.0.5/16"},
		{name: "A00005: ippools, not ippool", pools: abc, annotations: map[string]string{ippool: `{"ipv4":["a"]}`, ippools: `[{"interface":"net1","ipv4":["b"]}]`}, want: "net1 10.2.0.5/16"},
		{name: "A00006: the namespace's pool, not a default one", namespace: map[string]string{ipam.DefaultIPv4Annotation: `["b"]`},
			pools: map[string]ipam.PoolSpec{"a": v4(1, "10.1.0.5", func(s *ipam.PoolSpec) { s.Default = ptr.To(true) }), "b": v4(2, "10.2.0.5")}, want: "net1 10.2.0.5/16"},
		{name: "A00006: a default pool", pools: affine(func(s *ipam.PoolSpec) { s.Default = ptr.To(true) }), want: "net1 10.1.0.5/16"},
		{name: "A00006: a default pool of the other family, for another network", want: "net1 10.1.0.5/16", pools: map[string]ipam.PoolSpec{
			"a": v4(1, "10.1.0.5", func(s *ipam.PoolSpec) { s.Default, s.MultusName = ptr.To(true), []string{"NAMESPACE/net"} }),
			"b": v6(2, "fd00:2::5", func(s *ipam.PoolSpec) { s.Default, s.MultusName = ptr.To(true), []string{"NAMESPACE/other"} }),
		}},
		{name: "A00006: no pool is a default one", pools: abc, waits: "no pool for net1"},
		{name: "A00007: a pattern of the namespace's annotation", pools: map[string]ipam.PoolSpec{"x-1": v4(1, "10.1.0.5"), "y-1": v4(2, "10.2.0.5")},
			namespace: map[string]string{ipam.DefaultIPv4Annotation: `["y-*"]`}, want: "net1 10.2.0.5/16"},
		{name: "A00015: a pattern of ippools", pools: map[string]ipam.PoolSpec{"x-1": v4(1, "10.1.0.5"), "y-1": v4(2, "10.2.0.5")},
			annotations: map[string]string{ippools: `[{"ipv4":["lost"]},{"interface":"net1","ipv4":["y?1"]}]`}, waits: "interface"},
		{name: "A00015: a pattern of ippools, by the NIC's name", pools: map[string]ipam.PoolSpec{"x-1": v4(1, "10.1.0.5"), "y-1": v4(2, "10.2.0.5")},
			annotations: map[string]string{ippools: `[{"interface":"net1","ipv4":["y?1"]}]`}, want: "net1 10.2.0.5/16"},
		{name: "A00015: a pattern of ippool", pools: map[string]ipam.PoolSpec{"x-1": v4(1, "10.1.0.5"), "y-1": v4(2, "10.2.0.5")},
			annotations: map[string]string{ippool: `{"ipv4":["[yz]-*"]}`}, want: "net1 10.2.0.5/16"},
		{name: "A00013: two NICs, and ippools lists one", pools: abc, networks: "net,net", annotations: map[string]string{ippools: `[{"interface":"net1","ipv4":["a"]}]`},
			waits: "it has no entry for net2, only for net1"},
		{name: "A00014: ippools lists a NIC twice", pools: abc, annotations: map[string]string{ippools: `[{"interface":"net1","ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]`},
			waits: "interface net1 is in entries 1 and 2: want it once"},
		{name: "A00012: the default route by a NIC that isn't there", pools: abc, keys: fromA, annotations: map[string]string{ipam.DefaultRouteNICAnnotation: "net2"},
			waits: "default-route-nic of the pod: \"net2\": want one of the pod's NICs: eth0, net1"},
		{name: "E00001: IPv4", pools: dual, annotations: map[string]string{ippool: `{"ipv4":["a"]}`}, want: "net1 10.1.0.5/16"},
		{name: "E00001: IPv6", pools: dual, annotations: map[string]string{ippool: `{"ipv6":["b"]}`}, want: "net1 fd00:2::5/64"},
		{name: "E00001: dual", pools: dual, annotations: map[string]string{ippool: `{"ipv4":["a"],"ipv6":["b"]}`}, want: "net1 10.1.0.5/16 fd00:2::5/64"},
		{name: "E00009: a dual network, IPv4 in the annotation", pools: dual, keys: `,"default_ipv4_ippool":["a"],"default_ipv6_ippool":["b"]`,
			annotations: map[string]string{ippool: `{"ipv4":["a"]}`}, want: "net1 10.1.0.5/16"},
		{name: "E00010: a dual network, IPv6 in the annotation", pools: dual, keys: `,"default_ipv4_ippool":["a"],"default_ipv6_ippool":["b"]`,
			annotations: map[string]string{ippool: `{"ipv6":["b"]}`}, want: "net1 fd00:2::5/64"},
		{name: "E00007: a pod with many annotations", pools: abc, keys: fromA, annotations: map[string]string{"long": strings.Repeat("x", 200_000)}, want: "net1 10.1.0.5/16"},
		{name: "L00001: the node matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NodeAffinity = labels("zone", "a") }), want: "net1 10.1.0.5/16"},
		{name: "L00002: the node doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NodeAffinity = labels("zone", "b") }), waits: "pool a: "},
		{name: "L00003: the namespace matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NamespaceAffinity = labels("team", "red") }), want: "net1 10.1.0.5/16"},
		{name: "L00004: the namespace doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NamespaceAffinity = labels("team", "blue") }), waits: "pool a: "},
		{name: "L00005: the pod matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.PodAffinity = labels("app", "p") }), want: "net1 10.1.0.5/16"},
		{name: "L00006: the pod doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.PodAffinity = labels("app", "q") }), waits: "pool a: "},
		{name: "L00009: several pools of a namespace", pools: abc, networks: "net,net,net", namespace: map[string]string{ipam.DefaultIPv4Annotation: `["c","a","b"]`},
			want: "net1 10.3.0.5/16, net2 10.1.0.5/16, net3 10.2.0.5/16"},
		{name: "D00009: multusName matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.MultusName = []string{"net"} }), want: "net1 10.1.0.5/16"},
		{name: "D00010: multusName doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.MultusName = []string{"other"} }), waits: "pool a: "},
		{name: "D00011: nodeName matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NodeName = []string{"node1"} }), want: "net1 10.1.0.5/16"},
		{name: "D00012: nodeName doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NodeName = []string{"node2"} }), waits: "pool a: "},
		{name: "D00013: nodeName, not nodeAffinity", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NodeName, s.NodeAffinity = []string{"node1"}, labels("zone", "b") }), want: "net1 10.1.0.5/16"},
		{name: "D00014: namespaceName matches", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NamespaceName = []string{"NAMESPACE"} }), want: "net1 10.1.0.5/16"},
		{name: "D00015: namespaceName doesn't match", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.NamespaceName = []string{"other"} }), waits: "pool a: "},
		{name: "D00016: namespaceName, not namespaceAffinity", keys: fromA,
			pools: affine(func(s *ipam.PoolSpec) {
				s.NamespaceName, s.NamespaceAffinity = []string{"NAMESPACE"}, labels("team", "blue")
			}), want: "net1 10.1.0.5/16"},
		{name: "D00005: a disabled pool", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.Disable = ptr.To(true) }), waits: "pool a: spec.disable is true"},
		{name: "X10: the pools in their order", keys: `,"default_ipv4_ippool":["c","b","a"]`, pools: abc, networks: "net,net,net",
			want: "net1 10.3.0.5/16, net2 10.2.0.5/16, net3 10.1.0.5/16"},
		{name: "X11, report 3: two NICs on one pool", pools: one("a", v4(1, "10.1.0.5-10.1.0.6")), networks: "net,net", annotations: map[string]string{ippools: `[{"ipv4":["x"]},{"ipv4":["a"]},{"ipv4":["a"]}]`},
			want: "net1 10.1.0.5/16, net2 10.1.0.6/16"},
		{name: "X12: multusName without a namespace, in another namespace's pod", keys: fromA, pools: affine(func(s *ipam.PoolSpec) { s.MultusName = []string{"NAMESPACE/net"} }), want: "net1 10.1.0.5/16"},
		{name: "X13: an IPv6 pool of a /64", keys: `,"default_ipv6_ippool":["a"]`, pools: one("a", v6(1, "fd00:1::-fd00:1::ffff:ffff:ffff:ffff")), networks: "net,net",
			want: "net1 fd00:1::1/64, net2 fd00:1::2/64"},
		{name: "X16: the gateway is never handed out", keys: fromA, networks: "net,net", pools: one("a", v4(1, "10.1.0.1-10.1.0.3", func(s *ipam.PoolSpec) {
			s.Gateway, s.ExcludeIPs = ptr.To("10.1.0.1"), []string{"10.1.0.1"}
		})), want: "net1 10.1.0.2/16, net2 10.1.0.3/16"},
		{name: "S00001: an excluded address is never handed out", keys: fromA, networks: "net,net", pools: one("a", v4(1, "10.1.0.5-10.1.0.6", func(s *ipam.PoolSpec) {
			s.ExcludeIPs = []string{"10.1.0.5"}
		})), waits: "no IPv4 address for net2: pool a: 1 of 1 addresses are in use"},
		{name: "no such network", networks: "net,later", pools: abc, keys: fromA, waits: "later of the pod's annotations isn't there (yet)"},
		{name: "equal CIDRs in two VLANs", networks: "net,net", pools: map[string]ipam.PoolSpec{
			"a": v4(1, "10.1.0.5", func(s *ipam.PoolSpec) { s.VLAN = ptr.To(100) }), "b": v4(1, "10.1.0.5", func(s *ipam.PoolSpec) { s.VLAN = ptr.To(200) }),
		}, annotations: map[string]string{ippools: `[{"interface":"net1","ipv4":["a"]},{"interface":"net2","ipv4":["b"]}]`}, want: "net1 10.1.0.5/16, net2 10.1.0.5/16"},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t)
			b.nodeIn("node1", "a")
			b.annotate(x.namespace)
			for name, s := range x.pools {
				for _, list := range []*[]string{&s.NamespaceName, &s.MultusName} {
					for i, text := range *list {
						(*list)[i] = strings.ReplaceAll(text, "NAMESPACE", b.NS)
					}
				}
				b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s})
			}
			b.Network("net", x.keys)
			b.start(nil)
			all := networks("net")
			if x.networks != "" {
				all = networks(x.networks)
			}
			for k, v := range x.annotations {
				all[k] = v
			}
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "p", Annotations: all, Labels: map[string]string{"app": "p"}},
				Spec: corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c", Image: "i"}, {Name: "d", Image: "i"}},
					TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
			}
			b.Create(p)
			if x.waits != "" {
				b.waits("p", x.waits)
				b.warned("p", x.waits)
				if n := b.count(); n != 0 {
					t.Errorf("%d addresses are taken, want none", n)
				}
				return
			}
			if got := b.ready("p"); got != x.want {
				t.Errorf("it has %s, want %s", got, x.want)
			}
		})
	}
}

func (b *bench) nodeIn(name, zone string) {
	b.Helper()
	b.Node(name)
	b.label(name, zone)
}

// label puts a node into a zone.
func (b *bench) label(name, zone string) {
	b.Helper()
	n := &corev1.Node{}
	n.Name = name
	if err := b.C.Patch(b.Context(), n, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"zone":%q}}}`, zone))); err != nil {
		b.Fatal(err)
	}
}

// annotate writes annotations of the namespace, and its label.
func (b *bench) annotate(annotations map[string]string) {
	b.Helper()
	ns := &corev1.Namespace{}
	b.Eventually("the namespace", func() error {
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: b.NS}, ns); err != nil {
			return err
		}
		ns.Annotations = annotations
		ns.Labels["team"] = "red"
		return b.C.Update(b.Context(), ns)
	})
}

// warned waits for an event about a pod.
func (b *bench) warned(pod, want string) {
	b.Helper()
	b.Eventually("an event about "+pod, func() error {
		var events corev1.EventList
		if err := b.C.List(b.Context(), &events, client.InNamespace(b.NS)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == pod && e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, want) {
				return nil
			}
		}
		return fmt.Errorf("%d events, none says %q", len(events.Items), want)
	})
}

// TestA00016: the pool of the second NIC is empty: the pod waits, and however often it is
// tried again, the pool of the first loses no address.
func TestA00016(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5")
	empty := b.pool("b", "10.2.0.0/16", "10.2.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.Network("b", `,"default_ipv4_ippool":["b"]`)
	b.start(nil)
	b.pod("holder", "node1", networks("b"))
	b.ready("holder")
	b.pod("p", "node1", networks("a,b"))
	b.waits("p", "no IPv4 address for net2: pool b: 1 of 1 addresses are in use")
	for i := range 10 { // the pool is another one that has nothing: it is tried again
		b.change(empty, func() { empty.Spec.ExcludeIPs = []string{fmt.Sprintf("10.2.1.%d", i)} })
		time.Sleep(50 * time.Millisecond)
		if n := b.count(); n != 1 {
			t.Fatalf("%d addresses are taken, want that of holder alone", n)
		}
	}
	b.pod("q", "node1", networks("a"))
	if got := b.ready("q"); got != "net1 10.1.0.5/16" {
		t.Errorf("q has %s", got)
	}
	b.change(empty, func() { empty.Spec.IPs = []string{"10.2.0.5-10.2.0.6"} })
	b.waits("p", "no IPv4 address for net1: pool a: 1 of 1 addresses are in use")
}

// change updates a pool, and waits until the controller has seen that.
func (b *bench) change(p *v2beta1.SpiderIPPool, f func()) {
	b.Helper()
	b.Eventually("the change of pool "+p.Name, func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		f()
		return b.C.Update(b.Context(), p)
	})
	changed := p.Generation
	b.Eventually("the controller, which hears of the change of pool "+p.Name, func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if len(p.Status.Conditions) == 0 || p.Status.Conditions[0].ObservedGeneration < changed {
			return fmt.Errorf("the change is generation %d, and the conditions are %v", changed, p.Status.Conditions)
		}
		return nil
	})
}

// TestE00008: a pool that has no address left: the pod waits, an event says so, and it gets
// one when there is one: by a larger pool, or by a pod that goes.
func TestE00008(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	p := b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.pod("first", "node1", networks("a"))
	b.ready("first")
	b.pod("second", "node1", networks("a"))
	b.waits("second", "pool a: 1 of 1 addresses are in use")
	b.warned("second", "no IPv4 address for net1: pool a: 1 of 1 addresses are in use")
	b.change(p, func() { p.Spec.IPs = []string{"10.1.0.5-10.1.0.6"} })
	if got := b.ready("second"); got != "net1 10.1.0.6/16" {
		t.Errorf("second has %s", got)
	}
}

// TestD00004: a pool in use that is deleted stays until its last address is back, and hands
// out nothing.
func TestD00004(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	p := b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.6")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	first := b.pod("first", "node1", networks("a"))
	b.ready("first")
	b.Eventually("the finalizer", func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if len(p.Finalizers) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	b.Delete(p)
	b.Eventually("the deletion in the controller's cache", func() error {
		now := &v2beta1.SpiderIPPool{}
		if err := b.ctl.Cache.Get(b.Context(), client.ObjectKeyFromObject(p), now); err != nil {
			return err
		}
		if now.DeletionTimestamp == nil {
			return errors.New("it isn't there yet")
		}
		return b.ctl.OnPools(b.Context())
	})
	b.pod("second", "node1", networks("a"))
	b.waits("second", "pool a: it is being deleted: it is gone when its last address is back")
	b.Delete(first)
	time.Sleep(300 * time.Millisecond)
	if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		t.Fatalf("the pool is gone before its address is back: %v", err)
	}
	b.withdraw("first")
	b.Eventually("the pool's end", func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), p); err == nil {
			return fmt.Errorf("it is there, with finalizers %v", p.Finalizers)
		}
		return nil
	})
	b.waits("second", `no IPv4 pool for net1 (default_ipv4_ippool of NetworkAttachmentDefinition `+b.NS+`/a): pool a: `)
}

// TestD00005: a disabled pool hands out nothing, and takes back.
func TestD00005(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	p := b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	first := b.pod("first", "node1", networks("a"))
	b.ready("first")
	b.change(p, func() { p.Spec.Disable = ptr.To(true) })
	b.pod("second", "node1", networks("a"))
	b.waits("second", "pool a: spec.disable is true")
	b.Delete(first)
	b.withdraw("first")
	b.Eventually("the address", func() error {
		if n := b.count(); n > 0 {
			return fmt.Errorf("%d are out", n)
		}
		return nil
	})
	b.change(p, func() { p.Spec.Disable = nil })
	b.ready("second")
}

// TestS00001: a reserved address is never handed out, and is when it isn't reserved any more.
// I00005: the subnet's gateway changes, and a pod that has its addresses keeps its gateway.
func TestS00001(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	reserved := &v2beta1.SpiderReservedIP{ObjectMeta: metav1.ObjectMeta{Name: "printer"}, Spec: ipam.ReservedSpec{IPs: []string{"10.1.0.5"}}}
	subnet := &v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: ipam.SubnetSpec{
		Subnet: "10.1.0.0/16", IPs: []string{"10.1.0.1-10.1.0.9"}, ExcludeIPs: []string{"10.1.0.7", "10.1.0.1"}, Gateway: ptr.To("10.1.0.1"),
	}}
	b.Create(reserved, subnet)
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.7")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.pod("first", "node1", networks("a"))
	if got := b.ready("first"); got != "net1 10.1.0.6/16" {
		t.Errorf("first has %s", got)
	}
	b.pod("second", "node1", networks("a"))
	b.waits("second", "pool a: 1 of 1 addresses are in use")
	if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(subnet), subnet); err != nil {
		t.Fatal(err)
	}
	subnet.Spec.Gateway, subnet.Spec.ExcludeIPs = ptr.To("10.1.0.2"), []string{"10.1.0.7", "10.1.0.2"} // S00004: .7 never
	if err := b.C.Update(b.Context(), subnet); err != nil {
		t.Fatal(err)
	}
	b.Delete(reserved)
	if got := b.ready("second"); got != "net1 10.1.0.5/16" {
		t.Errorf("second has %s", got)
	}
	for _, name := range []string{"first", "second"} {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
			t.Fatal(err)
		}
		if got := c.Status.Current.IPs[0].IPv4Gateway; got != "10.1.0.1" {
			t.Errorf("%s has gateway %s, want 10.1.0.1, as the pool inherited it (I00005)", name, got)
		}
	}
}

// TestS00003: an address in use that is reserved afterwards stays its pod's.
func TestS00003(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	p := b.pod("first", "node1", networks("a"))
	b.ready("first")
	b.Create(&v2beta1.SpiderReservedIP{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Spec: ipam.ReservedSpec{IPs: []string{"10.1.0.5"}}})
	b.pod("second", "node1", networks("a"))
	b.waits("second", "pool a: nobody can get 10.1.0.5: they are reserved")
	if got := b.ready("first"); got != "net1 10.1.0.5/16" {
		t.Errorf("first has %s", got)
	}
	b.Delete(p)
	b.withdraw("first")
	b.Eventually("the address", func() error {
		if n := b.count(); n > 0 {
			return fmt.Errorf("%d are out", n)
		}
		return nil
	})
}

// TestLaterNetwork: the NetworkAttachmentDefinition comes after the pod.
func TestLaterNetwork(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.start(nil)
	b.pod("p", "node1", networks("a"))
	b.waits("p", "NetworkAttachmentDefinition "+b.NS+"/a of the pod's annotations isn't there (yet)")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	if got := b.ready("p"); got != "net1 10.1.0.5/16" {
		t.Errorf("p has %s", got)
	}
}

// TestLaterWords: a pod waits for want of a pool, and then its namespace, its network or its node
// says something else: it gets an address, and is not made anew. A pod that has one keeps it.
func TestLaterWords(t *testing.T) {
	fromA := `,"default_ipv4_ippool":["a"]`
	for _, x := range []struct {
		name, keys string // of the network
		pool       func(*ipam.PoolSpec)
		waits      string
		then       func(b *bench)
	}{
		{"the namespace names the pool", "", nil, "no pool for net1", func(b *bench) { b.annotate(map[string]string{ipam.DefaultIPv4Annotation: `["a"]`}) }},
		{"the network names the pool", `,"default_ipv4_ippool":["b"]`, nil, "pool b: there is no such SpiderIPPool", func(b *bench) { b.rewrite("net", fromA) }},
		{"the namespace has the label", fromA, func(s *ipam.PoolSpec) { s.NamespaceAffinity = labels("team", "red") }, "spec.namespaceAffinity wants team=red",
			func(b *bench) { b.annotate(nil) }},
		{"the node has the label", fromA, func(s *ipam.PoolSpec) { s.NodeAffinity = labels("zone", "a") }, "spec.nodeAffinity wants zone=a", func(b *bench) { b.label("node1", "a") }},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t)
			b.Node("node1")
			spec := v4(1, "10.1.0.5")
			if x.pool != nil {
				x.pool(&spec)
			}
			b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: spec})
			b.Network("net", x.keys)
			b.start(nil)
			b.pod("p", "node1", networks("net"))
			b.waits("p", x.waits)
			x.then(b)
			if got := b.ready("p"); got != "net1 10.1.0.5/16" {
				t.Errorf("it has %s", got)
			}
			b.rewrite("net", `,"default_ipv4_ippool":["c"]`)
			b.annotate(map[string]string{ipam.DefaultIPv4Annotation: `["c"]`})
			b.pod("q", "node1", networks("net"))
			b.waits("q", "pool c: there is no such SpiderIPPool")
			if got := b.ready("p"); got != "net1 10.1.0.5/16" {
				t.Errorf("it has %s in the end", got)
			}
		})
	}
}

// rewrite gives a network other keys of its IPAM.
func (b *bench) rewrite(name, keys string) {
	b.Helper()
	n := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name}}
	config := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool"%s}}]}`, name, keys)
	if err := b.C.Patch(b.Context(), n, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"config":%q}}`, config))); err != nil {
		b.Fatal(err)
	}
}

// TestWants: NICs that only the node knows of: of a pod without any of ours, and further ones
// of a pod that has its addresses.
func TestWants(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	p, q := b.pod("p", "node1", nil), b.pod("q", "node1", networks("a"))
	b.ready("q")
	want := func(p *corev1.Pod, nic string) v1alpha1.Want {
		return v1alpha1.Want{Namespace: b.NS, Pod: p.Name, PodUID: string(p.UID), Interface: nic, Network: "lan", DefaultIPv4IPPool: []string{"a"}}
	}
	b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Wants = []v1alpha1.Want{want(p, "eth0"), want(q, "net7")} })
	if got := b.ready("p"); !regexp.MustCompile(`^eth0 10\.1\.0\.[67]/16$`).MatchString(got) {
		t.Errorf("p has %s", got)
	}
	b.Eventually("q's second NIC", func() error {
		if got := b.ready("q"); !regexp.MustCompile(`^net1 10\.1\.0\.5/16, net7 10\.1\.0\.[67]/16$`).MatchString(got) {
			return fmt.Errorf("q has %s", got)
		}
		return nil
	})
	b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) { s.Wants = nil })
	b.Delete(p)
	b.Delete(q)
	b.withdraw("p")
	b.withdraw("q")
	b.free()
}

// TestRenamedNetwork: the configuration of a network gets another name while a pod runs. The pod's next
// sandbox asks for the NIC under that name, and has the pod's address. A network with other pools isn't the
// same under another name.
func TestRenamedNetwork(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5-10.1.0.9")
	b.pool("b", "10.2.0.0/16", "10.2.0.5-10.2.0.9")
	b.Network("a", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	p := b.pod("p", "node1", networks("a"))
	b.ready("p")
	asks := func(network, pool, want string) {
		t.Helper()
		b.reports("node1", func(s *v1alpha1.NodeSpoolStatus) {
			s.Wants = []v1alpha1.Want{{Namespace: b.NS, Pod: p.Name, PodUID: string(p.UID), Interface: "net1", Network: network, DefaultIPv4IPPool: []string{pool}}}
		})
		b.Eventually("net1 in network "+want, func() error {
			claim := &v2beta1.SpiderEndpoint{}
			if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(p), claim); err != nil {
				return err
			}
			if nics := claim.Spec.NICs; len(nics) != 1 || nics[0].Network != want {
				return fmt.Errorf("%+v", nics)
			}
			return nil
		})
		if got := b.ready("p"); got != "net1 10.1.0.5/16" {
			t.Errorf("p has %s", got)
		}
	}
	asks("renamed", "a", "renamed")
	asks("other", "b", "renamed")
	asks("again", "a", "again")
}

// reports writes what the agent of a node says.
func (b *bench) reports(node string, f func(*v1alpha1.NodeSpoolStatus)) {
	b.Helper()
	b.Eventually("the report of "+node, func() error {
		s := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: node}}
		err := b.C.Get(b.Context(), client.ObjectKeyFromObject(s), s)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err != nil {
			if err := b.C.Create(b.Context(), s); err != nil {
				return err
			}
		}
		s.Status.BootID, s.Status.MachineID = "boot", "machine-of-"+node
		f(&s.Status)
		return b.C.Status().Update(b.Context(), s)
	})
}
