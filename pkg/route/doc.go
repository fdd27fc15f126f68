// SPDX-License-Identifier: Apache-2.0

// Package route implements the plugin route. It gives pods on macvlans a way to
// their node and back, by a macvlan of the node (plan.go). With sbr it routes
// packets from each address of a NIC by a table of that address (source.go).
//
// The plugin's program is one call:
//
//	func main() { plugin.Main(route.Plugin()) }
//
// The plans are pure. Package plugin applies, checks, undoes and removes them.
//
// Beware: route must be chained after the plugin that makes the NIC. Chain either
// route with sbr or coordinator behind a NIC, not both: both would make tables for
// its addresses.
package route

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
	"github.com/multihome/multihome/pkg/route/keys"
)

// The two namespaces of an attachment.
const (
	host = netstate.Host
	pod  = netstate.Pod
)

// Config is the plugin's configuration.
type Config struct {
	keys.Config
	Bridge hostlink.Bridge // the bridge of the keys, in the type that plans it
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
