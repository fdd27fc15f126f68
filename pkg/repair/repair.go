// SPDX-License-Identifier: Apache-2.0

// Package repair gives living pods back what they should have: after rules were
// flushed by something else on the node, after the node got other addresses, or
// after a network's configuration was changed. What should be is what a repeated
// ADD would make, from the results that runtimes keep (libcni's cache). What should
// not be any more are those rules and routes of ours that no attachment of the pod
// asks for; they stay while it isn't known what each of them asks for.
//
// It changes nothing on a healthy node.
package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

// Options say where to look, and whether to change anything.
type Options struct {
	CacheDirs []string // of libcni, with "results" in each
	ConfDir   string   // of the node's configurations, which go before cached ones; "" for none
	Only      string   // the container ID of the one pod that is repaired; "" for all
	DryRun    bool
	// Did is called with each operation that was done, or would be.
	Did func(a attachment.Attachment, op netstate.Op)
}

// Run repairs every living pod. What can't be read or repaired is in the error, and
// doesn't keep the rest from being repaired.
func Run(o Options) error {
	pods, err := o.pods()
	errs := []error{err}
	for _, p := range pods {
		errs = append(errs, o.repair(p))
	}
	return errors.Join(errs...)
}

// cachedPod is a pod as far as the caches tell.
type cachedPod struct {
	containerID string
	netns       string
	gone        bool               // it is dead: GC's business
	attached    []cachedAttachment // by our plugins
	vague       bool               // see known
}

// cachedAttachment is an attachment of one of our plugins.
type cachedAttachment struct {
	attachment.Attachment
	typ   string
	stdin []byte
	file  string
}

// pods returns those in the caches.
func (o Options) pods() (pods []*cachedPod, err error) {
	confs, err := o.configurations()
	errs := []error{err}
	cached, unread := inspect.Cache(o.CacheDirs)
	byID := map[string]*cachedPod{}
	for _, c := range cached {
		if !o.means(c.ContainerID) {
			continue
		}
		p := byID[c.ContainerID]
		if p == nil {
			p = &cachedPod{containerID: c.ContainerID, netns: c.Netns, gone: netns.ID{Path: c.Netns}.Gone()}
			byID[c.ContainerID] = p
			pods = append(pods, p)
		}
		if p.gone {
			continue
		}
		found, sure, err := confs.ofOurs(&c)
		p.attached = append(p.attached, found...)
		p.vague = p.vague || !sure
		errs = append(errs, err)
	}
	for _, u := range unread {
		if o.Only == "" || u.MayBeOf(o.Only) {
			errs = append(errs, u)
		}
		for _, p := range pods {
			p.vague = p.vague || u.MayBeOf(p.containerID)
		}
	}
	return pods, errors.Join(append(errs, o.unknown(pods))...)
}

// means reports whether a pod is to be repaired.
func (o Options) means(containerID string) bool {
	return o.Only == "" || attachment.Attachment{ContainerID: o.Only}.SamePod(attachment.Attachment{ContainerID: containerID})
}

// configurations are those of the node's directory, by the name of their network.
type configurations struct {
	lists map[string]*libcni.NetworkConfigList
	whole bool // every file could be read
}

func (o Options) configurations() (configurations, error) {
	out := configurations{map[string]*libcni.NetworkConfigList{}, true}
	if o.ConfDir == "" {
		return out, nil
	}
	files, err := libcni.ConfFiles(o.ConfDir, []string{".conflist"})
	errs := []error{err}
	for _, f := range files {
		list, err := libcni.ConfListFromFile(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration %s: %w", f, err))
			continue
		}
		out.lists[list.Name] = list
	}
	err = errors.Join(errs...)
	out.whole = err == nil
	return out, err
}

// ofOurs returns what ADD of our plugins was called with for an attachment, and
// whether that is sure to be all.
func (confs configurations) ofOurs(c *inspect.Cached) (out []cachedAttachment, sure bool, err error) {
	list, err := c.List()
	if err != nil {
		return nil, false, &inspect.Unread{File: c.File, Err: err}
	}
	if list == nil {
		return nil, true, nil // of a single plugin, which ours never is
	}
	newer, sure := confs.lists[list.Name]
	if sure {
		list = newer
	}
	sure = sure || confs.whole // or else the newer one may be in a file that can't be read
	for _, p := range list.Plugins {
		if of, ours := catalog.Plugins[p.Network.Type]; !ours || of.NodeOnly {
			continue // it has nothing to repair in a pod
		}
		result, err := c.ResultIn(list.CNIVersion)
		if err != nil {
			return nil, false, &inspect.Unread{File: c.File, Err: err}
		}
		stdin, err := stdin(list, p.Bytes, result)
		if err != nil {
			return nil, false, &inspect.Unread{File: c.File, Err: err}
		}
		out = append(out, cachedAttachment{
			Attachment: attachment.Attachment{Network: list.Name, ContainerID: c.ContainerID, IfName: c.IfName},
			typ:        p.Network.Type, stdin: stdin, file: c.File,
		})
	}
	return out, sure, nil
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

// unknown returns an error for each attachment of ours that lives and that no cache
// tells of.
func (o Options) unknown(pods []*cachedPod) error {
	k, err := kernel.OpenHost()
	if err != nil {
		return err
	}
	defer k.Close()
	notes, err := notes(k, "")
	errs := []error{err}
	for _, n := range notes {
		if !o.means(n.ContainerID) || n.gone {
			continue
		}
		told := slices.ContainsFunc(pods, func(p *cachedPod) bool {
			return (p.gone || p.vague) && n.SamePod(attachment.Attachment{ContainerID: p.containerID}) ||
				slices.ContainsFunc(p.attached, func(a cachedAttachment) bool { return catalog.Plugins[a.typ].Records == n.by && a.Same(n.Attachment) })
		})
		if !told {
			errs = append(errs, fmt.Errorf("%s: no result in %s tells what it should have, so it is left alone: see --cache-dir",
				words(n.Attachment), strings.Join(o.CacheDirs, ", ")))
		}
	}
	return errors.Join(errs...)
}

// words names an attachment.
func words(a attachment.Attachment) string {
	return fmt.Sprintf("attachment %s of %s to %s", a.IfName, a.ContainerID, a.Network)
}

// notes returns the attachments of a pod that own something on the node, or of all
// pods with "": those that a record or the host end of a pod's link names.
func notes(k *kernel.Namespaces, pod string) ([]note, error) {
	links, err := k.Host.Owned()
	errs := []error{err}
	var out []note
	for _, l := range links {
		if a, ok := attachment.ParseAlias(l.Alias); ok && (pod == "" || a.Pod() == pod) {
			out = append(out, note{Attachment: a, by: records.NodeRoutes})
		}
	}
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes} {
		list, err := set.Read(pod)
		errs = append(errs, err)
		for _, r := range list {
			n := note{Attachment: attachment.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}, by: set}
			n.gone = r.Netns.Path != "" && r.Netns.Gone()
			out = append(out, n)
		}
	}
	return out, errors.Join(errs...)
}

// repair repairs the attachments of a pod, and then removes what none of them asks
// for.
func (o Options) repair(p *cachedPod) error {
	if p.gone {
		return nil
	}
	k := known{vague: p.vague}
	var errs []error
	for _, a := range p.attached {
		of := catalog.Plugins[a.typ]
		plan, ops, err := of.Reconcile(&skel.CmdArgs{
			ContainerID: a.ContainerID, Netns: p.netns, IfName: a.IfName, StdinData: a.stdin,
		}, o.DryRun, p.vague)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, by %s: %w", words(a.Attachment), a.file, err))
			continue
		}
		for _, op := range ops {
			o.Did(a.Attachment, op)
		}
		k.plans = append(k.plans, planned{a.Attachment, of.Records, plan})
	}
	if len(errs) == 0 && len(k.plans) > 0 && !k.vague {
		errs = append(errs, o.dropStale(p, k))
	}
	return errors.Join(errs...)
}

// dropStale removes what is stale in a pod. What is noted is read when the pod is
// locked: an ADD may have come in between.
func (o Options) dropStale(p *cachedPod, what known) error {
	k, err := kernel.Open(p.netns)
	if err != nil {
		return err
	}
	defer k.Close()
	what.pod = netstate.NewSnapshot()
	if err := k.ReadPod(what.pod); err != nil {
		return err
	}
	if len(what.stale()) == 0 {
		return nil // whatever is noted
	}
	if what.noted, err = notes(k, what.plans[0].Pod()); err != nil {
		return err
	}
	ops := what.stale()
	if !o.DryRun {
		err = k.Remove(ops)
	}
	for _, op := range ops {
		o.Did(what.plans[0].Attachment, op)
	}
	return err
}
