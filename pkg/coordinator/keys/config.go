// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
)

// Config holds the values of a configuration's keys, with the defaults filled in.
type Config struct {
	Mode             string         // auto, underlay or overlay
	PodDefaultNIC    string         // the pod's first NIC
	ServiceCIDR      []netip.Prefix // of Services; the pod reaches them through its node
	OverlayPodCIDR   []netip.Prefix // of overlay pods, reached through the node
	HijackCIDR       []netip.Prefix // other destinations reached through the node
	HostRuleTable    int            // the table of the node's routes to pods
	HostRulePrio     int            // the priority of the rule that looks it up
	PodRPFilter      int            // of the pod's links; -1 leaves it
	HostRPFilter     int            // of the host end; -1 leaves it
	VethMTU          int            // bytes; 0: that of the NIC
	ReplyMark        uint32         // one bit, the mark of replies
	MarkBackend      string         // of the marks: auto, nftables or iptables
	HostLink         string         // between pod and node: veth, or macvlan on the NIC's parent
	NodeAddresses    []netip.Addr   // use these instead of the addresses that the node has
	NotNodeAddresses []netip.Prefix // don't use these of the addresses that the node has

	DefaultRouteNIC string        // holds the pod's default routes; "": the first NIC
	TunePodRoutes   bool          // give further NICs tables and rules of their own
	PolicyRoutes    []PolicyRoute // routes by the attachment's NIC
	TxQueueLen      int           // of the attachment's NIC; 0 leaves it
	VethLinkAddress netip.Addr    // on the pod's end of the veth, for meshes
	MACPrefix       []byte        // the first two bytes of the attachment's NIC's MAC; nil leaves it

	DetectIPConflict bool // ask the LAN whether another machine has the NIC's addresses
	DetectGateway    bool // ask the LAN whether the NIC's gateways answer
	Detect           Probe

	ReplyTable int  // the table of replies by veth0, if it is free; the first NIC's own table is one less
	FirstTable int  // the lowest table of further NICs, and of replacements for tables in use
	ToRules    bool // want a rule to each further NIC's subnet, as the older veth does
	OnlyMAC    bool // apply MACPrefix only

	origins map[string]Origin // of the values that aren't built in, by key
}

// PolicyRoute is a configured route by the attachment's NIC.
type PolicyRoute struct {
	Dst netip.Prefix `json:"dst"`
	Gw  netip.Addr   `json:"gw"`
}

// Defaults returns the configuration without keys.
func Defaults() *Config {
	return &Config{
		Mode:          "auto",
		MarkBackend:   "auto",
		HostLink:      LinkVeth,
		PodDefaultNIC: "eth0",
		HostRuleTable: netstate.HostTable,
		HostRulePrio:  netstate.HostRulePriority,
		HostRPFilter:  1,
		ReplyMark:     netstate.ReplyMark,
		TunePodRoutes: true,
		Detect:        DefaultProbe,
		ReplyTable:    netstate.ReplyTable,
		FirstTable:    netstate.ReplyTable + 1,
		origins:       map[string]Origin{},
	}
}

// Load reads the keys of coordinator on a node without defaults. It returns nil if mode is
// disabled.
func Load(raw map[string]json.RawMessage) (*Config, error) { return LoadWith(raw, Others{}) }

// LoadWith reads the keys of coordinator. The value of a key that the chain lacks is that of
// others, or else the built-in one. It returns nil if mode is disabled.
func LoadWith(chain map[string]json.RawMessage, others Others) (*Config, error) {
	c := Defaults()
	lacks := func(k config.Key) bool { return !config.Has(chain, k) }
	if err := c.take(others, lacks); err != nil {
		return nil, err
	}
	all := c.keys()
	if err := config.Decode(chain, all); err != nil {
		return nil, err
	}
	for _, k := range all {
		if !lacks(k) {
			c.origins[k.Name] = Chain
		}
	}
	if c.Mode == "disabled" || c.Mode == "disable" {
		return nil, nil
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// keys returns the keys of coordinator. They read into c.
func (c *Config) keys() []config.Key {
	return []config.Key{
		{Name: "mode", Value: config.OneOf(&c.Mode, "auto", "underlay", "overlay", "disabled", "disable")},
		{Name: "podDefaultCNINIC", Value: config.Link(&c.PodDefaultNIC)},
		{Name: "serviceCIDR", Value: config.Prefixes(&c.ServiceCIDR)},
		{Name: "overlayPodCIDR", Value: config.Prefixes(&c.OverlayPodCIDR)},
		{Name: "hijackCIDR", Value: config.Prefixes(&c.HijackCIDR)},
		{Name: "hostRuleTable", Value: hostTable(&c.HostRuleTable)},
		{Name: "hostRulePriority", Value: config.Int(&c.HostRulePrio, 1, 32765)},
		{Name: "podRPFilter", Value: config.Int(&c.PodRPFilter, -1, 2)},
		{Name: "hostRPFilter", Value: config.Int(&c.HostRPFilter, -1, 2)},
		{Name: "vethMTU", Value: config.Int(&c.VethMTU, 68, 65535)},
		{Name: "replyMark", Value: config.Bit(&c.ReplyMark)},
		{Name: "markBackend", Value: config.OneOf(&c.MarkBackend, "auto", "nftables", "iptables")},
		{Name: "nodeAddresses", Value: nodeAddresses(c)},
		{Name: "hostLink", Value: config.OneOf(&c.HostLink, LinkVeth, LinkMacvlan)},
		{Name: "podDefaultRouteNIC", Value: config.Link(&c.DefaultRouteNIC)},
		{Name: "tunePodRoutes", Value: config.Bool(&c.TunePodRoutes)},
		{Name: "policyRoutes", Value: policyRoutes(&c.PolicyRoutes)},
		{Name: "txQueueLen", Value: config.Int(&c.TxQueueLen, 0, 1<<31-1)},
		{Name: "vethLinkAddress", Value: linkAddress(&c.VethLinkAddress)},
		{Name: "podMACPrefix", Value: macPrefix(&c.MACPrefix)},
		{Name: "detectIPConflict", Value: config.Bool(&c.DetectIPConflict)},
		{Name: "detectGateway", Value: config.Bool(&c.DetectGateway)},
		{Name: "detectOptions", Value: detectOptions(&c.Detect)},
	}
}

// check returns an error if one destination is in policyRoutes and in a key of CIDRs
// through the node: a table has one route to it.
func (c *Config) check() error {
	for _, r := range c.PolicyRoutes {
		for _, of := range c.throughNode() {
			if slices.Contains(of.cidrs, r.Dst) {
				return config.Invalid("policyRoutes%s: dst %s: it is in %s%s too: want it by the NIC or by the node, not both",
					c.whence("policyRoutes"), r.Dst, of.key, c.whence(of.key))
			}
		}
	}
	return nil
}

// cidrs are the CIDRs of a key.
type cidrs struct {
	key   string
	cidrs []netip.Prefix
}

// throughNode returns the destinations that the pod reaches through its node.
func (c *Config) throughNode() []cidrs {
	return []cidrs{{"serviceCIDR", c.ServiceCIDR}, {"overlayPodCIDR", c.OverlayPodCIDR}, {"hijackCIDR", c.HijackCIDR}}
}

// hostTable accepts the number of a table that isn't one of the kernel's own three: the
// rule for all packets must not look these up a second time.
func hostTable(p *int) config.Value {
	v := config.Int(p, 1, 1<<31-1)
	return config.Value{
		Want: v.Want + ", but not 253 (default), 254 (main) or 255 (local)",
		Set: func(raw json.RawMessage) error {
			if slices.Contains([]string{"253", "254", "255"}, string(raw)) {
				return fmt.Errorf("the kernel's own")
			}
			return v.Set(raw)
		},
	}
}

// nodeAddresses accepts "auto", or a list. In the list "auto" stands for the addresses
// that the node has, an address for itself, and "!" excludes an address or CIDR.
func nodeAddresses(c *Config) config.Value {
	return config.Value{
		Want: `"auto" or a list of "auto", addresses, and addresses or CIDRs to exclude, like ["auto", "!10.6.0.100"]`,
		Set: func(raw json.RawMessage) error {
			list, err := config.Strings(raw)
			if err != nil {
				return err
			}
			auto := false
			for _, s := range list {
				if s == "auto" {
					auto = true
					continue
				}
				if not, ok := strings.CutPrefix(s, "!"); ok {
					p, err := config.ParsePrefix(not)
					if err != nil {
						return err
					}
					c.NotNodeAddresses = append(c.NotNodeAddresses, p)
					continue
				}
				a, err := config.ParseHost(s)
				if err != nil {
					return err
				}
				if !slices.Contains(c.NodeAddresses, a) {
					c.NodeAddresses = append(c.NodeAddresses, a)
				}
			}
			switch {
			case auto && len(c.NodeAddresses) > 0:
				return fmt.Errorf(`"auto" and addresses exclude each other`)
			case len(c.NotNodeAddresses) > 0 && len(c.NodeAddresses) > 0:
				return fmt.Errorf(`"!" excludes addresses that "auto" finds: leave it out beside addresses`)
			}
			return nil
		},
	}
}

// policyRoutes accepts a list of {"dst", "gw"}. Both are of one family, and a destination
// has one gateway.
func policyRoutes(p *[]PolicyRoute) config.Value {
	return config.Value{
		Want: `a list like [{"dst": "192.168.0.0/16", "gw": "10.6.0.2"}], dst and gw of one family`,
		Set: func(raw json.RawMessage) error {
			var list []json.RawMessage
			if err := json.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("not a list of routes")
			}
			var out []PolicyRoute
			for _, item := range list {
				r, err := policyRoute(item)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(out, func(o PolicyRoute) bool { return o.Dst == r.Dst })
				if i < 0 {
					out = append(out, r)
				} else if out[i] != r {
					return fmt.Errorf("dst %s has two gateways, %s and %s", r.Dst, out[i].Gw, r.Gw)
				}
			}
			*p = out
			return nil
		},
	}
}

// policyRoute reads one item of the list.
func policyRoute(raw json.RawMessage) (r PolicyRoute, err error) {
	var dst, gw string
	err = config.Fields(raw, []config.Key{{Name: "dst", Value: word(&dst)}, {Name: "gw", Value: word(&gw)}})
	if err != nil {
		return r, fmt.Errorf("%s: %w", raw, err)
	}
	if r.Dst, err = config.ParseDestination(dst); err != nil {
		return r, fmt.Errorf("dst: %w", err)
	}
	if r.Gw, err = config.ParseNeighbour(gw); err != nil {
		return r, fmt.Errorf("gw: %w", err)
	}
	if r.Dst.Addr().Is6() != r.Gw.Is6() {
		return r, fmt.Errorf("dst %s and gw %s are of different families", r.Dst, r.Gw)
	}
	return r, nil
}

// word accepts any string.
func word(p *string) config.Value {
	return config.Value{Want: "a string", Set: func(raw json.RawMessage) error { return json.Unmarshal(raw, p) }}
}

// linkAddress accepts an IPv4 address. Service meshes redirect to the address of the link
// by which a connection enters (istio's REDIRECT).
func linkAddress(p *netip.Addr) config.Value {
	return config.Value{Want: `an IPv4 address, like "169.254.200.1"`, Set: func(raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("not a string")
		}
		a, err := config.ParseNeighbour(s)
		if err == nil && !a.Is4() {
			err = fmt.Errorf("%q is IPv6", s)
		}
		if err != nil {
			return err
		}
		*p = a
		return nil
	}}
}

// Hijacked returns the destinations of one family that the pod reaches through its node.
func (c *Config) Hijacked(f netstate.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, of := range c.throughNode() {
		for _, p := range of.cidrs {
			if netstate.FamilyOf(p.Addr()) == f && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// LinkVeth and LinkMacvlan are the values of hostLink: the kinds of link between a pod
// and its node.
const (
	LinkVeth    = "veth"
	LinkMacvlan = "macvlan"
)
