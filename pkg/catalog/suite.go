// SPDX-License-Identifier: Apache-2.0

// Package catalog knows all plugins there are, for the command that speaks of them. No
// plugin has the others linked in.
package catalog

import (
	"maps"
	"slices"

	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/route"
)

// Plugins are ours, by the type that a configuration calls them.
var Plugins = map[string]plugin.Plugin{
	"coordinator": coordinator.Plugin("coordinator", coordinator.Load),
	"veth":        coordinator.Plugin("veth", coordinator.LoadOlder),
	"ifacer":      ifacer.Plugin(),
	"route":       route.Plugin(),
}

// Names are the types of all plugins, which are also their binaries' names, sorted.
func Names() []string { return slices.Sorted(maps.Keys(Plugins)) }
