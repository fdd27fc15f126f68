// SPDX-License-Identifier: Apache-2.0

package defaults

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/netconf"
)

var update = flag.Bool("update", false, "rewrite the goldens")

type status = v2beta1.SpiderCoordinatorStatus

// TestDistributions reads the objects that distributions make, and compares the status.
func TestDistributions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			spec, s := load(t, file)
			got := Discover(spec, s, status{}, 1)
			b, err := yaml.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(b) != string(want) {
				t.Errorf("got %s\nwant %s %v", b, want, err)
			}
			if again := Discover(spec, s, got, 1); !equality.Semantic.DeepEqual(again, got) {
				t.Errorf("a second time: %+v\nwant %+v", again, got)
			}
		})
	}
}

// load reads a spec and objects, and observes them.
func load(t *testing.T, file string) (netconf.ClusterCoordinator, Sources) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var in struct {
		Spec    netconf.ClusterCoordinator
		Objects []map[string]any
	}
	if err := yaml.Unmarshal(b, &in); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct{ kind, version string }{{"IPPool", "crd.projectcalico.org/v1"}, {"CiliumPodIPPool", "cilium.io/v2alpha1"}} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": k.version, "kind": k.kind}}
		l := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": k.version, "kind": k.kind + "List"}}
		scheme.AddKnownTypeWithName(u.GroupVersionKind(), u)
		scheme.AddKnownTypeWithName(l.GroupVersionKind(), l)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, o := range in.Objects {
		j, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(j); err != nil {
			t.Fatal(err)
		}
		builder = builder.WithObjects(u)
	}
	c := builder.Build()
	s := observe(t.Context(), c, c)
	if err := s.err(); err != nil {
		t.Fatal(err)
	}
	return in.Spec, s
}

func spec(kind string) netconf.ClusterCoordinator {
	return netconf.ClusterCoordinator{Coordinator: netconf.Coordinator{PodCIDRType: kind}}
}

func kubeadm(pods, services string) ConfigMap {
	return ConfigMap{Data: map[string]string{"ClusterConfiguration": "networking: {podSubnet: '" + pods + "', serviceSubnet: '" + services + "'}"}}
}

var (
	good        = Sources{Kubeadm: kubeadm("10.244.0.0/16", "10.96.0.0/12")}
	services1   = Objects{Items: []Object{{"kubernetes", []string{"10.96.0.0/12"}}}}
	ciliumPool1 = ConfigMap{Data: map[string]string{"ipam": "cluster-pool", "cluster-pool-ipv4-cidr": "10.0.0.0/8"}}
	calicoPool1 = Objects{Items: []Object{{"v4", []string{"192.168.0.0/16"}}}}
	errSource   = errors.New("forbidden")
)

// TestCases has the cases V00001 to V00011, and what else a list depends on.
func TestCases(t *testing.T) {
	before := func(kind, pods string) status {
		return status{PodCIDRType: kind, OverlayPodCIDR: []string{pods}, ServiceCIDR: []string{"10.96.0.0/12"}}
	}
	for _, c := range []struct {
		name           string
		spec           netconf.ClusterCoordinator
		sources        Sources
		last           status
		phase          string
		kind           string
		pods, services string // "" for an empty list
		says           string // in the condition's message
	}{
		{"V00001 auto, Cilium before Calico", spec("auto"), Sources{ServiceCIDRs: services1, Kubeadm: good.Kubeadm, Cilium: ciliumPool1, CalicoPools: calicoPool1}, status{}, "Synced", "cilium", "10.0.0.0/8", "10.96.0.0/12", "service CIDRs of ServiceCIDR kubernetes and ConfigMap kube-system/kubeadm-config; pod CIDRs of ConfigMap kube-system/cilium-config"},
		{"V00001 auto, Calico", spec("auto"), Sources{Kubeadm: good.Kubeadm, CalicoPools: calicoPool1}, status{}, "Synced", "calico", "192.168.0.0/16", "10.96.0.0/12", "Calico IPPool v4"},
		{"V00001 auto, neither", spec(""), good, status{}, "Synced", "cluster", "10.244.0.0/16", "10.96.0.0/12", "pod CIDRs of ConfigMap kube-system/kubeadm-config"},
		{"V00002 auto, no network of pods", spec("auto"), Sources{ServiceCIDRs: services1}, status{}, "Synced", "cluster", "", "10.96.0.0/12", "no pod CIDRs: no source has any"},
		{"V00003 calico", spec("calico"), Sources{ServiceCIDRs: services1, CalicoPools: calicoPool1}, status{}, "Synced", "calico", "192.168.0.0/16", "10.96.0.0/12", ""},
		{"V00003 calico, absent", spec("calico"), good, status{}, "NotReady", "calico", "", "10.96.0.0/12", "no pod CIDRs in Calico IPPool objects: fill spec.overlayPodCIDR"},
		{"V00004 cilium, absent", spec("cilium"), good, status{}, "NotReady", "cilium", "", "10.96.0.0/12", "no pod CIDRs in ConfigMap kube-system/cilium-config"},
		{"V00004 cilium, multi-pool without its kind", spec("cilium"), Sources{ServiceCIDRs: services1, Cilium: ConfigMap{Data: map[string]string{"ipam": "multi-pool"}}}, status{}, "NotReady", "cilium", "", "10.96.0.0/12", "no pod CIDRs in CiliumPodIPPool objects"},
		{"V00005 none", spec("none"), good, before("cluster", "10.244.0.0/16"), "Synced", "none", "", "10.96.0.0/12", "no pod CIDRs: spec.podCIDRType is none"},
		{"V00006 not ready: the last good list stays", spec("cilium"), good, before("calico", "192.168.0.0/16"), "NotReady", "cilium", "192.168.0.0/16", "10.96.0.0/12", "the list of before stays"},
		{"V00007 explicit lists win", netconf.ClusterCoordinator{Coordinator: netconf.Coordinator{PodCIDRType: "none"}, OverlayPodCIDR: []string{"10.1.2.3/16"}, ServiceCIDR: []string{"10.2.0.9"}}, Sources{ServiceCIDRs: Objects{Err: errSource}, Kubeadm: good.Kubeadm}, status{}, "Synced", "", "10.1.0.0/16", "10.2.0.9/32", "service CIDRs of spec.serviceCIDR; pod CIDRs of spec.overlayPodCIDR"},
		{"V00008 not ready says what helps", spec("cluster"), Sources{}, status{}, "NotReady", "cluster", "", "", "fill spec.serviceCIDR; no pod CIDRs in ConfigMap kube-system/kubeadm-config, arguments --cluster-cidr of kube-controller-manager, Node.spec.podCIDRs: fill spec.overlayPodCIDR"},
		{"V00009 kubeadm before arguments", spec("cluster"), Sources{Kubeadm: good.Kubeadm, ControllerManagers: Objects{Items: []Object{{"a", []string{"--cluster-cidr=10.1.0.0/16"}}}}}, status{}, "Synced", "cluster", "10.244.0.0/16", "10.96.0.0/12", ""},
		{"V00009 arguments, the last counts", spec("cluster"), Sources{ControllerManagers: Objects{Items: []Object{{"a", []string{"--cluster-cidr=10.9.0.0/16", "--service-cluster-ip-range", "10.3.0.0/16", "--cluster-cidr", "10.2.0.0/16"}}}}}, status{}, "Synced", "cluster", "10.2.0.0/16", "10.3.0.0/16", "arguments --cluster-cidr of kube-controller-manager"},
		{"V00010 ServiceCIDRs", spec("none"), Sources{ServiceCIDRs: Objects{Items: []Object{{"more", []string{"10.97.0.0/16"}}, {"kubernetes", []string{"fd00::/112", "10.96.0.0/16"}}}}}, status{}, "Synced", "none", "", "10.96.0.0/16 10.97.0.0/16 fd00::/112", "ServiceCIDR kubernetes, more"},
		{"V00011 neither kubeadm nor a controller manager", spec("cluster"), Sources{ServiceCIDRs: services1}, status{}, "NotReady", "cluster", "", "10.96.0.0/12", "no pod CIDRs in"},

		{"gone: lists stay", spec("cluster"), Sources{}, before("cluster", "10.244.0.0/16"), "NotReady", "cluster", "10.244.0.0/16", "10.96.0.0/12", "the list of before stays"},
		{"gone with auto: the list stays", spec("auto"), Sources{ServiceCIDRs: services1}, before("cluster", "10.244.0.0/16"), "NotReady", "cluster", "10.244.0.0/16", "10.96.0.0/12", "the list of before stays"},
		{"gone with auto: Cilium isn't the cluster's list", spec("auto"), good, before("cilium", "10.0.0.0/8"), "NotReady", "cilium", "10.0.0.0/8", "10.96.0.0/12", "no pod CIDRs in ConfigMap kube-system/cilium-config"},
		{"auto: Cilium is replaced by Calico", spec("auto"), Sources{Kubeadm: good.Kubeadm, CalicoPools: calicoPool1}, before("cilium", "10.0.0.0/8"), "Synced", "calico", "192.168.0.0/16", "10.96.0.0/12", ""},
		{"unreadable: the list stays", spec("none"), Sources{ServiceCIDRs: Objects{Err: errSource}, Kubeadm: kubeadm("", "10.7.0.0/16")}, before("", "10.0.0.0/8"), "NotReady", "none", "", "10.96.0.0/12", "ServiceCIDR objects: forbidden"},
		{"unreadable at first: what the others say", spec("none"), Sources{ServiceCIDRs: Objects{Err: errSource}, Kubeadm: kubeadm("", "10.7.0.0/16")}, status{}, "NotReady", "none", "", "10.7.0.0/16", "service CIDRs of ConfigMap kube-system/kubeadm-config"},
		{"unreadable: auto doesn't guess", spec("auto"), Sources{ServiceCIDRs: services1, Kubeadm: good.Kubeadm, Cilium: ConfigMap{Err: errSource}}, before("cilium", "10.0.0.0/8"), "NotReady", "cilium", "10.0.0.0/8", "10.96.0.0/12", "ConfigMap kube-system/cilium-config: forbidden"},
		{"bad text names the value", spec("cluster"), Sources{ServiceCIDRs: services1, Kubeadm: kubeadm("10.244.0.0", "10.96.0.0/12,x")}, status{}, "NotReady", "cluster", "10.244.0.0/32", "10.96.0.0/12", `ConfigMap kube-system/kubeadm-config: "x": want a CIDR`},
		{"another mode of Cilium", spec("auto"), Sources{ServiceCIDRs: services1, Cilium: ConfigMap{Data: map[string]string{"ipam": "eni"}}}, status{}, "NotReady", "cilium", "", "10.96.0.0/12", `key ipam: "eni": want one of cluster-pool, kubernetes, multi-pool`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Discover(c.spec, c.sources, c.last, 7)
			ready := meta.FindStatusCondition(got.Conditions, v2beta1.Ready)
			if got.Phase != c.phase || got.PodCIDRType != c.kind ||
				strings.Join(got.OverlayPodCIDR, " ") != c.pods || strings.Join(got.ServiceCIDR, " ") != c.services {
				t.Errorf("got %+v", got)
			}
			if !strings.Contains(ready.Message, c.says) || ready.ObservedGeneration != 7 ||
				(ready.Status == metav1.ConditionTrue) != (c.phase == v2beta1.Synced) || (got.Reason == "") != (c.phase == v2beta1.Synced) {
				t.Errorf("condition %+v, want %q; reason %q", ready, c.says, got.Reason)
			}
		})
	}
}

// TestCondition shows that other conditions and the time of the last change stay.
func TestCondition(t *testing.T) {
	then := metav1.Unix(1, 0)
	last := status{Conditions: []metav1.Condition{{Type: "Other"}, {Type: v2beta1.Ready, Status: metav1.ConditionTrue, LastTransitionTime: then}}}
	if got := Discover(spec("none"), good, last, 1); len(got.Conditions) != 2 || got.Conditions[0].Type != "Other" || got.Conditions[1].LastTransitionTime != then {
		t.Errorf("got %+v", got.Conditions)
	}
	if got := Discover(spec("none"), Sources{}, last, 1); !got.Conditions[1].LastTransitionTime.IsZero() {
		t.Errorf("got %+v, want no time: the status changed", got.Conditions)
	}
}

// TestJoin compares a list of neighbours with the addresses that it has.
func TestJoin(t *testing.T) {
	var in []netip.Prefix
	for i := range 256 {
		in = append(in, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(255 - i), 0}), 24))
	}
	if got := join(in); len(got) != 1 || got[0].String() != "10.42.0.0/16" {
		t.Errorf("got %v", got)
	}
	in = slices.Delete(in, 100, 101)
	if got := join(in); len(got) != 8 {
		t.Errorf("got %v, want 8: all but one /24 of a /16", got)
	}
}

// FuzzDiscover shows that no text panics, that lists are canonical, and that the same
// sources give the same status.
func FuzzDiscover(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8,fd00::/64", "networking: {podSubnet: 10.0.0.0/8}", "--cluster-cidr 10.0.0.0/8", "::ffff:10.0.0.0/104", "0/0", "fe80::1%eth0", "networking: [1]", "a: &a [*a]"} {
		f.Add(text, "auto", "cluster-pool")
	}
	f.Fuzz(func(t *testing.T, text, kind, ipam string) {
		o := Objects{Items: []Object{{text, []string{text}}, {"--cluster-cidr", []string{"--cluster-cidr", text}}}}
		s := Sources{ServiceCIDRs: o, Kubeadm: ConfigMap{Data: map[string]string{"ClusterConfiguration": text}}, ControllerManagers: o,
			APIServers: o, Nodes: o, CiliumPools: o, Cilium: ConfigMap{Data: map[string]string{"ipam": ipam, "cluster-pool-ipv4-cidr": text}}}
		for _, kind := range []string{kind, "cluster", "cilium"} {
			got := Discover(spec(kind), s, status{}, 1)
			for _, list := range [][]string{got.ServiceCIDR, got.OverlayPodCIDR} {
				for i, c := range list {
					p, err := netip.ParsePrefix(c)
					if err != nil || p != p.Masked() || p.String() != c || p.Bits() == 0 {
						t.Errorf("%q isn't canonical", c)
					}
					if i > 0 && netip.MustParsePrefix(list[i-1]).Compare(p) >= 0 {
						t.Errorf("not in order: %v", list)
					}
				}
			}
			if n := len(meta.FindStatusCondition(got.Conditions, v2beta1.Ready).Message); n > 32768 {
				t.Errorf("a message of %d bytes: the API server takes 32768", n)
			}
			if again := Discover(spec(kind), s, got, 1); !equality.Semantic.DeepEqual(again, got) {
				t.Errorf("a second time %+v, want %+v", again, got)
			}
		}
	})
}
