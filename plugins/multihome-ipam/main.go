// SPDX-License-Identifier: Apache-2.0

// Multihome-ipam is the IPAM plugin of networks whose addresses the cluster's controller gives
// to pods:
//
//	{"type": "macvlan", "master": "ens192", "ipam": {"type": "multihome-ipam"}}
//
// It reads and writes files that the node's agent knows, in /run/multihome/ipam, and does
// nothing else. Its code is in pkg/ipamcni and pkg/spool.
package main

import "github.com/multihome/multihome/pkg/ipamcni"

func main() { ipamcni.Main("multihome-ipam") }
