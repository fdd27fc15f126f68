// SPDX-License-Identifier: Apache-2.0

// Package hostlink plans the node's end of its links to pods, for all plugins that make
// one: the settings of each link, the macvlan that the node has for itself beside those
// of its pods, and the node's routes by links that stay after a pod is gone.
//
//	bridge := hostlink.On("ens192")
//	if err := bridge.Observe(k, snapshot); err != nil { … }
//	link, err := bridge.Want(&plan, snapshot, hostlink.Settings{RPFilter: 1})
//
// It plans, and reads the input of plans. Package kernel writes.
//
// Beware: all pods on one parent share the macvlan, and pods may share other links. An
// object there belongs to this pod only if its MAC or a record says so.
package hostlink

import "github.com/multihome/multihome/pkg/netstate"

// host is the namespace of all objects of this package.
const host = netstate.Host
