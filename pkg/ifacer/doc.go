// SPDX-License-Identifier: Apache-2.0

// Package ifacer implements the plugin ifacer. It makes links of the node that
// pods share: a VLAN of a NIC, a bond, or a VLAN of a bond. The first pod's ADD
// makes the link. Every later ADD verifies it.
//
// The plugin's program is one call:
//
//	func main() { plugin.Main(ifacer.Plugin()) }
//
// The plan is pure (plan.go). Observe locks all links that the plan names and then
// reads them (observe.go), so that many pods can be added at the same time.
//
// Beware: the links belong to the node. ifacer refuses to change a link in a way
// that harms its users, unless force is set. It deletes a link only with
// removeUnused, and only if it made the link and nothing uses it. A node may
// restrict what networks can do with its links (allow.go).
package ifacer

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/ifacer/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// host is the namespace of all links of ifacer.
const host = netstate.Host

// Config is the plugin's configuration.
type Config struct {
	keys.Config
	called map[string]string // names of interfaces in the configuration, by their real names
}

// Load reads the configuration and checks it, also against the node's allow list.
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
