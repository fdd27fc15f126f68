// SPDX-License-Identifier: Apache-2.0

// Package staticmacvlan has the kinds of the group staticmacvlan.rancher.com, version v1:
// VLANSubnet, which people write, and StaticPod, which the controller writes. The spec of a
// VLANSubnet is in pkg/ipam, which checks it.
//
// +kubebuilder:object:generate=true
// +groupName=staticmacvlan.rancher.com
// +versionName=v1
package staticmacvlan
