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
	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
	"github.com/multihome/multihome/pkg/repair"
)

var leftover = Kind{
	ID: "leftovers", Severity: Warning, Ours: true,
	What:   "an attachment is recorded, but its pod is gone",
	Why:    "The runtime never called DEL, or DEL failed. The node still routes the address to the former pod, and ADD of the next pod that gets the address is refused; VLANs and bonds stay as well. A pod that is being deleted looks like this for a moment.",
	Remedy: "multihome doctor --fixFLAGS",
}

var drifted = Kind{
	ID: "drift", Severity: Problem, Ours: true,
	What:   "objects that ADD made for a living pod, in the pod or on the node, are missing or changed",
	Why:    "Other software removed or changed them, as systemd-networkd does with rules; or the node's addresses or the network's configuration have changed since the pod was made. The finding lists the operations that a repeated ADD would do.",
	Remedy: "multihome doctor --fixFLAGS",
}

// formerAttachment is an attachment of a dead pod, with the plugin that made it.
type formerAttachment struct {
	attachment.Attachment
	by plugin.Plugin
}

func (l formerAttachment) String() string {
	return fmt.Sprintf("%s: %s of %s in network %s", l.by.Name, l.IfName, l.ContainerID, l.Network)
}

// leftovers looks for attachments of dead pods.
func leftovers(n *node) error {
	list, err := findLeft(n.options, n.only)
	for _, l := range list {
		n.found(leftover, l.String())
	}
	return err
}

// findLeft returns the attachments that dead pods left. The error names attachments
// whose pod may be alive, because its network namespace is unknown.
func findLeft(o Options, only *inspect.Pod) (out []formerAttachment, err error) {
	k, err := kernel.OpenHost()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	known := newCensus(o.CacheDirs)
	errs := known.errs
	for _, name := range catalog.Names() {
		if name == "veth" {
			continue // its attachments are coordinator's
		}
		p := catalog.Plugins[name]
		attachments, err := p.Attachments(&plugin.Task{View: plugin.View{Snapshot: netstate.NewSnapshot()}, Kernel: k})
		errs = append(errs, err)
		for _, a := range attachments {
			if only != nil && !a.SamePod(attachment.Attachment{ContainerID: only.ContainerID}) {
				continue
			}
			l := formerAttachment{a, p}
			switch {
			case known.isGone(a):
				out = append(out, l)
			case known.netns(a).Path == "":
				errs = append(errs, fmt.Errorf("%s: the pod's network namespace is unknown, so the pod may be alive: see --cache-dir", l))
			}
		}
	}
	return out, errors.Join(errs...)
}

// census holds the known network namespaces of pods, to tell living pods from dead ones.
type census struct {
	records []records.Record
	pods    []inspect.Pod
	errs    []error // records that could not be read
}

// newCensus reads all records, and the results that runtimes keep.
func newCensus(cacheDirs []string) (c census) {
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes, records.LinkUsers} {
		list, err := set.Read("")
		c.records = append(c.records, list...)
		c.errs = append(c.errs, err)
	}
	c.pods = inspect.Pods(cacheDirs)
	return c
}

// netns returns the network namespace of an attachment's pod. A record takes precedence
// over the runtime's results. If neither names it, netns returns the zero ID.
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

// isGone reports whether the pod of an attachment is known to be dead. It returns false
// for an unknown pod, because other pods may need its links, such as a VLAN.
func (c census) isGone(a attachment.Attachment) bool {
	n := c.netns(a)
	return n.Path != "" && n.Gone()
}

var staleEntries = Kind{
	ID: "stale-entries", Severity: Warning,
	What:   "on a link that pods share, routes or permanent neighbours of ours lead to an address that no pod and no record has",
	Why:    "Entries on a veth go with their pod. On the node's macvlan, another CNI's bridge or a NIC, DEL finds the entries by the pod's record. They stay if the record was lost, together with /run or by hand. The next pod that gets the address is unreachable, or its ADD is refused. Results of a runtime that are missing in --cache-dir don't cause this finding.",
	Remedy: "COMMANDS",
}

var staleGroup = Kind{
	ID: "stale-group", Severity: Warning,
	What:   "a link that is not ours is in group 109, and no pod uses it",
	Why:    "The table inet multihome-sources drops packets that come in by a link of this group, if the node doesn't reach their source address by the same link. If route or coordinator uses an existing macvlan of the node, it puts the macvlan into the group, and the macvlan stays in it after its pods are gone. If other software put the link there, we don't need it in the group.",
	Remedy: "ip link set LINK group default",
}

// stale looks for objects of ours that no pod needs, on links that pods share.
func stale(n *node) error {
	if n.only != nil {
		return nil // the links may serve other pods, which weren't read
	}
	known := map[netip.Addr]bool{}
	used := map[string]bool{}
	for _, set := range []records.Set{records.NodeRoutes, records.BridgeRoutes} {
		list, err := set.Read("")
		if err != nil {
			return err // an unreadable record may have any of the addresses
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

// staleAddresses adds a finding for each address that isn't known and has routes or
// permanent neighbours of ours on a shared link.
func (n *node) staleAddresses(known map[netip.Addr]bool) {
	isOurs := map[string]bool{} // shared links of ours: every permanent neighbour there is a pod
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

// shown is the number of differences that a finding lists.
const shown = 5

// drift compares living pods with the plans of their attachments.
func drift(n *node) error {
	if n.only != nil && n.only.ContainerID == "" {
		return nil // no record says what the pod should have
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

// repair returns the options for [repair.Run].
func (o Options) repair(only *inspect.Pod, dry bool, did func(attachment.Attachment, netstate.Op)) repair.Options {
	r := repair.Options{CacheDirs: o.CacheDirs, ConfDir: o.ConfDir, DryRun: dry, Did: did}
	if only != nil {
		r.Only = only.ContainerID
	}
	return r
}

// fix releases the attachments of dead pods and repairs living pods. It returns a line
// for each change.
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
