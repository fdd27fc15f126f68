// SPDX-License-Identifier: Apache-2.0

// Package explain says what ADD of a network would do for a pod: each operation as
// the command that a person would type, and why. Nothing is done. The pod is one of
// this node, or one that is described; then nothing is asked of the kernel, and any
// machine will do.
//
// It is the plugins themselves that plan (package plugin, Explain and Simulate), so
// what is said is what ADD does.
package explain

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Options are what is to be explained, and for which pod.
type Options struct {
	Network     []byte // a conflist, a single plugin or a NetworkAttachmentDefinition
	IfName      string // of the NIC
	ContainerID string // "": that which is known, or made up
	PrevResult  []byte // what the plugins before ours answer; nil: what is known of it

	// A pod of this node, whose NIC is there: what names it (inspect.Find), and where
	// runtimes keep results.
	Netns     string
	CacheDirs []string

	// A pod that is described: objects as netstate.Parse reads them, the NIC's
	// addresses and gateways, and the node's addresses.
	Given         []string
	Addresses     []netip.Prefix
	Gateways      []netip.Addr
	NodeAddresses []netip.Addr
}

// pod is one that a network is explained for.
type pod interface {
	// attachment returns its container ID, the path of its namespace, if it has one,
	// and how commands call it.
	attachment() (containerID, netns string, at place)
	// other takes a plugin for done that isn't ours, and says what it is taken for.
	other(p step) (notes []string, err error)
	// result is what the plugins before ours answered.
	result() (*types100.Result, error)
	// prepare takes for given what one of ours needs, and says what.
	prepare(p step) (notes []string, err error)
	// explain is what one of ours would do, and what that goes by.
	explain(p step, args *skel.CmdArgs) (e plugin.Explanation, notes []string, err error)
}

// step is one plugin of the network.
type step struct {
	plugin.Plugin
	typ  string
	ours bool
	conf []byte
}

// Explain says what ADD would do.
func Explain(o Options) (*Report, error) {
	list, err := readNetwork(o.Network)
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateInterfaceName(o.IfName); err != nil {
		return nil, fmt.Errorf("interface %q: %w", o.IfName, asPlain(err))
	}
	if err := utils.ValidateContainerID(o.ContainerID); o.ContainerID != "" && err != nil {
		return nil, fmt.Errorf("container ID %q: %w", o.ContainerID, asPlain(err))
	}
	var p pod
	if o.Netns != "" {
		p, err = newLiving(o)
	} else {
		p, err = newDescribed(o)
	}
	if err != nil {
		return nil, err
	}
	return chain(o, list, p)
}

// chain goes through the plugins as a runtime does.
func chain(o Options, list *libcni.NetworkConfigList, p pod) (*Report, error) {
	id, netns, at := p.attachment()
	r := &Report{Network: list.Name, IfName: o.IfName, ContainerID: id, Netns: netns, at: at, Operations: []Operation{}}
	for _, conf := range list.Plugins {
		s := step{typ: conf.Network.Type, conf: conf.Bytes}
		s.Plugin, s.ours = catalog.Plugins[s.typ]
		r.begin(s.typ)
		if !s.ours {
			notes, err := p.other(s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.typ, err)
			}
			r.note(notes...)
			continue
		}
		if err := r.explain(o, list, p, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.typ, err)
		}
	}
	return r, nil
}

// explain adds what one of ours would do.
func (r *Report) explain(o Options, list *libcni.NetworkConfigList, p pod, s step) error {
	assumed, err := p.prepare(s)
	if err != nil {
		return err
	}
	r.note(assumed...)
	in := map[string]any{"name": list.Name, "cniVersion": list.CNIVersion}
	if !s.NodeOnly {
		if in["cniVersion"], in["prevResult"], err = o.prevResult(list.CNIVersion, p); err != nil {
			return err
		}
	}
	stdin, err := with(s.conf, in)
	if err != nil {
		return err
	}
	e, notes, err := p.explain(s, &skel.CmdArgs{ContainerID: r.ContainerID, Netns: r.Netns, IfName: r.IfName, StdinData: stdin})
	if err != nil {
		return err
	}
	r.note(notes...)
	r.note(remarks(e)...)
	for _, op := range e.Ops {
		for _, command := range r.at.commands(op) {
			r.Operations = append(r.Operations, Operation{r.last(), op.NS, command, reason(op), len(r.chain) - 1})
		}
	}
	return nil
}

// prevResult is what was given for one, or else what is known of the pod, and the
// version of CNI that it is of.
func (o Options) prevResult(version string, p pod) (of string, result any, err error) {
	if o.PrevResult == nil {
		result, err = p.result()
		return types100.ImplementedSpecVersion, result, err
	}
	var given struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(o.PrevResult, &given); err != nil {
		return "", nil, fmt.Errorf("prevResult: %w", err)
	}
	return cmp.Or(given.CNIVersion, version), json.RawMessage(o.PrevResult), nil
}

// remarks are about what ADD does beside operations.
func remarks(e plugin.Explanation) []string {
	if e.Conf == nil {
		return []string{"its configuration switches it off"}
	}
	var out []string
	if c, ok := e.Conf.(*coordinator.Config); ok && (c.DetectIPConflict || c.DetectGateway) {
		out = append(out, "ADD asks the LAN first, and fails if another host has an address of the NIC, or no gateway answers (detectIPConflict, detectGateway); that is not asked here")
	}
	if e.Record {
		out = append(out, "ADD notes the attachment below /run/multihome, for DEL and GC; commands do not")
	}
	if len(e.Ops) == 0 {
		out = append(out, "nothing is to be done: all is as it should be")
	}
	return out
}

// mentions reports whether a word is in one of the operations.
func mentions(ops []netstate.Op, word string) bool {
	return slices.ContainsFunc(ops, func(op netstate.Op) bool { return strings.Contains(op.String(), word) })
}

// reason is why an operation is done. What is asked for by a key of the configuration
// has that as its reason.
func reason(op netstate.Op) string {
	if !strings.Contains(op.Why, " ") {
		return "asked for by the configuration (" + op.Why + ")"
	}
	return op.Why
}

// synthesize returns a result that tells what a NIC has: addresses that somebody
// assigned, or else those out of router advertisements; for each a gateway of its
// subnet, or that of a default route by the NIC; and the default routes.
func synthesize(s *netstate.Snapshot, ifname, netns string, gateways []netip.Addr) (*types100.Result, error) {
	nic, ok := netstate.Get(s, netstate.Pod, netstate.Link{Name: ifname})
	if !ok {
		return nil, fmt.Errorf("pod: link %s: no such device", ifname)
	}
	out := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: ifname, Mac: nic.MAC.String(), Mtu: nic.MTU, Sandbox: netns}},
	}
	addrs := slices.DeleteFunc(netstate.All[netstate.Addr](s, netstate.Pod), func(a netstate.Addr) bool { return a.Dev != ifname })
	if slices.ContainsFunc(addrs, func(a netstate.Addr) bool { return !a.Dynamic }) {
		addrs = slices.DeleteFunc(addrs, func(a netstate.Addr) bool { return a.Dynamic })
	}
	if len(addrs) == 0 {
		return nil, errors.New("pod: link " + ifname + " has no address")
	}
	for _, r := range netstate.All[netstate.Route](s, netstate.Pod) {
		if r.Dev != ifname || r.Dst.Bits() > 0 || !r.Via.IsValid() {
			continue
		}
		gateways = append(gateways, r.Via)
		if r.Table == netstate.TableMain {
			out.Routes = append(out.Routes, defaultBy(r))
		}
	}
	for _, a := range addrs {
		out.IPs = append(out.IPs, ipConfig(a.Prefix, gateways))
	}
	return out, nil
}
