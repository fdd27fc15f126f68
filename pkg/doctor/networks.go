// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/survey"
)

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
