// SPDX-License-Identifier: Apache-2.0

// Veth is coordinator with the name and the keys of its forerunners. Chained after
// macvlan, sriov and the like, it links the pod to its node and gives every further NIC a
// routing table of its own:
//
//	{"type": "veth", "service_cidr": ["10.96.0.0/12"]}
//
// Its keys are in docs/coordinator.md, its code in pkg/coordinator.
//
// Beware: it has the forerunners' defaults too, which differ from coordinator's.
package main

import (
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(coordinator.Plugin("veth", coordinator.LoadOlder)) }
