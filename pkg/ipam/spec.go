// SPDX-License-Identifier: Apache-2.0

package ipam

// Group is the group of the kinds SpiderSubnet, SpiderIPPool, SpiderEndpoint and
// SpiderReservedIP.
const Group = "spiderpool.spidernet.io"

// SubnetSpec is the spec of a SpiderSubnet, and the part of a SpiderIPPool that says which
// addresses it has.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || !isCIDR(self.subnet) || cidr(self.subnet).ip().family() == self.ipVersion",messageExpression="(self.ipVersion == 4 ? '4: want 6, the family of subnet ' : '6: want 4, the family of subnet ') + self.subnet",fieldPath=".ipVersion"
// +kubebuilder:validation:XValidation:rule="!has(self.network) || size(self.network) == 0 || !has(self.vlan) || self.vlan == 0",messageExpression="'\"' + self.network + '\": want network or vlan, not both: vlan N is short for network vlanN'",fieldPath=".network"
// +kubebuilder:validation:XValidation:rule="!has(self.ips) || !isCIDR(self.subnet) || self.ips.all(r, [r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || cidr(self.subnet).containsIP(a)))",messageExpression="'\"' + self.ips.filter(r, ![r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || cidr(self.subnet).containsIP(a)))[0] + '\": want addresses of subnet ' + self.subnet",fieldPath=".ips"
// +kubebuilder:validation:XValidation:rule="!has(self.excludeIPs) || !isCIDR(self.subnet) || self.excludeIPs.all(r, [r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || cidr(self.subnet).containsIP(a)))",messageExpression="'\"' + self.excludeIPs.filter(r, ![r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || cidr(self.subnet).containsIP(a)))[0] + '\": want addresses of subnet ' + self.subnet",fieldPath=".excludeIPs"
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || isIP(self.gateway) && (!isCIDR(self.subnet) || cidr(self.subnet).containsIP(self.gateway))",messageExpression="'\"' + self.gateway + '\": want an address of subnet ' + self.subnet",fieldPath=".gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || !isIP(self.gateway) || !has(self.ips) || has(self.excludeIPs) && size(self.excludeIPs) > 0 || self.ips.all(r, [r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || !cidr(self.gateway + (ip(self.gateway).family() == 4 ? '/32' : '/128')).containsIP(a)))",messageExpression="'\"' + self.gateway + '\": it is in ips: want it in excludeIPs too, or not in ips'",fieldPath=".gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(r, !isCIDR(r.dst) || cidr(r.dst).ip().family() == cidr(self.subnet).ip().family())",messageExpression="'dst: want CIDRs of the family of subnet ' + self.subnet",fieldPath=".routes"
// +kubebuilder:validation:XValidation:rule="!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(r, !isIP(r.gw) || cidr(self.subnet).containsIP(r.gw))",messageExpression="'gw: want addresses of subnet ' + self.subnet",fieldPath=".routes"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.subnet) || !isCIDR(oldSelf.subnet) || cidr(self.subnet).masked() == cidr(oldSelf.subnet).masked()",messageExpression="'\"' + self.subnet + '\": want ' + oldSelf.subnet + ', as it was: make another object for another subnet'",fieldPath=".subnet"
// +kubebuilder:validation:XValidation:rule="(has(self.vlan) ? self.vlan : 0) == (has(oldSelf.vlan) ? oldSelf.vlan : 0)",message="want it as it was: make another object for another VLAN",fieldPath=".vlan"
// +kubebuilder:validation:XValidation:rule="(has(self.network) ? self.network : \"\") == (has(oldSelf.network) ? oldSelf.network : \"\")",messageExpression="'\"' + (has(self.network) ? self.network : \"\") + '\": want \"' + (has(oldSelf.network) ? oldSelf.network : \"\") + '\", as it was: make another object for another network'",fieldPath=".network"
type SubnetSpec struct {
	// 4 or 6; by default the family of subnet.
	// +kubebuilder:validation:Enum=4;6
	IPVersion *int `json:"ipVersion,omitempty"`
	// A CIDR such as 10.6.0.0/16. Bits of the host are kept as written and don't count.
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",messageExpression="'\"' + self + '\": want a CIDR, such as 10.6.0.0/16'"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).masked().ip().isGlobalUnicast() || cidr(self).masked().ip().isLinkLocalUnicast()",messageExpression="'\"' + self + '\": want a CIDR of addresses that a NIC can have, such as 10.6.0.0/16'"
	Subnet string `json:"subnet"`
	// Single addresses and ranges: 10.6.168.171 or 10.6.168.171-10.6.168.180.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=91
	// +kubebuilder:validation:items:XValidation:rule="self.split('-').size() <= 2 && isIP(self.split('-')[0]) && isIP(self.split('-')[self.split('-').size() - 1])",messageExpression="'\"' + self + '\": want an address, such as 10.6.168.171, or a range, such as 10.6.168.171-10.6.168.180'"
	IPs []string `json:"ips,omitempty"`
	// Addresses that nobody gets, as in ips.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=91
	// +kubebuilder:validation:items:XValidation:rule="self.split('-').size() <= 2 && isIP(self.split('-')[0]) && isIP(self.split('-')[self.split('-').size() - 1])",messageExpression="'\"' + self + '\": want an address, such as 10.6.168.171, or a range, such as 10.6.168.171-10.6.168.180'"
	ExcludeIPs []string `json:"excludeIPs,omitempty"`
	// The next hop of the default route.
	// +kubebuilder:validation:MaxLength=45
	Gateway *string `json:"gateway,omitempty"`
	// The VLAN in which the addresses are, 0 for none. Equal addresses in two VLANs are
	// different ones: vlan 100 is short for network vlan100.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLAN *int `json:"vlan,omitempty"`
	// The network in which the addresses are, if the same ones are used in several.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$')",messageExpression="'\"' + self + '\": want 1 to 63 lower case letters, digits and \\'-\\', with a letter or digit at both ends'"
	Network string `json:"network,omitempty"`
	// Further routes of the pods.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self.dst)",messageExpression="'\"' + self.dst + '\": want a CIDR, such as 10.7.0.0/16'",fieldPath=".dst"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self.dst) || cidr(self.dst).prefixLength() > 0",messageExpression="'\"' + self.dst + '\": want spec.gateway for the default route'",fieldPath=".dst"
	// +kubebuilder:validation:items:XValidation:rule="isIP(self.gw)",messageExpression="'\"' + self.gw + '\": want an address'",fieldPath=".gw"
	// +kubebuilder:validation:XValidation:rule="self.all(r, !isCIDR(r.dst) || self.exists_one(o, isCIDR(o.dst) && cidr(o.dst).masked() == cidr(r.dst).masked()))",message="want one route to each dst"
	Routes []Route `json:"routes,omitempty"`
}

// Route is a route of a pod.
//
// +kubebuilder:object:generate=true
type Route struct {
	// +kubebuilder:validation:MaxLength=49
	Dst string `json:"dst"` // a CIDR
	// +kubebuilder:validation:MaxLength=45
	Gw string `json:"gw"` // an address of the subnet
}

// PoolSpec is the spec of a SpiderIPPool.
//
// +kubebuilder:object:generate=true
type PoolSpec struct {
	SubnetSpec `json:",inline"`

	// Which pods get addresses, by their labels.
	// +kubebuilder:validation:XValidation:rule="has(self.matchLabels) && size(self.matchLabels) > 0 || has(self.matchExpressions) && size(self.matchExpressions) > 0",message="empty: want matchLabels or matchExpressions, or no podAffinity for all pods"
	PodAffinity *Selector `json:"podAffinity,omitempty"`
	// Pods of which namespaces get addresses; namespaceName, if given, instead.
	NamespaceAffinity *Selector `json:"namespaceAffinity,omitempty"`
	// Pods on which nodes get addresses; nodeName, if given, instead.
	NodeAffinity *Selector `json:"nodeAffinity,omitempty"`
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",messageExpression="'\"' + self + '\": want the name of a namespace'"
	NamespaceName []string `json:"namespaceName,omitempty"`
	// +kubebuilder:validation:MaxItems=5000
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",messageExpression="'\"' + self + '\": want the name of a node'"
	NodeName []string `json:"nodeName,omitempty"`
	// NICs of which networks get addresses: NAMESPACE/NAME of a
	// NetworkAttachmentDefinition, or NAME for one in the pod's namespace or in that of
	// Multus.
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",messageExpression="'\"' + self + '\": want NAME or NAMESPACE/NAME of a NetworkAttachmentDefinition'"
	MultusName []string `json:"multusName,omitempty"`
	// Whether NICs that name no pool get addresses.
	// +kubebuilder:default=false
	Default *bool `json:"default,omitempty"`
	// Whether nobody gets further addresses.
	// +kubebuilder:default=false
	Disable *bool `json:"disable,omitempty"`
}

// ReservedSpec is the spec of a SpiderReservedIP: addresses that no pool hands out.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || !has(self.ips) || self.ips.all(r, [r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || ip(a).family() == self.ipVersion))",messageExpression="self.ipVersion == 4 ? 'want addresses of IPv4, as ipVersion says' : 'want addresses of IPv6, as ipVersion says'",fieldPath=".ips"
// +kubebuilder:validation:XValidation:rule="has(self.ipVersion) || !has(self.ips) || self.ips.all(r, [r.split('-')[0], r.split('-')[r.split('-').size() - 1]].all(a, !isIP(a) || !isIP(self.ips[0].split('-')[0]) || ip(a).family() == ip(self.ips[0].split('-')[0]).family()))",message="want addresses of one family: make another SpiderReservedIP for the other family",fieldPath=".ips"
// +kubebuilder:validation:XValidation:rule="!has(self.ipVersion) || !has(oldSelf.ipVersion) || self.ipVersion == oldSelf.ipVersion",message="want it as it was: make another SpiderReservedIP for the other family",fieldPath=".ipVersion"
type ReservedSpec struct {
	// +kubebuilder:validation:Enum=4;6
	IPVersion *int `json:"ipVersion,omitempty"`
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=91
	// +kubebuilder:validation:items:XValidation:rule="self.split('-').size() <= 2 && isIP(self.split('-')[0]) && isIP(self.split('-')[self.split('-').size() - 1])",messageExpression="'\"' + self + '\": want an address, such as 10.6.168.171, or a range, such as 10.6.168.171-10.6.168.180'"
	IPs []string `json:"ips,omitempty"`
}

// Selector selects objects by their labels, as a LabelSelector of Kubernetes does
// (k8s.io/apimachinery, meta/v1).
//
// +kubebuilder:object:generate=true
type Selector struct {
	// +kubebuilder:validation:MaxProperties=64
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	// +kubebuilder:validation:MaxItems=64
	MatchExpressions []Requirement `json:"matchExpressions,omitempty"`
}

// Requirement is an expression of a Selector.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['In', 'NotIn']) || has(self.values) && size(self.values) > 0",messageExpression="'missing: operator ' + self.operator + ' needs at least one'",reason=FieldValueRequired,fieldPath=".values"
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",messageExpression="'want none with operator ' + self.operator",fieldPath=".values"
type Requirement struct {
	Key string `json:"key"`
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator string `json:"operator"`
	// +kubebuilder:validation:MaxItems=256
	Values []string `json:"values,omitempty"`
}

// Inherited is what a pool has from the subnet in which it lies, as far as it names no
// gateway or routes itself. It is kept in the pool's status: a later change of the subnet
// doesn't reach the pool.
//
// +kubebuilder:object:generate=true
type Inherited struct {
	Subnet  string  `json:"subnet"` // the SpiderSubnet's name
	UID     string  `json:"uid"`    // the SpiderSubnet's
	Gateway string  `json:"gateway,omitempty"`
	Routes  []Route `json:"routes,omitempty"`
}
