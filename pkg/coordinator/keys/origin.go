// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/config"
)

// Origin says where the value of a key comes from.
type Origin string

// All origins. The first one that has a value for a key wins.
const (
	Chain   Origin = "chain"     // the configuration of the network
	Pod     Origin = "pod"       // the annotations of the pod
	Node    Origin = "node file" // the node's defaults
	BuiltIn Origin = "built in"
)

// DefaultRouteNICAnnotation is the annotation of a pod that gives podDefaultRouteNIC its value.
const DefaultRouteNICAnnotation = "ipam.spidernet.io/default-route-nic"

// Origin returns the origin of the value of a key, by coordinator's name of it.
func (c *Config) Origin(key string) Origin {
	if of, ok := c.origins[key]; ok {
		return of
	}
	return BuiltIn
}

// whence returns words for an error about a key that the user's configuration lacks.
func (c *Config) whence(key string) string {
	if c.Origin(key) == Node {
		return " of the node's defaults"
	}
	return ""
}

// Others are values for keys that a chain lacks. The pod's win.
type Others struct {
	Pod  map[string]json.RawMessage // by its annotations
	Node map[string]json.RawMessage // the node's defaults
}

// take reads the values of others for the keys that are wanted.
func (c *Config) take(others Others, want func(config.Key) bool) error {
	all := c.keys()
	for _, from := range []struct {
		origin Origin
		values map[string]json.RawMessage
	}{{Node, others.Node}, {Pod, others.Pod}} {
		taken := map[string]json.RawMessage{}
		for name, value := range from.values {
			for _, k := range all {
				if k.Is(name) && want(k) && config.Has(from.values, k) {
					taken[name], c.origins[k.Name] = value, from.origin
				}
			}
		}
		if err := config.Decode(taken, all); err != nil {
			return err
		}
	}
	return nil
}

// CheckNode returns an error for a node's defaults that coordinator can't use: a key that is
// unknown or has a bad value, or CIDRs that overlap a subnet of the node itself. own are the
// node's addresses with the lengths of their subnets, as far as they are known.
func CheckNode(node map[string]json.RawMessage, own []netip.Prefix) error {
	c := Defaults()
	mend := false // package nodeconf reads it
	if err := config.DecodeAll(node, append(c.keys(), config.Key{Name: "mend", Value: config.Bool(&mend)})); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	for _, k := range c.keys() {
		c.origins[k.Name] = Node
	}
	return c.CheckOverlap(own)
}

// CheckOverlap returns an error if the node's defaults lead a subnet of the node itself
// through the node: one edit of them reaches every node and every network. A chain may do
// so: it knows what it is for.
func (c *Config) CheckOverlap(own []netip.Prefix) error {
	for _, of := range c.throughNode() {
		if c.Origin(of.key) != Node {
			continue
		}
		for _, cidr := range of.cidrs {
			for _, o := range own {
				if cidr.Overlaps(o) {
					return config.Invalid("%s: %s: it overlaps %s, a subnet of the node itself: want CIDRs that don't, or set %[1]s in the networks that need it", of.key, cidr, o)
				}
			}
		}
	}
	return nil
}

// Value is the value of a key, and its origin.
type Value struct {
	Key    string          `json:"key"` // coordinator's name
	Value  json.RawMessage `json:"value"`
	Origin Origin          `json:"origin"`
}

// Values returns the values of all keys, in coordinator's names also for veth.
func (c *Config) Values() []Value {
	var out []Value
	for _, v := range []struct {
		key   string
		value any
	}{
		{"mode", c.Mode},
		{"serviceCIDR", list(c.ServiceCIDR)},
		{"overlayPodCIDR", list(c.OverlayPodCIDR)},
		{"hijackCIDR", list(c.HijackCIDR)},
		{"nodeAddresses", c.nodeAddresses()},
		{"podDefaultCNINIC", c.PodDefaultNIC},
		{"podDefaultRouteNIC", c.DefaultRouteNIC},
		{"tunePodRoutes", c.TunePodRoutes},
		{"policyRoutes", list(c.PolicyRoutes)},
		{"hostLink", c.HostLink},
		{"hostRuleTable", c.HostRuleTable},
		{"hostRulePriority", c.HostRulePrio},
		{"podRPFilter", c.PodRPFilter},
		{"hostRPFilter", c.HostRPFilter},
		{"replyMark", fmt.Sprintf("%#x", c.ReplyMark)},
		{"markBackend", c.MarkBackend},
		{"vethMTU", c.VethMTU},
		{"vethLinkAddress", c.VethLinkAddress},
		{"txQueueLen", c.TxQueueLen},
		{"podMACPrefix", c.macPrefix()},
		{"detectIPConflict", c.DetectIPConflict},
		{"detectGateway", c.DetectGateway},
		{"detectOptions", map[string]any{"retries": c.Detect.Tries, "interval": c.Detect.Interval.String(), "timeout": c.Detect.Timeout.String()}},
	} {
		value, _ := json.Marshal(v.value) // of strings, numbers and addresses
		out = append(out, Value{v.key, value, c.Origin(v.key)})
	}
	return out
}

// Settings are the values with which a plugin works for an attachment.
type Settings struct {
	File   string  `json:"nodeFile,omitempty"` // of the node's defaults, "" if there are none
	Values []Value `json:"values"`
}

// lineWidth is the number of characters after which a line of Lines continues on the next.
const lineWidth = 92

// Lines returns the values by their origin, for people. A line that begins with spaces
// continues the one before.
func (s Settings) Lines() []string {
	var out []string
	for _, of := range []Origin{Chain, Pod, Node, BuiltIn} {
		line := string(of)
		if of == Node && s.File != "" {
			line += ", " + s.File
		}
		separator, more := ": ", false
		for _, v := range s.Values {
			if v.Origin != of {
				continue
			}
			text := v.Key + " " + string(v.Value)
			if len(line)+len(separator)+len(text) > lineWidth && more {
				out = append(out, line+",")
				line, separator = "    ", ""
			}
			line, separator, more = line+separator+text, ", ", true
		}
		if more {
			out = append(out, line)
		}
	}
	return out
}

// list returns a list that isn't nil, which JSON has as null.
func list[T any](l []T) []T { return append([]T{}, l...) }

// nodeAddresses returns the value of the key of this name.
func (c *Config) nodeAddresses() []string {
	var out []string
	for _, a := range c.NodeAddresses {
		out = append(out, a.String())
	}
	if out == nil {
		out = []string{"auto"}
	}
	for _, p := range c.NotNodeAddresses {
		out = append(out, "!"+p.String())
	}
	return out
}

// macPrefix returns the value of podMACPrefix.
func (c *Config) macPrefix() string {
	if len(c.MACPrefix) == 0 {
		return ""
	}
	return fmt.Sprintf("%02x:%02x", c.MACPrefix[0], c.MACPrefix[1])
}
