// SPDX-License-Identifier: Apache-2.0

package v2beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/pkg/ipam"
)

// SpiderSubnet is a range of addresses from which applications get pools of their own.
// docs/addresses.md has every field.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spidersubnets,singular=spidersubnet,shortName=ss,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="VERSION",type=integer,JSONPath=`.status.ipVersion`
// +kubebuilder:printcolumn:name="SUBNET",type=string,JSONPath=`.spec.subnet`
// +kubebuilder:printcolumn:name="ALLOCATED-IP-COUNT",type=integer,JSONPath=`.status.allocatedIPCount`
// +kubebuilder:printcolumn:name="TOTAL-IP-COUNT",type=integer,JSONPath=`.status.totalIPCount`
type SpiderSubnet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ipam.SubnetSpec `json:"spec"`
	Status PoolStatus      `json:"status,omitempty"`
}

// SpiderSubnetList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderSubnetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderSubnet `json:"items"`
}

// SpiderIPPool is a pool of addresses of pods. docs/addresses.md has every field.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spiderippools,singular=spiderippool,shortName=sp,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="VERSION",type=integer,JSONPath=`.status.ipVersion`
// +kubebuilder:printcolumn:name="SUBNET",type=string,JSONPath=`.spec.subnet`
// +kubebuilder:printcolumn:name="ALLOCATED-IP-COUNT",type=integer,JSONPath=`.status.allocatedIPCount`
// +kubebuilder:printcolumn:name="TOTAL-IP-COUNT",type=integer,JSONPath=`.status.totalIPCount`
// +kubebuilder:printcolumn:name="DEFAULT",type=boolean,JSONPath=`.spec.default`
// +kubebuilder:printcolumn:name="DISABLE",type=boolean,JSONPath=`.spec.disable`
// +kubebuilder:printcolumn:name="NODENAME",type=string,priority=1,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="MULTUSNAME",type=string,priority=1,JSONPath=`.spec.multusName`
// +kubebuilder:printcolumn:name="APP-NAMESPACE",type=string,priority=1,JSONPath=`.metadata.labels.ipam\.spidernet\.io/owner-application-namespace`
// +kubebuilder:printcolumn:name="REASON",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type SpiderIPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ipam.PoolSpec `json:"spec"`
	Status PoolStatus    `json:"status,omitempty"`
}

// SpiderIPPoolList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderIPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderIPPool `json:"items"`
}

// PoolStatus is the status of a SpiderSubnet or a SpiderIPPool. Its counts are derived; no
// decision reads them. A count that doesn't fit is the greatest that does.
type PoolStatus struct {
	// The family of the subnet, 4 or 6: spec.ipVersion may be left out.
	IPVersion        int    `json:"ipVersion,omitempty"`
	TotalIPCount     *int64 `json:"totalIPCount,omitempty"`     // ips without excludeIPs
	AllocatedIPCount *int64 `json:"allocatedIPCount,omitempty"` // of a subnet: in pools
	// What a pool has from its subnet. It stays as it is when the subnet is changed.
	Inherited *ipam.Inherited `json:"inherited,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpiderReservedIP reserves addresses: no pool hands them out.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spiderreservedips,singular=spiderreservedip,shortName=sr,scope=Cluster
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="VERSION",type=integer,JSONPath=`.status.ipVersion`
type SpiderReservedIP struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ipam.ReservedSpec      `json:"spec"`
	Status SpiderReservedIPStatus `json:"status,omitempty"`
}

// SpiderReservedIPStatus says whether the addresses are reserved.
type SpiderReservedIPStatus struct {
	// The family of the addresses, 4 or 6.
	IPVersion int `json:"ipVersion,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpiderReservedIPList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderReservedIPList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderReservedIP `json:"items"`
}

// Phases of a SpiderEndpoint.
const (
	Pending   = "Pending"   // it has no addresses yet
	Allocated = "Ready"     // it has the addresses of all its NICs
	Releasing = "Releasing" // its addresses are on their way back
	Failed    = "Failed"    // another try leads to the same, until something is changed
)

// SpiderEndpoint is the claim of a pod, and has its name: which addresses its NICs want, and
// which they have. The controller makes it and deletes it; nobody else needs to.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=spiderendpoints,singular=spiderendpoint,shortName=se,scope=Namespaced
// +kubebuilder:metadata:annotations="multihome.io/crds=1"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="INTERFACE",type=string,JSONPath=`.status.current.ips[0].interface`
// +kubebuilder:printcolumn:name="IPV4POOL",type=string,JSONPath=`.status.current.ips[0].ipv4Pool`
// +kubebuilder:printcolumn:name="IPV4",type=string,JSONPath=`.status.current.ips[0].ipv4`
// +kubebuilder:printcolumn:name="IPV6POOL",type=string,JSONPath=`.status.current.ips[0].ipv6Pool`
// +kubebuilder:printcolumn:name="IPV6",type=string,JSONPath=`.status.current.ips[0].ipv6`
// +kubebuilder:printcolumn:name="NODE",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="PHASE",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="REASON",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type SpiderEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SpiderEndpointSpec   `json:"spec"`
	Status SpiderEndpointStatus `json:"status,omitempty"`
}

// SpiderEndpointSpec is the intent: it is there before the first address is taken.
type SpiderEndpointSpec struct {
	// The UID that the runtime gives to plugins as K8S_POD_UID: of a static pod its
	// kubernetes.io/config.hash, of another one that of the pod's object.
	PodUID   string `json:"podUID"`
	NodeName string `json:"nodeName"`
	// The node's machine ID (Node.status.nodeInfo.machineID): another machine under the
	// node's name can't speak for this one.
	MachineID string `json:"machineID,omitempty"`
	// When the pod was made. The oldest is first in line.
	Since metav1.Time `json:"since"`
	// The fixed identity of the pod, if it has one: its addresses are kept for the next pod
	// that is the same.
	Identity *v1alpha1.Owner `json:"identity,omitempty"`
	// +listType=map
	// +listMapKey=interface
	NICs []EndpointNIC `json:"nics,omitempty"`
}

// EndpointNIC is a NIC of the pod that wants addresses.
type EndpointNIC struct {
	Interface string `json:"interface"`
	// NAMESPACE/NAME of the NetworkAttachmentDefinition, empty if only the node's files
	// name the network.
	NAD string `json:"nad,omitempty"`
	// The "name" of the CNI configuration.
	Network string `json:"network"`
	// Where the pools come from, in words, for messages: annotation ipam.spidernet.io/ippool
	// of the pod, ...
	From string `json:"from,omitempty"`
	// Names or patterns (*, ?, [...]) of pools, in the order in which they are tried.
	IPv4Pools []string `json:"ipv4Pools,omitempty"`
	IPv6Pools []string `json:"ipv6Pools,omitempty"`
	// ipv4Pools and ipv6Pools are SpiderSubnets: the addresses come from the pools that the
	// pod's application has of them, or, without an application, straight from them.
	Subnets bool `json:"subnets,omitempty"`
	// The pools with default: true instead.
	DefaultPools bool `json:"defaultPools,omitempty"`
	// No default route by this NIC.
	CleanGateway bool         `json:"cleanGateway,omitempty"`
	Routes       []ipam.Route `json:"routes,omitempty"`
	// Subnets of the node's port below the NIC, of which one must be the pool's
	// (match_master_subnet).
	MasterSubnets []string `json:"masterSubnets,omitempty"`
	// The address of a VLANSubnet instead.
	Static *ipam.StaticNIC `json:"static,omitempty"`
	// The NIC that holds the pod's default routes, by its annotation
	// ipam.spidernet.io/default-route-nic.
	DefaultRouteNIC string `json:"defaultRouteNIC,omitempty"`
}

// SpiderEndpointStatus says what the pod has.
type SpiderEndpointStatus struct {
	Phase   string      `json:"phase,omitempty"`
	Current *PodCurrent `json:"current,omitempty"`
	// What the agent of the node says: the addresses are not in use any more, and won't be.
	Withdrawn *Withdrawn `json:"withdrawn,omitempty"`
	// Who controls the pod, for people.
	OwnerControllerType string `json:"ownerControllerType,omitempty"`
	OwnerControllerName string `json:"ownerControllerName,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PodCurrent has the pod's addresses.
type PodCurrent struct {
	UID  string `json:"uid"`
	Node string `json:"node"`
	// +listType=atomic
	IPs []NICAddresses `json:"ips,omitempty"`
}

// NICAddresses has the addresses of a NIC, and what the plugin answers with them.
type NICAddresses struct {
	Interface    string       `json:"interface"`
	IPv4         string       `json:"ipv4,omitempty"` // with the length of the subnet: 10.6.168.171/16
	IPv4Pool     string       `json:"ipv4Pool,omitempty"`
	IPv4Gateway  string       `json:"ipv4Gateway,omitempty"`
	IPv6         string       `json:"ipv6,omitempty"`
	IPv6Pool     string       `json:"ipv6Pool,omitempty"`
	IPv6Gateway  string       `json:"ipv6Gateway,omitempty"`
	VLAN         *int         `json:"vlan,omitempty"`
	AddressSpace string       `json:"network,omitempty"` // spec.network or vlan of the pools
	CleanGateway bool         `json:"cleanGateway,omitempty"`
	Routes       []ipam.Route `json:"routes,omitempty"`
	MAC          string       `json:"mac,omitempty"`
	// The link of the node below the NIC, of a VLANSubnet.
	Link *ipam.HostLink `json:"link,omitempty"`
}

// Withdrawn is the agent's word that no sandbox of the pod is left.
type Withdrawn struct {
	BootID    string `json:"bootID"`
	MachineID string `json:"machineID"`
}

// SpiderEndpointList is a list of them.
//
// +kubebuilder:object:root=true
type SpiderEndpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpiderEndpoint `json:"items"`
}
