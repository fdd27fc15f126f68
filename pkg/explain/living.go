// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"

	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// living is a pod of this node.
type living struct {
	inspect.Pod
	ifname  string
	cached  *types100.Result // of the runtime; nil: there is none
	from    string           // origin of the result
	unknown bool             // the container ID is made up
	earlier []netstate.Op    // of the plugins before
}

// placeholderPod stands for an unknown container ID, and for the name of a described pod's
// namespace.
const placeholderPod = "POD"

func newLiving(o Options) (*living, error) {
	found, err := inspect.Find(o.Netns, o.CacheDirs)
	if err != nil {
		return nil, err
	}
	p := &living{Pod: found, ifname: o.IfName}
	for _, a := range found.Attachments {
		if a.IfName == o.IfName && a.Result != nil {
			p.cached = a.Result
			p.from = "the cached result of the runtime, for network " + a.Network
		}
	}
	if o.PrevResult != nil {
		p.from = "as given"
	}
	if p.ContainerID = cmp.Or(o.ContainerID, p.ContainerID); p.ContainerID != "" {
		return p, nil
	}
	p.ContainerID, err = p.idOfLink()
	p.unknown = p.ContainerID == ""
	p.ContainerID = cmp.Or(p.ContainerID, placeholderPod)
	return p, err
}

// idOfLink returns the container ID in the alias of the node's end of a link to the pod,
// "" if there is none.
func (p *living) idOfLink() (string, error) {
	state, err := p.Read()
	if err != nil {
		return "", err
	}
	for _, l := range netstate.All[netstate.Link](state.Snapshot, netstate.Host) {
		if a, ours := attachment.ParseAlias(l.Alias); ours && l.Peer.NS == netstate.Pod {
			return a.ContainerID, nil
		}
	}
	return "", nil
}

func (p *living) attachment() (containerID, netns string, at place) {
	return p.ContainerID, p.Netns, placeOf(p.Netns)
}

func (p *living) other(step) ([]string, error) {
	return []string{notRun + ": what it made is there already"}, nil
}

func (p *living) prepare(step) ([]string, error) { return nil, nil }

func (p *living) result() (*types100.Result, error) {
	if p.cached != nil {
		return p.cached, nil
	}
	state, err := p.Read()
	if err != nil {
		return nil, err
	}
	p.from = "made from the state of " + p.ifname + ", because no runtime has a cached one"
	return synthesize(state.Snapshot, p.ifname, p.Netns, nil)
}

func (p *living) explain(s step, args *skel.CmdArgs) (e plugin.Explanation, notes []string, err error) {
	k, err := p.Look()
	if err != nil {
		return e, nil, err
	}
	defer k.Close()
	if e, err = s.Explain(args, k, p.earlier); err != nil {
		return e, nil, err
	}
	p.earlier = append(p.earlier, e.Ops...)
	if !s.NodeOnly {
		notes = append(notes, "prevResult is "+p.from)
	}
	if p.unknown && mentions(e.Ops, attachment.HostEnd(placeholderPod)) {
		notes = append(notes, "the container ID is not known: the name and the MACs of the link to the pod, which follow from it, are made up")
	}
	return e, notes, nil
}
