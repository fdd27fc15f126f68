// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/pkg/spool"
)

// mostConflicts is how many conflicts a NodeSpool has at most, as its definition says.
const mostConflicts = 64

// noted is what is known about an address of a pod's NIC that another machine has.
type noted struct {
	spool.Conflict
	known  bool // the pod has a claim, or lives
	named  bool // which names the address
	held   bool // by the IPAddress
	served bool // an ADD may get it
	used   bool // a sandbox of the pod has it
	works  bool // so has one that was made after the note
}

// keep reports whether the note is still of use, and withdrawn whether nothing of the pod on the
// node has the address, nor will have it.
func (n noted) keep() (withdrawn, keep bool) {
	withdrawn = !n.named && !n.served && !n.used
	switch {
	case !n.known: // the pod is gone, or about to
		return withdrawn, false
	case n.named && n.works: // the other machine is gone, or ADD will say the same again
		return false, false
	case withdrawn && !n.held: // the controller has heard of it
		return true, false
	}
	return withdrawn, true
}

// conflicts returns the conflicts that are noted, for the NodeSpool, and removes the notes that
// are of no use any more. unread are errors of the spool. all says whether boxes are all
// sandboxes; served is what ADDs may get. pods/ must not have been written after boxes were listed.
func (a *Agent) conflicts(ctx context.Context, boxes []sandbox, all bool, served []sandbox, claimOf claimFinder) (out []v1alpha1.Conflict, unread, err error) {
	notes, unread := spool.Conflicts(a.Files)
	clear(a.noted)
	for _, note := range notes {
		n, err := a.conflict(ctx, note, boxes, all, served, claimOf)
		if err != nil {
			return nil, unread, err
		}
		withdrawn, keep := n.keep()
		if !keep {
			unread = errors.Join(unread, a.Files.Remove(n.File()))
			continue
		}
		a.noted[n.UID] = true
		out = append(out, v1alpha1.Conflict{
			Namespace: n.Namespace, Pod: n.Pod, PodUID: n.UID, Interface: n.Interface,
			Address: n.Address.Address.Addr().String(), Network: n.Address.Space, MAC: n.MAC, Withdrawn: withdrawn,
		})
	}
	slices.SortFunc(out, func(x, y v1alpha1.Conflict) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Pod, y.Pod), cmp.Compare(x.PodUID, y.PodUID),
			cmp.Compare(x.Interface, y.Interface), cmp.Compare(x.Address, y.Address))
	})
	return out[:min(len(out), mostConflicts)], unread, nil
}

// conflict observes what there is to know about a note.
func (a *Agent) conflict(ctx context.Context, note spool.Conflict, boxes []sandbox, all bool, served []sandbox, claimOf claimFinder) (noted, error) {
	n := noted{Conflict: note, used: !all}
	is := func(nic string, x spool.Address) bool {
		return nic == note.Interface && keyOf(x) == keyOf(note.Address)
	}
	in := func(s sandbox) bool {
		return s.UID == note.UID && slices.ContainsFunc(s.Addresses, func(x spool.Address) bool { return is(s.Interface, x) })
	}
	n.served = slices.ContainsFunc(served, in)
	n.used = n.used || slices.ContainsFunc(boxes, in)
	n.works = slices.ContainsFunc(boxes, func(s sandbox) bool { return in(s) && s.ContainerID != note.ContainerID && !s.Gone })
	c, err := claimOf(note.Namespace, note.Pod, note.UID)
	if err != nil {
		return n, err
	}
	lives, err := a.lives(ctx)
	if err != nil {
		return n, err
	}
	n.known = c != nil || lives[note.UID] // of a claim that somebody deleted the controller makes another
	if c != nil && c.Status.Current != nil {
		list, err := nics(c)
		if err != nil { // what it names isn't known
			n.named = true
			return n, nil //nolint:nilerr // the plugin says why
		}
		n.named = slices.ContainsFunc(list, func(nic spool.NIC) bool {
			return slices.ContainsFunc(nic.Addresses, func(x spool.Address) bool { return is(nic.Interface, x) })
		})
	}
	if n.named || n.served || n.used {
		return n, nil
	}
	ip := &v1alpha1.IPAddress{}
	err = a.Live.Get(ctx, client.ObjectKey{Name: keyOf(note.Address).String()}, ip)
	n.held = err == nil && ip.HeldBy(note.UID)
	return n, client.IgnoreNotFound(err)
}
