// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/catalog"
)

func TestNetworksSayTheSame(t *testing.T) {
	chart := rendered(t, read(t, chart+"/networks.yaml"))
	kustomize := kustomized(t, "../../deploy/kustomize/networks")
	want := configs(t, kustomize.networks)
	if len(want) != 3 {
		t.Errorf("%d networks, want the three usual ones", len(want))
	}
	if diff := cmp.Diff(want, configs(t, chart.networks)); diff != "" {
		t.Errorf("(-kustomize +chart):\n%s", diff)
	}
	for name, example := range examples(t) {
		for key, config := range configs(t, example.networks) {
			if diff := cmp.Diff(want[key], config); diff != "" {
				t.Errorf("%s (-kustomize +example):\n%s", name, diff)
			}
		}
	}
	for _, n := range kustomize.networks {
		list, err := libcni.ConfListFromBytes([]byte(n.Spec.Config))
		if err != nil || list.Name != n.Name {
			t.Fatalf("%s: %v", n.Name, err)
		}
		for _, p := range list.Plugins {
			ours, ok := catalog.Plugins[p.Network.Type]
			if !ok {
				continue
			}
			var raw map[string]json.RawMessage
			if err := json.Unmarshal(p.Bytes, &raw); err != nil {
				t.Fatal(err)
			}
			if _, err := ours.Load(raw); err != nil {
				t.Errorf("%s: %v", n.Name, err)
			}
		}
	}
}

// examples are the objects of each file in examples/.
func examples(t *testing.T) map[string]objects {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	found := map[string]objects{}
	for _, f := range files {
		found[filepath.Base(f)] = decode(t, read(t, f))
	}
	return found
}

// selection is an element of a pod's network annotations.
type selection struct {
	Name, Namespace, Interface string
	IPs                        []string
	Args                       struct{ IPs []string } `json:"cni-args"`
}

// selections returns the networks that an annotation of the example's pod selects.
func selections(t *testing.T, example objects, annotation string) []selection {
	t.Helper()
	text, ok := example.pods[0].Annotations[annotation]
	if !ok {
		return nil
	}
	var selected []selection
	if err := json.Unmarshal([]byte(text), &selected); err != nil {
		t.Fatalf("%s: %v", annotation, err)
	}
	return selected
}

// An example is complete: it contains the pod's networks, and the Service's pod.
func TestExamples(t *testing.T) {
	seen := map[string]string{}
	for name, example := range examples(t) {
		networks := configs(t, example.networks)
		if len(example.pods) != 1 || len(example.services) != 1 || len(networks) == 0 {
			t.Fatalf("%s: got %+v, want networks, a pod and a Service", name, example)
		}
		pod, service := example.pods[0], example.services[0]
		for _, key := range []string{"v1.multus-cni.io/default-network", "k8s.v1.cni.cncf.io/networks"} {
			for _, s := range selections(t, example, key) {
				if s.Namespace == "" {
					s.Namespace = pod.Namespace
				}
				if _, ok := networks[s.Namespace+"/"+s.Name]; !ok {
					t.Errorf("%s: no network %s/%s", name, s.Namespace, s.Name)
				}
				delete(networks, s.Namespace+"/"+s.Name)
				addresses := append(s.IPs, s.Args.IPs...)
				if len(addresses) != 2 {
					t.Errorf("%s: %v, want an address of each family", name, addresses)
				}
				for _, a := range addresses {
					if seen[a] != "" {
						t.Errorf("%s has an address of %s: %s", name, seen[a], a)
					}
					seen[a] = name
				}
			}
		}
		if len(networks) > 0 {
			t.Errorf("%s: nobody uses %v", name, networks)
		}
		container := pod.Spec.Containers[0]
		if service.Spec.Selector["app"] != pod.Labels["app"] || service.Spec.Ports[0].TargetPort != container.ReadinessProbe.HTTPGet.Port {
			t.Errorf("%s: the Service is not of the pod", name)
		}
	}
}
