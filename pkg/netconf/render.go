// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"bytes"
	"cmp"
	"encoding/json"
)

// NAD is a NetworkAttachmentDefinition, as far as this package decides about it.
type NAD struct {
	Namespace, Name string
	Annotations     map[string]string
	Config          string // "": the configuration is a file of the node
}

// Render returns the NetworkAttachmentDefinition of a configuration without faults. What
// the user left out is left out there, too: the plugins have their own defaults, which
// those of ib-sriov are not.
func (c Config) Render() NAD {
	out := NAD{Namespace: c.Namespace, Name: c.Name, Annotations: map[string]string{}}
	if name := c.Annotations[NameAnnotation]; name != "" {
		out.Name = name
	}
	for k, v := range c.Annotations {
		if k != lastApplied {
			out.Annotations[k] = v
		}
	}
	switch t := c.cniType(); {
	case t == "custom":
		out.Config = c.Spec.CustomCNI
		return out
	case t == "sriov" && c.Spec.SRIOV != nil, t == "ib-sriov" && c.Spec.IBSRIOV != nil:
		out.Annotations[ResourceAnnotation] = c.resourceName()
	case t == "ovs" && c.Spec.OVS != nil && c.Spec.OVS.DeviceID != "":
		out.Annotations[ResourceAnnotation] = "ovs-cni.network.kubevirt.io/" + c.Spec.OVS.Bridge
	}
	chain := struct {
		CNIVersion string            `json:"cniVersion"`
		Name       string            `json:"name"`
		Plugins    []json.RawMessage `json:"plugins"`
	}{defaultVersion, out.Name, c.plugins()}
	if v := c.Annotations[VersionAnnotation]; v != "" {
		chain.CNIVersion = v
	}
	if name := c.Annotations[ConfigNameAnnotation]; name != "" {
		chain.Name = name
	}
	out.Config = string(encode(chain))
	return out
}

// plugins returns the chain: ifacer, the main plugin, rdma, the user's own, coordinator,
// tuning.
func (c Config) plugins() []json.RawMessage {
	s, shared := c.Spec, common{c.Spec.Capabilities, c.ipam()}
	var out []json.RawMessage
	add := func(plugin any) { out = append(out, encode(plugin)) }
	mtu := 0 // that tuning sets
	switch c.cniType() {
	case "macvlan", "ipvlan":
		_, m := s.macvlan()
		if m == nil {
			break
		}
		if i := newIfacer(m.Master, m.Bond, number(m.VLANID)); i != nil {
			add(i)
		}
		mode := m.Mode
		if mode == "" && s.CNIType == "macvlan" {
			mode = "bridge"
		}
		add(macvlanPlugin{s.CNIType, m.link(), mode, number(m.MTU), shared})
	case "vlan":
		if s.VLAN == nil {
			break
		}
		if i := newIfacer(s.VLAN.Master, s.VLAN.Bond, 0); i != nil {
			add(i)
		}
		add(vlanPlugin{"vlan", parent(s.VLAN.Master, s.VLAN.Bond), number(s.VLAN.VLANID), number(s.VLAN.MTU), shared})
	case "sriov":
		if s.SRIOV == nil {
			break
		}
		add(sriovPlugin{number(s.SRIOV.VLANID), s.SRIOV.MinTxRate, max(s.SRIOV.maxTxRate(), 0), "sriov", shared})
		if on(s.SRIOV.RDMAIsolation, on(s.SRIOV.EnableRDMA, false)) {
			add(typed{"rdma"})
		}
		mtu = number(s.SRIOV.MTU)
	case "ib-sriov":
		if b := s.IBSRIOV; b != nil {
			state, isolation := cmp.Or(b.LinkState, "enable"), on(b.RDMAIsolation, true) // the plugin's own defaults are others
			add(ibsriovPlugin{"ib-sriov", b.Pkey, state, &isolation, b.EnableIBKubernetes, shared})
		}
	case "ipoib":
		if s.IPoIB != nil {
			add(ipoibPlugin{"ipoib", s.IPoIB.Master, shared})
		}
	case "ovs":
		if o := s.OVS; o != nil {
			add(ovsPlugin{number(o.VLAN), "ovs", o.Bridge, o.DeviceID, shared, o.Trunk})
		}
	}
	for _, text := range s.ChainCNIJSONData {
		out = append(out, compact(text))
	}
	if on(s.EnableCoordinator, true) {
		settings := s.Coordinator
		if settings == nil {
			settings = &Coordinator{}
		}
		out = append(out, settings.plugin())
	}
	if mtu > 0 {
		add(tuningPlugin{"tuning", mtu})
	}
	return out
}

// The plugins' configurations. The keys are those that the plugins read:
// containernetworking/plugins (macvlan, ipvlan, vlan, tuning), sriov-cni
// (docs/configuration-reference.md), ib-sriov-cni, ipoib-cni, ovs-cni and rdma-cni (their
// READMEs).
type (
	typed struct {
		Type string `json:"type"`
	}
	common struct { // of all main plugins
		Capabilities map[string]bool `json:"capabilities,omitempty"`
		IPAM         *ipamObject     `json:"ipam,omitempty"`
	}
	tuningPlugin struct {
		Type string `json:"type"`
		MTU  int    `json:"mtu"`
	}
	ifacerPlugin struct {
		VLANID     int         `json:"vlanID,omitempty"`
		Type       string      `json:"type"`
		Interfaces []string    `json:"interfaces"`
		Bond       *bondObject `json:"bond,omitempty"`
	}
	bondObject struct {
		Name    string `json:"name"`
		Mode    int    `json:"mode"`
		Options string `json:"options,omitempty"`
	}
	macvlanPlugin struct {
		Type   string `json:"type"`
		Master string `json:"master"`
		Mode   string `json:"mode,omitempty"`
		MTU    int    `json:"mtu,omitempty"`
		common
	}
	vlanPlugin struct {
		Type   string `json:"type"`
		Master string `json:"master"`
		VLANID int    `json:"vlanId,omitempty"`
		MTU    int    `json:"mtu,omitempty"`
		common
	}
	sriovPlugin struct {
		VLAN      int    `json:"vlan,omitempty"`
		MinTxRate *int   `json:"min_tx_rate,omitempty"`
		MaxTxRate int    `json:"max_tx_rate,omitempty"`
		Type      string `json:"type"`
		common
	}
	ibsriovPlugin struct {
		Type               string `json:"type"`
		Pkey               string `json:"pkey,omitempty"`
		LinkState          string `json:"link_state,omitempty"`
		RDMAIsolation      *bool  `json:"rdmaIsolation,omitempty"`
		EnableIBKubernetes *bool  `json:"ibKubernetesEnabled,omitempty"`
		common
	}
	ipoibPlugin struct {
		Type   string `json:"type"`
		Master string `json:"master"`
		common
	}
	ovsPlugin struct {
		VLAN     int    `json:"vlan,omitempty"`
		Type     string `json:"type"`
		Bridge   string `json:"bridge"`
		DeviceID string `json:"deviceID,omitempty"`
		common
		Trunk []Trunk `json:"trunk,omitempty"`
	}
	ipamObject struct {
		Type              string   `json:"type"`
		IPv4              []string `json:"default_ipv4_ippool,omitempty"`
		IPv6              []string `json:"default_ipv6_ippool,omitempty"`
		MatchMasterSubnet bool     `json:"match_master_subnet,omitempty"`
	}
	coordinatorPlugin struct {
		TxQueueLen         *int          `json:"txQueueLen,omitempty"`
		DetectIPConflict   *bool         `json:"detectIPConflict,omitempty"`
		DetectGateway      *bool         `json:"detectGateway,omitempty"`
		VethLinkAddress    string        `json:"vethLinkAddress,omitempty"`
		VethMTU            *int          `json:"vethMTU,omitempty"`
		TunePodRoutes      *bool         `json:"tunePodRoutes,omitempty"`
		PodMACPrefix       string        `json:"podMACPrefix,omitempty"`
		Mode               string        `json:"mode,omitempty"`
		Type               string        `json:"type"`
		PodDefaultRouteNIC string        `json:"podDefaultRouteNic,omitempty"`
		PodRPFilter        *int          `json:"podRPFilter,omitempty"`
		OverlayPodCIDR     []string      `json:"overlayPodCIDR,omitempty"`
		ServiceCIDR        []string      `json:"serviceCIDR,omitempty"`
		HostRuleTable      *int          `json:"hostRuleTable,omitempty"`
		HijackCIDR         []string      `json:"hijackCIDR,omitempty"`
		PolicyRoutes       []PolicyRoute `json:"policyRoutes,omitempty"`
	}
)

// ipam returns the IPAM's configuration, nil if there is to be none.
func (c Config) ipam() *ipamObject {
	if on(c.Spec.DisableIPAM, false) {
		return nil
	}
	out := &ipamObject{Type: "spiderpool"}
	if pools := c.Spec.pools(); pools != nil {
		out.IPv4, out.IPv6, out.MatchMasterSubnet = pools.IPv4, pools.IPv6, on(pools.MatchMasterSubnet, false)
	}
	return out
}

// newIfacer returns what makes the link that the main plugin needs, nil if the node has it.
func newIfacer(masters []string, bond *Bond, vlanID int) *ifacerPlugin {
	if len(masters) < 2 && vlanID <= 0 {
		return nil
	}
	out := &ifacerPlugin{VLANID: max(vlanID, 0), Type: "ifacer", Interfaces: masters}
	if len(masters) > 1 && bond != nil {
		out.Bond = newBond(bond)
	}
	return out
}

func newBond(b *Bond) *bondObject { return &bondObject{b.Name, number(b.Mode), b.Options} }

// parent returns the link below the NIC, or below its VLAN: the master, or the bond of
// several.
func (m *Macvlan) parent() string { return parent(m.Master, m.Bond) }

func parent(masters []string, bond *Bond) string {
	switch {
	case len(masters) > 1 && bond != nil:
		return bond.Name
	case len(masters) > 0:
		return masters[0]
	}
	return ""
}

// plugin returns the settings as coordinator reads them.
func (c *Coordinator) plugin() json.RawMessage {
	out := coordinatorPlugin{
		TxQueueLen: c.TxQueueLen, DetectIPConflict: c.DetectIPConflict, DetectGateway: c.DetectGateway,
		VethLinkAddress: c.VethLinkAddress, VethMTU: c.VethMTU, TunePodRoutes: c.TunePodRoutes, PodMACPrefix: c.PodMACPrefix,
		Mode: c.Mode, Type: "coordinator", PodDefaultRouteNIC: c.PodDefaultRouteNIC,
		PodRPFilter: c.PodRPFilter, OverlayPodCIDR: c.OverlayPodCIDR, ServiceCIDR: c.ServiceCIDR, HostRuleTable: c.HostRuleTable, PolicyRoutes: c.PolicyRoutes,
	}
	if c.PodRPFilter != nil && *c.PodRPFilter < 0 {
		leave := -1 // as the plugin has it
		out.PodRPFilter = &leave
	}
	for _, s := range c.HijackCIDR {
		out.HijackCIDR = append(out.HijackCIDR, cidr(s))
	}
	return encode(out)
}

// compact returns a user's JSON as it is, without the space around it and between its
// tokens; numbers and the order of keys stay.
func compact(text string) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, []byte(text)) != nil {
		return json.RawMessage("null") // a fault
	}
	return b.Bytes()
}

// encode returns JSON with '<', '>' and '&' as they are.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // of structs of strings, numbers and valid JSON
	return bytes.TrimRight(b.Bytes(), "\n")
}
