// SPDX-License-Identifier: Apache-2.0

// Package ifacer makes links of the node that pods have in common: VLANs and
// bonds, once and verified ever after. It is what the plugin of that name does.
//
// The plan is pure (plan.go). Everything that it goes by is read before, under
// the locks of all links concerned (observe.go), so that any number of pods can
// come at the same time.
package ifacer

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/ifacer/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// host is where everything of ifacer is.
const host = netstate.Host

// Config is the plugin's configuration.
type Config struct {
	keys.Config
	called map[string]string // interfaces as the configuration names them, by their own names
}

// Load reads and checks the configuration, and what this node allows of it.
func Load(raw map[string]json.RawMessage) (plugin.Conf, error) {
	k, err := keys.Load(raw)
	if err != nil {
		return nil, err
	}
	allowed, err := readAllowList()
	if err != nil {
		return nil, err
	}
	return &Config{Config: *k}, allowed.permit(k)
}

// Plugin returns the plugin.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "ifacer", NodeOnly: true, Records: records.LinkUsers,
		Load: Load, ObserveOwned: observeOwned, Remove: remove, Attachments: attachments,
	}
}
