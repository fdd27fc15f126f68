// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const chart = "../../deploy/helm/multihome"

// network is a NetworkAttachmentDefinition (github.com/k8snetworkplumbingwg/multi-net-spec).
type network struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Config string `json:"config"`
	} `json:"spec"`
}

// objects are the objects of a set of manifests.
type objects struct {
	daemonSets []appsv1.DaemonSet
	pods       []corev1.Pod
	services   []corev1.Service
	networks   []network
}

// decode reads manifests as the API server does with --validate=strict: a field that is
// unknown or given twice is an error.
func decode(t *testing.T, manifests string) objects {
	t.Helper()
	var found objects
	for _, text := range strings.Split("\n"+manifests, "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		var err error
		switch id := kind.APIVersion + " " + kind.Kind; id {
		case "apps/v1 DaemonSet":
			found.daemonSets, err = decodeInto(found.daemonSets, text)
		case "v1 Pod":
			found.pods, err = decodeInto(found.pods, text)
		case "v1 Service":
			found.services, err = decodeInto(found.services, text)
		case "k8s.cni.cncf.io/v1 NetworkAttachmentDefinition":
			found.networks, err = decodeInto(found.networks, text)
		case " ": // only comments
		default:
			err = fmt.Errorf("%q is none of what is expected", id)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
	}
	return found
}

func decodeInto[T any](all []T, text string) ([]T, error) {
	var one T
	err := yaml.UnmarshalStrict([]byte(text), &one)
	return append(all, one), err
}

// helmTemplate returns the output of `helm template --namespace kube-system` with
// values in YAML.
func helmTemplate(values string) (string, error) { return helmTemplateIn("kube-system", values) }

func helmTemplateIn(namespace, values string) (string, error) {
	c, err := loader.LoadDir(chart)
	if err != nil {
		return "", err
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return "", err
	}
	release := chartutil.ReleaseOptions{Name: "multihome", Namespace: namespace, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		texts = append(texts, files[name])
	}
	return strings.Join(texts, "\n---\n"), nil
}

// rendered returns the chart's objects with these values.
func rendered(t *testing.T, values string) objects {
	t.Helper()
	text, err := helmTemplate(values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// kustomized returns the objects of `kustomize build` of a directory.
func kustomized(t *testing.T, dir string) objects {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

// configs returns the configurations of networks, as values that can be compared, by
// namespace and name.
func configs(t *testing.T, networks []network) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, n := range networks {
		var config any
		if err := json.Unmarshal([]byte(n.Spec.Config), &config); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		found[n.Namespace+"/"+n.Name] = config
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
