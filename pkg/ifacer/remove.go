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

// mark begins the ifalias of links that ifacer made. Many attachments share a link,
// so the alias names none of them.
const mark = netstate.AliasPrefix + "ifacer"

// aliasLen is the maximum length of an ifalias: IFALIASZ without the zero.
const aliasLen = 255

// alias returns the mark, followed by the members that were down before they joined.
// They go down again when they leave the bond. Members for which the alias has no
// room stay up.
func alias(down []string) string {
	s := mark
	for _, name := range down {
		if len(s)+1+len(name) <= aliasLen {
			s += " " + name
		}
	}
	return s
}

// madeByUs reports whether ifacer made a link, and returns the members that were down
// before.
func madeByUs(l netstate.Link) (down []string, ok bool) {
	if l.Alias == netstate.Unnamed {
		return nil, true
	}
	rest, ok := strings.CutPrefix(l.Alias, mark)
	return strings.Fields(rest), ok && (rest == "" || rest[0] == ' ')
}

// observeOwned locks the links that may be deleted and reads the input of remove: the
// records of this and of all other attachments, the node's links, and the addresses and
// routes on the links that may be deleted.
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
		return err // the next DEL may be able to read it
	}
	if err != nil {
		// A damaged record may name any link. So nothing is deleted, which is harmless.
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

// remove returns the deletion of the attachment's links that ifacer made and that
// nothing uses any more, if the configuration of the attachment has removeUnused.
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
			continue // the link below is in use, then
		}
		ops = append(ops, release(v, name, down)...)
		ops = append(ops, netstate.Op{NS: host, Before: l, Why: "nothing uses it any more"})
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

// inUse reports whether a link is a port of another, or has a link, an address or a
// route on it. Links in gone are deleted before, so they don't count.
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

// release returns the operations that take the members out of a bond. Members in down
// go down, the others are set up.
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

// attachments returns the attachments that use a link.
func attachments(*plugin.Task) ([]attachment.Attachment, error) {
	list, err := records.LinkUsers.Read("")
	var out []attachment.Attachment
	for _, r := range list {
		out = append(out, plugin.AttachmentOf(r))
	}
	return out, err
}
