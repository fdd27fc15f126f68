// SPDX-License-Identifier: Apache-2.0

// Ifacer comes first in a chain. It makes, on demand, the link of the node that the next
// plugin builds on: a VLAN of a NIC, a bond of several NICs, or a VLAN of a bond:
//
//	{"type": "ifacer", "interfaces": ["ens192"], "vlanID": 100}
//
// Its keys are in docs/ifacer.md, its code in pkg/ifacer.
//
// Beware: the link stays on the node when the pod goes, unless the key removeUnused is set.
package main

import (
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(ifacer.Plugin()) }
