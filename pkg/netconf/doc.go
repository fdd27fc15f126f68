// SPDX-License-Identifier: Apache-2.0

// Package netconf turns a SpiderMultusConfig, a short description of a network, into the
// NetworkAttachmentDefinition that Multus reads. It decodes the object, finds all faults
// in it, and renders the chain of plugins:
//
//	c, faults := netconf.Decode(object)
//	faults = append(faults, c.Validate()...)
//	nad := c.Render()
//
// All functions are pure: they know no cluster and no clock, and link no Kubernetes
// library. docs/networks.md lists every field and what it becomes.
//
// Beware: Render expects a configuration without faults. It doesn't panic with others, but
// plugins may refuse what comes out.
//
// +kubebuilder:object:generate=true
package netconf
