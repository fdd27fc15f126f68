// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
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

// madeByUs returns whether ifacer made a link, and which of its members were down.
func madeByUs(l netstate.Link) (down []string, ok bool) {
	if l.Alias == netstate.Unnamed {
		return nil, true
	}
	rest, ok := strings.CutPrefix(l.Alias, mark)
	return strings.Fields(rest), ok && (rest == "" || rest[0] == ' ')
}

// observeOwned reads what remove goes by, under the locks of all links concerned: the
// attachment's record, those of all that use links, the node's links, and what those
// carry that are to go.
func observeOwned(t *plugin.Task) error {
	var err error
	if t.Own, err = ownRecord(t); err != nil || t.Own == nil || len(t.Own.RemoveUnused) == 0 {
		return err
	}
	if err := t.Kernel.LockLinks(t.Own.RemoveUnused...); err != nil {
		return err
	}
	t.Others, err = records.LinkUsers.Read("")
	if errors.As(err, new(*fs.PathError)) {
		return err // it may be there, and readable, the next time
	}
	if err != nil {
		// Who knows what it uses: nothing is removed, which is no harm.
		t.Log.Warn("DEL", "error", err)
		t.Own.RemoveUnused = nil
		return nil
	}
	if err := t.Kernel.Host.ReadLinks(t.Snapshot); err != nil {
		return err
	}
	for _, name := range t.Own.RemoveUnused {
		if _, ok := link(&t.View, name); !ok || usedByOther(&t.View, name) {
			continue
		}
		if err := t.Kernel.Host.ReadCarried(t.Snapshot, name); err != nil {
			return err
		}
	}
	return nil
}

// remove returns the deletion of the links that the attachment used, that ifacer
// made and that nothing uses any more, if the attachment's configuration asked
// for it.
func remove(v *plugin.View) []netstate.Op {
	if v.Own == nil {
		return nil
	}
	var ops []netstate.Op
	var gone []string
	for _, name := range slices.Backward(v.Own.RemoveUnused) {
		l, ok := link(v, name)
		down, ours := madeByUs(l)
		if !ok || !ours || usedByOther(v, name) || inUse(v, name, gone) {
			continue // and so is what it sits on
		}
		ops = append(ops, release(v, name, down)...)
		ops = append(ops, netstate.Op{NS: host, Before: l, Why: "nobody uses it any more"})
		gone = append(gone, name)
	}
	return ops
}

// ownRecord returns the attachment's record, nil if it has none.
func ownRecord(t *plugin.Task) (*records.Record, error) {
	list, err := t.Readable(records.LinkUsers.Read(t.Pod()))
	for _, r := range list {
		if plugin.AttachmentOf(r).Same(t.Attachment) {
			return &r, nil
		}
	}
	return nil, err
}

func usedByOther(v *plugin.View, name string) bool {
	return slices.ContainsFunc(v.Others, func(r records.Record) bool {
		return slices.Contains(r.Links, name) && !plugin.AttachmentOf(r).Same(v.Attachment)
	})
}

// inUse reports whether the node itself has something on a link, beside what is
// gone by then: another link, an address, or a route.
func inUse(v *plugin.View, name string, gone []string) bool {
	if l, _ := link(v, name); l.Master != "" {
		return true
	}
	return slices.ContainsFunc(netstate.All[netstate.Link](v.Snapshot, host), func(upper netstate.Link) bool {
		return upper.Parent == name && !slices.Contains(gone, upper.Name)
	}) || slices.ContainsFunc(netstate.All[netstate.Addr](v.Snapshot, host), func(a netstate.Addr) bool {
		return a.Dev == name
	}) || slices.ContainsFunc(netstate.All[netstate.Route](v.Snapshot, host), func(r netstate.Route) bool {
		return r.Dev == name
	})
}

// release lets the members of a bond go, each up or down as it was before.
func release(v *plugin.View, bond string, down []string) (ops []netstate.Op) {
	for _, l := range netstate.All[netstate.Link](v.Snapshot, host) {
		if l.Master == bond {
			free := l
			free.Master, free.Up = "", !slices.Contains(down, l.Name)
			ops = append(ops, netstate.Op{NS: host, Before: l, After: free, Why: "its bond goes"})
		}
	}
	return ops
}

// attachments returns those that use a link.
func attachments(*plugin.Task) ([]attachment.Attachment, error) {
	list, err := records.LinkUsers.Read("")
	var out []attachment.Attachment
	for _, r := range list {
		out = append(out, plugin.AttachmentOf(r))
	}
	return out, err
}
