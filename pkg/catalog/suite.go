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
	"github.com/multihome/multihome/pkg/ipamcni"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/route"
	"github.com/multihome/multihome/pkg/staticmacvlan"
)

// Plugins maps the type in a configuration to the plugin.
var Plugins = map[string]plugin.Plugin{
	"coordinator": coordinator.Plugin("coordinator", coordinator.Load),
	"veth":        coordinator.Plugin("veth", coordinator.LoadOlder),
	"ifacer":      ifacer.Plugin(),
	"route":       route.Plugin(),
}

// Names returns the types of all plugins in Plugins, sorted. A type is the name of the
// plugin's binary too.
func Names() []string { return slices.Sorted(maps.Keys(Plugins)) }

// Binaries returns the names of all binaries that a node's CNI directory gets, sorted: those of
// Names, and of IPAM and static-macvlan-cni, which aren't built on pkg/plugin.
func Binaries() []string {
	return slices.Sorted(slices.Values(append(Names(), append(ipamcni.Names(), staticmacvlan.Name)...)))
}

// IsOthers reports whether another system has a plugin of this name, too.
func IsOthers(binary string) bool {
	return binary == "spiderpool" || binary == "static-ipam" || binary == staticmacvlan.Name
}
