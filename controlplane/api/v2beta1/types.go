// SPDX-License-Identifier: Apache-2.0

package v2beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/multihome/multihome/pkg/netconf"
)

// GroupVersion is the group and version of the kinds.
var GroupVersion = schema.GroupVersion{Group: netconf.Group, Version: "v2beta1"}

// CRDAnnotation marks the CustomResourceDefinitions of this project, with their version.
// The group is another project's too: a definition without the annotation isn't ours.
const CRDAnnotation = "multihome.io/crds"

// AddToScheme registers the kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&SpiderMultusConfig{}, &SpiderMultusConfigList{}, &SpiderCoordinator{}, &SpiderCoordinatorList{},
		&SpiderSubnet{}, &SpiderSubnetList{}, &SpiderIPPool{}, &SpiderIPPoolList{},
		&SpiderReservedIP{}, &SpiderReservedIPList{}, &SpiderEndpoint{}, &SpiderEndpointList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Types and reasons of the conditions of a SpiderMultusConfig.
const (
	Ready      = "Ready"     // the NetworkAttachmentDefinition is as the spec says
	Unadvised  = "Unadvised" // the spec works, but perhaps not as it is meant; absent if there is nothing to say
	Written    = "Written"   // Ready
	Invalid    = "Invalid"   // the spec or an annotation has a fault; a NetworkAttachmentDefinition of before stays as it was
	Conflict   = "Conflict"  // the NetworkAttachmentDefinition is another object's
	Waiting    = "Waiting"   // the NetworkAttachmentDefinition of that name is being deleted
	Refused    = "Refused"   // the API server doesn't take the NetworkAttachmentDefinition
	Terminated = "NamespaceTerminating"
)

// SpiderMultusConfig is a short description of a network, from which its
// NetworkAttachmentDefinition is made. docs/networks.md has every field.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spidermultusconfigs,singular=spidermultusconfig,shortName=smc,scope=Namespaced
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="TYPE",type=string,JSONPath=`.spec.cniType`
// +kubebuilder:printcolumn:name="NAD",type=string,JSONPath=`.status.networkAttachmentDefinition`
// +kubebuilder:printcolumn:name="READY",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="REASON",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type SpiderMultusConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:default={cniType: custom}
	Spec   netconf.Spec             `json:"spec,omitempty"`
	Status SpiderMultusConfigStatus `json:"status,omitempty"`
}

// SpiderMultusConfigStatus says what became of the description.
type SpiderMultusConfigStatus struct {
	// The name of the NetworkAttachmentDefinition, in the same namespace.
	NetworkAttachmentDefinition string `json:"networkAttachmentDefinition,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpiderMultusConfigList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderMultusConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderMultusConfig `json:"items"`
}

// Network returns the object as the pure functions take it.
func (c *SpiderMultusConfig) Network() netconf.Config {
	return netconf.Config{Namespace: c.Namespace, Name: c.Name, Annotations: c.Annotations, Spec: c.Spec}
}

// Phases of a SpiderCoordinator.
const (
	Synced   = "Synced"   // the lists are those of the cluster
	NotReady = "NotReady" // a source can't be read; the lists are those of before
)

// SpiderCoordinator has the settings of coordinator for all networks, as far as they have
// none of their own. A cluster has one, named default.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spidercoordinators,singular=spidercoordinator,shortName=scc,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="PHASE",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="OVERLAYPODCIDR",type=string,JSONPath=`.status.overlayPodCIDR`
// +kubebuilder:printcolumn:name="SERVICECIDR",type=string,JSONPath=`.status.serviceCIDR`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",messageExpression="'metadata.name: ' + self.metadata.name + ': want default: a cluster has one SpiderCoordinator'"
type SpiderCoordinator struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   netconf.ClusterCoordinator `json:"spec,omitempty"`
	Status SpiderCoordinatorStatus    `json:"status,omitempty"`
}

// SpiderCoordinatorStatus has what was found in the cluster.
type SpiderCoordinatorStatus struct {
	Phase  string `json:"phase,omitempty"`
	Reason string `json:"reason,omitempty"` // of NotReady
	// Whose pod CIDRs are looked for: cluster, calico, cilium or none; with
	// spec.podCIDRType auto what was found. Empty if spec.overlayPodCIDR lists them.
	PodCIDRType string `json:"podCIDRType,omitempty"`
	// The CIDRs of pods of the cluster's own network.
	OverlayPodCIDR []string `json:"overlayPodCIDR,omitempty"`
	// The CIDRs of Services.
	ServiceCIDR []string `json:"serviceCIDR,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpiderCoordinatorList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderCoordinatorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderCoordinator `json:"items"`
}
