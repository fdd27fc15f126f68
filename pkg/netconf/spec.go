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
// the user left the field out.
type Spec struct {
	CNIType           string          `json:"cniType,omitempty"` // default custom
	Macvlan           *Macvlan        `json:"macvlan,omitempty"`
	IPvlan            *Macvlan        `json:"ipvlan,omitempty"`
	VLAN              *VLAN           `json:"vlan,omitempty"`
	SRIOV             *SRIOV          `json:"sriov,omitempty"`
	IBSRIOV           *IBSRIOV        `json:"ibsriov,omitempty"`
	IPoIB             *IPoIB          `json:"ipoib,omitempty"`
	OVS               *OVS            `json:"ovs,omitempty"`
	EnableCoordinator *bool           `json:"enableCoordinator,omitempty"` // default true
	DisableIPAM       *bool           `json:"disableIPAM,omitempty"`       // default false
	Coordinator       *Coordinator    `json:"coordinator,omitempty"`
	ChainCNIJSONData  []string        `json:"chainCNIJsonData,omitempty"` // configurations of further plugins
	CustomCNI         string          `json:"customCNI,omitempty"`        // the whole configuration, for cniType custom
	Capabilities      map[string]bool `json:"capabilities,omitempty"`     // of the main plugin, such as ips or mac
}

// Macvlan is a NIC on a link of the node, by macvlan or ipvlan.
type Macvlan struct {
	Master           []string `json:"master,omitempty"` // links of the node; several become a bond
	Mode             string   `json:"mode,omitempty"`   // macvlan: default bridge; ipvlan: default the plugin's, l2
	MTU              *int     `json:"mtu,omitempty"`    // bytes; 0: that of master
	VLANID           *int     `json:"vlanID,omitempty"` // 0: none
	Bond             *Bond    `json:"bond,omitempty"`
	RDMAResourceName string   `json:"rdmaResourceName,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// VLAN is a NIC with a VLAN tag of its own, by the plugin vlan.
type VLAN struct {
	Master           []string `json:"master,omitempty"`
	VLANMode         string   `json:"vlanMode,omitempty"` // manual (default), or auto: the tag is the IPAM's
	VLANID           *int     `json:"vlanID,omitempty"`
	MTU              *int     `json:"mtu,omitempty"`
	Bond             *Bond    `json:"bond,omitempty"`
	RDMAResourceName string   `json:"rdmaResourceName,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// SRIOV is a virtual function, by the plugin sriov. Rates are Mbit/s; a maximum of 0 is no
// limit. EnableRDMA and CapitalMaxTxRate are other spellings, of the project's documents.
type SRIOV struct {
	ResourceName     string   `json:"resourceName,omitempty"`
	VLANID           *int     `json:"vlanID,omitempty"`
	MTU              *int     `json:"mtu,omitempty"`
	MinTxRate        *int     `json:"minTxRateMbps,omitempty"`
	MaxTxRate        *int     `json:"maxTxRateMbps,omitempty"`
	CapitalMaxTxRate *int     `json:"MaxTxRateMbps,omitempty"`
	RDMAIsolation    *bool    `json:"rdmaIsolation,omitempty"`
	EnableRDMA       *bool    `json:"enableRdma,omitempty"`
	IPPools          *IPPools `json:"ippools,omitempty"`
}

// IBSRIOV is a virtual function of an InfiniBand NIC, by the plugin ib-sriov.
type IBSRIOV struct {
	ResourceName       string   `json:"resourceName,omitempty"`
	Pkey               string   `json:"pkey,omitempty"`
	LinkState          string   `json:"linkState,omitempty"`
	RDMAIsolation      *bool    `json:"rdmaIsolation,omitempty"`
	EnableIBKubernetes *bool    `json:"enableIbKubernetes,omitempty"`
	IPPools            *IPPools `json:"ippools,omitempty"`
}

// IPoIB is an IP link on an InfiniBand NIC, by the plugin ipoib.
type IPoIB struct {
	Master  string   `json:"master,omitempty"`
	IPPools *IPPools `json:"ippools,omitempty"`
}

// OVS is a port of an Open vSwitch bridge, by the plugin ovs.
type OVS struct {
	Bridge   string   `json:"bridge,omitempty"`
	VLAN     *int     `json:"vlan,omitempty"`
	Trunk    []Trunk  `json:"trunk,omitempty"`
	DeviceID string   `json:"deviceID,omitempty"`
	IPPools  *IPPools `json:"ippools,omitempty"`
}

// Trunk is one VLAN of a trunk port, or a range of them.
type Trunk struct {
	MinID *int `json:"minID,omitempty"`
	MaxID *int `json:"maxID,omitempty"`
	ID    *int `json:"id,omitempty"`
}

// Bond is made by ifacer of the masters.
type Bond struct {
	Name    string `json:"name,omitempty"`
	Mode    *int   `json:"mode,omitempty"`    // 0 to 6, as in the kernel's bonding.txt; default 0
	Options string `json:"options,omitempty"` // such as "primary=ens160;miimon=100"
}

// IPPools are pools from which the IPAM takes addresses, in this order.
type IPPools struct {
	IPv4              []string `json:"ipv4,omitempty"`
	IPv6              []string `json:"ipv6,omitempty"`
	MatchMasterSubnet *bool    `json:"matchMasterSubnet,omitempty"`
}

// Coordinator holds the settings of coordinator for one network.
type Coordinator struct {
	Mode               string        `json:"mode,omitempty"`
	PodCIDRType        string        `json:"podCIDRType,omitempty"` // a setting of the cluster; without effect here
	DetectIPConflict   *bool         `json:"detectIPConflict,omitempty"`
	DetectGateway      *bool         `json:"detectGateway,omitempty"`
	HijackCIDR         []string      `json:"hijackCIDR,omitempty"`
	PolicyRoutes       []PolicyRoute `json:"policyRoutes,omitempty"`
	PodMACPrefix       string        `json:"podMACPrefix,omitempty"`
	TunePodRoutes      *bool         `json:"tunePodRoutes,omitempty"`
	PodDefaultRouteNIC string        `json:"podDefaultRouteNIC,omitempty"`
	HostRuleTable      *int          `json:"hostRuleTable,omitempty"`
	PodRPFilter        *int          `json:"podRPFilter,omitempty"`
	TxQueueLen         *int          `json:"txQueueLen,omitempty"`
	VethLinkAddress    string        `json:"vethLinkAddress,omitempty"`
	VethMTU            *int          `json:"vethMTU,omitempty"`
	OverlayPodCIDR     []string      `json:"-"` // of a SpiderCoordinator
	ServiceCIDR        []string      `json:"-"` // of a SpiderCoordinator
}

// clusterCoordinator is the spec of a SpiderCoordinator.
type clusterCoordinator struct {
	Coordinator
	OverlayPodCIDR []string `json:"overlayPodCIDR,omitempty"`
	ServiceCIDR    []string `json:"serviceCIDR,omitempty"`
}

// PolicyRoute is a route by the network's NIC.
type PolicyRoute struct {
	Dst string `json:"dst,omitempty"`
	Gw  string `json:"gw,omitempty"`
}
