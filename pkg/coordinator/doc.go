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

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/plugin"
)

// Config is the plugin's configuration.
type Config struct{ keys.Config }

// Load reads the configuration of coordinator. It returns nil if the configuration
// switches the plugin off.
func Load(raw map[string]json.RawMessage) (plugin.Conf, error) { return configured(keys.Load(raw)) }

// LoadOlder reads the configuration of veth. It returns nil if the configuration switches
// the plugin off.
func LoadOlder(raw map[string]json.RawMessage) (plugin.Conf, error) {
	return configured(keys.LoadOlder(raw))
}

func configured(k *keys.Config, err error) (plugin.Conf, error) {
	if err != nil || k == nil {
		return nil, err
	}
	return &Config{*k}, nil
}

// Plugin returns the plugin of a name; load reads its keys.
func Plugin(name string, load plugin.Load) plugin.Plugin {
	return plugin.Plugin{Name: name, Load: load, Ignored: ignored, ObserveOwned: observeOwned, Remove: remove, Attachments: attachments, Unused: unused}
}

// ignored lists keys that generators of configurations for the reference systems write
// and that had no effect there.
var ignored = []string{"multusNicPrefix", "podCIDRType", "enableVethLinkLocalAddress"}
