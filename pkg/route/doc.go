// SPDX-License-Identifier: Apache-2.0

// Package route gives pods on macvlans a way to their node and back, by a
// macvlan of the node's own (bridge.go), and routes what comes from an address of
// a NIC by tables of that NIC's own (source.go). It is what the plugin of that
// name does.
//
// The plans are pure; how they become kernel state, are checked, undone and
// removed is package plugin's business.
package route

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
	"github.com/multihome/multihome/pkg/route/keys"
)

// The two sides of an attachment, for short.
const (
	host = netstate.Host
	pod  = netstate.Pod
)

// Config is the plugin's configuration.
type Config struct {
	keys.Config
	Bridge hostlink.Bridge // the keys', as one that can be planned
}

// Load reads and checks the configuration.
func Load(raw map[string]json.RawMessage) (plugin.Conf, error) {
	k, err := keys.Load(raw)
	if err != nil {
		return nil, err
	}
	return &Config{Config: *k, Bridge: hostlink.Bridge(k.Bridge)}, nil
}

// Plugin returns the plugin.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "route", Records: records.BridgeRoutes,
		Load: Load, ObserveOwned: observeOwned, Remove: remove, Attachments: attachments, Unused: unused,
	}
}
