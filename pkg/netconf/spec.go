// SPDX-License-Identifier: Apache-2.0

package netconf

// Kinds and group of the objects.
const (
	Group           = "spiderpool.spidernet.io"
	APIVersion      = Group + "/v2beta1"
	Kind            = "SpiderMultusConfig"
	CoordinatorKind = "SpiderCoordinator"
)

// Annotations of a SpiderMultusConfig.
const (
	NameAnnotation       = "multus.spidernet.io/cr-name"              // the name of the NetworkAttachmentDefinition
	VersionAnnotation    = "multus.spidernet.io/cni-version"          // "cniVersion" of the chain
	ConfigNameAnnotation = "cni.spidernet.io/cniconfig-name"          // "name" of the chain
	RDMAInject           = "cni.spidernet.io/rdma-resource-inject"    // a group of networks with RDMA
	ResourceInject       = "cni.spidernet.io/network-resource-inject" // a group of networks
	ResourceAnnotation   = "k8s.v1.cni.cncf.io/resourceName"          // on the NetworkAttachmentDefinition: what the device plugin hands out
	lastApplied          = "kubectl.kubernetes.io/last-applied-configuration"
)

// Config is a SpiderMultusConfig.
type Config struct {
	Namespace, Name string
	Annotations     map[string]string
	Spec            Spec
}

// Spec describes one network. The names are those of the API. A nil pointer means that
// the user left the field out. The markers of this file become the schema and the CEL
// rules of the kind (`make generate`): they say what Validate says, as far as they can.
//
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'macvlan') == has(self.macvlan) || self.cniType == 'ipvlan' && !has(self.ipvlan)",messageExpression="has(self.macvlan) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType macvlan needs it'",fieldPath=".macvlan"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'ipvlan') == has(self.ipvlan) || self.cniType == 'ipvlan' && has(self.macvlan)",messageExpression="has(self.ipvlan) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType ipvlan needs it'",fieldPath=".ipvlan"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'vlan') == has(self.vlan)",messageExpression="has(self.vlan) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType vlan needs it'",fieldPath=".vlan"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'sriov') == has(self.sriov)",messageExpression="has(self.sriov) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType sriov needs it'",fieldPath=".sriov"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'ib-sriov') == has(self.ibsriov)",messageExpression="has(self.ibsriov) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType ib-sriov needs it'",fieldPath=".ibsriov"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'ipoib') == has(self.ipoib)",messageExpression="has(self.ipoib) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType ipoib needs it'",fieldPath=".ipoib"
// +kubebuilder:validation:XValidation:rule="(self.cniType == 'ovs') == has(self.ovs)",messageExpression="has(self.ovs) ? 'cniType is ' + self.cniType + ': want no other block than its own' : 'missing: cniType ovs needs it'",fieldPath=".ovs"
// +kubebuilder:validation:XValidation:rule="self.cniType == 'custom' || !has(self.customCNI) || size(self.customCNI) == 0",messageExpression="'cniType is ' + self.cniType + ': want customCNI with cniType custom alone'",fieldPath=".customCNI"
// +kubebuilder:validation:XValidation:rule="self.cniType != 'macvlan' || self.?macvlan.mode.orValue(\"\") in [\"\", 'bridge', 'private', 'vepa', 'passthru']",messageExpression="self.macvlan.mode + ': want one of bridge, private, vepa, passthru'",fieldPath=".macvlan.mode"
// +kubebuilder:validation:XValidation:rule="self.cniType != 'ipvlan' || self.?macvlan.mode.orValue(\"\") in [\"\", 'l2', 'l3', 'l3s']",messageExpression="self.macvlan.mode + ': want one of l2, l3, l3s'",fieldPath=".macvlan.mode"
// +kubebuilder:validation:XValidation:rule="self.cniType != 'ipvlan' || self.?ipvlan.mode.orValue(\"\") in [\"\", 'l2', 'l3', 'l3s']",messageExpression="self.ipvlan.mode + ': want one of l2, l3, l3s'",fieldPath=".ipvlan.mode"
// +kubebuilder:validation:XValidation:rule="self.cniType != 'ipvlan' || has(self.enableCoordinator) && !self.enableCoordinator || !has(self.coordinator) || !has(self.coordinator.podMACPrefix) || size(self.coordinator.podMACPrefix) == 0",messageExpression="self.coordinator.podMACPrefix + ': want none with cniType ipvlan: its NICs have the MAC of their parent'",fieldPath=".coordinator.podMACPrefix"
type Spec struct {
	// +kubebuilder:default=custom
	// +kubebuilder:validation:Enum=macvlan;ipvlan;vlan;sriov;ib-sriov;ipoib;ovs;custom
	CNIType           string   `json:"cniType,omitempty"` // default custom
	Macvlan           *Macvlan `json:"macvlan,omitempty"`
	IPvlan            *Macvlan `json:"ipvlan,omitempty"`
	VLAN              *VLAN    `json:"vlan,omitempty"`
	SRIOV             *SRIOV   `json:"sriov,omitempty"`
	IBSRIOV           *IBSRIOV `json:"ibsriov,omitempty"`
	IPoIB             *IPoIB   `json:"ipoib,omitempty"`
	OVS               *OVS     `json:"ovs,omitempty"`
	EnableCoordinator *bool    `json:"enableCoordinator,omitempty"` // default true
	DisableIPAM       *bool    `json:"disableIPAM,omitempty"`       // default false
	// Coordinator holds the settings of coordinator for one network. Server-side apply makes it
	// null when its last key goes: then there are none.
	// +nullable
	Coordinator *Coordinator `json:"coordinator,omitempty"`
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=65536
	ChainCNIJSONData []string `json:"chainCNIJsonData,omitempty"` // configurations of further plugins
	// +kubebuilder:validation:MaxLength=65536
	CustomCNI string `json:"customCNI,omitempty"` // the whole configuration, for cniType custom
	// +kubebuilder:validation:MaxProperties=32
	Capabilities map[string]bool `json:"capabilities,omitempty"` // of the main plugin, such as ips or mac
}

// Macvlan is a NIC on a link of the node, by macvlan or ipvlan.
//
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || has(self.bond)",messageExpression="'missing: want a bond of the interfaces ' + self.master.join(', ') + ', or one interface'",reason=FieldValueRequired,fieldPath=".bond"
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || !has(self.bond) || has(self.bond.name) && size(self.bond.name) > 0",message="missing: want the name of an interface",reason=FieldValueRequired,fieldPath=".bond.name"
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || !has(self.bond) || !has(self.bond.name) || !(self.bond.name in self.master)",messageExpression="self.bond.name + ': want another name than those in master'",fieldPath=".bond.name"
// +kubebuilder:validation:XValidation:rule="!has(self.vlanID) || self.vlanID == 0 || !has(self.master) || size(self.master) == 0 || size((size(self.master) > 1 && has(self.bond) && has(self.bond.name) ? self.bond.name : self.master[0])) + (self.vlanID < 10 ? 1 : self.vlanID < 100 ? 2 : self.vlanID < 1000 ? 3 : 4) <= 14",messageExpression="'the name of the VLAN, ' + (size(self.master) > 1 && has(self.bond) && has(self.bond.name) ? self.bond.name : self.master[0]) + '.<vlanID>, has more than 15 bytes'",fieldPath=".vlanID"
// +kubebuilder:validation:XValidation:rule="!self.?ippools.matchMasterSubnet.orValue(false)",message="true: want it with cniType sriov alone",fieldPath=".ippools.matchMasterSubnet"
type Macvlan struct {
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:%\\\\s]+$')",messageExpression="self + ': want an interface name, without space, slash, colon and percent sign'"
	// +listType=set
	// +required
	Master []string `json:"master,omitempty"` // links of the node; several become a bond
	// +kubebuilder:validation:Enum="";bridge;private;vepa;passthru;l2;l3;l3s
	Mode string `json:"mode,omitempty"` // macvlan: default bridge; ipvlan: default the plugin's, l2
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 68 && self <= 65535",message="want 0, or a number from 68 to 65535"
	MTU *int `json:"mtu,omitempty"` // bytes; 0: that of master
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLANID *int  `json:"vlanID,omitempty"` // 0: none
	Bond   *Bond `json:"bond,omitempty"`
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",messageExpression="self + ': want a domain, a slash and a name, such as spidernet.io/sriov_netdevice'"
	RDMAResourceName string   `json:"rdmaResourceName,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// VLAN is a NIC with a VLAN tag of its own, by the plugin vlan.
//
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || has(self.bond)",messageExpression="'missing: want a bond of the interfaces ' + self.master.join(', ') + ', or one interface'",reason=FieldValueRequired,fieldPath=".bond"
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || !has(self.bond) || has(self.bond.name) && size(self.bond.name) > 0",message="missing: want the name of an interface",reason=FieldValueRequired,fieldPath=".bond.name"
// +kubebuilder:validation:XValidation:rule="!has(self.master) || size(self.master) < 2 || !has(self.bond) || !has(self.bond.name) || !(self.bond.name in self.master)",messageExpression="self.bond.name + ': want another name than those in master'",fieldPath=".bond.name"
// +kubebuilder:validation:XValidation:rule="!has(self.vlanMode) || self.vlanMode != 'auto' || !has(self.vlanID)",message="want none with vlanMode auto: the tag is the pool's",fieldPath=".vlanID"
// +kubebuilder:validation:XValidation:rule="!self.?ippools.matchMasterSubnet.orValue(false)",message="true: want it with cniType sriov alone",fieldPath=".ippools.matchMasterSubnet"
type VLAN struct {
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:%\\\\s]+$')",messageExpression="self + ': want an interface name, without space, slash, colon and percent sign'"
	// +listType=set
	// +required
	Master []string `json:"master,omitempty"`
	// +kubebuilder:validation:Enum="";manual;auto
	VLANMode string `json:"vlanMode,omitempty"` // manual (default), or auto: the tag is the IPAM's
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLANID *int `json:"vlanID,omitempty"`
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 68 && self <= 65535",message="want 0, or a number from 68 to 65535"
	MTU  *int  `json:"mtu,omitempty"`
	Bond *Bond `json:"bond,omitempty"`
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",messageExpression="self + ': want a domain, a slash and a name, such as spidernet.io/sriov_netdevice'"
	RDMAResourceName string   `json:"rdmaResourceName,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// SRIOV is a virtual function, by the plugin sriov. Rates are Mbit/s; a maximum of 0 is no
// limit. EnableRDMA and CapitalMaxTxRate are other spellings, of the project's documents.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minTxRateMbps) || (has(self.maxTxRateMbps) ? self.maxTxRateMbps : has(self.MaxTxRateMbps) ? self.MaxTxRateMbps : 0) == 0 || self.minTxRateMbps <= (has(self.maxTxRateMbps) ? self.maxTxRateMbps : has(self.MaxTxRateMbps) ? self.MaxTxRateMbps : 0)",message="want at most the maximum, maxTxRateMbps",fieldPath=".minTxRateMbps"
// +kubebuilder:validation:XValidation:rule="!has(self.maxTxRateMbps) || !has(self.MaxTxRateMbps) || self.maxTxRateMbps == self.MaxTxRateMbps",message="maxTxRateMbps, another spelling of it, has another value",fieldPath=".MaxTxRateMbps"
// +kubebuilder:validation:XValidation:rule="!has(self.rdmaIsolation) || !has(self.enableRdma) || self.rdmaIsolation == self.enableRdma",message="rdmaIsolation, another name of it, has another value",fieldPath=".enableRdma"
type SRIOV struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",messageExpression="self + ': want a domain, a slash and a name, such as spidernet.io/sriov_netdevice'"
	// +required
	ResourceName string `json:"resourceName,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLANID *int `json:"vlanID,omitempty"`
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 68 && self <= 65535",message="want 0, or a number from 68 to 65535"
	MTU *int `json:"mtu,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	MinTxRate *int `json:"minTxRateMbps,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	MaxTxRate *int `json:"maxTxRateMbps,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	CapitalMaxTxRate *int     `json:"MaxTxRateMbps,omitempty"`
	RDMAIsolation    *bool    `json:"rdmaIsolation,omitempty"`
	EnableRDMA       *bool    `json:"enableRdma,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// IBSRIOV is a virtual function of an InfiniBand NIC, by the plugin ib-sriov.
//
// +kubebuilder:validation:XValidation:rule="!self.?ippools.matchMasterSubnet.orValue(false)",message="true: want it with cniType sriov alone",fieldPath=".ippools.matchMasterSubnet"
type IBSRIOV struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",messageExpression="self + ': want a domain, a slash and a name, such as spidernet.io/sriov_netdevice'"
	// +required
	ResourceName string `json:"resourceName,omitempty"`
	// +kubebuilder:validation:MaxLength=6
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0x[0-9a-fA-F]{1,4})?$')",messageExpression="self + ': want a hexadecimal number of 16 bits, such as 0x8001'"
	Pkey string `json:"pkey,omitempty"`
	// +kubebuilder:validation:Enum="";auto;enable;disable
	LinkState          string   `json:"linkState,omitempty"`
	RDMAIsolation      *bool    `json:"rdmaIsolation,omitempty"`
	EnableIBKubernetes *bool    `json:"enableIbKubernetes,omitempty"`
	IPPools            *IPPools `json:"ippools,omitempty"`
}

// IPoIB is an IP link on an InfiniBand NIC, by the plugin ipoib.
//
// +kubebuilder:validation:XValidation:rule="!self.?ippools.matchMasterSubnet.orValue(false)",message="true: want it with cniType sriov alone",fieldPath=".ippools.matchMasterSubnet"
type IPoIB struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:%\\\\s]+$')",messageExpression="self + ': want an interface name, without space, slash, colon and percent sign'"
	// +required
	Master  string   `json:"master,omitempty"`
	IPPools *IPPools `json:"ippools,omitempty"`
}

// OVS is a port of an Open vSwitch bridge, by the plugin ovs.
//
// +kubebuilder:validation:XValidation:rule="!self.?ippools.matchMasterSubnet.orValue(false)",message="true: want it with cniType sriov alone",fieldPath=".ippools.matchMasterSubnet"
type OVS struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:%\\\\s]+$')",messageExpression="self + ': want an interface name, without space, slash, colon and percent sign'"
	// +required
	Bridge string `json:"bridge,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLAN *int `json:"vlan,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	Trunk []Trunk `json:"trunk,omitempty"`
	// +kubebuilder:validation:MaxLength=253
	DeviceID string   `json:"deviceID,omitempty"`
	IPPools  *IPPools `json:"ippools,omitempty"`
}

// Trunk is one VLAN of a trunk port, or a range of them.
//
// +kubebuilder:validation:XValidation:rule="has(self.id) || has(self.minID) || has(self.maxID)",message="empty: want id, or minID and maxID"
// +kubebuilder:validation:XValidation:rule="has(self.minID) || !has(self.maxID)",message="missing: there is maxID",reason=FieldValueRequired,fieldPath=".minID"
// +kubebuilder:validation:XValidation:rule="has(self.maxID) || !has(self.minID)",message="missing: there is minID",reason=FieldValueRequired,fieldPath=".maxID"
// +kubebuilder:validation:XValidation:rule="!has(self.minID) || !has(self.maxID) || self.minID <= self.maxID",message="want at most maxID",fieldPath=".minID"
type Trunk struct {
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	MinID *int `json:"minID,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	MaxID *int `json:"maxID,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	ID *int `json:"id,omitempty"`
}

// Bond is made by ifacer of the masters.
type Bond struct {
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:%\\\\s]*$')",messageExpression="self + ': want an interface name, without space, slash, colon and percent sign'"
	Name string `json:"name,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=6
	Mode *int `json:"mode,omitempty"` // 0 to 6, as in the kernel's bonding.txt; default 0
	// +kubebuilder:validation:MaxLength=4096
	Options string `json:"options,omitempty"` // such as "primary=ens160;miimon=100"
}

// IPPools are pools from which the IPAM takes addresses, in this order: names, and patterns
// with *, ? or [a-z].
type IPPools struct {
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') || self.matches('[*?\\\\[]')",messageExpression="self + ': want the name of a SpiderIPPool, or a pattern with *, ? or [a-z]'"
	// +listType=set
	IPv4 []string `json:"ipv4,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') || self.matches('[*?\\\\[]')",messageExpression="self + ': want the name of a SpiderIPPool, or a pattern with *, ? or [a-z]'"
	// +listType=set
	IPv6              []string `json:"ipv6,omitempty"`
	MatchMasterSubnet *bool    `json:"matchMasterSubnet,omitempty"`
}

// Coordinator holds the settings of coordinator for one network.
type Coordinator struct {
	// +kubebuilder:validation:Enum="";auto;underlay;overlay;disabled;disable
	Mode string `json:"mode,omitempty"`
	// +kubebuilder:validation:Enum="";auto;cluster;calico;cilium;none
	PodCIDRType      string `json:"podCIDRType,omitempty"` // a setting of the cluster; without effect here
	DetectIPConflict *bool  `json:"detectIPConflict,omitempty"`
	DetectGateway    *bool  `json:"detectGateway,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isIP(self) || isCIDR(self) && cidr(self).prefixLength() > 0",messageExpression="self + ': want an address or a CIDR, such as 10.96.0.0/16, and no default route'"
	HijackCIDR []string `json:"hijackCIDR,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	PolicyRoutes []PolicyRoute `json:"policyRoutes,omitempty"`
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9a-fA-F][02468aceACE][:-][0-9a-fA-F]{2})?$')",messageExpression="self + ': want the two first bytes of a MAC address that is no multicast, such as 0a:1b'"
	PodMACPrefix  string `json:"podMACPrefix,omitempty"`
	TunePodRoutes *bool  `json:"tunePodRoutes,omitempty"`
	// +kubebuilder:validation:MaxLength=127
	// +kubebuilder:validation:XValidation:rule="!(self in ['.', '..']) && self.matches('^[^/:\\\\s]*$')",messageExpression="self + ': want an interface name'"
	PodDefaultRouteNIC string `json:"podDefaultRouteNIC,omitempty"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	// +kubebuilder:validation:XValidation:rule="self < 253 || self > 255",message="want a table that isn't one of the kernel's own: 253, 254 and 255"
	HostRuleTable *int `json:"hostRuleTable,omitempty"`
	// +kubebuilder:validation:Maximum=2
	// +kubebuilder:validation:Minimum=-2147483648
	PodRPFilter *int `json:"podRPFilter,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	TxQueueLen *int `json:"txQueueLen,omitempty"`
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || isIP(self) && ip(self).family() == 4 && (ip(self).isGlobalUnicast() || ip(self).isLinkLocalUnicast())",messageExpression="self + ': want an IPv4 address of one host, such as 169.254.200.1'"
	VethLinkAddress string `json:"vethLinkAddress,omitempty"`
	// +kubebuilder:validation:Minimum=68
	// +kubebuilder:validation:Maximum=65535
	VethMTU        *int     `json:"vethMTU,omitempty"`
	OverlayPodCIDR []string `json:"-"` // of a SpiderCoordinator
	ServiceCIDR    []string `json:"-"` // of a SpiderCoordinator
}

// ClusterCoordinator is the spec of a SpiderCoordinator.
type ClusterCoordinator struct {
	Coordinator `json:",inline"`

	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isIP(self) || isCIDR(self) && cidr(self).prefixLength() > 0",messageExpression="self + ': want an address or a CIDR, such as 10.96.0.0/16, and no default route'"
	OverlayPodCIDR []string `json:"overlayPodCIDR,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isIP(self) || isCIDR(self) && cidr(self).prefixLength() > 0",messageExpression="self + ': want an address or a CIDR, such as 10.96.0.0/16, and no default route'"
	ServiceCIDR []string `json:"serviceCIDR,omitempty"`
	// Mend says whether the agents bring living pods back to what they should have, by
	// themselves. Yes, unless it is false.
	Mend *bool `json:"mend,omitempty"`
}

// PolicyRoute is a route by the network's NIC.
//
// +kubebuilder:validation:XValidation:rule="!has(self.dst) || !has(self.gw) || !isIP(self.gw) || !isIP(self.dst) && !isCIDR(self.dst) || ip(self.gw).family() == (isIP(self.dst) ? ip(self.dst).family() : cidr(self.dst).ip().family())",messageExpression="self.gw + ': want an address of the same family as dst, ' + self.dst",fieldPath=".gw"
type PolicyRoute struct {
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isIP(self) || isCIDR(self) && cidr(self).prefixLength() > 0",messageExpression="self + ': want an address or a CIDR, and no default route'"
	// +required
	Dst string `json:"dst,omitempty"`
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLinkLocalUnicast())",messageExpression="self + ': want the address of a router'"
	// +required
	Gw string `json:"gw,omitempty"`
}
