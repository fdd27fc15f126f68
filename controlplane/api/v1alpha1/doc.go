// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the kinds of group multihome.io, which the control plane keeps for
// itself: nobody writes them by hand.
//
// +kubebuilder:object:generate=true
// +groupName=multihome.io
package v1alpha1
