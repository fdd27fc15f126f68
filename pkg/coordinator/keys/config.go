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

// Config is what the keys of a configuration say, with the defaults filled in.
type Config struct {
	Mode             string         // auto, underlay or overlay
	PodDefaultNIC    string         // the NIC that is the pod's first
	ServiceCIDR      []netip.Prefix // what the pod reaches through its node:
	OverlayPodCIDR   []netip.Prefix // Services, overlay pods
	HijackCIDR       []netip.Prefix // and whatever else
	HostRuleTable    int            // holds the node's routes to pods
	HostRulePrio     int            // the priority of the rule that looks it up
	PodRPFilter      int            // of the pod's links; -1 leaves it
	HostRPFilter     int            // of the host end; -1 leaves it
	VethMTU          int            // bytes; 0: that of the NIC
	ReplyMark        uint32         // the one bit that marks replies
	MarkBackend      string         // of netfilter, to hold the marks: auto, nftables or iptables
	HostLink         string         // between pod and node: veth, or macvlan on the NIC's own parent
	NodeAddresses    []netip.Addr   // instead of what the node has
	NotNodeAddresses []netip.Prefix // of what the node has

	DefaultRouteNIC string        // holds the pod's default routes; "": the first NIC
	TunePodRoutes   bool          // give further NICs tables and rules of their own
	PolicyRoutes    []PolicyRoute // by the attachment's NIC
	TxQueueLen      int           // of the attachment's NIC; 0 leaves it
	VethLinkAddress netip.Addr    // on the pod's end of the veth, for meshes
	MACPrefix       []byte        // the first two bytes of the attachment's NIC's MAC; nil leaves it

	DetectIPConflict bool // ask the LAN whether somebody else has the NIC's addresses
	DetectGateway    bool // and whether the NIC's gateways are there
	Detect           Probe

	ReplyTable int  // what entered by veth0 is answered by it, if it is free; the first NIC's own is one less
	FirstTable int  // where tables of further NICs begin, and what stands in for those that aren't free
	ToRules    bool // a rule to each further NIC's subnet, as the older veth has it
	OnlyMAC    bool // do nothing but MACPrefix
}

// PolicyRoute is a route that the configuration asks for.
type PolicyRoute struct {
	Dst netip.Prefix
	Gw  netip.Addr
}

// Defaults returns the configuration that an empty one stands for.
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
	}
}

// Load reads the configuration; nil means that it says to do nothing.
func Load(raw map[string]json.RawMessage) (*Config, error) {
	c := Defaults()
	err := config.Decode(raw, []config.Key{
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
	})
	if err != nil {
		return nil, err
	}
	if c.Mode == "disabled" || c.Mode == "disable" {
		return nil, nil
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// check is about what keys must not say of one destination: a table has one route
// to it.
func (c *Config) check() error {
	for _, r := range c.PolicyRoutes {
		for _, of := range []struct {
			key   string
			cidrs []netip.Prefix
		}{{"serviceCIDR", c.ServiceCIDR}, {"overlayPodCIDR", c.OverlayPodCIDR}, {"hijackCIDR", c.HijackCIDR}} {
			if slices.Contains(of.cidrs, r.Dst) {
				return config.Invalid("policyRoutes: dst %s: want it by the NIC or, as %s has it, by the node, not both", r.Dst, of.key)
			}
		}
	}
	return nil
}

// hostTable is a table that belongs to nobody: not the kernel's own three, which
// a rule for all packets must not look up a second time.
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

// nodeAddresses is "auto", or a list in which "auto" stands for what the node
// has, an address for itself, and "!" before an address or CIDR excludes it.
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
				return fmt.Errorf(`"!" leaves out what "auto" finds, and here are addresses instead`)
			}
			return nil
		},
	}
}

// policyRoutes is a list of {"dst", "gw"}, both of one family, with one gateway for a
// destination.
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

func word(p *string) config.Value {
	return config.Value{Want: "a string", Set: func(raw json.RawMessage) error { return json.Unmarshal(raw, p) }}
}

// linkAddress is an IPv4 address, for meshes that redirect to the address of the
// link that a connection enters by (istio's REDIRECT).
func linkAddress(p *netip.Addr) config.Value {
	return config.Value{Want: `an IPv4 address, like "169.254.200.1"`, Set: func(raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("not a string")
		}
		a, err := config.ParseNeighbour(s)
		if err == nil && !a.Is4() {
			err = fmt.Errorf("%q is none", s)
		}
		if err != nil {
			return err
		}
		*p = a
		return nil
	}}
}

// Hijacked returns what the pod reaches through its node, of one family.
func (c *Config) Hijacked(f netstate.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range slices.Concat(c.ServiceCIDR, c.OverlayPodCIDR, c.HijackCIDR) {
		if netstate.FamilyOf(p.Addr()) == f && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// The links there can be between a pod and its node.
const (
	LinkVeth    = "veth"
	LinkMacvlan = "macvlan"
)
