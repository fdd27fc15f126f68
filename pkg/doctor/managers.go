// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/hostlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// systemdDirs are where systemd's programs look for configuration, as systemd.network(5)
// says, those that go first first.
func systemdDirs(name string) (out []string) {
	for _, dir := range []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

var networkdForeign = Kind{
	ID: "networkd-foreign", Severity: Problem,
	What: "systemd-networkd runs and manages rules or routes that are not its own",
	Why:  "When it starts, and when it configures a link again, it removes the rules and routes that no .network file has, ours among them: the node no longer finds its pods (aws#1600, cilium#18706). Both are on by default; they can be switched off since systemd 246 (routes) and 249 (rules), by networkd.conf(5).",
	Remedy: `multihome install --drop-ins networkd
systemctl restart systemd-networkd
multihome repairFLAGS`,
}

var networkdLinks = Kind{
	ID: "networkd-links", Severity: Warning,
	What: "a .network file of systemd-networkd takes the links to pods",
	Why:  "It configures every link that its [Match] takes: with DHCP, addresses, or by taking away what it didn't set. The first file that matches counts (systemd.network(5)), so one in front leaves these links alone.",
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
	for _, link := range hostEndNames() {
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

// isTrue is what systemd.syntax(7) takes for true.
func isTrue(value string) bool {
	return slices.Contains([]string{"1", "yes", "true", "on", "y", "t"}, strings.ToLower(value))
}

// hostEndNames are what the node's ends of links to pods look like.
func hostEndNames() []netstate.Link {
	return []netstate.Link{
		{Name: attachment.HostEnd("pod"), Type: "veth"},
		{Name: hostlink.On("ens192").Name, Type: "macvlan"},
	}
}

// networkOf returns the file by which systemd-networkd manages a link, "" if it
// doesn't.
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

// networkMatches reports whether [Match] of a .network file takes a link. Of what it
// may ask for, name, kind, type and driver can be told of a link that is not there.
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

// anyMatches reports whether one of these patterns takes a value; a '!' in front of
// the first turns all of them around.
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
	Why:  "It configures a link that nobody told it to leave alone, or waits for an address on it, and takes the addresses and routes of a link for its own to change (spiderpool#2657). NetworkManager.conf(5), unmanaged-devices.",
	Remedy: `multihome install --drop-ins networkmanager
systemctl reload NetworkManager`,
}

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
	for _, link := range hostEndNames() {
		if !isUnmanaged(set, link) {
			n.found(networkManagerLinks, "links such as "+link.Name+" are not among unmanaged-devices")
		}
	}
	return nil
}

// isUnmanaged reports whether [keyfile] of NetworkManager.conf(5) has it leave a link
// alone.
func isUnmanaged(set []setting, link netstate.Link) bool {
	var specs []string
	for _, s := range set {
		list := strings.FieldsFunc(s.value, func(r rune) bool { return r == ';' || r == ',' })
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
	unmanaged := false
	for _, spec := range specs {
		but, excepted := strings.CutPrefix(strings.TrimSpace(spec), "except:")
		if specMatches(but, link) {
			if excepted {
				return false
			}
			unmanaged = true
		}
	}
	return unmanaged
}

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
	What: "nm-cloud-setup is enabled, or its rules are there",
	Why:  "On cloud images of RHEL and its kin it gives each address of a NIC a rule and a table with a default route: what the node sends from that address to pods that other CNIs route in table main leaves by the NIC (rke2#1053, calico#4662).",
	Remedy: `systemctl disable --now nm-cloud-setup.service nm-cloud-setup.timer
COMMANDS`,
}

// The priorities of nm-cloud-setup's rules: 30200 and 30400, each with the number of one
// of 100 NICs added, and 30350 between them (_nmc_mangle_connection in its main.c).
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
