// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// byName returns the objects of manifests by their kind, namespace and name.
func byName(t *testing.T, manifests string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for _, text := range strings.Split("\n"+manifests, "\n---\n") {
		var o map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if len(o) == 0 {
			continue
		}
		metadata := o["metadata"].(map[string]any)
		namespace, _ := metadata["namespace"].(string)
		id := o["kind"].(string) + " " + namespace + "/" + metadata["name"].(string)
		if out[id] != nil {
			t.Errorf("%s is there twice", id)
		}
		out[id] = o
	}
	return out
}

// object returns one of the objects of manifests.
func object[T any](t *testing.T, all map[string]map[string]any, id string) (out T) {
	t.Helper()
	text, err := yaml.Marshal(all[id])
	if err != nil || all[id] == nil {
		t.Fatalf("%s: %v", id, err)
	}
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		t.Errorf("%s: %v", id, err)
	}
	return out
}

// controlplane returns the objects that controlplane.enabled adds to the chart, or changes.
func controlplane(t *testing.T) map[string]map[string]any {
	t.Helper()
	with, err := helmTemplate("controlplane: {enabled: true}")
	if err != nil {
		t.Fatal(err)
	}
	without, err := helmTemplate("")
	if err != nil {
		t.Fatal(err)
	}
	added := byName(t, with)
	for id, o := range byName(t, without) {
		if reflect.DeepEqual(o, added[id]) {
			delete(added, id)
		}
	}
	return added
}

func TestControlplaneOfChartAndKustomizationSayTheSame(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy/kustomize/controlplane")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	chart, base := controlplane(t), byName(t, string(text))
	if len(chart) < 10 {
		t.Fatalf("%d objects", len(chart))
	}
	if diff := cmp.Diff(base, chart); diff != "" {
		t.Errorf("(-kustomization +chart):\n%s", diff)
	}
}

// What the nodes' configuration of Multus says of the networks of all pods comes to the controller.
func TestControlplaneOfMultus(t *testing.T) {
	for _, test := range []struct {
		values string
		args   []string // besides --ip-number
		err    string
	}{
		{"", nil, ""},
		{`clusterNetwork: "", defaultNetworks: [], multusNamespace: ""`, nil, ""},
		{"clusterNetwork: lan", []string{"--cluster-network=lan"}, ""},
		{"clusterNetwork: /etc/cni/net.d/10-lan.conflist, defaultNetworks: [storage, vlan100], multusNamespace: multus",
			[]string{"--multus-namespace=multus", "--cluster-network=/etc/cni/net.d/10-lan.conflist", "--default-networks=storage,vlan100"}, ""},
		{"defaultNetworks: [storage]", nil, "controlplane.defaultNetworks: want controlplane.clusterNetwork, too"},
		{"clusterNetwork: 'a b'", nil, "clusterNetwork"},
		{"clusterNetwork: lan, defaultNetworks: ['a,b']", nil, "defaultNetworks"},
		{"clusterNetwork: lan, defaultNetworks: storage", nil, "defaultNetworks"},
		{"multusNamespace: Multus", nil, "multusNamespace"},
	} {
		text, err := helmTemplate("controlplane: {enabled: true, " + test.values + "}")
		if err != nil || test.err != "" {
			if err == nil || test.err == "" || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.values, err, test.err)
			}
			continue
		}
		d := object[appsv1.Deployment](t, byName(t, text), "Deployment kube-system/multihome-controller")
		if got := d.Spec.Template.Spec.Containers[0].Args[1:]; !slices.Equal(got, test.args) {
			t.Errorf("%s: %q, want %q", test.values, got, test.args)
		}
	}
}

// Of the tolerations, the controller has those that name a taint. Without a priority class, it has none either.
func TestControllerOnNodes(t *testing.T) {
	text, err := helmTemplate(`{controlplane: {enabled: true}, priorityClassName: "", tolerations: [{operator: Exists, effect: NoSchedule}, {key: mine, operator: Exists}]}`)
	if err != nil {
		t.Fatal(err)
	}
	d := object[appsv1.Deployment](t, byName(t, text), "Deployment kube-system/multihome-controller")
	pod := d.Spec.Template.Spec
	if got := pod.Tolerations[3:]; pod.PriorityClassName != "" || len(got) != 1 || got[0].Key != "mine" {
		t.Errorf("priority class %q, tolerations %+v", pod.PriorityClassName, got)
	}
}

// Another release's namespace is in all places.
func TestControlplaneElsewhere(t *testing.T) {
	text, err := helmTemplateIn("elsewhere", "controlplane: {enabled: true, replicas: 3}")
	if err != nil {
		t.Fatal(err)
	}
	for id, o := range byName(t, text) {
		if strings.Contains(id, " kube-system/") && !strings.HasSuffix(id, "-cidrs") {
			t.Errorf("%s is in kube-system", id)
		}
		if strings.HasPrefix(id, "ValidatingAdmissionPolicy ") {
			if policy, err := yaml.Marshal(o); err != nil || strings.Contains(string(policy), "kube-system:multihome-") {
				t.Errorf("%s: %v: another installation's account may write", id, err)
			}
		}
		if strings.HasPrefix(id, "ValidatingWebhookConfiguration") {
			if webhook, err := yaml.Marshal(o); err != nil || strings.Contains(string(webhook), "kube-system") {
				t.Errorf("%v:\n%s", err, webhook)
			}
		}
	}
}

// The controller has no right that it doesn't need: no wildcard, no capability, nothing of
// the node, no Secret but its own.
func TestControlplaneHasFewRights(t *testing.T) {
	roles := 0
	for id, o := range controlplane(t) {
		kind, _, _ := strings.Cut(id, " ")
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "Role", "ClusterRole":
			roles++
			var role rbacv1.ClusterRole
			if err := yaml.Unmarshal(text, &role); err != nil {
				t.Fatal(err)
			}
			for _, r := range role.Rules {
				if slices.Contains(slices.Concat(r.APIGroups, r.Resources, r.Verbs), "*") {
					t.Errorf("%s: %v", id, r)
				}
				if slices.Contains(r.Resources, "secrets") && (kind != "Role" || len(r.ResourceNames) == 0 && !slices.Equal(r.Verbs, []string{"create"})) {
					t.Errorf("%s: %v", id, r)
				}
			}
		case "Deployment":
			var d appsv1.Deployment
			if err := yaml.UnmarshalStrict(text, &d); err != nil {
				t.Fatal(err)
			}
			pod := d.Spec.Template.Spec
			c := pod.Containers[0]
			s := c.SecurityContext
			if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 || !*pod.SecurityContext.RunAsNonRoot ||
				pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("the pod is let out of its own: %+v", pod)
			}
			if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Add) > 0 || s.Capabilities.Drop[0] != "ALL" {
				t.Errorf("it may do more than it must: %+v", s)
			}
			// The first toleration that fits counts; without an end, a pod of a dead node stays for ever.
			for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
				taint := corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}
				first := slices.IndexFunc(pod.Tolerations, func(one corev1.Toleration) bool { return one.ToleratesTaint(&taint) })
				if first < 0 || pod.Tolerations[first].TolerationSeconds == nil {
					t.Errorf("%s: it isn't made again elsewhere: %+v", key, pod.Tolerations)
				}
			}
			tolerates := func(taint corev1.Taint) bool {
				return slices.ContainsFunc(pod.Tolerations, func(one corev1.Toleration) bool { return one.ToleratesTaint(&taint) })
			}
			if tolerates(corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
				t.Errorf("a node that is drained gets it again: %+v", pod.Tolerations)
			}
			if !tolerates(corev1.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}) {
				t.Errorf("it doesn't run on a node of the control plane: %+v", pod.Tolerations)
			}
			if *d.Spec.Replicas != 2 || c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("it isn't looked after: %+v", c)
			}
		}
	}
	if roles != 4 {
		t.Errorf("%d roles", roles)
	}
}

// The DaemonSet's container that stays is the agent, which has the rights of the node that it
// needs, each by its name. It runs on every node, as a node without it is not ready.
func TestAgent(t *testing.T) {
	const confDir = "/var/lib/rancher/k3s/agent/etc/cni/net.d"
	text, err := helmTemplate("{controlplane: {enabled: true}, seLinuxOptions: {type: spc_t}, cniConfDir: " + confDir + "}")
	if err != nil {
		t.Fatal(err)
	}
	d := object[appsv1.DaemonSet](t, byName(t, text), "DaemonSet kube-system/multihome")
	pod := d.Spec.Template.Spec
	if !pod.HostNetwork || !pod.HostPID || pod.HostIPC || pod.ServiceAccountName != "multihome-agent" || pod.AutomountServiceAccountToken != nil ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%+v", pod)
	}
	for _, taint := range []corev1.Taint{
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}, {Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}, {Key: "mine", Value: "x", Effect: corev1.TaintEffectNoSchedule},
	} {
		if !slices.ContainsFunc(pod.Tolerations, func(one corev1.Toleration) bool { return one.ToleratesTaint(&taint) && one.TolerationSeconds == nil }) {
			t.Errorf("it doesn't run on a node with the taint %s", taint.ToString())
		}
	}
	if pod.InitContainers[0].Name != "install" || !slices.Equal(pod.InitContainers[0].SecurityContext.Capabilities.Add, []corev1.Capability{"DAC_OVERRIDE"}) {
		t.Errorf("%+v", pod.InitContainers)
	}
	if len(pod.Containers) != 1 {
		t.Fatalf("%+v", pod.Containers)
	}
	c := pod.Containers[0]
	s := c.SecurityContext
	if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.SELinuxOptions.Type != "spc_t" ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, []corev1.Capability{"DAC_READ_SEARCH", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"}) {
		t.Errorf("%+v", s)
	}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at := pod.Volumes[i].HostPath.Path; at != m.MountPath && "/var"+at != m.MountPath {
			t.Errorf("%s of the node is at %s", at, m.MountPath)
		}
		// Namespaces of pods that start later must be seen, too.
		if strings.HasSuffix(m.MountPath, "netns") && *m.MountPropagation != corev1.MountPropagationHostToContainer {
			t.Errorf("%+v", m)
		}
	}
	for _, path := range []string{"/run", "/var/lib/cni", confDir} { // mending needs them
		if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == path }) {
			t.Errorf("it doesn't see the node's %s", path)
		}
	}
	if !slices.Contains(c.Args, "--conf-dir="+confDir) {
		t.Errorf("it doesn't know where configurations are: %q", c.Args)
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("it isn't looked after: %+v", c)
	}
}
