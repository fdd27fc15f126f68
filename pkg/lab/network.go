// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// verbTime bounds a verb: a slower plugin hangs, and is killed. Also on a
// busy machine a verb takes less than a second.
const verbTime = 5 * time.Minute

// Network is a CNI network of the node. Its plugins run on the node; their files and
// libcni's are in the node's own /run and /var/lib/cni.
type Network struct {
	lab  *Lab
	list *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
}

// Network reads a conflist, whose plugins are in the directories of cniPath.
func (l *Lab) Network(conflist string, cniPath ...string) (*Network, error) {
	list, err := libcni.NetworkConfFromBytes([]byte(conflist))
	if err != nil {
		return nil, err
	}
	dirs := make([]string, len(cniPath))
	for i, dir := range cniPath {
		// The node has a working directory of its own.
		if dirs[i], err = filepath.Abs(dir); err != nil {
			return nil, err
		}
	}
	cni := libcni.NewCNIConfig(dirs, nil)
	return &Network{lab: l, list: list, cni: cni}, nil
}

// Add gives the pod a NIC.
func (n *Network) Add(ctx context.Context, pod *Pod, ifname string) error {
	var result types.Result
	err := n.run(ctx, func(ctx context.Context) (err error) {
		result, err = n.cni.AddNetworkList(ctx, n.list, runtimeConf(pod, ifname))
		return err
	})
	if err == nil {
		pod.Results[ifname], err = types100.NewResultFromResult(result)
	}
	return n.failed("ADD", pod, ifname, err)
}

// Check asks the plugins whether the NIC is as ADD left it.
func (n *Network) Check(ctx context.Context, pod *Pod, ifname string) error {
	return n.failed("CHECK", pod, ifname, n.run(ctx, func(ctx context.Context) error {
		return n.cni.CheckNetworkList(ctx, n.list, runtimeConf(pod, ifname))
	}))
}

// Del takes the NIC away.
func (n *Network) Del(ctx context.Context, pod *Pod, ifname string) error {
	err := n.run(ctx, func(ctx context.Context) error {
		return n.cni.DelNetworkList(ctx, n.list, runtimeConf(pod, ifname))
	})
	if err == nil {
		delete(pod.Results, ifname)
	}
	return n.failed("DEL", pod, ifname, err)
}

// GC makes the plugins remove everything that belongs to no valid attachment.
func (n *Network) GC(ctx context.Context, valid ...types.GCAttachment) error {
	err := n.run(ctx, func(ctx context.Context) error {
		return n.cni.GCNetworkList(ctx, n.list, &libcni.GCArgs{ValidAttachments: valid})
	})
	if err != nil {
		return fmt.Errorf("GC of %s: %w", n.list.Name, err)
	}
	return nil
}

// run runs a verb on the node, with the time limit of a runtime.
func (n *Network) run(ctx context.Context, verb func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, verbTime)
	defer cancel()
	err := n.lab.Node.Run(func() error { return verb(ctx) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// runs reports whether a plugin is in the network's chain.
func (n *Network) runs(plugin string) bool {
	return slices.ContainsFunc(n.list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Type == plugin })
}

// runtimeConf returns the arguments that a runtime of Kubernetes gives to plugins.
func runtimeConf(pod *Pod, ifname string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: pod.ContainerID, NetNS: pod.NetNS, IfName: ifname, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", pod.Name()}, {"K8S_POD_UID", pod.UID()},
	}}
}

// failed names the verb and the NIC in an error.
func (n *Network) failed(verb string, pod *Pod, ifname string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of %s in pod %s by %s: %w", verb, ifname, pod.Name(), n.list.Name, err)
}
