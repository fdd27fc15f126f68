// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of plugin ifacer. It knows the keys, the values that
// each allows, and which keys need or exclude each other. For example:
//
//	c, err := keys.Load(map[string]json.RawMessage{
//		"interfaces": json.RawMessage(`["ens192"]`), "vlanID": json.RawMessage("100"),
//	})
//	links := c.Links() // ens192.100
//
// It has no side effects and does not link package kernel, so that a configuration can be
// checked on any machine. Package ifacer makes plans from the configuration.
//
// Beware: a good configuration may still be refused on a node. The allow list in
// /etc/cni/multihome may forbid it, or a link may be missing. Package ifacer checks that.
package keys
