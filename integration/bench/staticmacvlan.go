// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"

	"github.com/multihome/multihome/pkg/spool"
)

// staticMacvlan measures a NIC of static-macvlan-cni on a VLANSubnet without a VLAN, whose link
// is on the node already, and beside it a NIC of macvlan alone, with the same IPAM.
func (r *roundOn) staticMacvlan(p *pod) error {
	static := spoolNIC("net1", nextAddresses(80, "fd00:6::5:%x/64"))
	static.Link = &spool.Link{Name: nic + ".host", Master: nic, Mode: "bridge"} // the name that coordinator's has
	alone := spoolNIC("net2", nextAddresses(96, "fd00:6::6:%x/64"))
	ipam := map[string]any{"type": "static-ipam"}
	return r.claimed(p, []spool.NIC{static, alone}, func(args string) error {
		env := []string{args, "CNI_PATH=" + filepath.Dir(string(r.node.staticMacvlan)) + ":" + filepath.Dir(string(r.macvlan))}
		for _, of := range []struct {
			name    string
			plugin  program
			nic     string
			options map[string]any
		}{
			{"static-macvlan-cni", r.node.staticMacvlan, static.Interface, map[string]any{"ipam": ipam}},
			{"macvlan", r.macvlan, alone.Interface, map[string]any{"ipam": ipam, "master": nic, "mode": "bridge"}},
		} {
			if err := r.lifeAgain(of.name, "", of.plugin, call{pod: p, nic: of.nic, keys: of.options, env: env}); err != nil {
				return err
			}
		}
		return nil
	})
}
