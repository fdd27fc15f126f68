// SPDX-License-Identifier: Apache-2.0

// Coordinator is chained after a plugin that gives a pod a NIC of the underlay
// network (macvlan, ipvlan, sriov, vlan, …) and adds what that one leaves out:
// the pod and its node reach each other, the pod reaches Services, and a
// connection is answered by the way it came. What it does is in
// pkg/coordinator.
package main

import (
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(coordinator.Plugin("coordinator", coordinator.Load)) }
