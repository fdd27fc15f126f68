// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// systemdDirs returns the paths at which systemd's programs look for a configuration, in
// the order of precedence (systemd.network(5)).
func systemdDirs(name string) (out []string) {
	for _, dir := range []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

var networkdForeign = Kind{
	ID: "networkd-foreign", Severity: Problem,
	What: "systemd-networkd runs and manages rules or routes that are not its own",
	Why:  "When systemd-networkd starts, or configures a link again, it removes all rules and routes that are in no .network file, ours among them. Then the node no longer finds its pods (aws#1600, cilium#18706). Both settings are on by default; they can be switched off since systemd 246 (routes) and 249 (rules), see networkd.conf(5).",
	Remedy: `multihome install --drop-ins networkd
systemctl restart systemd-networkd
multihome repairFLAGS`,
}

var networkdLinks = Kind{
	ID: "networkd-links", Severity: Warning,
	What: "a .network file of systemd-networkd matches the links to pods",
	Why:  "systemd-networkd configures every link that the file's [Match] section selects: it starts DHCP, adds addresses, or removes addresses and routes that it didn't set. Only the first file that matches counts (systemd.network(5)). The drop-in sorts before the others and makes systemd-networkd leave these links alone.",
	Remedy: `multihome install --drop-ins networkd-links
systemctl restart systemd-networkd`,
}

func networkd(n *node) error {
	if _, runs := n.programs["systemd-network"]; !runs {
		n.fact("systemd-networkd", "%s", absent())
		return nil
	}
	n.fact("systemd-networkd", "runs")
	files := append([]string{firstOf(systemdDirs("networkd.conf")...)}, dropIns(".conf", systemdDirs("networkd.conf.d")...)...)
	set, err := settings(files...)
	if err != nil {
		return err
	}
	for _, key := range []string{"ManageForeignRoutingPolicyRules", "ManageForeignRoutes"} {
		if value := last(set, "Network", key, "yes"); isTrue(value) {
			n.found(networkdForeign, fmt.Sprintf("%s is %s", key, value))
		}
	}
	for _, link := range n.hostEnds() {
		file, err := networkOf(link)
		if err != nil {
			return err
		}
		if file != "" {
			n.found(networkdLinks, fmt.Sprintf("%s takes links such as %s", file, link.Name))
		}
	}
	return nil
}

// isTrue reports whether systemd.syntax(7) takes a value for true.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "yes", "true", "on", "y", "t"}, strings.ToLower(value))
}

// hostEnds returns examples of the node's ends of links to pods: of those that networks make and that are there,
// or of all if there is neither.
func (n *node) hostEnds() []netstate.Link {
	all := []netstate.Link{
		{Name: attachment.HostEnd("pod"), Type: "veth"},
		{Name: hostlink.On("ens192").Name, Type: "macvlan"},
	}
	used := map[string]bool{}
	for _, network := range n.networks {
		for _, p := range network.plugins {
			if _, ours := catalog.Plugins[text(p, "type")]; ours {
				for _, kind := range kindsOf(p) {
					used[kind] = true
				}
			}
		}
	}
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		used[l.Type] = used[l.Type] || l.Owned()
	}
	if !used["veth"] && !used["macvlan"] {
		return all
	}
	return slices.DeleteFunc(all, func(l netstate.Link) bool { return !used[l.Type] })
}

// networkOf returns the file by which systemd-networkd manages a link, "" if it manages
// the link by none.
func networkOf(link netstate.Link) (string, error) {
	for _, file := range dropIns(".network", systemdDirs("network")...) {
		set, err := settings(file)
		if err != nil {
			return "", err
		}
		if !networkMatches(set, link) {
			continue
		}
		if isTrue(last(set, "Link", "Unmanaged", "no")) {
			return "", nil
		}
		return file, nil
	}
	return "", nil
}

// networkMatches reports whether the [Match] section of a .network file selects a link.
// The link need not exist, so only its name, kind, type and driver are known: a section
// with any other key selects nothing.
func networkMatches(set []setting, link netstate.Link) bool {
	is := map[string]string{"Name": link.Name, "Kind": link.Type, "Type": "ether", "Driver": link.Type}
	matched := false
	for _, s := range set {
		if s.section != "Match" {
			continue
		}
		value, known := is[s.key]
		if !known || !anyMatches(strings.Fields(s.value), value) {
			return false
		}
		matched = true
	}
	return matched
}

// anyMatches reports whether one of the patterns matches a value. A '!' before the first
// pattern inverts the result.
func anyMatches(patterns []string, value string) bool {
	want := true
	if len(patterns) > 0 && strings.HasPrefix(patterns[0], "!") {
		patterns, want = append([]string{patterns[0][1:]}, patterns[1:]...), false
	}
	return want == slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, value)
		return ok && err == nil
	})
}

var networkManagerLinks = Kind{
	ID: "networkmanager-links", Severity: Warning,
	What: "NetworkManager runs and manages the links to pods",
	Why:  "NetworkManager configures every link that it wasn't told to leave alone, or waits for an address on it. It treats the link's addresses and routes as its own and changes them (spiderpool#2657). See unmanaged-devices in NetworkManager.conf(5). Since 1.20, its rules for udev except veths (nmstate#558).",
	Remedy: `multihome install --drop-ins networkmanager
systemctl reload NetworkManager`,
}

// networkManager looks for links to pods that NetworkManager manages. Its own rules for udev except veths
// since 1.20, whatever its configuration says (85-nm-unmanaged.rules; nmstate#558).
func networkManager(n *node) error {
	if _, runs := n.programs["NetworkManager"]; !runs {
		n.fact("NetworkManager", "%s", absent())
		return nil
	}
	n.fact("NetworkManager", "runs")
	const dir = "/NetworkManager/conf.d"
	files := dropIns(".conf", "/run"+dir, "/usr/lib"+dir)
	files = append(append(files, "/etc/NetworkManager/NetworkManager.conf"), dropIns(".conf", "/etc"+dir)...)
	set, err := settings(files...)
	if err != nil {
		return err
	}
	rules, err := os.ReadFile(firstOf(udevDirs("85-nm-unmanaged.rules")...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, link := range n.hostEnds() {
		if !isUnmanaged(set, link) && !udevExcepts(string(rules), link.Type) {
			n.found(networkManagerLinks, "links such as "+link.Name+" are not among unmanaged-devices")
		}
	}
	return nil
}

// udevDirs returns the paths at which udev looks for a file of rules.
func udevDirs(name string) (out []string) {
	for _, dir := range []string{"/etc/udev", "/run/udev", "/usr/local/lib/udev", "/usr/lib/udev", "/lib/udev"} {
		out = append(out, filepath.Join(dir, "rules.d", name))
	}
	return out
}

// udevExcepts reports whether rules of udev have NetworkManager leave links with a driver alone. What they
// except of these, such as eth*, has no name of ours.
func udevExcepts(rules, driver string) bool {
	for line := range strings.Lines(rules) {
		if !strings.HasPrefix(line, "#") && strings.Contains(line, `ENV{ID_NET_DRIVER}=="`+driver+`"`) && strings.Contains(line, `ENV{NM_UNMANAGED}="1"`) {
			return true
		}
	}
	return false
}

// isUnmanaged reports whether NetworkManager.conf(5) makes NetworkManager leave a link alone: its section
// [keyfile], or one whose name begins with device.
func isUnmanaged(set []setting, link netstate.Link) bool {
	return isExcepted(set, link) || isNotManaged(set, link)
}

// isNotManaged reports whether the first section of devices that matches a link, and says so, has managed=0.
func isNotManaged(set []setting, link netstate.Link) bool {
	var sections []string
	match, managed := map[string]string{}, map[string]string{}
	for _, s := range set {
		if !strings.HasPrefix(s.section, "device") {
			continue
		}
		if !slices.Contains(sections, s.section) {
			sections = append(sections, s.section)
		}
		switch s.key {
		case "match-device":
			match[s.section] = s.value
		case "managed":
			managed[s.section] = s.value
		}
	}
	for _, name := range sections {
		specs, has := match[name]
		if managed[name] != "" && (!has || anySpecMatches(specList(specs), link)) {
			return !isTrue(managed[name])
		}
	}
	return false
}

// specList splits a list of device specifications.
func specList(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ';' || r == ',' })
}

// isExcepted reports whether unmanaged-devices of the section [keyfile] has a link.
func isExcepted(set []setting, link netstate.Link) bool {
	var specs []string
	for _, s := range set {
		list := specList(s.value)
		switch {
		case s.section != "keyfile":
		case s.key == "unmanaged-devices":
			specs = list
		case s.key == "unmanaged-devices+":
			specs = append(specs, list...)
		case s.key == "unmanaged-devices-":
			specs = slices.DeleteFunc(specs, func(spec string) bool { return slices.Contains(list, spec) })
		}
	}
	return anySpecMatches(specs, link)
}

// anySpecMatches reports whether a list of device specifications matches a link.
func anySpecMatches(specs []string, link netstate.Link) bool {
	matches := false
	for _, spec := range specs {
		spec, excepted := strings.CutPrefix(strings.TrimSpace(spec), "except:")
		if specMatches(spec, link) {
			if excepted {
				return false
			}
			matches = true
		}
	}
	return matches
}

// specMatches reports whether a device specification of NetworkManager.conf(5), without
// "except:", matches a link.
func specMatches(spec string, link netstate.Link) bool {
	for prefix, value := range map[string]string{"interface-name:": link.Name, "type:": link.Type, "driver:": link.Type} {
		if pattern, ok := strings.CutPrefix(spec, prefix); ok {
			return anyMatches([]string{strings.TrimPrefix(pattern, "=")}, value)
		}
	}
	return spec == "*"
}

var nmCloudSetup = Kind{
	ID: "nm-cloud-setup", Severity: Warning,
	What: "nm-cloud-setup is enabled, or its rules exist",
	Why:  "On cloud images of RHEL and its relatives, nm-cloud-setup gives each address of a NIC a rule and a table with a default route. Other CNIs route to their pods in table main, so packets from such an address to those pods leave by the NIC instead (rke2#1053, calico#4662).",
	Remedy: `systemctl disable --now nm-cloud-setup.service nm-cloud-setup.timer
COMMANDS`,
}

// nm-cloud-setup gives its rules the priorities 30200 to 30299 and 30400 to 30499, one
// for each of 100 NICs, and 30350 (_nmc_mangle_connection in its main.c).
const cloudSetupFirst, cloudSetupLast = 30200, 30499

func cloudSetup(n *node) error {
	enabled, err := filepath.Glob("/etc/systemd/system/*.wants/nm-cloud-setup.*")
	var what, commands []string
	for _, link := range enabled {
		if to, _ := os.Readlink(link); to != os.DevNull {
			what = append(what, filepath.Base(link)+" is enabled")
		}
	}
	for _, r := range netstate.All[netstate.Rule](n.snapshot, host) {
		if r.Priority >= cloudSetupFirst && r.Priority <= cloudSetupLast && !r.Owned() {
			what = append(what, "there is rule "+r.String())
			commands = append(commands, fmt.Sprintf("ip -%d rule del pref %d", r.Family, r.Priority))
		}
	}
	if len(what) > 0 {
		n.found(nmCloudSetup, strings.Join(what, ", "), "COMMANDS", strings.Join(commands, "\n"))
	}
	return err
}
