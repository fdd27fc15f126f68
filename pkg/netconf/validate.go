// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/config"
)

// The limits of the API: they bound what its rules cost the API server.
const (
	maxMasters = 8
	maxList    = 64       // pools, CIDRs, routes and VLANs of a trunk
	maxChain   = 16       // elements of chainCNIJsonData
	maxFlags   = 32       // capabilities
	maxDevice  = 253      // bytes of deviceID
	maxText    = 64 << 10 // bytes of customCNI or of an element of chainCNIJsonData
	nameLen    = 15       // of a link: IFNAMSIZ without the zero
)

var (
	label        = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)                              // RFC 1123
	subdomain    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`) // RFC 1123
	resourceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	networkName  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`) // the CNI specification, "Network configuration format"
	pkey         = regexp.MustCompile(`^0x[0-9a-fA-F]{1,4}$`)
)

// Versions are the values of the annotation multus.spidernet.io/cni-version.
var Versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// defaultVersion is the version that the chains have without the annotation.
const defaultVersion = "0.3.1"

// IsLabel reports whether a name is a label of RFC 1123, as names of networks are.
func IsLabel(name string) bool { return label.MatchString(name) }

// IsSubdomain reports whether a name is one that most objects of Kubernetes can have: labels
// with dots between them (RFC 1123).
func IsSubdomain(name string) bool { return len(name) <= 253 && subdomain.MatchString(name) }

// isPool reports whether a text is the name of a pool, or a pattern of names.
func isPool(text string) bool {
	if strings.ContainsAny(text, "*?[") {
		_, err := path.Match(text, "")
		return err == nil && len(text) <= 253
	}
	return IsSubdomain(text)
}

// IsNetworkName reports whether the CNI library takes a name of a network (pkg/utils,
// ValidateNetworkName).
func IsNetworkName(name string) bool { return networkName.MatchString(name) }

// cniTypes are the values of cniType, each with the field that holds its block.
var cniTypes = []struct{ name, block string }{
	{"macvlan", "macvlan"}, {"ipvlan", "ipvlan"}, {"vlan", "vlan"}, {"sriov", "sriov"},
	{"ib-sriov", "ibsriov"}, {"ipoib", "ipoib"}, {"ovs", "ovs"}, {"custom", ""},
}

// checker collects faults.
type checker struct{ faults []Fault }

func (k *checker) add(path, format string, a ...any) {
	k.faults = append(k.faults, Fault{Path: path, Message: fmt.Sprintf(format, a...)})
}

func (k *checker) warn(path, message string) {
	k.faults = append(k.faults, Fault{Path: path, Message: message, Warning: true})
}

// Validate returns everything that is wrong with the configuration, and warnings.
func (c Config) Validate() []Fault {
	k := &checker{}
	k.metadata(c)
	s := c.Spec
	i := slices.IndexFunc(cniTypes, func(t struct{ name, block string }) bool { return t.name == c.cniType() })
	if i < 0 {
		var names []string
		for _, t := range cniTypes {
			names = append(names, t.name)
		}
		k.add("spec.cniType", "%q: want one of %s", s.CNIType, strings.Join(names, ", "))
		return k.faults
	}
	k.blocks(s, cniTypes[i].name, cniTypes[i].block)
	switch c.cniType() {
	case "macvlan", "ipvlan":
		if path, m := s.macvlan(); m != nil {
			k.macvlan(path, c.cniType(), m)
		}
	case "vlan":
		k.vlan(s.VLAN)
	case "sriov":
		k.sriov(s.SRIOV)
	case "ib-sriov":
		k.ibsriov(s.IBSRIOV)
	case "ipoib":
		k.ipoib(s.IPoIB)
	case "ovs":
		k.ovs(s.OVS)
	case "custom":
		k.custom(s)
	}
	k.most("spec.capabilities", len(s.Capabilities), maxFlags)
	k.most("spec.chainCNIJsonData", len(s.ChainCNIJSONData), maxChain)
	for i, text := range s.ChainCNIJSONData {
		k.plugin(fmt.Sprintf("spec.chainCNIJsonData[%d]", i), []byte(text))
	}
	if s.Coordinator != nil {
		k.coordinator("spec.coordinator", s.Coordinator)
		switch prefix := s.Coordinator.PodMACPrefix; {
		case !on(s.EnableCoordinator, true):
			k.warn("spec.coordinator", "without effect: spec.enableCoordinator is false")
		case s.CNIType == "ipvlan" && prefix != "":
			k.add("spec.coordinator.podMACPrefix", "%q: want none with cniType ipvlan: an ipvlan has its parent's MAC", prefix)
		}
	}
	if s.pools() != nil && on(s.DisableIPAM, false) {
		k.warn("spec.disableIPAM", "true: ippools are without effect")
	}
	if on(s.DisableIPAM, false) && c.coordinates() {
		k.warn("spec.disableIPAM", "true: coordinator refuses a NIC without addresses, and no pod starts: want enableCoordinator: false, unless a plugin of chainCNIJsonData gives it some")
	}
	k.inject(c)
	return k.faults
}

// coordinates reports whether coordinator is in the chain, and does something.
func (c Config) coordinates() bool {
	mode := ""
	if c.Spec.Coordinator != nil {
		mode = c.Spec.Coordinator.Mode
	}
	return c.cniType() != "custom" && on(c.Spec.EnableCoordinator, true) && mode != "disabled" && mode != "disable"
}

// cniType returns the type, with the default filled in.
func (c Config) cniType() string {
	if c.Spec.CNIType == "" {
		return "custom"
	}
	return c.Spec.CNIType
}

// on returns a boolean, or its default.
func on(p *bool, without bool) bool {
	if p == nil {
		return without
	}
	return *p
}

// number returns a number, 0 if there is none.
func number(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}

// macvlan returns the block of cniType macvlan or ipvlan, and its path. A block macvlan
// serves an ipvlan, too: the project's documents have it so.
func (s Spec) macvlan() (path string, block *Macvlan) {
	if s.CNIType == "ipvlan" && (s.IPvlan != nil || s.Macvlan == nil) {
		return "spec.ipvlan", s.IPvlan
	}
	return "spec.macvlan", s.Macvlan
}

// pools returns the pools of the block that counts, nil if it names none.
func (s Spec) pools() *IPPools {
	switch _, m := s.macvlan(); {
	case (s.CNIType == "macvlan" || s.CNIType == "ipvlan") && m != nil:
		return m.IPPools
	case s.CNIType == "vlan" && s.VLAN != nil:
		return s.VLAN.IPPools
	case s.CNIType == "sriov" && s.SRIOV != nil:
		return s.SRIOV.IPPools
	case s.CNIType == "ib-sriov" && s.IBSRIOV != nil:
		return s.IBSRIOV.IPPools
	case s.CNIType == "ipoib" && s.IPoIB != nil:
		return s.IPoIB.IPPools
	case s.CNIType == "ovs" && s.OVS != nil:
		return s.OVS.IPPools
	}
	return nil
}

// metadata checks the name and the annotations. A name is a label, without dots: Multus
// reads "namespace/name@interface" so (multus-cni, parsePodNetworkObjectName).
func (k *checker) metadata(c Config) {
	const want = "want 1 to 63 lower case letters, digits and '-', with a letter or digit at both ends"
	if name, ok := c.Annotations[NameAnnotation]; ok {
		if !label.MatchString(name) {
			k.add("metadata.annotations["+NameAnnotation+"]", "%q: %s", name, want)
		}
	} else if !label.MatchString(c.Name) {
		k.add("metadata.name", "%q: %s; or name the network by the annotation %s", c.Name, want, NameAnnotation)
	}
	if v, ok := c.Annotations[VersionAnnotation]; ok && !slices.Contains(Versions, v) {
		k.add("metadata.annotations["+VersionAnnotation+"]", "%q: want one of %s", v, strings.Join(Versions, ", "))
	}
	if name, ok := c.Annotations[ConfigNameAnnotation]; ok && !IsNetworkName(name) {
		k.add("metadata.annotations["+ConfigNameAnnotation+"]", "%q: want letters, digits, '_', '.' and '-', with a letter or digit first", name)
	}
}

// blocks checks that there is the block of the type, and no other.
func (k *checker) blocks(s Spec, name, block string) {
	there := map[string]bool{
		"macvlan": s.Macvlan != nil, "ipvlan": s.IPvlan != nil, "vlan": s.VLAN != nil, "sriov": s.SRIOV != nil,
		"ibsriov": s.IBSRIOV != nil, "ipoib": s.IPoIB != nil, "ovs": s.OVS != nil,
	}
	if name == "ipvlan" && there["macvlan"] && !there["ipvlan"] {
		k.warn("spec.macvlan", "taken as the block ipvlan, for cniType is ipvlan: write spec.ipvlan")
		block = "macvlan"
	}
	if block != "" && !there[block] {
		k.add("spec."+block, "missing: cniType %s needs it", name)
	}
	for _, t := range cniTypes {
		if t.block != block && there[t.block] {
			k.add("spec."+t.block, "cniType is %s: want no other block than spec.%s", name, cmp.Or(block, "customCNI"))
		}
	}
	if name != "custom" && s.CustomCNI != "" {
		k.add("spec.customCNI", "cniType is %s: want customCNI with cniType custom alone", name)
	}
}

func (k *checker) macvlan(path, cniType string, m *Macvlan) {
	k.masters(path, m.Master, m.Bond)
	k.vlanID(path+".vlanID", m.VLANID)
	k.mtu(path+".mtu", m.MTU)
	modes := []string{"bridge", "private", "vepa", "passthru"} // plugin macvlan, modeFromString
	if cniType == "ipvlan" {
		modes = []string{"l2", "l3", "l3s"} // plugin ipvlan, modeFromString
	}
	k.oneOf(path+".mode", m.Mode, modes...)
	if id := number(m.VLANID); id > 0 && id <= 4094 && len(m.Master) > 0 {
		if name := m.link(); len(name) > nameLen {
			k.add(path+".vlanID", "%d: the name %s has %d bytes: want at most %d", id, name, len(name), nameLen)
		}
	}
	k.resource(path+".rdmaResourceName", m.RDMAResourceName, false)
	k.ippools(path+".ippools", m.IPPools, false)
}

func (k *checker) vlan(v *VLAN) {
	if v == nil {
		return
	}
	k.masters("spec.vlan", v.Master, v.Bond)
	k.oneOf("spec.vlan.vlanMode", v.VLANMode, "manual", "auto")
	k.vlanID("spec.vlan.vlanID", v.VLANID)
	k.mtu("spec.vlan.mtu", v.MTU)
	if v.VLANMode == "auto" && v.VLANID != nil {
		k.add("spec.vlan.vlanID", "%d: want none with vlanMode auto: the tag is the pool's", *v.VLANID)
	}
	k.resource("spec.vlan.rdmaResourceName", v.RDMAResourceName, false)
	k.ippools("spec.vlan.ippools", v.IPPools, false)
}

func (k *checker) sriov(s *SRIOV) {
	if s == nil {
		return
	}
	k.resource("spec.sriov.resourceName", s.ResourceName, true)
	k.vlanID("spec.sriov.vlanID", s.VLANID)
	k.mtu("spec.sriov.mtu", s.MTU)
	most := "maxTxRateMbps"
	if s.MaxTxRate == nil {
		most = "MaxTxRateMbps"
	}
	k.atLeast("spec.sriov.minTxRateMbps", s.MinTxRate, 0)
	k.atLeast("spec.sriov.maxTxRateMbps", s.MaxTxRate, 0)
	k.atLeast("spec.sriov.MaxTxRateMbps", s.CapitalMaxTxRate, 0)
	if s.MaxTxRate != nil && s.CapitalMaxTxRate != nil && *s.MaxTxRate != *s.CapitalMaxTxRate {
		k.add("spec.sriov.MaxTxRateMbps", "%d: maxTxRateMbps, another spelling of it, is %d", *s.CapitalMaxTxRate, *s.MaxTxRate)
	}
	if lo, hi := number(s.MinTxRate), s.maxTxRate(); hi > 0 && lo > hi {
		k.add("spec.sriov.minTxRateMbps", "%d: want at most %s, %d", lo, most, hi)
	}
	if s.RDMAIsolation != nil && s.EnableRDMA != nil && *s.RDMAIsolation != *s.EnableRDMA {
		k.add("spec.sriov.enableRdma", "%t: rdmaIsolation, another name of it, is %t", *s.EnableRDMA, *s.RDMAIsolation)
	}
	k.ippools("spec.sriov.ippools", s.IPPools, true)
}

// maxTxRate returns the maximum rate, in whichever spelling.
func (s *SRIOV) maxTxRate() int {
	if s.MaxTxRate != nil {
		return *s.MaxTxRate
	}
	return number(s.CapitalMaxTxRate)
}

func (k *checker) ibsriov(s *IBSRIOV) {
	if s == nil {
		return
	}
	k.resource("spec.ibsriov.resourceName", s.ResourceName, true)
	if s.Pkey != "" && !pkey.MatchString(s.Pkey) {
		k.add("spec.ibsriov.pkey", "%q: want a hexadecimal number of 16 bits, such as 0x8001", s.Pkey)
	}
	k.oneOf("spec.ibsriov.linkState", s.LinkState, "auto", "enable", "disable")
	k.ippools("spec.ibsriov.ippools", s.IPPools, false)
}

func (k *checker) ipoib(s *IPoIB) {
	if s == nil {
		return
	}
	k.link("spec.ipoib.master", s.Master)
	k.ippools("spec.ipoib.ippools", s.IPPools, false)
}

func (k *checker) ovs(s *OVS) {
	if s == nil {
		return
	}
	k.link("spec.ovs.bridge", s.Bridge)
	k.vlanID("spec.ovs.vlan", s.VLAN)
	if len(s.DeviceID) > maxDevice {
		k.add("spec.ovs.deviceID", "%d bytes: want at most %d", len(s.DeviceID), maxDevice)
	}
	k.most("spec.ovs.trunk", len(s.Trunk), maxList)
	for i, t := range s.Trunk {
		path := fmt.Sprintf("spec.ovs.trunk[%d]", i)
		k.vlanID(path+".id", t.ID)
		k.vlanID(path+".minID", t.MinID)
		k.vlanID(path+".maxID", t.MaxID)
		switch {
		case t.ID == nil && t.MinID == nil && t.MaxID == nil:
			k.add(path, "empty: want id, or minID and maxID")
		case t.MinID == nil && t.MaxID != nil:
			k.add(path+".minID", "missing: maxID is %d", *t.MaxID)
		case t.MaxID == nil && t.MinID != nil:
			k.add(path+".maxID", "missing: minID is %d", *t.MinID)
		case t.MinID != nil && *t.MinID > *t.MaxID:
			k.add(path+".minID", "%d: want at most maxID, %d", *t.MinID, *t.MaxID)
		}
	}
	k.ippools("spec.ovs.ippools", s.IPPools, false)
}

func (k *checker) custom(s Spec) {
	if s.CustomCNI != "" {
		k.conflist("spec.customCNI", []byte(s.CustomCNI))
	}
	if len(s.ChainCNIJSONData) > 0 {
		k.warn("spec.chainCNIJsonData", "without effect: cniType is custom")
	}
	if s.Coordinator != nil {
		k.warn("spec.coordinator", "without effect: cniType is custom")
	}
}

// masters checks the links that a NIC sits on.
func (k *checker) masters(path string, masters []string, bond *Bond) {
	switch {
	case len(masters) == 0:
		k.add(path+".master", "missing: want the name of at least one interface of the node")
	case len(masters) > maxMasters:
		k.add(path+".master", "%d interfaces: want at most %d", len(masters), maxMasters)
	}
	for i, m := range masters {
		at := fmt.Sprintf("%s.master[%d]", path, i)
		k.link(at, m)
		if slices.Contains(masters[:i], m) {
			k.add(at, "%q: it is there twice", m)
		}
	}
	switch {
	case len(masters) > 1 && bond == nil:
		k.add(path+".bond", "missing: want a bond of the interfaces %s, or one interface", strings.Join(masters, ", "))
	case len(masters) > 1:
		k.link(path+".bond.name", bond.Name)
		if slices.Contains(masters, bond.Name) {
			k.add(path+".bond.name", "%q: want another name than those in master", bond.Name)
		}
		if m := number(bond.Mode); m < 0 || m > 6 {
			k.add(path+".bond.mode", "%d: want a number from 0 to 6", m)
		} else {
			k.bond(path+".bond", masters, bond)
		}
	case bond != nil:
		k.warn(path+".bond", "without effect: there is one interface in master")
	}
}

// link checks the name of an interface.
func (k *checker) link(path, name string) {
	if name == "" {
		k.add(path, "missing: want the name of an interface")
		return
	}
	var s string
	if v := config.Interface(&s); v.Set(quoted(name)) != nil {
		k.add(path, "%q: want %s", name, v.Want)
	}
}

func quoted(s string) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil { // no string
		return nil
	}
	return text
}

func (k *checker) vlanID(path string, id *int) {
	if id != nil && (*id < 0 || *id > 4094) {
		k.add(path, "%d: want a number from 0 to 4094", *id)
	}
}

func (k *checker) mtu(path string, mtu *int) {
	if mtu != nil && *mtu != 0 && (*mtu < 68 || *mtu > 65535) {
		k.add(path, "%d: want 0, or a number from 68 to 65535", *mtu)
	}
}

func (k *checker) atLeast(path string, n *int, least int) {
	if n != nil && *n < least {
		k.add(path, "%d: want a number of at least %d", *n, least)
	}
}

// most checks the length of a list or map.
func (k *checker) most(path string, n, most int) {
	if n > most {
		k.add(path, "%d entries: want at most %d", n, most)
	}
}

func (k *checker) oneOf(path, value string, words ...string) {
	if value != "" && !slices.Contains(words, value) {
		k.add(path, "%q: want one of %s", value, strings.Join(words, ", "))
	}
}

// resource checks the name of an extended resource, which a device plugin hands out.
func (k *checker) resource(path, name string, required bool) {
	switch {
	case name == "" && required:
		k.add(path, "missing: want the name of the device plugin's resource, such as spidernet.io/sriov_netdevice")
	case name != "" && !resourceName.MatchString(name):
		k.add(path, "%q: want a domain, '/' and a name, such as spidernet.io/sriov_netdevice", name)
	}
}

// ippools checks the names of pools. An address can be chosen by the subnet of the master
// where the device plugin chooses that one.
func (k *checker) ippools(path string, p *IPPools, masterChosen bool) {
	if p == nil {
		return
	}
	for _, family := range []struct {
		name  string
		pools []string
	}{{"ipv4", p.IPv4}, {"ipv6", p.IPv6}} {
		k.most(path+"."+family.name, len(family.pools), maxList)
		for i, name := range family.pools {
			at := fmt.Sprintf("%s.%s[%d]", path, family.name, i)
			if !isPool(name) {
				k.add(at, "%q: want the name of a SpiderIPPool, or a pattern with *, ? or [a-z]", name)
			} else if slices.Contains(family.pools[:i], name) {
				k.add(at, "%q: it is there twice", name)
			}
		}
	}
	if on(p.MatchMasterSubnet, false) && !masterChosen {
		k.add(path+".matchMasterSubnet", "true: want it with cniType sriov alone")
	}
}

// inject checks the annotations by which pods get networks without naming them.
func (k *checker) inject(c Config) {
	for _, a := range []string{RDMAInject, ResourceInject} {
		group, there := c.Annotations[a]
		if !there {
			continue
		}
		path := "metadata.annotations[" + a + "]"
		if !label.MatchString(group) {
			k.add(path, "%q: want the name of a group: lower case letters, digits and '-'", group)
		}
		resource := c.resourceName()
		pools := c.Spec.pools()
		none := pools == nil || len(pools.IPv4)+len(pools.IPv6) == 0
		switch t := c.cniType(); {
		case t == "ovs" || t == "custom" || t == "ipoib":
			k.add(path, "cniType %s has no resource to inject: want macvlan, ipvlan, vlan, sriov or ib-sriov", t)
		case a == RDMAInject && resource == "":
			k.add(path, "want a resource: rdmaResourceName of macvlan, ipvlan and vlan, resourceName of sriov and ib-sriov")
		case none && (a == RDMAInject || resource != ""):
			k.add(path, "want a pool in ippools: pods that get the network by this annotation name none")
		default:
			k.warn(path, "without effect: multihome watches no pods at their creation; name the network in the pod's annotation k8s.v1.cni.cncf.io/networks")
		}
	}
}

// resourceName returns the extended resource of the network, "" if there is none.
func (c Config) resourceName() string {
	s := c.Spec
	switch c.cniType() {
	case "macvlan", "ipvlan":
		if _, m := s.macvlan(); m != nil {
			return m.RDMAResourceName
		}
	case "vlan":
		if s.VLAN != nil {
			return s.VLAN.RDMAResourceName
		}
	case "sriov":
		if s.SRIOV != nil {
			return s.SRIOV.ResourceName
		}
	case "ib-sriov":
		if s.IBSRIOV != nil {
			return s.IBSRIOV.ResourceName
		}
	}
	return ""
}
