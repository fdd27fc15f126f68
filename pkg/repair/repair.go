// SPDX-License-Identifier: Apache-2.0

// Package repair restores the network state of living pods: after other software on
// the node flushed rules, after the node's addresses changed, or after an admin changed
// a network's configuration. For each attachment it does the same as a repeated ADD,
// with the result that the runtime keeps (libcni's cache). Then it deletes rules and
// routes of ours in the pod that no attachment of the pod wants any more. On a healthy
// node it changes nothing. For example, to list what it would do:
//
//	err := repair.Run(repair.Options{
//		CacheDirs: []string{"/var/lib/cni"}, ConfDir: "/etc/cni/net.d", DryRun: true,
//		Did: func(a attachment.Attachment, op netstate.Op) { fmt.Println(a.IfName, op) },
//	})
//
// Beware: if a cached result or a configuration can't be read, repair may not know all
// objects that the pod's attachments want. Then it deletes nothing in that pod, and
// returns an error that names the file.
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
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Options are the options of Run.
type Options struct {
	CacheDirs []string // libcni's caches; each has a directory "results"
	ConfDir   string   // the node's configurations, preferred to cached ones; "" for none
	Only      string   // container ID of the only pod to repair; "" for all pods
	DryRun    bool     // change nothing
	// Did is called for each operation that was done or, with DryRun, would be done.
	Did func(a attachment.Attachment, op netstate.Op)

	// For Pods; nil functions do nothing.
	Gentle  bool                                               // see [plugin.How]
	Living  bool                                               // see [plugin.How]
	Leave   func(a attachment.Attachment, op netstate.Op) bool // returns true for what isn't to be done
	Planned func(a attachment.Attachment, plan netstate.Plan)  // is called with what is wanted
}

// Run repairs every living pod. It goes on after an error, and returns all of them.
func Run(o Options) error {
	confs, err := o.configurations()
	errs := []error{err}
	cached, unread := inspect.Cache(o.CacheDirs)
	cached = slices.DeleteFunc(cached, func(c inspect.Cached) bool { return !o.includes(c.ContainerID) })
	for _, u := range unread {
		if o.Only == "" || u.MayBeOf(o.Only) {
			errs = append(errs, u)
		}
	}
	pods := gather(confs, cached, unread)
	errs = append(errs, o.unknown(pods))
	for _, p := range pods {
		errs = append(errs, p.err, o.repair(p))
	}
	return errors.Join(errs...)
}

// Pods repairs some living pods, by their container IDs. It calls done with each one that has
// a cached result, or may have one that can't be read, and with the error. Unlike Run, it reads
// nothing of other pods, and doesn't look for attachments without a cached result. It returns
// the error of the node's configurations.
func Pods(o Options, containerIDs []string, done func(containerID string, err error)) error {
	confs, err := o.configurations()
	cached, unread := inspect.CacheOf(o.CacheDirs, containerIDs)
	of := func(containerID string) (errs []error) {
		for _, u := range unread {
			if u.MayBeOf(containerID) {
				errs = append(errs, u)
			}
		}
		return errs
	}
	found := map[string]bool{}
	for _, p := range gather(confs, cached, unread) {
		found[p.containerID] = true
		done(p.containerID, errors.Join(append(of(p.containerID), p.err, o.repair(p))...))
	}
	for _, id := range containerIDs {
		if errs := of(id); !found[id] && len(errs) > 0 {
			done(id, errors.Join(errs...))
		}
	}
	return err
}

// cachedPod is a pod that the caches hold a result of.
type cachedPod struct {
	containerID string
	netns       string
	gone        bool               // the pod is dead; GC cleans up after it
	attached    []cachedAttachment // by our plugins
	vague       bool               // see known
	err         error              // of reading what is cached
}

// cachedAttachment is an attachment of one of our plugins.
type cachedAttachment struct {
	attachment.Attachment
	typ   string // of the plugin
	stdin []byte // of its ADD
	file  string // of the cache
}

// gather returns the pods of cached results.
func gather(confs configurations, cached []inspect.Cached, unread []*inspect.Unread) (pods []*cachedPod) {
	byID := map[string]*cachedPod{}
	for _, c := range cached {
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
		p.err = errors.Join(p.err, err)
	}
	for _, u := range unread {
		for _, p := range pods {
			p.vague = p.vague || u.MayBeOf(p.containerID)
		}
	}
	return pods
}

// includes reports whether a pod is to be repaired.
func (o Options) includes(containerID string) bool {
	return o.Only == "" || attachment.Attachment{ContainerID: o.Only}.SamePod(attachment.Attachment{ContainerID: containerID})
}

// configurations holds the configurations in the node's directory.
type configurations struct {
	lists map[string]*libcni.NetworkConfigList // by network name
	whole bool                                 // every file could be read
}

// configurations reads the node's configurations.
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

// ofOurs returns the input of ADD for each of our plugins in a cached attachment's
// network. sure is false if the network may have a newer configuration that can't be
// read.
func (confs configurations) ofOurs(c *inspect.Cached) (out []cachedAttachment, sure bool, err error) {
	list, err := c.List()
	if err != nil {
		return nil, false, &inspect.Unread{File: c.File, Err: err}
	}
	if list == nil {
		return nil, true, nil // a single plugin, and ours are always chained
	}
	newer, sure := confs.lists[list.Name]
	if sure {
		list = newer
	}
	sure = sure || confs.whole // an unreadable file may hold a newer one
	for _, p := range list.Plugins {
		if of, ours := catalog.Plugins[p.Network.Type]; !ours || of.NodeOnly {
			continue // it makes nothing in a pod
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

// stdin returns a plugin's configuration as a runtime passes it to the plugin.
func stdin(list *libcni.NetworkConfigList, own []byte, prevResult any) ([]byte, error) {
	conf := map[string]any{}
	if err := json.Unmarshal(own, &conf); err != nil {
		return nil, err
	}
	conf["name"], conf["cniVersion"], conf["prevResult"] = list.Name, list.CNIVersion, prevResult
	return json.Marshal(conf)
}

// unknown returns an error for each living attachment of ours without a cached result.
func (o Options) unknown(pods []*cachedPod) error {
	k, err := kernel.OpenHost()
	if err != nil {
		return err
	}
	defer k.Close()
	notes, err := notes(k, "")
	errs := []error{err}
	for _, n := range notes {
		if !o.includes(n.ContainerID) || n.gone {
			continue
		}
		told := slices.ContainsFunc(pods, func(p *cachedPod) bool {
			return (p.gone || p.vague) && n.SamePod(attachment.Attachment{ContainerID: p.containerID}) ||
				slices.ContainsFunc(p.attached, func(a cachedAttachment) bool { return catalog.Plugins[a.typ].Records == n.by && a.Same(n.Attachment) })
		})
		if !told {
			errs = append(errs, fmt.Errorf("%s: not repaired: the runtime's result is not in %s: set --cache-dir",
				words(n.Attachment), strings.Join(o.CacheDirs, ", ")))
		}
	}
	return errors.Join(errs...)
}

// words returns an attachment as errors name it.
func words(a attachment.Attachment) string {
	return fmt.Sprintf("attachment %s of %s to %s", a.IfName, a.ContainerID, a.Network)
}

// notes returns the attachments that own something on the node: those in records and
// in the aliases of links to pods. It returns those of one pod, or with "" of all pods.
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

// repair repairs the attachments of a pod. Then it deletes objects that none of them wants.
func (o Options) repair(p *cachedPod) error {
	if p.gone {
		return nil
	}
	k := known{vague: p.vague}
	var errs []error
	var would []netstate.Op // be applied, if it weren't dry
	for _, a := range p.attached {
		of := catalog.Plugins[a.typ]
		plan, ops, err := of.Reconcile(&skel.CmdArgs{
			ContainerID: a.ContainerID, Netns: p.netns, IfName: a.IfName, StdinData: a.stdin,
		}, plugin.How{Dry: o.DryRun, Earlier: would, Keep: p.vague, Gentle: o.Gentle, Living: o.Living, Leave: o.leave(a.Attachment)})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, by %s: %w", words(a.Attachment), a.file, err))
			continue
		}
		for _, op := range ops {
			o.Did(a.Attachment, op)
		}
		if o.DryRun {
			would = append(would, ops...)
		}
		if o.Planned != nil {
			o.Planned(a.Attachment, plan)
		}
		k.plans = append(k.plans, planned{a.Attachment, of.Records, plan})
	}
	if len(errs) == 0 && len(k.plans) > 0 && !k.vague {
		errs = append(errs, o.dropStale(p, k))
	}
	return errors.Join(errs...)
}

// leave returns what tells the operations of an attachment that aren't to be done.
func (o Options) leave(a attachment.Attachment) func(netstate.Op) bool {
	if o.Leave == nil {
		return nil
	}
	return func(op netstate.Op) bool { return o.Leave(a, op) }
}

// dropStale deletes stale objects in a pod. It reads the notes while the pod is locked,
// because an ADD may have added an attachment in between.
func (o Options) dropStale(p *cachedPod, what known) error {
	open := kernel.Open
	if o.Gentle {
		open = kernel.TryOpen
	}
	k, err := open(p.netns)
	if err != nil {
		return err
	}
	defer k.Close()
	what.pod = netstate.NewSnapshot()
	if err := k.ReadPod(what.pod); err != nil {
		return err
	}
	if len(what.stale()) == 0 {
		return nil // the notes could only keep more
	}
	if what.noted, err = notes(k, what.plans[0].Pod()); err != nil {
		return err
	}
	first := what.plans[0].Attachment
	ops := slices.DeleteFunc(what.stale(), func(op netstate.Op) bool { return o.Leave != nil && o.Leave(first, op) })
	if !o.DryRun {
		err = k.Remove(ops)
	}
	for _, op := range ops {
		o.Did(first, op)
	}
	return err
}
