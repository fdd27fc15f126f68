// SPDX-License-Identifier: Apache-2.0

// Ifacer comes first in a chain and makes, on demand, the link of the node that
// the plugin behind it builds on: a VLAN of a NIC, a bond of several, or a VLAN
// of a bond. What it does is in pkg/ifacer.
package main

import (
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(ifacer.Plugin()) }
