// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/survey"
)

// binDirs are the directories in which runtimes look for plugins: the usual one, and those of
// distributions.
var binDirs = []string{
	binDir, "/usr/lib/cni", "/usr/libexec/cni", "/var/lib/cni/bin", "/home/kubernetes/bin",
	"/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/data/current/bin", "/var/snap/microk8s/current/opt/cni/bin",
}

var pluginMissing = Kind{
	ID: "plugin-missing", Severity: Problem,
	What:   "a network names a plugin that is in none of the node's CNI directories, or that nobody may execute",
	Why:    "The runtime says \"failed to find plugin\". Every ADD to the network fails; DEL fails as well, so that its pods stay Terminating. Distributions, and other CNIs' installers, bring only some of the CNI project's plugins, often without macvlan and ipvlan (multus#1038, k3s#9224); an upgrade or reboot of a node may take away what somebody put there (multus#173). Doctor looks into /opt/cni/bin and the directories of some distributions, if it finds coordinator there.",
	Remedy: "# put PLUGIN into DIRECTORY: those of the CNI project are at https://github.com/containernetworking/plugins/releases, and DaemonSet multihome installs ours when its pod on this node is made anew",
}

// missingPlugins looks for plugins of networks that are in no directory of plugins.
func missingPlugins(n *node) error {
	i := slices.IndexFunc(binDirs, func(dir string) bool { return isExecutable(filepath.Join(dir, "coordinator")) })
	if i < 0 {
		return nil // the runtime has a directory of its own
	}
	lacking := map[string][]string{}
	for _, network := range n.networks {
		if !network.usesOurs() {
			continue
		}
		for _, name := range network.programs() {
			there := slices.ContainsFunc(binDirs, func(dir string) bool { return isExecutable(filepath.Join(dir, name)) })
			if !there && !slices.Contains(lacking[name], network.where()) {
				lacking[name] = append(lacking[name], network.where())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lacking)) {
		n.found(pluginMissing, fmt.Sprintf("there is no plugin %s, and %s needs it", name, strings.Join(lacking[name], ", ")), "PLUGIN", name, "DIRECTORY", binDirs[i])
	}
	return nil
}

// programs returns the plugins and IPAM plugins of a network.
func (n network) programs() (out []string) {
	for _, p := range n.plugins {
		ipam, _ := p["ipam"].(map[string]any)
		for _, name := range []string{text(p, "type"), text(ipam, "type")} {
			if name != "" && name == filepath.Base(name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// isExecutable reports whether a program is at a path. It says so as well if it can't look.
func isExecutable(path string) bool {
	const anybody = 0o111
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return info.Mode().IsRegular() && info.Mode()&anybody != 0
}

var parentUnfit = Kind{
	ID: "parent-unfit", Severity: Problem,
	What: "a network puts pods' NICs on a link that isn't there, is down, or is a port of a bridge or bond",
	Why:  "If there is no such link, every ADD fails with \"Link not found\" (multus#424): NICs have other names on other nodes, and get another one with another slot or driver. A NIC on a link that is down carries nothing. The kernel puts no macvlan or ipvlan on a port of a bridge, a bond or Open vSwitch: \"device or resource busy\" (pipework#221).",
	Remedy: `COMMANDS
# if the link is another one on this node, name that one as master: FILES`,
}

// unfitParents looks for masters of networks that can't carry pods' NICs. One that isn't there
// may be made by a plugin before.
func unfitParents(n *node) error {
	unfit := map[[3]string][]string{} // networks, by master, what is wrong with it, and what helps
	for _, network := range n.networks {
		if !network.usesOurs() {
			continue
		}
		for i, p := range network.plugins {
			kind, master := text(p, "type"), text(p, "master")
			if inPod, _ := p["linkInContainer"].(bool); inPod || master == "" || kind != "macvlan" && kind != "ipvlan" && kind != "vlan" {
				continue
			}
			made := slices.ContainsFunc(network.plugins[:i], func(before map[string]any) bool { return text(before, "type") == "ifacer" })
			if fault, command := n.fault(master, kind); fault != "" && (!made || command != "") {
				key := [3]string{master, fault, command}
				unfit[key] = append(unfit[key], network.where())
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(unfit), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) }) {
		files := strings.Join(slices.Compact(unfit[key]), ", ")
		n.found(parentUnfit, fmt.Sprintf("%s %s, and %s puts NICs on it", key[0], key[1], files), "COMMANDS", key[2], "FILES", files)
	}
	return nil
}

// fault returns why a link can't carry NICs of a type, and a command that helps. If it can, both
// are empty; if there is no such link, there is no command.
func (n *node) fault(name, kind string) (fault, command string) {
	l, ok := n.link(name)
	for _, other := range netstate.All[netstate.Link](n.snapshot, host) {
		if !ok && slices.Contains(strings.Fields(other.AltNames), name) {
			l, ok = other, true
		}
	}
	master, _ := n.link(l.Master)
	switch {
	case !ok:
		return "isn't there", ""
	case !l.Up:
		return "is down", "ip link set " + l.Name + " up"
	case kind != "vlan" && slices.Contains([]string{"bridge", "bond", "team", "openvswitch"}, master.Type):
		return "is a port of " + master.Name, "# name " + master.Name + " as master, or take the link out of it"
	}
	return "", ""
}

var moduleMissing = Kind{
	ID: "module-missing", Severity: Problem,
	What: "the kernel doesn't know a type of link that a network needs, and finds no module for it",
	Why:  "Every ADD to that network fails with \"operation not supported\". Doctor asks the kernel in the same way as a plugin, so the kernel has tried to load the module.",
	Remedy: `modprobe MODULE
echo MODULE >/etc/modules-load.d/multihome.conf
# if there is no such module, install it (linux-modules-extra, kernel-modules-extra)`,
}

// linkModules maps a type of link to its module, if the module has another name.
var linkModules = map[string]string{"vlan": "8021q", "bond": "bonding"}

// modules checks that the kernel has all types of links that networks need.
func modules(n *node) error {
	for kind, networks := range n.needed() {
		lacks, err := survey.LacksLink(n.kernel, kind)
		if err != nil {
			return err
		}
		if lacks {
			module := kind
			if m := linkModules[kind]; m != "" {
				module = m
			}
			n.found(moduleMissing, fmt.Sprintf("no links of type %s, and %s needs them", kind, strings.Join(networks, ", ")), "MODULE", module)
		}
	}
	return nil
}

// needed returns the types of links that networks need, with the networks that need each.
func (n *node) needed() map[string][]string {
	out := map[string][]string{}
	for _, network := range n.networks {
		for _, p := range network.plugins {
			for _, kind := range kindsOf(p) {
				if !slices.Contains(out[kind], network.where()) {
					out[kind] = append(out[kind], network.where())
				}
			}
		}
	}
	return out
}

// kindsOf returns the types of links that a plugin makes with a configuration.
func kindsOf(p map[string]any) (out []string) {
	switch typ := text(p, "type"); typ {
	case "macvlan", "ipvlan", "vlan", "bridge", "bond":
		return []string{typ}
	case "ptp", "veth":
		return []string{"veth"}
	case "coordinator":
		if text(p, "hostLink") == "macvlan" {
			return []string{"macvlan"}
		}
		return []string{"veth"}
	case "route":
		if text(p, "bridge") != "" {
			return []string{"macvlan"}
		}
	case "ifacer":
		if id, _ := p["vlanID"].(float64); id > 0 {
			out = append(out, "vlan")
		}
		if interfaces, _ := p["interfaces"].([]any); len(interfaces) > 1 {
			out = append(out, "bond")
		}
	}
	return out
}

var sharedParent = Kind{
	ID: "shared-parent", Severity: Problem,
	What:   "networks put both macvlans and ipvlans on one parent",
	Why:    "A link can have children of only one of these types: the kernel refuses the other type with \"device or resource busy\" (cni#7, multus#1339). Which pods fail depends on which came first.",
	Remedy: "# use one type for all networks on LINK, or give one of them a VLAN of its own with ifacer: FILES",
}

// parents looks for links on which networks put both macvlans and ipvlans.
func parents(n *node) error {
	type uses map[string][]string // networks, by type
	byParent := map[string]uses{}
	for _, network := range n.networks {
		parent := ""
		for _, p := range network.plugins {
			typ := text(p, "type")
			if typ == "macvlan" || typ == "ipvlan" {
				parent = text(p, "master")
			} else if kinds := kindsOf(p); slices.Contains(kinds, "macvlan") {
				typ = "macvlan" // the node's own, on the parent of a plugin before this one
			}
			if parent == "" || typ != "macvlan" && typ != "ipvlan" {
				continue
			}
			if byParent[parent] == nil {
				byParent[parent] = uses{}
			}
			if !slices.Contains(byParent[parent][typ], network.where()) {
				byParent[parent][typ] = append(byParent[parent][typ], network.where())
			}
		}
	}
	for parent, use := range byParent {
		if len(use["macvlan"]) > 0 && len(use["ipvlan"]) > 0 {
			n.found(sharedParent, fmt.Sprintf("%s has macvlans by %s, and ipvlans by %s", parent, strings.Join(use["macvlan"], ", "), strings.Join(use["ipvlan"], ", ")),
				"LINK", parent, "FILES", strings.Join(slices.Concat(use["macvlan"], use["ipvlan"]), ", "))
		}
	}
	return nil
}
