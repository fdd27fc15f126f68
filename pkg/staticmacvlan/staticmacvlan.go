// SPDX-License-Identifier: Apache-2.0

// Package staticmacvlan is the main plugin static-macvlan-cni. It reads in the node's spool on
// which VLANSubnet the pod's NIC is, lets ifacer make the VLAN, or without one makes the node's
// own macvlan, and lets macvlan make the NIC; macvlan calls IPAM.
//
//	func main() { staticmacvlan.Main() }
//
// Beware: the link stays on the node when the pod goes, as ifacer's links do. A master has one macvlan of
// the node's, under the name that it got first.
package staticmacvlan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/ipamcni"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/spool"
)

// Name is the plugin's name.
const Name = "static-macvlan-cni"

const (
	linkPlugin = "ifacer"
	nicPlugin  = "macvlan"
	ipamPlugin = ipamcni.StaticIPAM // if the configuration names none

	// lasts is how long ADD waits for the agent. IPAM waits after that, if it must.
	lasts = 5 * time.Second
)

// Main runs the verb that the environment names (CNI_COMMAND), prints the answer that CNI
// prescribes, and ends the process with a non-zero exit status on an error.
func Main() {
	p := plugin{dir: spool.Dir, began: time.Now()}
	// The verbs look at the pod's namespace before they do anything. CNI's skel package would open
	// it again afterwards, and fail when the result is printed.
	if err := os.Setenv("CNI_NETNS_OVERRIDE", "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    verb(p.add),
		Check:  verb(p.check),
		Del:    verb(p.del),
		GC:     verb(p.gc),
		Status: verb(p.status),
	}, version.VersionsStartingFrom("0.3.0"), "CNI plugin "+Name+" of multihome")
}

type plugin struct {
	dir   string // of the spool
	began time.Time
}

// call is a call of a verb.
type call struct {
	*skel.CmdArgs
	raw  map[string]json.RawMessage // the configuration
	name string
	ipam string // the IPAM plugin
}

// verb reads the configuration, calls f, and puts the plugin's name before an error and a code
// of CNI into it.
func verb(f func(call) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		c, err := load(args)
		if err == nil {
			err = f(c)
		}
		if err == nil {
			return nil
		}
		return types.NewError(ipamcni.CodeOf(err), Name+": "+err.Error(), "")
	}
}

// load reads a configuration. Without "ipam" it gets one.
func load(args *skel.CmdArgs) (call, error) {
	c := call{CmdArgs: args}
	var err error
	if c.raw, err = config.Object(args.StdinData); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	var k struct {
		Name string
		IPAM *struct{ Type string }
	}
	if err := json.Unmarshal(args.StdinData, &k); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	c.name, c.ipam = k.Name, ipamPlugin
	if k.IPAM == nil {
		c.raw["ipam"] = quoted(map[string]string{"type": ipamPlugin})
	} else if c.ipam = k.IPAM.Type; c.ipam == "" {
		return c, config.Invalid(`ipam.type: missing: want {"type": %q}`, ipamPlugin)
	}
	return c, nil
}

func quoted(v any) json.RawMessage {
	out, err := json.Marshal(v)
	if err != nil { // texts and numbers alone are encoded here
		panic(err)
	}
	return out
}

// look returns the pod's NIC as the spool has it.
func (p plugin) look(c call, wait func(*spool.Waiter) error) (spool.NIC, error) {
	pod, err := ipamcni.PodOf(c.Args)
	if err != nil {
		return spool.NIC{}, err
	}
	if pod.K8S_POD_UID == "" {
		return spool.NIC{}, types.NewError(types.ErrInvalidEnvironmentVariables,
			"CNI_ARGS has no K8S_POD_UID: NICs on VLANSubnets are for pods of Kubernetes, whose runtime sends it; use macvlan for other containers", "")
	}
	id, err := netns.Identify(c.Netns)
	if err != nil {
		return spool.NIC{}, err
	}
	own, err := id.IsOwn()
	if own {
		err = fmt.Errorf("netns %q: %w", c.Netns, netns.ErrOwn)
	}
	if err != nil {
		return spool.NIC{}, err
	}
	boot, err := spool.BootID()
	if err != nil {
		return spool.NIC{}, err
	}
	dir, err := spool.OpenDir(p.dir)
	if err != nil {
		return spool.NIC{}, err
	}
	w := dir.Waiter(p.began, lasts)
	defer w.Close()
	nic, err := spool.Look(dir, spool.Call{Boot: boot, Want: spool.Want{
		Namespace: string(pod.K8S_POD_NAMESPACE), Pod: string(pod.K8S_POD_NAME), UID: string(pod.K8S_POD_UID),
		ContainerID: c.ContainerID, Interface: c.IfName, Call: spool.NewCall(), Network: c.name, Netns: id,
	}}, func() error { return wait(w) })
	if err == nil && nic.Link == nil {
		err = config.Invalid("NIC %s of network %s has addresses, but not of a VLANSubnet: want the pod's annotation vlan", c.IfName, c.name)
	}
	return nic, err
}

// link returns the configuration of the plugin that makes the link.
func (c call) link(l *spool.Link) []byte {
	out := map[string]any{"type": linkPlugin}
	for _, key := range []string{"cniVersion", "name", "prevResult", "cni.dev/valid-attachments", "cni.dev/attachments"} {
		if value, ok := c.raw[key]; ok {
			out[key] = value
		}
	}
	if l != nil {
		out["interfaces"] = []string{l.Master}
		if l.VLAN != 0 {
			out["vlanID"], out["vlanName"] = l.VLAN, l.Name
		}
	}
	return quoted(out)
}

// nic returns the configuration of the plugin that makes the NIC: this one's, with what the
// VLANSubnet and the claim say. A MAC in runtimeConfig is what macvlan takes first.
func (c call) nic(n *spool.NIC) []byte {
	out := map[string]any{}
	for key, value := range c.raw {
		out[key] = value
	}
	out["type"] = nicPlugin
	if n == nil {
		return quoted(out)
	}
	out["master"], out["mode"] = n.Link.Master, n.Link.Mode
	if n.Link.VLAN != 0 {
		out["master"] = n.Link.Name
	}
	if n.MAC != "" {
		runtime := map[string]json.RawMessage{}
		_ = json.Unmarshal(c.raw["runtimeConfig"], &runtime) // without one there is none
		if runtime == nil {
			runtime = map[string]json.RawMessage{}
		}
		runtime["mac"] = quoted(n.MAC)
		out["mac"], out["runtimeConfig"] = n.MAC, runtime
	}
	return quoted(out)
}

func (p plugin) add(c call) error {
	n, err := p.look(c, (*spool.Waiter).Wait)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := invoke.DelegateAdd(ctx, linkPlugin, c.link(n.Link), nil); err != nil {
		return err
	}
	if err := makeBridge(n.Link); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(ctx, nicPlugin, c.nic(&n), nil)
	if err != nil { // macvlan leaves the NIC if IPAM fails
		return undone(err, p.del(c))
	}
	if err := result.Print(); err != nil {
		return undone(fmt.Errorf("print the result: %w", err), p.del(c))
	}
	return nil
}

// undone returns the error of an ADD, with the error of undoing it.
func undone(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, undo)
}

// del removes the NIC, then its addresses, and does each of these whatever becomes of the
// others. It needs nothing of the spool.
func (p plugin) del(c call) error {
	ctx := context.Background()
	return errors.Join(
		c.delNIC(ctx),
		invoke.DelegateDel(ctx, c.ipam, c.nic(nil), nil),
		invoke.DelegateDel(ctx, linkPlugin, c.link(nil), nil),
	)
}

// delNIC removes the NIC. Where CNI_NETNS is the plugin's own namespace there is none of the pod's,
// and macvlan would remove the node's link of that name.
func (c call) delNIC(ctx context.Context) error {
	id, err := netns.Identify(c.Netns)
	own := false
	if err == nil {
		own, err = id.IsOwn()
	}
	if own || err != nil && !errors.Is(err, netns.ErrNone) {
		return err
	}
	link := call{CmdArgs: c.CmdArgs, raw: maps.Clone(c.raw)}
	delete(link.raw, "ipam") // macvlan would call IPAM first, and end there if it fails
	return invoke.DelegateDel(ctx, nicPlugin, link.nic(nil), nil)
}

func (p plugin) check(c call) error {
	n, err := p.look(c, func(*spool.Waiter) error { return errors.New("CHECK doesn't wait") })
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := invoke.DelegateCheck(ctx, linkPlugin, c.link(n.Link), nil); err != nil {
		return err
	}
	return invoke.DelegateCheck(ctx, nicPlugin, c.nic(&n), nil)
}

// gc calls IPAM itself: macvlan has no GC.
func (p plugin) gc(c call) error {
	ctx := context.Background()
	return errors.Join(invoke.DelegateGC(ctx, c.ipam, c.nic(nil), nil), invoke.DelegateGC(ctx, linkPlugin, c.link(nil), nil))
}

// status asks macvlan, which asks IPAM. Which link is wanted only a pod says.
func (p plugin) status(c call) error {
	return invoke.DelegateStatus(context.Background(), nicPlugin, c.nic(nil), nil)
}
