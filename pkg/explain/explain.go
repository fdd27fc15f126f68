// SPDX-License-Identifier: Apache-2.0

// Package explain reports what ADD of a network would do for a pod: each operation as a
// command for a shell, with its reason. It changes nothing. The pod lives on this node,
// or is only described. For a described pod the kernel is not asked, so any machine will
// do. For example:
//
//	r, err := explain.Explain(explain.Options{
//		Network: conflist, IfName: "eth0",
//		Addresses: []netip.Prefix{netip.MustParsePrefix("10.6.0.5/16")},
//	})
//	err = r.WriteText(os.Stdout, report.Style{})
//
// The plans are those of the plugins themselves (package plugin, Explain and Simulate),
// so the report is what ADD does.
//
// Beware: foreign plugins are never run. Of a described pod, the report is as good as the
// description. Everything that it assumes is a note.
package explain

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
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

// Options name a network and a pod.
type Options struct {
	Network     []byte // a conflist, a single plugin or a NetworkAttachmentDefinition
	IfName      string // of the NIC
	ContainerID string // "": the pod's own, or a made-up one
	PrevResult  []byte // result of the plugins before ours; nil: the runtime's, or made from the NIC's state

	// NodeDefaults is a file of a node's defaults. "": of a living pod the node's own, of a
	// described one none.
	NodeDefaults string

	// For a living pod, whose NIC exists: a name for it (see inspect.Find), and the
	// directories in which runtimes keep results.
	Netns     string
	CacheDirs []string

	// For a described pod: objects as lines for netstate.Parse, the NIC's addresses
	// and gateways, and the node's addresses.
	Given         []string
	Addresses     []netip.Prefix
	Gateways      []netip.Addr
	NodeAddresses []netip.Addr
}

// pod is the pod that the network is explained for. Its methods return notes for the
// report.
type pod interface {
	// attachment returns the container ID, the path of the namespace, "" if there is
	// none, and the name of the namespace in commands.
	attachment() (containerID, netns string, at place)
	// other assumes the result of a foreign plugin.
	other(p step) (notes []string, err error)
	// result returns the result of the plugins before ours.
	result() (*types100.Result, error)
	// prepare assumes what one of our plugins needs.
	prepare(p step) (notes []string, err error)
	// explain returns what one of our plugins would do.
	explain(p step, args *skel.CmdArgs) (e plugin.Explanation, notes []string, err error)
}

// notRun is the note for a foreign plugin.
const notRun = "not run, because it is not a plugin of multihome"

// step is one plugin of the network.
type step struct {
	plugin.Plugin
	typ  string
	ours bool
	conf []byte
}

// Explain returns a report of what ADD would do.
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
	if o.NodeDefaults != "" {
		if _, err := os.Stat(o.NodeDefaults); err != nil { // a node may be without the file, but this one is asked for
			return nil, err
		}
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

// chain explains the plugins in the order in which a runtime calls them.
func chain(o Options, list *libcni.NetworkConfigList, p pod) (*Report, error) {
	id, netns, at := p.attachment()
	r := &Report{Network: list.Name, IfName: o.IfName, ContainerID: id, Netns: netns, at: at, Operations: []Operation{}}
	for i, conf := range list.Plugins {
		if o.PrevResult == nil && isTooEarly(list.Plugins, i) {
			return nil, fmt.Errorf("%s: prevResult: missing: %[1]s must be chained after the plugin that makes the NIC", conf.Network.Type)
		}
		s := step{typ: conf.Network.Type, conf: conf.Bytes}
		s.Plugin, s.ours = catalog.Plugins[s.typ]
		s.Defaults = o.defaults(s.Defaults)
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

// isTooEarly reports whether a plugin of ours that needs the NIC comes before all that may make it. A plugin alone
// is one of a chain that isn't there.
func isTooEarly(chain []*libcni.PluginConfig, i int) bool {
	needs := func(p *libcni.PluginConfig) bool {
		return slices.Contains([]string{"coordinator", "veth", "route"}, p.Network.Type)
	}
	makes := func(p *libcni.PluginConfig) bool { return !catalog.Plugins[p.Network.Type].NodeOnly && !needs(p) }
	return needs(chain[i]) && !slices.ContainsFunc(chain[:i], makes) && slices.ContainsFunc(chain[i+1:], makes)
}

// defaults returns what reads the defaults of the pod's node, given what a plugin has for
// this node.
func (o Options) defaults(own func() plugin.Defaults) func() plugin.Defaults {
	switch {
	case o.NodeDefaults != "":
		return func() plugin.Defaults { return plugin.ReadDefaults(o.NodeDefaults) }
	case o.Netns == "":
		return nil // this machine may be another one
	}
	return own
}

// explain adds the operations of one of our plugins.
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
	if c, ok := e.Conf.(*coordinator.Config); ok {
		r.Settings = append(r.Settings, Settings{r.last(), c.Settings(), len(r.chain) - 1})
	}
	for _, op := range e.Ops {
		for _, command := range r.at.commands(op) {
			r.Operations = append(r.Operations, Operation{r.last(), op.NS, command, reason(op), len(r.chain) - 1})
		}
	}
	return nil
}

// prevResult returns the given prevResult, or else that of the pod, and its version of
// CNI.
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

// remarks returns notes on what ADD does beside operations.
func remarks(e plugin.Explanation) []string {
	if e.Conf == nil {
		return []string{"its configuration switches it off"}
	}
	var out []string
	if e.Damage != nil {
		out = append(out, e.Damage.Error()+"; ADD goes on without them, and logs it")
	}
	if c, ok := e.Conf.(*coordinator.Config); ok && (c.DetectIPConflict || c.DetectGateway) {
		out = append(out, "ADD asks the LAN first, and fails if another host has an address of the NIC, or no gateway answers (detectIPConflict, detectGateway); explain does not ask")
	}
	if e.Record {
		out = append(out, "ADD also writes a record below /run/multihome, for DEL and GC; these commands do not")
	}
	if len(e.Ops) == 0 {
		out = append(out, "nothing to do: everything is as it should be")
	}
	return out
}

// mentions reports whether a word is in one of the operations.
func mentions(ops []netstate.Op, word string) bool {
	return slices.ContainsFunc(ops, func(op netstate.Op) bool { return strings.Contains(op.String(), word) })
}

// reason returns the reason for an operation. A reason of one word is a key of the
// configuration that asks for it.
func reason(op netstate.Op) string {
	if !strings.Contains(op.Why, " ") {
		return "asked for by the configuration (" + op.Why + ")"
	}
	return op.Why
}

// synthesize returns a CNI result made from a NIC's state. It has the NIC's assigned
// addresses or, if there are none, those from router advertisements. Each has a gateway
// of its subnet, or else that of a default route by the NIC. It also has the default
// routes.
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
