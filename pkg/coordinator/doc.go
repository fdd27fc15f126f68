// SPDX-License-Identifier: Apache-2.0

// Package coordinator lets the underlay NICs of a pod work together with each other, with
// the pod's node and with Kubernetes. It is the plugin coordinator, and the plugin veth,
// which differs only in the names of its keys and in a few numbers.
//
// The plugin is chained after the one that makes the NIC:
//
//	{"type": "macvlan", "master": "ens192", "ipam": {"type": "host-local", …}},
//	{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12"]}
//
// Its main function passes the plugin to the driver:
//
//	plugin.Main(coordinator.Plugin("coordinator", coordinator.Load))
//
// All decisions are in pure plans, one file for each situation of a NIC: first.go (the
// pod's first NIC), further.go (another NIC of such a pod) and overlay.go (an underlay
// NIC beside another CNI's first NIC). Package plugin checks, undoes and removes the
// state of a plan; package kernel writes it.
//
// Beware: NICs of one pod share table main, the link to the node and the table of
// replies. Each NIC has a plan of its own, so a plan must not remove objects that another
// NIC's plan wants (stale.go).
package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/plugin"
)

// Config is the plugin's configuration.
type Config struct {
	keys.Config

	// Values of the chain, and what reads them together with the node's defaults.
	chain map[string]json.RawMessage
	read  readKeys
	file  string // of the node's defaults, "" if there are none
}

type readKeys func(chain map[string]json.RawMessage, others keys.Others) (*keys.Config, error)

// Load reads the configuration of coordinator. It returns nil if the configuration
// switches the plugin off.
func Load(raw map[string]json.RawMessage) (plugin.Conf, error) {
	return load(plugin.Defaults{}, raw, keys.LoadWith)
}

// LoadOlder reads the configuration of veth. It returns nil if the configuration switches
// the plugin off.
func LoadOlder(raw map[string]json.RawMessage) (plugin.Conf, error) {
	return load(plugin.Defaults{}, raw, keys.LoadOlderWith)
}

func load(d plugin.Defaults, chain map[string]json.RawMessage, read readKeys) (plugin.Conf, error) {
	k, err := read(chain, keys.Others{Pod: d.Pod, Node: d.Keys})
	if err != nil || k == nil {
		return nil, err
	}
	c := &Config{Config: *k, chain: chain, read: read}
	if d.Keys != nil {
		c.file = d.Path
	}
	return c, nil
}

// Settings returns the values of all keys, each with its origin.
func (c *Config) Settings() keys.Settings { return keys.Settings{File: c.file, Values: c.Values()} }

// CheckDefaults returns an error for a node's defaults that coordinator can't use, whatever
// the subnets of the node are: a plan looks at those.
func (c *Config) CheckDefaults(node map[string]json.RawMessage) error {
	return keys.CheckNode(node, nil)
}

// WithDefaults returns the configuration with the values of the pod and the node for keys that
// it lacks. It returns nil if they switch the plugin off.
func (c *Config) WithDefaults(d plugin.Defaults) (plugin.Conf, error) {
	return load(d, c.chain, c.read)
}

// Alone returns an error if the configuration has no CIDRs of Services: without them, a pod
// would start and reach no Service.
func (c *Config) Alone() error {
	if c.OnlyMAC || c.Origin("serviceCIDR") != keys.BuiltIn {
		return nil
	}
	return errors.New("the network's configuration doesn't suffice without them: repair the file, or name the CIDRs of Services in the network")
}

// checkOverlap returns an error if the node's defaults lead a subnet of the node itself
// through the node.
func (c *Config) checkOverlap(v *plugin.View) error {
	own := v.Subnets
	for _, a := range c.NodeAddresses { // the node isn't asked for others
		own = append(own, netstate.Single(a))
	}
	if err := c.CheckOverlap(own); err != nil {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	return nil
}

// Plugin returns the plugin of a name; load reads its keys.
func Plugin(name string, load plugin.Load) plugin.Plugin {
	return plugin.Plugin{
		Name: name, Load: load, Defaults: func() plugin.Defaults { return plugin.ReadDefaults(nodeconf.Path) }, OfPod: ofPod,
		Ignored: ignored, ObserveOwned: observeOwned, Remove: remove, Attachments: attachments, Unused: unused,
	}
}

// ignored lists keys that generators of configurations for the reference systems write
// and that had no effect there.
var ignored = []string{"multusNicPrefix", "podCIDRType", "enableVethLinkLocalAddress"}
