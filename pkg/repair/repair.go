// SPDX-License-Identifier: Apache-2.0

// Package repair gives living pods back what they should have: after rules were
// flushed by something else on the node, after the node got other addresses, or
// after a network's configuration was changed. What should be is what a repeated
// ADD would make, from the results that runtimes keep (libcni's cache); what
// should not be any more are those rules and routes of ours that no attachment
// of the pod asks for.
//
// It changes nothing on a healthy node.
package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/suite"
)

// Options say where to look, and whether to change anything.
type Options struct {
	CacheDirs []string // of libcni, with "results" in each
	ConfDir   string   // of the node's configurations, which go before cached ones; "" for none
	Only      string   // the container ID of the one pod that is repaired; "" for all
	DryRun    bool
	// Did is called with each operation that was done, or would be.
	Did func(a plugin.Attachment, op netstate.Op)
}

// Run repairs every living pod. An attachment that can't be repaired is in the
// error, and doesn't keep the others from it.
func Run(o Options) error {
	pods, err := o.attachments()
	errs := []error{err}
	for _, pod := range pods {
		errs = append(errs, o.repairPod(pod))
	}
	return errors.Join(errs...)
}

// attached is a cached attachment of one of our plugins.
type attached struct {
	plugin.Attachment
	netns string
	typ   string
	stdin []byte
}

// attachments returns those in the caches, by pod.
func (o Options) attachments() ([][]attached, error) {
	current, err := o.configurations()
	errs := []error{err}
	var pods [][]attached
	for _, dir := range o.CacheDirs {
		cni := libcni.NewCNIConfigWithCacheDir(nil, dir, nil)
		list, err := cni.GetCachedAttachments("")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cache %s: %w", dir, err))
		}
		for _, cached := range list {
			found, err := ofOurs(cni, cached, current)
			errs = append(errs, err)
			for _, a := range found {
				if o.Only != "" && a.ContainerID != o.Only {
					continue
				}
				i := slices.IndexFunc(pods, func(p []attached) bool { return p[0].SamePod(a.Attachment) })
				if i < 0 {
					pods = append(pods, nil)
					i = len(pods) - 1
				}
				pods[i] = append(pods[i], a)
			}
		}
	}
	return pods, errors.Join(errs...)
}

// configurations returns the node's own, by the name of their network.
func (o Options) configurations() (map[string]*libcni.NetworkConfigList, error) {
	out := map[string]*libcni.NetworkConfigList{}
	if o.ConfDir == "" {
		return out, nil
	}
	files, err := libcni.ConfFiles(o.ConfDir, []string{".conflist"})
	errs := []error{err}
	for _, f := range files {
		list, err := libcni.ConfListFromFile(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration %s: %w", filepath.Base(f), err))
			continue
		}
		out[list.Name] = list
	}
	return out, errors.Join(errs...)
}

// ofOurs returns what ADD of our plugins was called with for an attachment.
func ofOurs(cni *libcni.CNIConfig, cached *libcni.NetworkAttachment, current map[string]*libcni.NetworkConfigList) ([]attached, error) {
	list, err := libcni.ConfListFromBytes(cached.Config)
	if err != nil {
		return nil, nil //nolint:nilerr // a single plugin, which ours never is
	}
	if newer := current[list.Name]; newer != nil {
		list = newer
	}
	var out []attached
	for _, p := range list.Plugins {
		if of, ours := suite.Plugins[p.Network.Type]; !ours || of.NodeOnly {
			continue // it has nothing to repair in a pod
		}
		a := attached{
			Attachment: plugin.Attachment{Network: list.Name, ContainerID: cached.ContainerID, IfName: cached.IfName},
			netns:      cached.NetNS,
			typ:        p.Network.Type,
		}
		result, err := cni.GetNetworkListCachedResult(list, &libcni.RuntimeConf{ContainerID: cached.ContainerID, IfName: cached.IfName})
		if err == nil {
			a.stdin, err = stdin(list, p.Bytes, result)
		}
		if err != nil {
			return out, fmt.Errorf("attachment %s of %s to %s: %w", a.IfName, a.ContainerID, a.Network, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// stdin is a plugin's configuration as a runtime hands it over.
func stdin(list *libcni.NetworkConfigList, own []byte, prevResult any) ([]byte, error) {
	conf := map[string]any{}
	if err := json.Unmarshal(own, &conf); err != nil {
		return nil, err
	}
	conf["name"], conf["cniVersion"], conf["prevResult"] = list.Name, list.CNIVersion, prevResult
	return json.Marshal(conf)
}

// repairPod repairs the attachments of a pod, and then removes what none of them
// asks for.
func (o Options) repairPod(pod []attached) error {
	if (kernel.Netns{Path: pod[0].netns}).Gone() {
		return nil // it is dead: GC's business
	}
	var wanted []netstate.Item
	for _, a := range pod {
		plan, ops, err := suite.Plugins[a.typ].Reconcile(&skel.CmdArgs{
			ContainerID: a.ContainerID, Netns: a.netns, IfName: a.IfName, StdinData: a.stdin,
		}, o.DryRun)
		for _, op := range ops {
			o.Did(a.Attachment, op)
		}
		if err != nil {
			return fmt.Errorf("attachment %s of %s to %s: %w", a.IfName, a.ContainerID, a.Network, err)
		}
		wanted = append(wanted, plan.Present...)
	}
	return o.dropStale(pod, wanted)
}

// dropStale removes what an earlier plan made and none makes any more. It is
// left alone while there is an attachment whose plan is not known.
func (o Options) dropStale(pod []attached, wanted []netstate.Item) error {
	records, err := kernel.NodeRoutes.Read(pod[0].Pod())
	for _, r := range records {
		known := slices.ContainsFunc(pod, func(a attached) bool { return a.IfName == r.IfName })
		if !known || err != nil {
			return err
		}
	}
	k, err := kernel.Open(pod[0].netns)
	if err != nil {
		return err
	}
	defer k.Close()
	snap := netstate.NewSnapshot()
	if err := k.ReadPod(snap); err != nil {
		return err
	}
	var ops []netstate.Op
	for _, object := range owned(snap) {
		isWanted := slices.ContainsFunc(wanted, func(i netstate.Item) bool {
			return i.NS == netstate.Pod && i.Object.Key() == object.Key()
		})
		if !isWanted {
			ops = append(ops, netstate.Op{NS: netstate.Pod, Before: object, Why: "nothing asks for it any more"})
		}
	}
	for _, op := range ops {
		o.Did(pod[0].Attachment, op)
	}
	if o.DryRun {
		return nil
	}
	return k.Remove(ops)
}

// owned returns the pod's rules and routes that carry our mark, but for default
// routes of main: one may stand in for a NIC that was unplugged.
func owned(snap *netstate.Snapshot) []netstate.Object {
	var out []netstate.Object
	for _, r := range netstate.All[netstate.Rule](snap, netstate.Pod) {
		if r.Owned() {
			out = append(out, r)
		}
	}
	for _, r := range netstate.All[netstate.Route](snap, netstate.Pod) {
		if r.Owned() && (r.Table != netstate.TableMain || r.Dst.Bits() > 0) {
			out = append(out, r)
		}
	}
	return out
}
