// SPDX-License-Identifier: Apache-2.0

// Package inspect finds a pod by what people know of it, and reads all that the pod
// and its node hold. It changes nothing, and takes no lock.
package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// CacheDirs are where runtimes keep the results of plugins, with "results" in each:
// libcni's own default, and that of Multus.
var CacheDirs = []string{"/var/lib/cni", "/var/lib/cni/multus"}

// Pod is a pod of this node.
type Pod struct {
	ContainerID string          // of its sandbox; "" if nobody noted it
	Name        string          // namespace/name in Kubernetes, or what it was asked for by
	Netns       string          // path of its network namespace
	Attachments []Attachment    // by interface name; those that a runtime or we noted
	Records     []kernel.Record // that we have of it, by interface name
}

// Attachment is a NIC of a pod, as it was noted at ADD.
type Attachment struct {
	Network string
	IfName  string
	Config  []byte           // the network's configuration; nil if only our own record is there
	Result  *types100.Result // of the chain; nil likewise
}

// Pods returns the pods that results or records are there of, living or dead. What
// can't be read is left out.
func Pods(cacheDirs []string) []Pod {
	byID := map[string]*Pod{}
	pod := func(id string) *Pod {
		if byID[id] == nil {
			byID[id] = &Pod{ContainerID: id}
		}
		return byID[id]
	}
	for _, dir := range cacheDirs {
		list, _ := libcni.NewCNIConfigWithCacheDir(nil, dir, nil).GetCachedAttachments("")
		for _, cached := range list {
			p := pod(cached.ContainerID)
			p.Netns = cached.NetNS
			p.Name = cmp.Or(kubernetesName(cached), p.Name)
			p.note(Attachment{cached.Network, cached.IfName, cached.Config, result(dir, cached)})
		}
	}
	for _, records := range []kernel.Records{kernel.NodeRoutes, kernel.BridgeRoutes, kernel.LinkUsers} {
		list, _ := records.Read("")
		for _, r := range list {
			p := pod(r.ContainerID)
			p.Netns = cmp.Or(p.Netns, r.Netns.Path)
			p.note(Attachment{Network: r.Network, IfName: r.IfName})
			p.Records = append(p.Records, r)
		}
	}
	var out []Pod
	for _, p := range byID {
		slices.SortFunc(p.Attachments, func(a, b Attachment) int { return cmp.Compare(a.IfName, b.IfName) })
		slices.SortStableFunc(p.Records, func(a, b kernel.Record) int { return cmp.Compare(a.IfName, b.IfName) })
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Pod) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return out
}

// note adds an attachment that isn't known yet.
func (p *Pod) note(a Attachment) {
	if !slices.ContainsFunc(p.Attachments, func(b Attachment) bool { return b.IfName == a.IfName }) {
		p.Attachments = append(p.Attachments, a)
	}
}

// kubernetesName is what kubelet's runtimes hand to plugins in CNI_ARGS.
func kubernetesName(a *libcni.NetworkAttachment) string {
	var namespace, name string
	for _, arg := range a.CniArgs {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			namespace = arg[1]
		case "K8S_POD_NAME":
			name = arg[1]
		}
	}
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// result returns what a chain answered, nil if that can't be read.
func result(dir string, a *libcni.NetworkAttachment) *types100.Result {
	list, err := libcni.ConfListFromBytes(a.Config)
	if err != nil {
		return nil
	}
	cni := libcni.NewCNIConfigWithCacheDir(nil, dir, nil)
	cached, err := cni.GetNetworkListCachedResult(list, &libcni.RuntimeConf{ContainerID: a.ContainerID, IfName: a.IfName})
	if err != nil || cached == nil {
		return nil
	}
	out, err := types100.NewResultFromResult(cached)
	if err != nil {
		return nil
	}
	return out
}

// Find returns the pod that somebody means: by the path of a network namespace, the
// name of one (ip netns), the ID of a process in it, or a container ID, of which a
// prefix will do.
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
		return Pod{}, fmt.Errorf("pod %q: no namespace, process or container of this node is called so", what)
	}
	var ids []string
	for _, p := range found {
		ids = append(ids, p.ContainerID)
	}
	return Pod{}, fmt.Errorf("pod %q: it may be any of %s", what, strings.Join(ids, ", "))
}

// named returns the pod with a name that is at least its container ID.
func (p Pod) named() Pod {
	p.Name = cmp.Or(p.Name, p.ContainerID)
	return p
}

// netnsPath returns the path of the network namespace that something names, "" if it
// names none.
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

// at returns the pod whose namespace is at a path: one that is noted with another
// path to it, or one that nobody noted.
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

// State is what a pod and its node hold.
type State struct {
	*netstate.Snapshot
	// Parents are the links of the node that links of the pod sit on, by the names of
	// those: macvlan, ipvlan, vlan.
	Parents map[string]string
}

// Read reads all that the pod and its node hold.
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

// Read reads all that a pod and its node hold whose namespaces are open.
func Read(k *kernel.Kernel) (State, error) {
	out := State{Snapshot: netstate.NewSnapshot()}
	var err error
	if out.Parents, err = k.ReadAll(out.Snapshot); err != nil {
		return State{}, err
	}
	return out, readMarks(k, out.Snapshot)
}

// Look opens the namespaces of the pod and its node for reading.
func (p Pod) Look() (*kernel.Kernel, error) {
	k, err := kernel.Look(p.Netns)
	if errors.Is(err, kernel.ErrHostNetns) {
		err = errors.New("it is in the node's own network namespace, where plugins do nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return k, nil
}
