// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/multihome/multihome/deploy"
)

// only returns the one DaemonSet of a rendering that has no other workload.
func only(t *testing.T, o objects) appsv1.DaemonSet {
	t.Helper()
	if len(o.daemonSets) != 1 || len(o.pods)+len(o.services)+len(o.networks) > 0 {
		t.Fatalf("got %+v, want a DaemonSet", o)
	}
	return o.daemonSets[0]
}

func TestChartAndBaseSayTheSame(t *testing.T) {
	chart, base := only(t, rendered(t, "")), only(t, kustomized(t, "../../deploy/kustomize/base"))
	if !equality.Semantic.DeepEqual(chart, base) {
		t.Errorf("(-base +chart):\n%s", cmp.Diff(base, chart))
	}
}

// The DaemonSet's pods may only write root's files into their directories, and only
// while they install.
func TestLeastPrivilege(t *testing.T) {
	d := only(t, rendered(t, "dropIns: [iproute2, networkd, networkd-links, networkmanager, sysctl]"))
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("%v selects no pod of its own (%v)", d.Spec.Selector, err)
	}
	pod := d.Spec.Template.Spec
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.ServiceAccountName != "" ||
		pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("the pod is let out of its own: %+v", pod)
	}
	if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("seccomp: %+v", pod.SecurityContext)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		s := c.SecurityContext
		var needs []corev1.Capability
		if c.Name == "install" { // into a directory of another user
			needs = []corev1.Capability{"DAC_OVERRIDE"}
		}
		if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem ||
			!slices.Equal(s.Capabilities.Add, needs) || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s may do more than it must: %+v", c.Name, s)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s has no bounds: %+v", c.Name, c.Resources)
		}
	}
	if c := pod.Containers[0]; len(pod.Containers) != 1 || len(c.VolumeMounts) > 0 || *c.SecurityContext.RunAsUser == 0 || !*c.SecurityContext.RunAsNonRoot {
		t.Errorf("what stays has a right: %+v", pod.Containers)
	}
}

// Each path to which install writes is a directory of the node: the CNI directory, or
// the directory of a drop-in.
func TestPaths(t *testing.T) {
	for _, test := range []struct {
		values  string
		dropIns []string
		bin     string
		etc     string
	}{
		{"", []string{"iproute2"}, "/opt/cni/bin", "/etc"},
		{"dropIns: []", nil, "/opt/cni/bin", "/etc"},
		{"{dropIns: [networkmanager, iproute2, sysctl, networkd, networkd-links], cniBinDir: /usr/libexec/cni, etcDir: /usr/local/etc}",
			[]string{"networkmanager", "iproute2", "sysctl", "networkd", "networkd-links"}, "/usr/libexec/cni", "/usr/local/etc"},
	} {
		pod := only(t, rendered(t, test.values)).Spec.Template.Spec
		want := map[string]string{"/host/opt/cni/bin": test.bin}
		args := []string{"install", "--to=/host/opt/cni/bin"}
		if len(test.dropIns) > 0 {
			args = append(args, "--etc=/host/etc", "--drop-ins="+strings.Join(test.dropIns, ","))
		}
		for _, d := range deploy.DropIns {
			for _, software := range test.dropIns {
				if d.For == software {
					dir := path.Dir(d.Path)
					want["/host/etc/"+dir] = test.etc + "/" + dir
				}
			}
		}
		sources := map[string]string{}
		for _, v := range pod.Volumes {
			sources[v.Name] = v.HostPath.Path
		}
		got := map[string]string{}
		for _, m := range pod.InitContainers[0].VolumeMounts {
			got[m.MountPath] = sources[m.Name]
			delete(sources, m.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(sources) > 0 {
			t.Errorf("%s: unused %v, mounts (-want +got):\n%s", test.values, sources, diff)
		}
		if diff := cmp.Diff(args, pod.InitContainers[0].Args); diff != "" {
			t.Errorf("%s: args (-want +got):\n%s", test.values, diff)
		}
	}
}

// Every other value gets to its place.
func TestValues(t *testing.T) {
	pod := only(t, rendered(t, `
image: {repository: mirror/multihome, tag: v1.2.3, pullPolicy: Always}
imagePullSecrets: [{name: pull}]
nodeSelector: {underlay: "yes"}
tolerations: [{key: a, operator: Exists, effect: NoSchedule}]
priorityClassName: ""
seLinuxOptions: {type: spc_t}
resources: {requests: {cpu: 1m}, limits: {memory: 32Mi}}
`)).Spec.Template.Spec
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		if c.Image != "mirror/multihome:v1.2.3" || c.ImagePullPolicy != corev1.PullAlways || c.Resources.Limits.Memory().String() != "32Mi" {
			t.Errorf("%+v", c)
		}
	}
	if pod.ImagePullSecrets[0].Name != "pull" || pod.NodeSelector["underlay"] != "yes" || len(pod.Tolerations) != 1 ||
		pod.Tolerations[0].Key != "a" || pod.PriorityClassName != "" || pod.InitContainers[0].SecurityContext.SELinuxOptions.Type != "spc_t" {
		t.Errorf("%+v", pod)
	}
}

func TestValuesRefused(t *testing.T) {
	for _, values := range []string{
		"dropins: [iproute2]",
		"dropIns: [systemd]",
		"cniBinDir: opt/cni/bin",
		"cniConfDir: etc/cni/net.d",
		"image: {tag: \"\"}",
		"networks: {a: {plugins: []}}",
		"networks: {a: {plugins: [{master: eth0}]}}",
	} {
		if text, err := helmTemplate(values); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: got %v, want it refused by the schema:\n%s", values, err, text)
		}
	}
}

// docs/install.md names each value of the chart.
func TestValuesAreDocumented(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, chart+"/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	document := read(t, "../../docs/install.md")
	for name := range values {
		if !strings.Contains(document, "`"+name+"`") && !strings.Contains(document, "`"+name+".") {
			t.Errorf("docs/install.md says nothing of %s", name)
		}
	}
}

// The documented kustomization makes the same as the chart with the same settings.
func TestDocumentedKustomization(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(read(t, "../../docs/install.md"))
	if block == nil {
		t.Fatal("docs/install.md shows no kustomization")
	}
	dir := t.TempDir()
	base := filepath.Join(dir, "multihome/deploy/kustomize/base")
	if err := errors.Join(os.CopyFS(base, os.DirFS("../../deploy/kustomize/base")),
		os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(block[1]), 0o644)); err != nil {
		t.Fatal(err)
	}
	kustomize := only(t, kustomized(t, dir))
	chart := only(t, rendered(t, "{image: {repository: REGISTRY/multihome, tag: TAG}, dropIns: [iproute2, networkd]}"))
	for _, d := range []*appsv1.DaemonSet{&kustomize, &chart} { // kustomize has its own order of these
		pod := &d.Spec.Template.Spec
		slices.SortFunc(pod.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(pod.InitContainers[0].VolumeMounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.Name, b.Name) })
	}
	if !equality.Semantic.DeepEqual(chart, kustomize) {
		t.Errorf("(-kustomize +chart):\n%s", cmp.Diff(kustomize, chart))
	}
}
