// SPDX-License-Identifier: Apache-2.0

// Package deploy has tests only: what the chart and the kustomizations render to is
// what the Kubernetes API takes, the examples' networks work in network namespaces,
// and the image is what the OCI specifies. It is a module of its own, so that
// Kubernetes' libraries stay out of the other one.
package deploy
