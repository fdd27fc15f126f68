// SPDX-License-Identifier: Apache-2.0

// Package coordinator makes the NICs that a pod has on underlay networks live
// together with each other, with the pod's node and with Kubernetes: it is what
// the plugins coordinator and veth do, which differ only in the names of their
// keys and in a few numbers.
//
// Everything is in pure plans, one file for each situation a NIC can be in
// (first.go, further.go, overlay.go); how a plan becomes kernel state, is
// checked, undone and removed is package plugin's business, and the kernel
// package kernel's.
package coordinator

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/plugin"
)

// Config is the plugin's configuration.
type Config struct{ keys.Config }

// Load reads coordinator's configuration; nil means that it says to do nothing.
func Load(raw map[string]json.RawMessage) (plugin.Conf, error) { return configured(keys.Load(raw)) }

// LoadOlder reads veth's.
func LoadOlder(raw map[string]json.RawMessage) (plugin.Conf, error) {
	return configured(keys.LoadOlder(raw))
}

func configured(k *keys.Config, err error) (plugin.Conf, error) {
	if err != nil || k == nil {
		return nil, err
	}
	return &Config{*k}, nil
}

// Plugin returns the plugin of that name, whose keys load reads.
func Plugin(name string, load plugin.Load) plugin.Plugin {
	return plugin.Plugin{Name: name, Load: load, Ignored: ignored, ObserveOwned: observeOwned, Remove: remove, Attachments: attachments, Unused: unused}
}

// ignored are keys that generators of configurations for the reference systems
// write, and that had no effect there.
var ignored = []string{"multusNicPrefix", "podCIDRType", "enableVethLinkLocalAddress"}
