// SPDX-License-Identifier: Apache-2.0

// Package nad has the kind NetworkAttachmentDefinition, as far as this project reads and
// writes it. It is Multus' (Kubernetes Network Custom Resource Definition De-facto
// Standard, section 3).
//
// Beware: objects may have fields that the type lacks. Write by patches, which leave them.
//
// +kubebuilder:object:generate=true
package nad

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of the kind.
var GroupVersion = schema.GroupVersion{Group: "k8s.cni.cncf.io", Version: "v1"}

// AddToScheme registers the kind.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &NetworkAttachmentDefinition{}, &NetworkAttachmentDefinitionList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// NetworkAttachmentDefinition is a network to which pods are attached.
//
// +kubebuilder:object:root=true
type NetworkAttachmentDefinition struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec Spec `json:"spec,omitempty"`
}

// Spec has the CNI configuration, JSON. Without one it is a file of the node.
type Spec struct {
	Config string `json:"config,omitempty"`
}

// NetworkAttachmentDefinitionList is a list of them.
//
// +kubebuilder:object:root=true
type NetworkAttachmentDefinitionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkAttachmentDefinition `json:"items"`
}
