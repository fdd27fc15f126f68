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
	noted   *types100.Result // what the runtime noted; nil if it didn't
	from    string           // what the result is
	unknown bool             // the container ID is made up
	earlier []netstate.Op    // of plugins that were explained
}

// placeholderPod is a container ID where none is known, and the name of a namespace that is
// not there.
const placeholderPod = "POD"

func newLiving(o Options) (*living, error) {
	found, err := inspect.Find(o.Netns, o.CacheDirs)
	if err != nil {
		return nil, err
	}
	p := &living{Pod: found, ifname: o.IfName}
	for _, a := range found.Attachments {
		if a.IfName == o.IfName && a.Result != nil {
			p.noted = a.Result
			p.from = "what the runtime noted, for network " + a.Network
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

// idOfLink is the container ID as the node's end of a link to the pod has it, ""
// if there is none.
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
	return []string{"it is not ours, and not run: what it does is there"}, nil
}

func (p *living) prepare(step) ([]string, error) { return nil, nil }

func (p *living) result() (*types100.Result, error) {
	if p.noted != nil {
		return p.noted, nil
	}
	state, err := p.Read()
	if err != nil {
		return nil, err
	}
	p.from = "made of what " + p.ifname + " has, for no runtime noted any"
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
		notes = append(notes, "no container ID is known: what follows from it, the name and the MACs of a link, is made up")
	}
	return e, notes, nil
}
