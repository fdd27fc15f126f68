// SPDX-License-Identifier: Apache-2.0

package pods_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/pods"
)

func TestUID(t *testing.T) {
	mirror := map[string]string{corev1.MirrorPodAnnotationKey: "m"}
	static := map[string]string{corev1.MirrorPodAnnotationKey: "m", "kubernetes.io/config.hash": "h"}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"none":                    {nil, ""},
		"an ordinary one":         {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}, "u"},
		"a static one":            {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: static}}, "h"},
		"a mirror without a hash": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: mirror}}, "u"},
		"a hash without a mirror": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: map[string]string{"kubernetes.io/config.hash": "h"}}}, "u"},
	} {
		if got := pods.UID(test.pod); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
