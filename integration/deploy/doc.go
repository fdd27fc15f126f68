// SPDX-License-Identifier: Apache-2.0

// Package deploy has only tests: the Kubernetes API accepts what the chart and the
// kustomizations render, the examples' networks work in network namespaces, and the
// image conforms to the OCI specification. It is its own module, so that Kubernetes'
// libraries stay out of the other one.
package deploy
