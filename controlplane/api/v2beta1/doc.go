// SPDX-License-Identifier: Apache-2.0

// Package v2beta1 has the kinds of the group spiderpool.spidernet.io that a client of the
// API server reads and writes. The specs are those of pkg/netconf, which checks and renders
// them; their markers, there and here, become the CustomResourceDefinitions in deploy/crds.
// `make generate` makes these and the deep copies.
//
// +kubebuilder:object:generate=true
// +groupName=spiderpool.spidernet.io
package v2beta1
