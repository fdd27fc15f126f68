// SPDX-License-Identifier: Apache-2.0

// Package inspect finds a pod by a name, container ID, process ID or namespace, and reads
// the state of the pod and its node. It changes nothing and takes no lock.
package inspect

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
	"github.com/multihome/multihome/pkg/spool"
	"github.com/multihome/multihome/pkg/survey"
)

// CacheDirs are the directories, each with a subdirectory "results", in which runtimes
// keep plugin results: libcni's default and Multus' own.
var CacheDirs = []string{"/var/lib/cni", "/var/lib/cni/multus"}

// Pod is a pod of this node.
type Pod struct {
	ContainerID string           // of its sandbox; "" if nobody noted it
	Name        string           // namespace/name in Kubernetes, or what it was asked for by
	Netns       string           // path of its network namespace
	Attachments []Attachment     // by interface name; those that a runtime or we noted
	Records     []records.Record // of this pod, by interface name

	// Sandboxes say which addresses multihome-ipam gave the pod, and from which pools.
	Sandboxes []spool.Sandbox `json:",omitempty"`
}

// Attachment is a NIC of a pod as noted at ADD.
type Attachment struct {
	Network string
	IfName  string
	Config  []byte           // the network's configuration; nil if only our own record is there
	Result  *types100.Result // of the chain; nil likewise
}

// Pods returns the pods, living or dead, that have results or records. It leaves out
// unreadable files.
func Pods(cacheDirs []string) []Pod {
	byID := map[string]*Pod{}
	pod := func(id string) *Pod {
		if byID[id] == nil {
			byID[id] = &Pod{ContainerID: id}
		}
		return byID[id]
	}
	cached, _ := Cache(cacheDirs)
	for _, c := range cached {
		p := pod(c.ContainerID)
		p.Netns = c.Netns
		p.Name = cmp.Or(c.kubernetesName(), p.Name)
		p.note(Attachment{c.Network, c.IfName, c.Config, c.result()})
	}
	for _, list := range []records.Set{records.NodeRoutes, records.BridgeRoutes, records.LinkUsers} {
		list, _ := list.Read("")
		for _, r := range list {
			p := pod(r.ContainerID)
			p.Netns = cmp.Or(p.Netns, r.Netns.Path)
			p.note(Attachment{Network: r.Network, IfName: r.IfName})
			p.Records = append(p.Records, r)
		}
	}
	for _, s := range sandboxes() {
		if p := byID[s.ContainerID]; p != nil && !s.Gone {
			p.Sandboxes = append(p.Sandboxes, s)
		}
	}
	var out []Pod
	for _, p := range byID {
		slices.SortFunc(p.Attachments, func(a, b Attachment) int { return cmp.Compare(a.IfName, b.IfName) })
		slices.SortStableFunc(p.Records, func(a, b records.Record) int { return cmp.Compare(a.IfName, b.IfName) })
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Pod) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return out
}

// sandboxes returns what is in the node's spool; nothing if it can't be read.
func sandboxes() []spool.Sandbox {
	d, err := spool.OpenDir(spool.Dir)
	if err != nil {
		return nil
	}
	all, _ := spool.Sandboxes(d)
	return all
}

// note adds an attachment unless its NIC is known. Of a NIC that Multus had another network's plugins
// make, the runtime has the result as Multus' own, and Multus has it as that network's, which is the one to know.
func (p *Pod) note(a Attachment) {
	i := slices.IndexFunc(p.Attachments, func(b Attachment) bool { return b.IfName == a.IfName })
	switch {
	case i < 0:
		p.Attachments = append(p.Attachments, a)
	case a.Config != nil && isMultus(p.Attachments[i].Config) && !isMultus(a.Config):
		p.Attachments[i] = a
	}
}

// isMultus reports whether a network's configuration, a list or a single plugin, is that of Multus, whose
// plugin is multus-shim where Multus is a daemon.
func isMultus(config []byte) bool {
	type plugin struct{ Type string }
	var conf struct {
		plugin
		Plugins []plugin
	}
	if json.Unmarshal(config, &conf) != nil {
		return false
	}
	return slices.ContainsFunc(append(conf.Plugins, conf.plugin), func(p plugin) bool { return p.Type == "multus" || p.Type == "multus-shim" })
}

// kubernetesName returns the pod's namespace and name from CNI_ARGS, as kubelet's runtimes
// set it. Podman sets the name alone.
func (c *Cached) kubernetesName() string {
	namespace, name := c.Arg("K8S_POD_NAMESPACE"), c.Arg("K8S_POD_NAME")
	if namespace == "" || name == "" {
		return name
	}
	return namespace + "/" + name
}

// result returns the cached result of the chain; nil if it can't be read.
func (c *Cached) result() *types100.Result {
	result, err := c.ResultIn(types100.ImplementedSpecVersion)
	if err != nil {
		return nil
	}
	out, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil
	}
	return out
}

// Find returns the pod of a name: the path or the name (ip netns) of its network
// namespace, the ID of a process in it, or its container ID or a prefix of that.
func Find(what string, cacheDirs []string) (Pod, error) {
	pods := Pods(cacheDirs)
	if path := netnsPath(what); path != "" {
		return at(path, what, pods)
	}
	var found []Pod
	for _, p := range pods {
		if what != "" && strings.HasPrefix(p.ContainerID, what) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0].named(), nil
	case 0:
		err := fmt.Errorf("pod %q: no namespace, process or container of this node is called so", what)
		_, unread := Cache(cacheDirs)
		for _, u := range unread {
			if what != "" && strings.Contains(filepath.Base(u.File), "-"+what) {
				err = fmt.Errorf("%w; %w", err, u)
			}
		}
		return Pod{}, err
	}
	var ids []string
	for _, p := range found {
		ids = append(ids, p.ContainerID)
	}
	return Pod{}, fmt.Errorf("pod %q: it may be any of %s", what, strings.Join(ids, ", "))
}

// named returns the pod with a name: its container ID if it has no other.
func (p Pod) named() Pod {
	p.Name = cmp.Or(p.Name, p.ContainerID)
	return p
}

// netnsPath returns the path of the network namespace that a name stands for; "" if it
// stands for none.
func netnsPath(what string) string {
	if strings.Contains(what, "/") {
		return what
	}
	paths := []string{filepath.Join("/run/netns", what)}
	if _, err := strconv.ParseUint(what, 10, 32); err == nil {
		paths = append(paths, filepath.Join("/proc", what, "ns/net"))
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil && what != "" {
			return path
		}
	}
	return ""
}

// at returns the pod whose namespace is at a path, also if it was noted with another
// path, or not at all.
func at(path, what string, pods []Pod) (Pod, error) {
	there, err := os.Stat(path)
	if err != nil {
		return Pod{}, fmt.Errorf("pod %q: %w", what, err)
	}
	for _, p := range pods {
		if info, err := os.Stat(p.Netns); err == nil && os.SameFile(there, info) {
			return p.named(), nil
		}
	}
	return Pod{Name: what, Netns: path}, nil
}

// State is the network state of a pod and its node.
type State struct {
	*netstate.Snapshot
	// Parents are the node's parents of the pod's links (macvlan, ipvlan, vlan), by the
	// names of the pod's links.
	Parents map[string]string
	// Defaults are the node's, for keys that configurations lack.
	Defaults plugin.Defaults
}

// Read opens the namespaces of the pod and its node, and reads both.
func (p Pod) Read() (State, error) {
	k, err := p.Look()
	if err != nil {
		return State{}, err
	}
	defer k.Close()
	out, err := Read(k)
	if err != nil {
		return State{}, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return out, nil
}

// Read reads a pod and its node by their open namespaces.
func Read(k *kernel.Namespaces) (State, error) {
	out := State{Snapshot: netstate.NewSnapshot(), Defaults: plugin.ReadDefaults(nodeconf.Path)}
	var err error
	if out.Parents, err = survey.ReadAll(k, out.Snapshot); err != nil {
		return State{}, err
	}
	return out, readMarks(k, out.Snapshot)
}

// Look opens the namespaces of the pod and its node for reading.
func (p Pod) Look() (*kernel.Namespaces, error) {
	k, err := kernel.Look(p.Netns)
	if errors.Is(err, netns.ErrOwn) {
		err = errors.New("it is in the node's own network namespace, where plugins do nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return k, nil
}
