// SPDX-License-Identifier: Apache-2.0

// Route is chained after macvlan and gives pod and node a way to each other, by a
// macvlan of the node's own, or after any plugin that makes a NIC and gives that
// NIC routing tables of its own, as the CNI project's sbr does. What it does is
// in pkg/route.
package main

import (
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/route"
)

func main() { plugin.Main(route.Plugin()) }
