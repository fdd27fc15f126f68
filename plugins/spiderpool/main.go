// SPDX-License-Identifier: Apache-2.0

// Spiderpool is the plugin multihome-ipam under the name that it has in networks which were made for
// another system.
package main

import "github.com/multihome/multihome/pkg/ipamcni"

func main() { ipamcni.Main("spiderpool") }
