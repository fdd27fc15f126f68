// SPDX-License-Identifier: Apache-2.0

// Static-macvlan-cni makes a NIC on a VLANSubnet, with the address and the MAC that the pod's
// annotations name:
//
//	{"type": "static-macvlan-cni", "ipam": {"type": "static-ipam"}}
//
// Its code is in pkg/staticmacvlan.
//
// Beware: it calls the plugins ifacer and macvlan, which must be in the same directory.
package main

import "github.com/multihome/multihome/pkg/staticmacvlan"

func main() { staticmacvlan.Main() }
