// SPDX-License-Identifier: Apache-2.0

// Package catalog lists all plugins of the suite, for the command multihome.
//
//	p, known := catalog.Plugins["coordinator"]
//
// Beware: it links every plugin. A plugin's own binary must not import it.
package catalog

import (
	"maps"
	"slices"

	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/route"
)

// Plugins maps the type in a configuration to the plugin.
var Plugins = map[string]plugin.Plugin{
	"coordinator": coordinator.Plugin("coordinator", coordinator.Load),
	"veth":        coordinator.Plugin("veth", coordinator.LoadOlder),
	"ifacer":      ifacer.Plugin(),
	"route":       route.Plugin(),
}

// Names returns the types of all plugins, sorted. A type is the name of the plugin's
// binary too.
func Names() []string { return slices.Sorted(maps.Keys(Plugins)) }
