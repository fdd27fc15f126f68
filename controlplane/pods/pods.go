// SPDX-License-Identifier: Apache-2.0

// Package pods says what controller and agent must see in the same way in a pod.
package pods

import corev1 "k8s.io/api/core/v1"

// hash is the annotation of a mirror pod with the UID that its static pod has on the node
// (kubernetes/pkg/kubelet/types/pod_update.go).
const hash = "kubernetes.io/config.hash"

// UID returns the UID of a pod as runtimes give it to plugins (K8S_POD_UID): of a static pod
// the hash of its file, of another one that of its object. It is "" if there is no pod.
func UID(p *corev1.Pod) string {
	switch {
	case p == nil:
		return ""
	case IsMirror(p):
		return p.Annotations[hash]
	}
	return string(p.UID)
}

// IsMirror reports whether a pod's object stands for a static pod
// (corev1.MirrorPodAnnotationKey).
func IsMirror(p *corev1.Pod) bool {
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror && p.Annotations[hash] != ""
}

// Finished reports whether a pod's containers have ended for good.
func Finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
