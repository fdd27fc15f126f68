// SPDX-License-Identifier: Apache-2.0

// Package deploy embeds the drop-ins of this directory: configuration files for other
// software of a node, so that it leaves the plugins' links, rules and routes alone, or
// prints them by name. `multihome install` writes them.
//
//	for _, d := range deploy.DropIns {
//		fmt.Printf("/etc/%s, for %s:\n%s", d.Path, d.For, d.Text())
//	}
//
// Beware: the drop-ins match the names of our links by pattern. Tests compare the patterns
// with pkg/attachment and pkg/hostlink, which make the names. The chart and the
// kustomizations in this directory are not embedded.
package deploy

import "embed"

//go:embed rt_protos.d networkd.conf.d network NetworkManager.conf.d sysctl.d
var files embed.FS

// DropIn is a configuration file for other software of the node.
type DropIn struct {
	For  string // the software, as --drop-ins of `multihome install` names it
	Path string // relative to the node's /etc
	file string // relative to this directory
}

// DropIns lists all drop-ins.
var DropIns = []DropIn{
	{For: "iproute2", Path: "iproute2/rt_protos.d/multihome.conf", file: "rt_protos.d/multihome.conf"},
	{For: "networkd", Path: "systemd/networkd.conf.d/multihome.conf", file: "networkd.conf.d/multihome.conf"},
	{For: "networkd-links", Path: "systemd/network/05-multihome.network", file: "network/05-multihome.network"},
	{For: "networkmanager", Path: "NetworkManager/conf.d/zz-multihome.conf", file: "NetworkManager.conf.d/zz-multihome.conf"},
	{For: "sysctl", Path: "sysctl.d/90-multihome.conf", file: "sysctl.d/90-multihome.conf"},
}

// Text returns the contents of the file.
func (d DropIn) Text() []byte {
	text, err := files.ReadFile(d.file)
	if err != nil { // can't happen: the file is embedded
		panic(err)
	}
	return text
}
