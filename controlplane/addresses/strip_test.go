// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestStripPod: the cache keeps what users write at a pod, and not what others write for them.
func TestStripPod(t *testing.T) {
	has := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web", UID: "uid", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{
				ipam.NetworksAnnotation: "lan", "k8s.v1.cni.cncf.io/network-status": "[]", "k8s.v1.cni.cncf.io/networks-status": "[]",
				corev1.LastAppliedConfigAnnotation: "{}",
			},
		},
		Spec:   corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"},
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web", UID: "uid", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{ipam.NetworksAnnotation: "lan"},
		},
		Spec:   corev1.PodSpec{NodeName: "node1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	got, err := addresses.StripPod(has)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}
