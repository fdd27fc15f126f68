// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// mark is the ifalias of what ifacer made. Many attachments share it, so it
// names none of them.
const mark = netstate.AliasPrefix + "ifacer"

// aliasLen is how long an ifalias may be: IFALIASZ without the zero.
const aliasLen = 255

// alias is the mark with the members that were down before: they shall be so
// again when they are free. Where it has no room for all, the others stay up.
func alias(down []string) string {
	s := mark
	for _, name := range down {
		if len(s)+1+len(name) <= aliasLen {
			s += " " + name
		}
	}
	return s
}

// made returns whether ifacer made a link, and which of its members were down.
func made(l netstate.Link) (down []string, ok bool) {
	if l.Alias == netstate.Unnamed {
		return nil, true
	}
	rest, ok := strings.CutPrefix(l.Alias, mark)
	return strings.Fields(rest), ok && (rest == "" || rest[0] == ' ')
}

// remove returns the deletion of the links that the attachment used, that ifacer
// made and that nothing uses any more, if the attachment's configuration asked
// for it.
func remove(t *plugin.Task) ([]netstate.Op, error) {
	own, err := ownRecord(t)
	if err != nil || own == nil || len(own.RemoveUnused) == 0 {
		return nil, err
	}
	if err := t.Kernel.LockLinks(own.RemoveUnused...); err != nil {
		return nil, err
	}
	users, err := kernel.LinkUsers.Read("")
	if errors.As(err, new(*fs.PathError)) {
		return nil, err // it may be there, and readable, the next time
	}
	if err != nil {
		// Who knows what it uses: nothing is removed, which is no harm.
		t.Log.Warn("DEL", "error", err)
		return nil, nil
	}
	if err := t.Kernel.Host.ReadLinks(t.Snapshot); err != nil {
		return nil, err
	}
	var ops []netstate.Op
	var gone []string
	for _, name := range slices.Backward(own.RemoveUnused) {
		l, ok := link(&t.View, name)
		down, ours := made(l)
		if !ok || !ours || usedByOther(users, t.Attachment, name) {
			continue
		}
		busy, err := inUse(t, name, gone)
		if err != nil {
			return ops, err
		}
		if busy {
			continue // and so is what it sits on
		}
		ops = append(ops, release(t, name, down)...)
		ops = append(ops, netstate.Op{NS: host, Before: l, Why: "nobody uses it any more"})
		gone = append(gone, name)
	}
	return ops, nil
}

// ownRecord returns the attachment's record, nil if it has none.
func ownRecord(t *plugin.Task) (*kernel.Record, error) {
	records, err := t.Readable(kernel.LinkUsers.Read(t.Pod()))
	for _, r := range records {
		if attachmentOf(r).Same(t.Attachment) {
			return &r, nil
		}
	}
	return nil, err
}

func attachmentOf(r kernel.Record) plugin.Attachment {
	return plugin.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}

func usedByOther(users []kernel.Record, a plugin.Attachment, name string) bool {
	return slices.ContainsFunc(users, func(r kernel.Record) bool {
		return slices.Contains(r.Links, name) && !attachmentOf(r).Same(a)
	})
}

// inUse reports whether the node itself has something on a link, beside what is
// gone by then: another link, an address, or a route.
func inUse(t *plugin.Task, name string, gone []string) (bool, error) {
	for _, upper := range netstate.All[netstate.Link](t.Snapshot, host) {
		if upper.Parent == name && !slices.Contains(gone, upper.Name) {
			return true, nil
		}
	}
	if l, _ := link(&t.View, name); l.Master != "" {
		return true, nil
	}
	carried := netstate.NewSnapshot()
	err := t.Kernel.Host.ReadOn(carried, name)
	return len(netstate.All[netstate.Addr](carried, host))+len(netstate.All[netstate.Route](carried, host)) > 0, err
}

// release lets the members of a bond go, each up or down as it was before.
func release(t *plugin.Task, bond string, down []string) (ops []netstate.Op) {
	for _, l := range netstate.All[netstate.Link](t.Snapshot, host) {
		if l.Master == bond {
			free := l
			free.Master, free.Up = "", !slices.Contains(down, l.Name)
			ops = append(ops, netstate.Op{NS: host, Before: l, After: free, Why: "its bond goes"})
		}
	}
	return ops
}

// attachments returns those that use a link.
func attachments(*plugin.Task) ([]plugin.Attachment, error) {
	records, err := kernel.LinkUsers.Read("")
	var out []plugin.Attachment
	for _, r := range records {
		out = append(out, attachmentOf(r))
	}
	return out, err
}
