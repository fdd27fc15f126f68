// SPDX-License-Identifier: Apache-2.0

// Package deploy holds the files that other software of a node needs to get along
// with what the plugins make, as they lie in this directory. `multihome install`
// writes them, and the image carries them in it.
package deploy

import "embed"

//go:embed rt_protos.d networkd.conf.d network NetworkManager.conf.d sysctl.d
var files embed.FS

// DropIn is a configuration file for other software of the node.
type DropIn struct {
	For  string // that software
	Path string // below the node's /etc
	file string // in this directory
}

// DropIns are all drop-ins there are.
var DropIns = []DropIn{
	{For: "iproute2", Path: "iproute2/rt_protos.d/multihome.conf", file: "rt_protos.d/multihome.conf"},
	{For: "networkd", Path: "systemd/networkd.conf.d/multihome.conf", file: "networkd.conf.d/multihome.conf"},
	{For: "networkd-links", Path: "systemd/network/05-multihome.network", file: "network/05-multihome.network"},
	{For: "networkmanager", Path: "NetworkManager/conf.d/zz-multihome.conf", file: "NetworkManager.conf.d/zz-multihome.conf"},
	{For: "sysctl", Path: "sysctl.d/90-multihome.conf", file: "sysctl.d/90-multihome.conf"},
}

// Text is what the file holds.
func (d DropIn) Text() []byte {
	text, err := files.ReadFile(d.file)
	if err != nil { // it is in the binary
		panic(err)
	}
	return text
}
