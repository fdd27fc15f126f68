// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// remove returns what DEL deletes: in the pod, if it is still there, every rule,
// route and table of ours; on the node the host end, which takes along its far
// end, its routes and its neighbours. The rule that looks up the host table
// serves all pods and stays.
func remove(t *plugin.Task) ([]netstate.Op, error) {
	p, err := removePod(t)
	if err != nil {
		return nil, err
	}
	link := netstate.Link{Name: plugin.HostEnd(t.ContainerID)}
	if err := t.Kernel.Host.ReadLink(t.Snapshot, link.Name); err != nil {
		return p, err
	}
	if l, ok := netstate.Get(t.Snapshot, host, link); ok && plugin.OfContainer(l.Alias, t.ContainerID) {
		p = append(p, netstate.Op{NS: host, Before: l})
	}
	return p, nil
}

// removePod returns the rules and the reply marks in the pod. Its routes and
// neighbours go with veth0.
func removePod(t *plugin.Task) ([]netstate.Op, error) {
	if t.Kernel.Pod == nil {
		return nil, nil
	}
	for _, f := range []netstate.Family{netstate.IPv4, netstate.IPv6} {
		if err := t.Kernel.Pod.ReadRules(t.Snapshot, f); err != nil {
			return nil, err
		}
	}
	var ops []netstate.Op
	for _, r := range netstate.All[netstate.Rule](t.Snapshot, pod) {
		if r.Owned() {
			ops = append(ops, netstate.Op{NS: pod, Before: r})
		}
	}
	return append(ops, netstate.Op{NS: pod, Before: netstate.Mark{}}), nil
}

// collect returns the host ends of pods that are no more.
func collect(t *plugin.Task, valid []plugin.Attachment) ([]netstate.Op, error) {
	keep := map[string]bool{}
	for _, a := range valid {
		keep[a.Alias()] = true
	}
	links, err := t.Kernel.Host.Owned()
	if err != nil {
		return nil, err
	}
	var ops []netstate.Op
	for _, l := range links {
		if plugin.OfNetwork(l.Alias, t.Network) && !keep[l.Alias] {
			ops = append(ops, netstate.Op{NS: host, Before: l})
		}
	}
	return ops, nil
}
