// SPDX-License-Identifier: Apache-2.0

// Veth is coordinator under the name and with the keys that its forerunners had
// (service_cidr, …): chained after macvlan, sriov and the like it links the pod
// to its node and gives every further NIC a routing table of its own.
package main

import (
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(coordinator.Plugin("veth", coordinator.LoadOlder)) }
