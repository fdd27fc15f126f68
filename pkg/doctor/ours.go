// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/repair"
	"github.com/multihome/multihome/pkg/route"
)

var leftover = Kind{
	ID: "leftovers", Severity: Warning, Ours: true,
	What:   "an attachment is noted whose pod is no more",
	Why:    "The runtime never called DEL, or DEL failed. The node still leads the address to where the pod was, and refuses it to the next pod that gets it; VLANs and bonds stay. A pod that is being deleted looks like this for a moment.",
	Remedy: "multihome doctor --fixFLAGS",
}

var drifted = Kind{
	ID: "drift", Severity: Problem, Ours: true,
	What:   "a living pod, or the node for it, lacks what ADD made, or has it otherwise",
	Why:    "Something took it away, as systemd-networkd does with rules; or the node's addresses, or the network's configuration, have changed since the pod was made. These are what a repeated ADD would do.",
	Remedy: "multihome doctor --fixFLAGS",
}

// plugins are those that note attachments on the node.
var plugins = []plugin.Plugin{coordinator.Plugin("coordinator", coordinator.Load), route.Plugin(), ifacer.Plugin()}

// left is an attachment of a pod that is no more.
type left struct {
	plugin.Attachment
	by plugin.Plugin
}

func (l left) String() string {
	return fmt.Sprintf("%s: %s of %s in network %s", l.by.Name, l.IfName, l.ContainerID, l.Network)
}

func leftovers(n *node) error {
	list, err := findLeft(n.options, n.only)
	for _, l := range list {
		n.found(leftover, l.String())
	}
	return err
}

// findLeft returns what pods left that are no more.
func findLeft(o Options, only *inspect.Pod) (out []left, err error) {
	k, err := kernel.OpenHost()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	alive := newCensus(o.CacheDirs)
	errs := alive.errs
	for _, p := range plugins {
		attachments, err := p.Attachments(&plugin.Task{View: plugin.View{Snapshot: netstate.NewSnapshot()}, Kernel: k})
		errs = append(errs, err)
		for _, a := range attachments {
			if only != nil && !a.SamePod(plugin.Attachment{ContainerID: only.ContainerID}) {
				continue
			}
			l := left{a, p}
			switch {
			case alive.isGone(a):
				out = append(out, l)
			case alive.netns(a).Path == "":
				errs = append(errs, fmt.Errorf("%s: nobody knows the pod's namespace, so it may live: see --cache-dir", l))
			}
		}
	}
	return out, errors.Join(errs...)
}

// census is what tells the living from the dead.
type census struct {
	records []kernel.Record
	pods    []inspect.Pod
	errs    []error
}

func newCensus(cacheDirs []string) (c census) {
	for _, set := range []kernel.Records{kernel.NodeRoutes, kernel.BridgeRoutes, kernel.LinkUsers} {
		records, err := set.Read("")
		c.records = append(c.records, records...)
		c.errs = append(c.errs, err)
	}
	c.pods = inspect.Pods(cacheDirs)
	return c
}

// netns returns the namespace of an attachment's pod, as a record names it, or else
// the runtime; the zero Netns if nobody does.
func (c census) netns(a plugin.Attachment) (out kernel.Netns) {
	for _, p := range c.pods {
		if (plugin.Attachment{ContainerID: p.ContainerID}).SamePod(a) {
			out.Path = p.Netns
		}
	}
	for _, r := range c.records {
		if (plugin.Attachment{ContainerID: r.ContainerID}).SamePod(a) && r.Netns.Path != "" {
			out = r.Netns
		}
	}
	return out
}

// isGone reports whether the pod of an attachment is known to be no more. What isn't
// known is never taken for dead: others may live by what it has, such as a VLAN.
func (c census) isGone(a plugin.Attachment) bool {
	n := c.netns(a)
	return n.Path != "" && n.Gone()
}

// shown is how many differences a finding names.
const shown = 5

func drift(n *node) error {
	if n.only != nil && n.only.ContainerID == "" {
		return nil // nobody noted what it should have
	}
	ops := map[string][]string{} // by container ID
	err := repair.Run(n.options.repair(n.only, true, func(a plugin.Attachment, op netstate.Op) {
		if line := a.IfName + ": " + op.String(); !slices.Contains(ops[a.ContainerID], line) {
			ops[a.ContainerID] = append(ops[a.ContainerID], line)
		}
	}))
	for i := range n.pods {
		p := &n.pods[i]
		list := ops[p.ContainerID]
		if len(list) == 0 {
			continue
		}
		more := ""
		if len(list) > shown {
			list, more = list[:shown], fmt.Sprintf("; and %d more", len(list)-shown)
		}
		n.foundIn(p, drifted, strings.Join(list, "; ")+more)
	}
	return err
}

func (o Options) repair(only *inspect.Pod, dry bool, did func(plugin.Attachment, netstate.Op)) repair.Options {
	r := repair.Options{CacheDirs: o.CacheDirs, ConfDir: o.ConfDir, DryRun: dry, Did: did}
	if only != nil {
		r.Only = only.ContainerID
	}
	return r
}

// fix removes what dead pods left and repairs living ones. It returns what it did.
func fix(o Options, only *inspect.Pod) (did []string, err error) {
	if only != nil && only.ContainerID == "" {
		return nil, nil
	}
	list, err := findLeft(o, only)
	errs := []error{err}
	for _, l := range list {
		if err := l.by.Release(l.Attachment); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l, err))
			continue
		}
		did = append(did, l.String()+": removed")
	}
	errs = append(errs, repair.Run(o.repair(only, false, func(a plugin.Attachment, op netstate.Op) {
		did = append(did, fmt.Sprintf("%s %s: %s", a.ContainerID, a.IfName, op))
	})))
	return did, errors.Join(errs...)
}
