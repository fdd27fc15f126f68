// SPDX-License-Identifier: Apache-2.0

// Route has two jobs, alone or together. Chained after macvlan, it lets the pod and its
// node reach each other by a macvlan of the node's own. Chained after any plugin that
// makes a NIC, it gives that NIC routing tables of its own, as the CNI project's sbr
// does:
//
//	{"type": "route", "master": "eno1", "bridge": "eno1.host", "sbr": true}
//
// Its keys are in docs/route.md, its code in pkg/route.
//
// Beware: chain either route with sbr or coordinator behind a NIC, not both.
package main

import (
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/route"
)

func main() { plugin.Main(route.Plugin()) }
