// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/survey"
)

// The two sides of an attachment, for short.
const (
	host  = netstate.Host
	inPod = netstate.Pod
)

var families = []netstate.Family{netstate.IPv4, netstate.IPv6}

// node holds all that the checks read, and the report that they write.
type node struct {
	options  Options
	only     *inspect.Pod // the only pod to examine; nil for all
	kernel   *kernel.Namespaces
	snapshot *netstate.Snapshot // of the node
	chains   []survey.Chain
	programs map[string]string // process IDs in the node's network namespace, by program; nil if they can't be seen
	networks []network
	pods     []pod // living pods with a NIC of a plugin of ours
	report   *Report
}

// pod is a living pod, with a snapshot of its network namespace.
type pod struct {
	inspect.Pod
	snapshot *netstate.Snapshot
}

// network is a network configuration of the node, or one that a pod was added with.
type network struct {
	name, file string // file is "" for a configuration that a pod was added with
	plugins    []map[string]any
}

// observe reads the node, its configurations and its pods.
func observe(o Options, only *inspect.Pod) (*node, error) {
	n := &node{options: o, only: only, snapshot: netstate.NewSnapshot(), report: &Report{Node: []Fact{}, Pods: []Patient{}, Findings: []Finding{}}}
	n.noteUnreadable("networks", n.readNetworks())
	n.noteUnreadable("defaults", n.addDefaults(plugin.ReadDefaults(nodeconf.Path)))
	n.noteUnreadable("programs", n.readPrograms())
	// Each pod is opened and closed by itself, before the node is opened to stay.
	n.readPods()
	var err error
	if n.kernel, err = kernel.OpenHost(); err != nil {
		return nil, err
	}
	if _, err := survey.ReadAll(n.kernel, n.snapshot); err != nil {
		n.kernel.Close()
		return nil, err
	}
	n.chains, err = survey.Chains(n.kernel.Host)
	n.noteUnreadable("netfilter", err)
	return n, nil
}

// absent says that a program doesn't run. In another PID namespace than the machine's it
// can only say that it doesn't see the program. Process 2 is the kernel's kthreadd only
// in the machine's own PID namespace.
func absent() string {
	if comm, err := os.ReadFile("/proc/2/comm"); err != nil || string(comm) != "kthreadd\n" {
		return "is not seen in this PID namespace"
	}
	return "doesn't run"
}

// readNetworks reads the node's network configurations, and those of other networks that
// pods were added with. What runtimes keep of pods that are gone says nothing about a network.
func (n *node) readNetworks() error {
	var errs []error
	files, err := libcni.ConfFiles(n.options.ConfDir, []string{".conflist", ".conf", ".json"})
	errs = append(errs, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = n.addNetwork(file, data)
		}
		errs = append(errs, err)
	}
	for _, pod := range inspect.Pods(n.options.CacheDirs) {
		if pod.Netns != "" && (netns.ID{Path: pod.Netns}).Gone() {
			continue
		}
		for _, a := range pod.Attachments {
			known := slices.ContainsFunc(n.networks, func(k network) bool { return k.name == a.Network })
			if a.Config != nil && !known {
				errs = append(errs, n.addNetwork("", a.Config))
			}
		}
	}
	return errors.Join(errs...)
}

// addNetwork adds a configuration: a list of plugins, or a single plugin.
func (n *node) addNetwork(file string, data []byte) error {
	var list struct {
		Name    string           `json:"name"`
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("configuration %s: %w", file, err)
	}
	if list.Plugins == nil { // a single plugin
		var single map[string]any
		if err := json.Unmarshal(data, &single); err == nil {
			list.Plugins = append(list.Plugins, single)
		}
	}
	n.networks = append(n.networks, network{list.Name, file, list.Plugins})
	return nil
}

// addDefaults gives the coordinators of the networks the node's values for keys that they
// lack.
func (n *node) addDefaults(node plugin.Defaults) error {
	err := node.Err
	if err == nil {
		if err = keys.CheckNode(node.Keys, nil); err != nil {
			err = fmt.Errorf("%s: %w", node.Path, err)
		}
	}
	if err != nil {
		return err
	}
	for _, network := range n.networks {
		for _, p := range network.plugins {
			if t := text(p, "type"); t != "coordinator" && t != "veth" {
				continue
			}
			for name, value := range node.Keys {
				if _, has := p[name]; has {
					continue
				}
				var decoded any
				if err := json.Unmarshal(value, &decoded); err != nil {
					return fmt.Errorf("%s: %s: %w", node.Path, name, err)
				}
				p[name] = decoded
			}
		}
	}
	return nil
}

// where returns the file in which a network is configured, or else its name.
func (n network) where() string {
	if n.file == "" {
		return "network " + n.name
	}
	return n.file
}

// text returns the value of a plugin's key, "" if it isn't a string.
func text(plugin map[string]any, key string) string {
	s, _ := plugin[key].(string)
	return s
}

// programNames lists the programs that checks ask for, by the kernel's names for them. The
// kernel keeps fifteen bytes of a name (TASK_COMM_LEN).
var programNames = []string{"systemd-network", "NetworkManager", "cilium-agent", "calico-node", agentProgram}

// readPrograms finds the processes of programNames in the node's network namespace.
func (n *node) readPrograms() error {
	if comm, _ := os.ReadFile("/proc/1/comm"); os.Getpid() == 1 || strings.TrimSpace(string(comm)) == "pause" {
		return errors.New("a container without hostPID doesn't see the node's processes")
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	n.programs = map[string]string{}
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range files {
		comm, err := os.ReadFile(file)
		name := strings.TrimSpace(string(comm))
		if err != nil || !slices.Contains(programNames, name) {
			continue
		}
		dir := filepath.Dir(file)
		if there, err := os.Readlink(filepath.Join(dir, "ns/net")); err == nil && there == here {
			n.programs[name] = filepath.Base(dir)
		}
	}
	return err
}

// readPods reads the living pods that this suite attached, or the only pod to examine.
func (n *node) readPods() {
	list := inspect.Pods(n.options.CacheDirs)
	if n.only != nil {
		list = []inspect.Pod{*n.only}
	}
	for _, p := range list {
		if n.only == nil && !usesOurs(p) {
			continue
		}
		if n.only == nil && (netns.ID{Path: p.Netns}).Gone() {
			continue // the check for leftovers reports it
		}
		if p.Name == "" {
			p.Name = p.ContainerID
		}
		snap, err := readPod(p)
		if err != nil {
			n.noteUnreadable("pods", err)
			continue
		}
		n.pods = append(n.pods, pod{p, snap})
		var nics []string
		for _, a := range p.Attachments {
			nics = append(nics, a.IfName)
		}
		n.report.Pods = append(n.report.Pods, Patient{Name: p.Name, ContainerID: p.ContainerID, NICs: strings.Join(nics, ", ")})
	}
}

// readPod reads the network namespace of a pod.
func readPod(p inspect.Pod) (*netstate.Snapshot, error) {
	k, err := p.Look()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	snap := netstate.NewSnapshot()
	if err := k.ReadPod(snap); err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return snap, nil
}

// usesOurs reports whether a plugin of this suite is in the network's chain.
func (n network) usesOurs() bool {
	return slices.ContainsFunc(n.plugins, func(p map[string]any) bool {
		_, ours := catalog.Plugins[text(p, "type")]
		return ours
	})
}

// usesOurs reports whether a plugin of this suite is in the chain of one of a pod's
// attachments. An attachment without a configuration is known only from a record of ours.
func usesOurs(p inspect.Pod) bool {
	return slices.ContainsFunc(p.Attachments, func(a inspect.Attachment) bool {
		if a.Config == nil {
			return true
		}
		n := node{}
		if n.addNetwork("", a.Config) != nil {
			return false
		}
		return n.networks[0].usesOurs()
	})
}

// link returns a link of the node.
func (n *node) link(name string) (netstate.Link, bool) {
	return netstate.Get(n.snapshot, host, netstate.Link{Name: name})
}

// links returns the names of the node's links that begin with a prefix.
func (n *node) links(prefix string) (out []string) {
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		if strings.HasPrefix(l.Name, prefix) {
			out = append(out, l.Name)
		}
	}
	return out
}

// nodeLinks tells the links that carry the node's own addresses from links to pods.
func (n *node) nodeLinks() kernel.NodeLinks { return kernel.NodeLinksOf(n.snapshot, n.parents()...) }

// nics returns the names of the links that carry the node's own addresses.
func (n *node) nics() (out []string) {
	links := n.nodeLinks()
	for _, a := range netstate.All[netstate.Addr](n.snapshot, host) {
		addr := a.Prefix.Addr()
		if links.Own(a.Dev) && !addr.IsLinkLocalUnicast() && !slices.Contains(out, a.Dev) {
			out = append(out, a.Dev)
		}
	}
	return out
}

// forwards reports whether the node has to forward a family. It has to if the node has
// addresses of that family, and a pod or the Services of a network have some as well. A
// node with neither pods nor networks has to forward IPv4.
func (n *node) forwards(f netstate.Family) bool {
	if !n.hasFamily(f) {
		return false
	}
	for _, p := range n.pods {
		if slices.ContainsFunc(p.addrs(""), func(a netstate.Addr) bool { return netstate.FamilyOf(a.Prefix.Addr()) == f }) {
			return true
		}
	}
	for _, network := range n.networks {
		for _, p := range network.plugins {
			cidrs := fmt.Sprint(p["serviceCIDR"], p["service_cidr"])
			if f == netstate.IPv6 && strings.Contains(cidrs, ":") || f == netstate.IPv4 && strings.Contains(cidrs, ".") {
				return true
			}
		}
	}
	return f == netstate.IPv4 && len(n.pods)+len(n.networks) == 0
}

// hasFamily reports whether the node has global addresses of a family.
func (n *node) hasFamily(f netstate.Family) bool {
	links := n.nodeLinks()
	return slices.ContainsFunc(netstate.All[netstate.Addr](n.snapshot, host), func(a netstate.Addr) bool {
		addr := a.Prefix.Addr()
		return netstate.FamilyOf(addr) == f && !addr.IsLinkLocalUnicast() && links.Own(a.Dev)
	})
}

// sysctl reads a setting below /proc/sys/net. The key has slashes, not dots.
func sysctl(key string) (int, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}
