// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/ifacer"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
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

// formerAttachment is an attachment of a pod that is no more.
type formerAttachment struct {
	attachment.Attachment
	by plugin.Plugin
}

func (l formerAttachment) String() string {
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
func findLeft(o Options, only *inspect.Pod) (out []formerAttachment, err error) {
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
			if only != nil && !a.SamePod(attachment.Attachment{ContainerID: only.ContainerID}) {
				continue
			}
			l := formerAttachment{a, p}
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
	records []records.Record
	pods    []inspect.Pod
	errs    []error
}

func newCensus(cacheDirs []string) (c census) {
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes, records.LinkUsers} {
		list, err := set.Read("")
		c.records = append(c.records, list...)
		c.errs = append(c.errs, err)
	}
	c.pods = inspect.Pods(cacheDirs)
	return c
}

// netns returns the namespace of an attachment's pod, as a record names it, or else
// the runtime; the zero Netns if nobody does.
func (c census) netns(a attachment.Attachment) (out netns.ID) {
	for _, p := range c.pods {
		if (attachment.Attachment{ContainerID: p.ContainerID}).SamePod(a) {
			out.Path = p.Netns
		}
	}
	for _, r := range c.records {
		if (attachment.Attachment{ContainerID: r.ContainerID}).SamePod(a) && r.Netns.Path != "" {
			out = r.Netns
		}
	}
	return out
}

// isGone reports whether the pod of an attachment is known to be no more. What isn't
// known is never taken for dead: others may live by what it has, such as a VLAN.
func (c census) isGone(a attachment.Attachment) bool {
	n := c.netns(a)
	return n.Path != "" && n.Gone()
}

var staleEntries = Kind{
	ID: "stale-entries", Severity: Warning,
	What:   "routes or permanent neighbours of ours lead to an address by a link that pods share, and no pod and no record has it",
	Why:    "What is on a veth goes with its pod. On the node's macvlan, another CNI's bridge or a NIC, DEL takes it away by the pod's record: a record that was lost, with /run or by hand, leaves it. The next pod that gets the address is not reached, or is refused. A runtime whose results are not in the directories of --cache-dir doesn't matter here.",
	Remedy: "COMMANDS",
}

var staleGroup = Kind{
	ID: "stale-group", Severity: Warning,
	What:   "a link that is not ours is in group 109, and no pod uses it",
	Why:    "The table inet multihome-sources drops what comes in by a link of that group from an address that the node doesn't reach by it. A link that route or coordinator found as the node's macvlan is in it for its pods, and stays so when they have gone; one that somebody else put there is of no use to us.",
	Remedy: "ip link set LINK group default",
}

// stale looks for what is ours on links that are not a pod's own.
func stale(n *node) error {
	if n.only != nil {
		return nil // others have their own
	}
	known := map[netip.Addr]bool{}
	used := map[string]bool{}
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes} {
		list, err := set.Read("")
		if err != nil {
			return err // what can't be read may have them
		}
		for _, r := range list {
			used[r.Device] = true
			for _, a := range r.Addresses {
				known[a] = true
			}
		}
	}
	for _, p := range n.pods {
		for _, a := range p.addrs("") {
			known[a.Prefix.Addr()] = true
		}
	}
	n.staleAddresses(known)
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		if l.Group == netstate.SourceGroup && !l.Owned() && !used[l.Name] {
			n.found(staleGroup, fmt.Sprintf("link %s is in group %d", l.Name, l.Group), "LINK", l.Name)
		}
	}
	return nil
}

// staleAddresses notes entries for addresses that nobody is known to have.
func (n *node) staleAddresses(known map[netip.Addr]bool) {
	isOurs := map[string]bool{} // shared links of ours, on which every permanent neighbour is a pod
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		isOurs[l.Name] = l.Owned() && l.Type == "macvlan"
	}
	type entry struct {
		addr netip.Addr
		dev  string
	}
	commands := map[entry][]string{}
	for _, r := range netstate.All[netstate.Route](n.snapshot, host) {
		l, _ := n.link(r.Dev)
		if r.Owned() && r.Dst.IsSingleIP() && !known[r.Dst.Addr()] && (!l.Owned() || l.Type != "veth") {
			e := entry{r.Dst.Addr(), r.Dev}
			commands[e] = append(commands[e], fmt.Sprintf("ip route del %s dev %s table %d", e.addr, e.dev, r.Table))
		}
	}
	for _, neigh := range netstate.All[netstate.Neigh](n.snapshot, host) {
		e := entry{neigh.Dst, neigh.Dev}
		if neigh.Permanent && !known[neigh.Dst] && (commands[e] != nil || isOurs[neigh.Dev]) {
			commands[e] = append(commands[e], fmt.Sprintf("ip neigh del %s dev %s", e.addr, e.dev))
		}
	}
	for _, e := range slices.SortedFunc(maps.Keys(commands), func(a, b entry) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.dev, b.dev))
	}) {
		n.found(staleEntries, fmt.Sprintf("%s by link %s is no pod's", e.addr, e.dev), "COMMANDS", strings.Join(commands[e], "\n"))
	}
}

// shown is how many differences a finding names.
const shown = 5

func drift(n *node) error {
	if n.only != nil && n.only.ContainerID == "" {
		return nil // nobody noted what it should have
	}
	ops := map[string][]string{} // by container ID
	err := repair.Run(n.options.repair(n.only, true, func(a attachment.Attachment, op netstate.Op) {
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

func (o Options) repair(only *inspect.Pod, dry bool, did func(attachment.Attachment, netstate.Op)) repair.Options {
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
	errs = append(errs, repair.Run(o.repair(only, false, func(a attachment.Attachment, op netstate.Op) {
		did = append(did, fmt.Sprintf("%s %s: %s", a.ContainerID, a.IfName, op))
	})))
	return did, errors.Join(errs...)
}
