// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of the kinds.
var GroupVersion = schema.GroupVersion{Group: "multihome.io", Version: "v1alpha1"}

// AddToScheme registers the kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &IPAddress{}, &IPAddressList{}, &NodeSpool{}, &NodeSpoolList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// States of an IPAddress.
const (
	Reserved    = "Reserved"    // kept for its owner, held by no pod
	Allocated   = "Allocated"   // held by a pod
	Quarantined = "Quarantined" // somebody else uses it on the wire
)

// IPAddress is an address that isn't free. Its name is the address, with its network behind
// it where it has one. To create it is the only way to own the address: the API server
// refuses a second one.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=ipaddresses,singular=ipaddress,shortName=mip,scope=Cluster
// +kubebuilder:selectablefield:JSONPath=`.spec.pool`
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="ADDRESS",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="POOL",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="STATE",type=string,JSONPath=`.spec.state`
// +kubebuilder:printcolumn:name="NAMESPACE",type=string,JSONPath=`.spec.holders[0].namespace`
// +kubebuilder:printcolumn:name="POD",type=string,JSONPath=`.spec.holders[0].pod`
// +kubebuilder:printcolumn:name="NIC",type=string,JSONPath=`.spec.holders[0].interface`
// +kubebuilder:printcolumn:name="NODE",type=string,JSONPath=`.spec.holders[0].node`
type IPAddress struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAddressSpec `json:"spec"`
}

// IPAddressSpec says whose the address is.
type IPAddressSpec struct {
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`
	// The network or VLAN of the pool, empty for none: equal addresses in two networks are
	// different ones.
	Network string `json:"network,omitempty"`
	Pool    string `json:"pool"`
	// +kubebuilder:validation:Enum=Reserved;Allocated;Quarantined
	State string `json:"state"`
	// The application in whose own pool the address is: given back, it stays there, Reserved.
	Application *Owner `json:"application,omitempty"`
	// The fixed identity that has the address: given back, it is kept for the next pod that
	// is the same, Reserved.
	Identity *Owner `json:"identity,omitempty"`
	// The pods that hold it: none, one, or the two of a virtual machine that migrates.
	// +kubebuilder:validation:MaxItems=2
	// +listType=atomic
	Holders []Holder `json:"holders,omitempty"`
	// Since when nobody gets it, and why, of one that is Quarantined. A pod that holds it has
	// got another one instead, or waits for one.
	Quarantine *Quarantine `json:"quarantine,omitempty"`
	// When the last pod gave it back.
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
	// The attempt that took the address, so that another controller's attempt changes the
	// object before it relies on it.
	Attempt string `json:"attempt,omitempty"`
}

// Quarantine is about an address that another machine of the LAN has.
type Quarantine struct {
	Since metav1.Time `json:"since"`
	// Of the machine that answered for it.
	MAC string `json:"mac,omitempty"`
}

// Owner is an application (a Deployment, a StatefulSet, ...), or a fixed identity: a pod of a
// StatefulSet by its ordinal, or a virtual machine.
type Owner struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Of a pod of a StatefulSet.
	Ordinal *int32 `json:"ordinal,omitempty"`
	// Of an identity: the NIC that has the address.
	Interface string `json:"interface,omitempty"`
}

// Holder is a pod that holds an address.
type Holder struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID"`
	Claim     string `json:"claim,omitempty"` // the UID of the SpiderEndpoint for which it was taken
	Interface string `json:"interface"`
	Node      string `json:"node"`
	MachineID string `json:"machineID,omitempty"`
}

// IPAddressList is a list of them.
//
// +kubebuilder:object:root=true
type IPAddressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddress `json:"items"`
}

// NodeSpool is the word of a node's agent, and has the node's name: what is on the node and
// no claim knows of. The controller asks in the spec, the agent answers in the status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=nodespools,singular=nodespool,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="MACHINE",type=string,priority=1,JSONPath=`.status.machineID`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeSpool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeSpoolSpec   `json:"spec,omitempty"`
	Status NodeSpoolStatus `json:"status,omitempty"`
}

// NodeSpoolSpec is what the controller asks.
type NodeSpoolSpec struct {
	// UIDs of pods that have no claim any more, as K8S_POD_UID: withdraw what they have on
	// the node, and say when that is done.
	// +listType=set
	Ask []string `json:"ask,omitempty"`
}

// NodeSpoolStatus is what the agent says.
type NodeSpoolStatus struct {
	BootID    string `json:"bootID,omitempty"`
	MachineID string `json:"machineID,omitempty"`
	// Sandboxes with addresses that the pod's claim lacks, or that has none, and what is
	// served without a claim. An address here is in use.
	// +listType=atomic
	Sandboxes []Sandbox `json:"sandboxes,omitempty"`
	// NICs that wait in ADD and that the pod's claim lacks.
	// +listType=atomic
	Wants []Want `json:"wants,omitempty"`
	// Addresses for which other machines of the LAN answered an ADD.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	Conflicts []Conflict `json:"conflicts,omitempty"`
	// Those of spec.ask of which nothing is left on the node.
	// +listType=set
	Withdrawn []string `json:"withdrawn,omitempty"`
}

// Sandbox is a NIC of a pod's sandbox, with its addresses.
type Sandbox struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID"`
	Interface string `json:"interface"`
	// +listType=atomic
	Addresses []Held `json:"addresses,omitempty"`
}

// Held is an address in a sandbox.
type Held struct {
	Address string `json:"address"`
	Network string `json:"network,omitempty"` // as in an IPAddress
	Pool    string `json:"pool,omitempty"`
}

// Conflict is an address of a pod's NIC that another machine has.
type Conflict struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID"`
	Interface string `json:"interface"`
	Address   string `json:"address"`
	Network   string `json:"network,omitempty"` // as in an IPAddress
	// Of the machine that answered.
	MAC string `json:"mac"`
	// The pod's claim has another address by now, and nothing of the pod on the node has this
	// one.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Want is what a plugin asks for.
type Want struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID"`
	Interface string `json:"interface"`
	Network   string `json:"network"` // the "name" of the CNI configuration
	// The keys of the IPAM configuration.
	DefaultIPv4IPPool []string `json:"default_ipv4_ippool,omitempty"`
	DefaultIPv6IPPool []string `json:"default_ipv6_ippool,omitempty"`
	CleanGateway      bool     `json:"clean_gateway,omitempty"`
	// Subnets of the port below the NIC, if match_master_subnet is set.
	MasterSubnets []string `json:"masterSubnets,omitempty"`
}

// NodeSpoolList is a list of them.
//
// +kubebuilder:object:root=true
type NodeSpoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeSpool `json:"items"`
}
