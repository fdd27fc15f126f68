// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"go4.org/netipx"

	"github.com/multihome/multihome/pkg/netconf"
)

// StaticGroup is the group of the kinds VLANSubnet and StaticPod.
const StaticGroup = "staticmacvlan.rancher.com"

// VLANSubnetSpec is the spec of a VLANSubnet: a link of the nodes, and the addresses of the
// pods on it.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || size(self.gateway) == 0 || isIP(self.gateway) && (!isCIDR(self.cidr) || cidr(self.cidr).containsIP(self.gateway))",messageExpression="'\"' + self.gateway + '\": want an address of cidr ' + self.cidr",fieldPath=".gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.ranges) || !isCIDR(self.cidr) || self.ranges.all(r, [r.rangeStart, r.rangeEnd].all(a, !isIP(a) || cidr(self.cidr).containsIP(a)))",messageExpression="'want rangeStart and rangeEnd in cidr ' + self.cidr",fieldPath=".ranges"
// +kubebuilder:validation:XValidation:rule="!has(self.routes) || !isCIDR(self.cidr) || self.routes.all(r, !isCIDR(r.dst) || cidr(r.dst).ip().family() == cidr(self.cidr).ip().family())",messageExpression="'dst: want CIDRs of the family of cidr ' + self.cidr",fieldPath=".routes"
// +kubebuilder:validation:XValidation:rule="!has(self.routes) || !isCIDR(self.cidr) || self.routes.all(r, !isIP(r.gw) || cidr(self.cidr).containsIP(r.gw))",messageExpression="'gw: want addresses of cidr ' + self.cidr",fieldPath=".routes"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !isCIDR(oldSelf.cidr) || cidr(self.cidr).masked() == cidr(oldSelf.cidr).masked()",messageExpression="'\"' + self.cidr + '\": want ' + oldSelf.cidr + ', as it was: make another VLANSubnet for another CIDR'",fieldPath=".cidr"
// +kubebuilder:validation:XValidation:rule="(has(self.vlan) ? self.vlan : 0) == (has(oldSelf.vlan) ? oldSelf.vlan : 0)",message="want it as it was: make another VLANSubnet for another VLAN",fieldPath=".vlan"
type VLANSubnetSpec struct {
	// The link of the nodes that is in the LAN, such as eth0.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\\\s/:]+$') && self != '.' && self != '..'",messageExpression="'\"' + self + '\": want the name of a link of the nodes, such as eth0'"
	Master string `json:"master"`
	// The VLAN's number, 0 for none. The nodes get a link with the object's name in this VLAN
	// of master.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4094
	VLAN int `json:"vlan,omitempty"`
	// The subnet of the addresses, such as 192.168.1.0/24.
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",messageExpression="'\"' + self + '\": want a CIDR, such as 192.168.1.0/24'"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).masked().ip().isGlobalUnicast() || cidr(self).masked().ip().isLinkLocalUnicast()",messageExpression="'\"' + self + '\": want a CIDR of addresses that a NIC can have, such as 192.168.1.0/24'"
	CIDR string `json:"cidr"`
	// How the pods' macvlans reach each other; bridge by default (ip-link(8), macvlan).
	// +kubebuilder:validation:Enum=bridge;private;vepa;passthru
	Mode string `json:"mode,omitempty"`
	// The router. Nobody gets its address; it is the default route of pods whose first NIC is
	// here.
	// +kubebuilder:validation:MaxLength=45
	Gateway string `json:"gateway,omitempty"`
	// Which addresses of cidr pods get; all of them by default.
	// +kubebuilder:validation:MaxItems=1024
	Ranges []VLANRange `json:"ranges,omitempty"`
	// Further routes of the pods.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self.dst)",messageExpression="'\"' + self.dst + '\": want a CIDR, such as 10.7.0.0/16'",fieldPath=".dst"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self.dst) || cidr(self.dst).prefixLength() > 0",messageExpression="'\"' + self.dst + '\": want spec.gateway for the default route'",fieldPath=".dst"
	// +kubebuilder:validation:items:XValidation:rule="isIP(self.gw)",messageExpression="'\"' + self.gw + '\": want an address'",fieldPath=".gw"
	Routes []Route `json:"routes,omitempty"`
}

// VLANRange is a range of addresses, with both ends.
//
// +kubebuilder:object:generate=true
type VLANRange struct {
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="'\"' + self + '\": want an address'"
	RangeStart string `json:"rangeStart"`
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="'\"' + self + '\": want an address'"
	RangeEnd string `json:"rangeEnd"`
}

// Modes of macvlans, of which the first one is the default (ip-link(8)).
var modes = []string{"bridge", "private", "vepa", "passthru"}

// VLANSubnet is a VLANSubnet as the pure functions take it.
type VLANSubnet struct {
	Name, UID string
	Created   time.Time
	Deleting  bool
	Spec      VLANSubnetSpec
}

// vlanSubnetPrefix begins the names of the pools that VLANSubnets are. No SpiderIPPool has such
// a name.
const vlanSubnetPrefix = "vlansubnet/"

// VLANSubnetPool returns the name of the pool that a VLANSubnet is, as IPAddresses have it:
// vlansubnet/mv1.100.
func VLANSubnetPool(name string) string { return vlanSubnetPrefix + name }

// Pool returns the VLANSubnet as a pool: the addresses of its ranges, without the gateway, in
// the network of its VLAN. inUse says whether addresses of it are in use.
func (v VLANSubnet) Pool(inUse bool) Pool {
	s := v.Spec
	out := SubnetSpec{Subnet: s.CIDR, Routes: s.Routes}
	if s.VLAN != 0 {
		out.VLAN = &s.VLAN
	}
	if s.Gateway != "" {
		out.Gateway, out.ExcludeIPs = &s.Gateway, []string{s.Gateway}
	}
	for _, r := range s.Ranges {
		out.IPs = append(out.IPs, r.String())
	}
	if len(s.Ranges) == 0 {
		out.IPs = Text(Without(set(netipx.RangeOfPrefix(out.Prefix())), unusable(out.Prefix())))
	}
	return Pool{
		Name: VLANSubnetPool(v.Name), UID: v.UID, Created: v.Created, Deleting: v.Deleting, InUse: inUse,
		Spec: PoolSpec{SubnetSpec: out}, VLANSubnet: &v,
	}
}

func (r VLANRange) String() string { return r.RangeStart + "-" + r.RangeEnd }

// linkName is the greatest length of a link's name (IFNAMSIZ of linux/if.h without the zero).
const linkName = 15

// Link returns the link of the nodes that the VLANSubnet has: its VLAN, or without one a macvlan
// beside those of the pods, as far as its name and mode allow that.
func (v VLANSubnet) Link() HostLink {
	l := HostLink{Name: v.Spec.Master, Master: v.Spec.Master, VLAN: v.Spec.VLAN, Mode: v.Spec.Mode}
	if l.Mode == "" {
		l.Mode = modes[0]
	}
	if l.VLAN != 0 || l.Mode == modes[0] && len(v.Name) <= linkName {
		l.Name = v.Name
	}
	return l
}

// HostLink is the link of a node beside which, or on which, a pod's NIC is a macvlan.
//
// +kubebuilder:object:generate=true
type HostLink struct {
	Name   string `json:"name"`   // master itself if there is no other
	Master string `json:"master"` // the link that carries the VLAN, or the macvlans
	VLAN   int    `json:"vlan,omitempty"`
	Mode   string `json:"mode"` // of the macvlan
}

// Validate returns everything that is wrong with the VLANSubnet, without a look at others.
func (v VLANSubnet) Validate() []netconf.Fault {
	k, s := &checker{}, v.Spec
	if s.Master == "" {
		k.add("spec.master", "missing: want the name of a link of the nodes, such as eth0")
	} else if !isInterface(s.Master) {
		k.add("spec.master", "%q: want the name of a link of the nodes, such as eth0", s.Master)
	}
	if s.VLAN < 0 || s.VLAN > maxVLAN {
		k.add("spec.vlan", "%d: want a number from 0 to %d", s.VLAN, maxVLAN)
	}
	if s.VLAN != 0 && len(v.Name) > maxInterface {
		k.add("metadata.name", "%q: %d bytes: want at most %d, for the nodes get a link of this name", v.Name, len(v.Name), maxInterface)
	}
	if s.VLAN != 0 && v.Name == s.Master {
		k.add("metadata.name", "%q: want another name than that of master: the nodes get a link of this name", v.Name)
	}
	if s.Mode != "" && !slices.Contains(modes, s.Mode) {
		k.add("spec.mode", "%q: want one of %s", s.Mode, strings.Join(modes, ", "))
	}
	prefix := prefixOf(s.CIDR)
	if s.CIDR == "" {
		k.add("spec.cidr", "missing: want a CIDR, such as 192.168.1.0/24")
	} else if !prefix.IsValid() {
		k.add("spec.cidr", "%q: want a CIDR, such as 192.168.1.0/24", s.CIDR)
	} else if !ofHosts(prefix) {
		k.add("spec.cidr", "%q: want a CIDR of addresses that a NIC can have, such as 192.168.1.0/24", s.CIDR)
	}
	in := SubnetSpec{Subnet: s.CIDR}
	if s.Gateway != "" {
		k.router("spec.gateway", s.Gateway, in)
	}
	var ranges []string
	for _, r := range s.Ranges {
		ranges = append(ranges, r.String())
	}
	for i, r := range k.ranges("spec.ranges", ranges) {
		if r.IsValid() && prefix.IsValid() && (!prefix.Contains(r.From()) || !prefix.Contains(r.To())) {
			k.add(fmt.Sprintf("spec.ranges[%d]", i), "%q: want addresses of cidr %s", ranges[i], s.CIDR)
		}
	}
	in.Routes = s.Routes
	k.routes(in)
	for i, f := range k.faults {
		k.faults[i].Message = strings.ReplaceAll(f.Message, "of subnet ", "of cidr ")
	}
	return k.faults
}

// Refuses says why no pod can have an address, "" if one can. A length, if the text has one,
// is that of cidr.
func (v VLANSubnet) Refuses(text string) string {
	prefix := prefixOf(v.Spec.CIDR)
	a, bits, ok := parseAddress(text)
	switch {
	case !ok:
		return fmt.Sprintf("%s: want an address of VLANSubnet %s, whose cidr is %s", quote(text), v.Name, v.Spec.CIDR)
	case !prefix.Contains(a):
		return fmt.Sprintf("%s: want an address of cidr %s of VLANSubnet %s", text, v.Spec.CIDR, v.Name)
	case bits >= 0 && bits != prefix.Bits():
		return fmt.Sprintf("%s: want length %d, as in cidr %s of VLANSubnet %s, or none", text, prefix.Bits(), v.Spec.CIDR, v.Name)
	case unusable(prefix).Contains(a) && a == prefix.Addr():
		return fmt.Sprintf("%s: it is the network's own address in cidr %s of VLANSubnet %s: want one of a host", text, v.Spec.CIDR, v.Name)
	case unusable(prefix).Contains(a):
		return fmt.Sprintf("%s: it is the broadcast address of cidr %s of VLANSubnet %s: want one of a host", text, v.Spec.CIDR, v.Name)
	}
	if gw, err := netip.ParseAddr(v.Spec.Gateway); err == nil && gw == a {
		return fmt.Sprintf("%s: it is the gateway of VLANSubnet %s: want another address", text, v.Name)
	}
	if total := v.Pool(false).Spec.Total(); !total.Contains(a) {
		return fmt.Sprintf("%s: want an address of spec.ranges of VLANSubnet %s: %s", text, v.Name, brief(total))
	}
	return ""
}

// parseAddress reads an address with a length or without one, which is -1.
func parseAddress(text string) (a netip.Addr, bits int, ok bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr(), p.Bits(), !p.Addr().Is4In6()
	}
	a, err := netip.ParseAddr(text)
	return a, -1, err == nil && a.Zone() == "" && !a.Is4In6() && !strings.ContainsFunc(text, unicode.IsSpace)
}
