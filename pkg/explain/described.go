// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// described is a pod that does not exist. Its description may leave things open. They
// are assumed, and reported as notes.
type described struct {
	plugin.Described
	o        Options
	node     bool         // links of the node are described; there are no others
	made     bool         // the NIC is made
	ipam     ipam         // of the plugin that makes the NIC
	macs     byte         // number of MACs that were made up
	gateways []netip.Addr // of the NIC
	assumed  []netip.Addr // assumed addresses of the node
}

// settings are keys that plugins, ours and others, have for links of the node and
// addresses of the pod.
type settings struct {
	Master     string
	Interfaces json.RawMessage // one name or a list
	MTU        int
	IPAM       ipam
}

// settingsOf reads the settings of a configuration. It skips values of a wrong type: the
// plugin itself refuses them.
func settingsOf(conf []byte) (c settings) {
	_ = json.Unmarshal(conf, &c)
	return c
}

// links returns the links of the node that the settings name.
func (c settings) links() []string {
	out, _ := config.Strings(c.Interfaces)
	if c.Master != "" {
		out = append(out, c.Master)
	}
	return out
}

func newDescribed(o Options) (*described, error) {
	p := &described{o: o}
	p.Snapshot = netstate.NewSnapshot()
	if _, err := p.assume(o.Given...); err != nil {
		return nil, err
	}
	p.node = len(netstate.All[netstate.Link](p.Snapshot, netstate.Host)) > 0
	p.Node = slices.Clone(o.NodeAddresses)
	links := kernel.NodeLinksOf(p.Snapshot)
	for _, a := range netstate.All[netstate.Addr](p.Snapshot, netstate.Host) {
		if !links.Own(a.Dev) {
			continue
		}
		p.Subnets = append(p.Subnets, a.Prefix)
		if len(o.NodeAddresses) == 0 {
			p.Node = append(p.Node, a.Prefix.Addr())
		}
	}
	return p, nil
}

func (p *described) attachment() (containerID, netns string, at place) {
	return cmp.Or(p.o.ContainerID, placeholderPod), "", placeholderPod
}

// assume adds objects to the description, and returns a note for each.
func (p *described) assume(lines ...string) (notes []string, err error) {
	for _, line := range lines {
		ns, object, err := netstate.Parse(line)
		if err != nil {
			return nil, err
		}
		p.Snapshot.Put(ns, object)
		notes = append(notes, "assumed: "+line)
	}
	return notes, nil
}

// other assumes that the first foreign plugin makes the NIC.
func (p *described) other(s step) ([]string, error) {
	if p.made {
		return []string{notRun + ": assumed to change nothing that matters here"}, nil
	}
	notes, err := p.make(s)
	return append([]string{notRun}, notes...), err
}

// make assumes the NIC that a plugin with these settings makes.
func (p *described) make(s step) ([]string, error) {
	p.made = true
	c := settingsOf(s.conf)
	p.Parent, p.ipam = c.Master, c.IPAM
	notes, err := p.links(c)
	if err != nil {
		return nil, err
	}
	addrs := c.IPAM.addresses(p.o.Addresses, len(p.addrs()) > 0)
	p.gateways = c.IPAM.gateways(addrs, p.o.Gateways)
	var lines []string
	_, there := netstate.Get(p.Snapshot, netstate.Pod, netstate.Link{Name: p.o.IfName})
	if !there && len(addrs) > 0 {
		lines = append(lines, p.link(netstate.Pod, p.o.IfName, s.typ, c.MTU))
	}
	for _, a := range addrs {
		lines = append(lines, addressLines(p.o.IfName, a)...)
	}
	for _, r := range c.IPAM.routes(addrs, p.gateways, len(p.o.Gateways) > 0) {
		lines = append(lines, routeLine(p.o.IfName, r.dst, r.via))
	}
	more, err := p.assume(lines...)
	return append(notes, more...), err
}

// links assumes the links of the node that the settings name, except those that a plugin
// before this one makes.
func (p *described) links(c settings) ([]string, error) {
	var lines []string
	for _, name := range c.links() {
		if _, there := netstate.Get(p.Snapshot, netstate.Host, netstate.Link{Name: name}); !there && !p.node {
			lines = append(lines, p.link(netstate.Host, name, "", c.MTU))
		}
	}
	return p.assume(lines...)
}

// link returns a link with a made-up MAC, as a line for netstate.Parse.
func (p *described) link(ns netstate.NS, name, typ string, mtu int) string {
	p.macs++
	l := netstate.Link{Name: name, MAC: netstate.MAC{2, 5: p.macs}, MTU: cmp.Or(mtu, usualMTU), Up: true}
	if slices.Contains([]string{"macvlan", "ipvlan"}, typ) {
		l.Type = typ
	}
	return netstate.Line(ns, l)
}

func (p *described) result() (*types100.Result, error) {
	return synthesize(p.Snapshot, p.o.IfName, "", p.gateways)
}

// errNoPod is the error for a description without an address of the NIC.
var errNoPod = errors.New("the pod is not described: want an address of its NIC (--address), a snapshot (--snapshot), or the pod itself (--netns)")

// prepare assumes the objects that one of our plugins needs and the description lacks.
func (p *described) prepare(s step) ([]string, error) {
	notes, err := p.links(settingsOf(s.conf))
	if err != nil || s.NodeOnly {
		return append(notes, p.mtus()...), err
	}
	if !p.made {
		more, err := p.make(s)
		if err != nil {
			return nil, err
		}
		notes = append(notes, more...)
	}
	notes = append(notes, p.mtus()...)
	addrs := p.addrs()
	switch {
	case len(addrs) > 0:
	case p.ipam.Type != "" && !p.ipam.isKnown():
		return nil, fmt.Errorf("%w: explain does not know the addresses of ipam %s", errNoPod, p.ipam.Type)
	default:
		return nil, errNoPod
	}
	if len(p.Node) == 0 {
		p.Node = nodeOf(addrs)
		p.assumed = p.Node
	}
	return notes, nil
}

// usualMTU is ETH_DATA_LEN of linux/if_ether.h.
const usualMTU = 1500

// mtus sets the MTU of links that have none yet: that of their parent, or the usual one.
func (p *described) mtus() (notes []string) {
	for _, ns := range []netstate.NS{netstate.Host, netstate.Pod} {
		for _, l := range netstate.All[netstate.Link](p.Snapshot, ns) {
			if l.MTU != 0 {
				continue
			}
			parent, _ := netstate.Get(p.Snapshot, ns, netstate.Link{Name: l.Parent})
			l.MTU = cmp.Or(parent.MTU, usualMTU)
			p.Snapshot.Put(ns, l)
			if !l.Owned() { // for a link that ADD made, the kernel sets it
				notes = append(notes, fmt.Sprintf("assumed: %s: link %s mtu %d", ns, l.Name, l.MTU))
			}
		}
	}
	return notes
}

// addrs returns the addresses of the NIC.
func (p *described) addrs() (out []netip.Addr) {
	for _, a := range netstate.All[netstate.Addr](p.Snapshot, netstate.Pod) {
		if a.Dev == p.o.IfName {
			out = append(out, a.Prefix.Addr())
		}
	}
	return out
}

// nodeOf returns made-up addresses of the node, of the same families as addrs. They are
// from the blocks for documentation (RFC 5737, RFC 3849).
func nodeOf(addrs []netip.Addr) (out []netip.Addr) {
	for _, node := range []string{"192.0.2.1", "2001:db8::1"} {
		n := netip.MustParseAddr(node)
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is6() == n.Is6() }) {
			out = append(out, n)
		}
	}
	return out
}

func (p *described) explain(s step, args *skel.CmdArgs) (e plugin.Explanation, notes []string, err error) {
	if e, err = s.Simulate(args, p.Described); err != nil {
		return e, nil, err
	}
	if _, takes := e.Conf.(plugin.Defaulted); takes && s.Defaults == nil {
		notes = append(notes, "assumed: the node has no defaults; --node-defaults names a file of them")
	}
	for _, a := range p.assumed {
		if mentions(e.Ops, a.String()) {
			notes = append(notes, fmt.Sprintf("assumed: the node's address is %s", a))
		}
	}
	if p.o.ContainerID == "" && mentions(e.Ops, attachment.HostEnd(placeholderPod)) {
		notes = append(notes, fmt.Sprintf("assumed: the container ID is %s; the name and the MACs of the link to the pod follow from it", placeholderPod))
	}
	if slices.ContainsFunc(e.Ops, func(op netstate.Op) bool { return op.Object().Kind() == netstate.KindNft && op.NS == netstate.Pod }) {
		notes = append(notes, "assumed: the kernel has nf_tables")
	}
	return e, notes, nil
}
