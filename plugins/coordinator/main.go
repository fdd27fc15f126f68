// SPDX-License-Identifier: Apache-2.0

// Coordinator is chained after a plugin that gives a pod a NIC of the underlay network
// (macvlan, ipvlan, sriov, vlan, …). With it, the pod and its node reach each other, the
// pod reaches Services, and replies leave by the link that the connection entered by:
//
//	{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12"]}
//
// Its keys are in docs/coordinator.md, its code in pkg/coordinator.
//
// Beware: if the pod's first NIC is on the underlay, that NIC needs coordinator too, before
// the pod's further NICs.
package main

import (
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/plugin"
)

func main() { plugin.Main(coordinator.Plugin("coordinator", coordinator.Load)) }
