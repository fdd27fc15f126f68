// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// allows writes an allow-list into the node's own /etc.
func (n *node) allows(list string) {
	n.t.Helper()
	err := n.Run(func() error {
		if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.MkdirAll("/etc/cni/multihome", 0o755); err != nil {
			return err
		}
		return os.WriteFile("/etc/cni/multihome/ifacer.json", []byte(list), 0o644)
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestAllowList checks that links which the node's list doesn't allow are refused, and
// that DEL always works.
func TestAllowList(t *testing.T) {
	n := two(t)
	n.add(unused(vlan100))
	n.allows(`{"interfaces": ["ens192"], "vlans": ["100-199"], "bonds": ["bond0"]}`)
	n.add(unused(vlan100))
	n.addRefused(`{"interfaces": ["ens192"], "vlanID": 200}`, "vlanID: 200: not allowed on this node by /etc/cni/multihome/ifacer.json")
	n.addRefused(`{"interfaces": ["ens224"], "vlanID": 100}`, "interfaces: ens224: not allowed")
	n.addRefused(bond0, "interfaces: ens224: not allowed")
	n.addRefused(`{"interfaces": ["ens192"], "vlanID": 100, "force": true}`, "force: not allowed")
	n.allows(`{"interfaces": []}`)
	n.addRefused(vlan100, "interfaces: ens192: not allowed")
	n.allows(`{"interfaces": ["ens192"], "vlan": 5}`)
	n.addRefused(vlan100, `/etc/cni/multihome/ifacer.json: unknown key "vlan"`)
	n.fine(call{verb: "DEL", id: "a", conf: vlan100})
	n.lacks("ens192.100")
}
