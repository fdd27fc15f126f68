// SPDX-License-Identifier: Apache-2.0

package staticmacvlan

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/multihome/multihome/pkg/ipam"
)

// GroupVersion is the group and version of the kinds.
var GroupVersion = schema.GroupVersion{Group: ipam.StaticGroup, Version: "v1"}

// AddToScheme registers the kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &VLANSubnet{}, &VLANSubnetList{}, &StaticPod{}, &StaticPodList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// VLANSubnet is a link of the nodes, and the addresses of the pods on it. It is of the
// cluster, as the LAN is: pods of all namespaces name it by the annotation vlan.
// docs/static-macvlan.md has every field.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=vlansubnets,singular=vlansubnet,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.vlan) || self.spec.vlan == 0 || size(self.metadata.name) <= 15",message="metadata.name: want at most 15 bytes, for the nodes get a link of this name"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.vlan) || self.spec.vlan == 0 || self.metadata.name != self.spec.master",message="metadata.name: want another name than that of master, for the nodes get a link of this name"
// +kubebuilder:printcolumn:name="MASTER",type=string,JSONPath=`.spec.master`
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="VLAN",type=integer,priority=1,JSONPath=`.spec.vlan`
// +kubebuilder:printcolumn:name="ALLOCATED-IP-COUNT",type=integer,priority=1,JSONPath=`.status.allocatedIPCount`
// +kubebuilder:printcolumn:name="TOTAL-IP-COUNT",type=integer,priority=1,JSONPath=`.status.totalIPCount`
// +kubebuilder:printcolumn:name="REASON",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type VLANSubnet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ipam.VLANSubnetSpec `json:"spec"`
	Status VLANSubnetStatus    `json:"status,omitempty"`
}

// VLANSubnetStatus has counts, which no decision reads, and says whether pods get addresses.
type VLANSubnetStatus struct {
	TotalIPCount     *int64 `json:"totalIPCount,omitempty"`
	AllocatedIPCount *int64 `json:"allocatedIPCount,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// VLANSubnetList is a list of them.
//
// +kubebuilder:object:root=true
type VLANSubnetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VLANSubnet `json:"items"`
}

// StaticPod says which addresses a pod has on VLANSubnets, and has the pod's name. It is a
// view of the pod's SpiderEndpoint, for people: nothing reads it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=staticpods,singular=staticpod,scope=Namespaced
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="VLAN",type=string,JSONPath=`.spec.vlan`
// +kubebuilder:printcolumn:name="POD-ID",type=string,JSONPath=`.spec.podId`
// +kubebuilder:printcolumn:name="IP",type=string,JSONPath=`.spec.ip`
// +kubebuilder:printcolumn:name="MAC",type=string,JSONPath=`.spec.mac`
type StaticPod struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec StaticPodSpec `json:"spec"`
}

// StaticPodSpec says which addresses a pod has. Of several NICs, the values are in the order
// of the NICs, with commas between them.
type StaticPodSpec struct {
	PodName      string `json:"podName"`
	PodNamespace string `json:"podNamespace"`
	PodID        string `json:"podId"` // the pod's UID, as the runtime gives it to plugins
	VLAN         string `json:"vlan"`  // the VLANSubnet
	IP           string `json:"ip"`    // with the length of the VLANSubnet's cidr
	// Empty where the pod asks for none: the kernel makes one.
	MAC string `json:"mac,omitempty"`
}

// StaticPodList is a list of them.
//
// +kubebuilder:object:root=true
type StaticPodList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StaticPod `json:"items"`
}

// VLANSubnet returns the object as the pure functions take it.
func (v *VLANSubnet) VLANSubnet() ipam.VLANSubnet {
	return ipam.VLANSubnet{
		Name: v.Name, UID: string(v.UID), Created: v.CreationTimestamp.Time, Deleting: !v.DeletionTimestamp.IsZero(), Spec: v.Spec,
	}
}
