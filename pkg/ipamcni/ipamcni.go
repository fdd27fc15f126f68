// SPDX-License-Identifier: Apache-2.0

// Package ipamcni is the IPAM plugin multihome-ipam, which is also installed as spiderpool
// and static-ipam: CNI's verbs over the node's spool. What they do is in pkg/spool; here is
// how they are called, and what they print.
//
//	func main() { ipamcni.Main("multihome-ipam") }
//
// Beware: it has no state in the kernel, so it isn't built on pkg/plugin, which links all that
// reads and writes that. Its process lives for some milliseconds.
package ipamcni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/spool"
)

// Names lists the names under which the plugin is installed.
func Names() []string { return []string{"multihome-ipam", "spiderpool", StaticIPAM} }

// lasts is how long ADD waits for the agent.
const lasts = 5 * time.Second

// Main runs the verb that the environment names (CNI_COMMAND), prints the answer that CNI
// prescribes, and ends the process with a non-zero exit status on an error. name begins every
// error.
func Main(name string) {
	p := plugin{name: name, dir: spool.Dir, began: time.Now()}
	// Otherwise skel opens the pod's namespace after the verb, and fails when the work is done
	// already. The main plugin refuses the node's own namespace.
	if err := os.Setenv("CNI_NETNS_OVERRIDE", "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    p.verb("ADD", p.add),
		Check:  p.verb("CHECK", p.check),
		Del:    p.verb("DEL", p.del),
		GC:     p.verb("GC", p.gc),
		Status: p.verb("STATUS", p.status),
	}, version.VersionsStartingFrom("0.3.0"), "CNI plugin "+name+" of multihome")
}

// plugin is the plugin under one of its names.
type plugin struct {
	name  string
	dir   string // of the spool
	began time.Time
}

// call is a call of a verb.
type call struct {
	*skel.CmdArgs
	keys
	spool *spool.Directory
}

// verb reads the configuration, opens the spool, calls f, and puts the plugin's name before an
// error and a code of CNI into it.
func (p plugin) verb(command string, f func(call) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		k, err := load(args.StdinData)
		if command == "DEL" {
			err = nil // a configuration that was broken after ADD doesn't prevent the removal
		}
		c := call{CmdArgs: args, keys: k}
		if err == nil {
			if c.spool, err = spool.OpenDir(p.dir); err == nil {
				err = f(c)
			}
		}
		if err == nil {
			c.log(command, p.name, args, nil)
			return nil
		}
		err = types.NewError(CodeOf(err), p.name+": "+err.Error(), "")
		c.log(command, p.name, args, err)
		return err
	}
}

// CodeOf returns CNI's code of an error. The error of a plugin that could not be run has the
// code 0 (pkg/invoke of containernetworking/cni), which CNI knows for no error: it is an
// internal one.
func CodeOf(err error) uint {
	var e *types.Error
	switch {
	case errors.As(err, &e) && e.Code != 0:
		return e.Code
	case errors.As(err, new(spool.Later)):
		return types.ErrTryAgainLater
	case errors.As(err, new(spool.BadName)):
		return types.ErrInvalidEnvironmentVariables
	case errors.Is(err, netns.ErrNone), errors.Is(err, netns.ErrOwn):
		return types.ErrInvalidNetNS
	}
	return types.ErrInternal
}

func (p plugin) add(c call) error {
	pod, err := PodOf(c.Args)
	if err != nil {
		return err
	}
	if pod.K8S_POD_UID == "" {
		return types.NewError(types.ErrInvalidEnvironmentVariables,
			"CNI_ARGS has no K8S_POD_UID: addresses are given to pods of Kubernetes, whose runtime sends it; use host-local or static for other containers", "")
	}
	want, err := c.want(pod)
	if err != nil {
		return err
	}
	boot, err := spool.BootID()
	if err != nil {
		return err
	}
	w := c.spool.Waiter(p.began, lasts)
	defer w.Close()
	of := spool.Call{Want: want, Boot: boot}
	nic, err := spool.Add(c.spool, of, w.Wait)
	if err != nil {
		return err
	}
	if err := types.PrintResult(result(nic, c.DNS), c.CNIVersion); err != nil {
		if e := spool.TakeBack(c.spool, of); e != nil {
			err = fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, e)
		}
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// want returns what the pod's NIC is to have.
func (c call) want(pod PodArgs) (spool.Want, error) {
	id, err := netns.Identify(c.Netns)
	if err != nil {
		return spool.Want{}, err
	}
	return spool.Want{
		Namespace: string(pod.K8S_POD_NAMESPACE), Pod: string(pod.K8S_POD_NAME), UID: string(pod.K8S_POD_UID),
		ContainerID: c.ContainerID, Interface: c.IfName, Call: spool.NewCall(), Network: c.Name, Netns: id,
		DefaultIPv4IPPool: c.pools4, DefaultIPv6IPPool: c.pools6,
		CleanGateway: c.cleanGateway, MatchMasterSubnet: c.matchMasterSubnet, DeviceID: c.device(),
	}, nil
}

// result returns the answer of ADD: the addresses, a default route by each gateway, and the
// NIC's other routes. A default route among these counts instead of the gateways' of its family.
// The main plugin says which interface has the addresses.
func result(nic spool.NIC, dns types.DNS) *current.Result {
	r := &current.Result{CNIVersion: current.ImplementedSpecVersion, DNS: dns}
	var gateways []netip.Addr
	for _, a := range nic.Addresses {
		ip := &current.IPConfig{Address: ipNet(a.Address)}
		r.IPs = append(r.IPs, ip)
		if !a.Gateway.IsValid() {
			continue
		}
		ip.Gateway = a.Gateway.AsSlice()
		if !slices.Contains(gateways, a.Gateway) {
			gateways = append(gateways, a.Gateway)
			all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if a.Gateway.Is4() {
				all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			if !slices.ContainsFunc(nic.Routes, func(route spool.Route) bool { return route.Dst == all }) {
				r.Routes = append(r.Routes, &types.Route{Dst: ipNet(all), GW: ip.Gateway})
			}
		}
	}
	for _, route := range nic.Routes {
		r.Routes = append(r.Routes, &types.Route{Dst: ipNet(route.Dst), GW: route.Gw.AsSlice()})
	}
	return r
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (p plugin) del(c call) error { return spool.Del(c.spool, c.ContainerID, c.IfName) }

func (p plugin) gc(c call) error {
	keys, err := config.Object(c.StdinData)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	valid, err := config.ValidAttachments(keys)
	if err != nil {
		return err
	}
	var keep []spool.Attachment
	for _, a := range valid {
		keep = append(keep, spool.Attachment{ContainerID: a.ContainerID, Interface: a.IfName})
	}
	return spool.GC(c.spool, c.Name, keep)
}

func (p plugin) status(c call) error {
	boot, err := spool.BootID()
	if err == nil {
		err = spool.Status(c.spool, boot)
	}
	if err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
	}
	return nil
}

func (p plugin) check(c call) error {
	pod, err := PodOf(c.Args)
	if err != nil {
		return err
	}
	printed, err := c.prevIPs(c.IfName)
	if err != nil {
		return err
	}
	has, err := addressesOf(c.Netns, c.IfName)
	if err != nil {
		return err
	}
	of := spool.Want{UID: string(pod.K8S_POD_UID), ContainerID: c.ContainerID, Interface: c.IfName, Network: c.Name}
	return spool.Check(c.spool, spool.Call{Want: of}, printed, has)
}

// addressesOf returns the addresses of a link in a network namespace.
func addressesOf(path, link string) ([]netip.Prefix, error) {
	pod, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(pod) }()
	home, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(home) }()
	var out []netip.Prefix
	_, err = netns.Within(pod, home, func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return fmt.Errorf("netns %q: %s: %w", path, link, err)
		}
		addrs, err := i.Addrs()
		if err != nil {
			return fmt.Errorf("netns %q: %s: %w", path, link, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}
