// SPDX-License-Identifier: Apache-2.0

package mend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/repair"
	"github.com/multihome/multihome/pkg/watch"
)

// Options are the options of Run. Functions that are nil do nothing.
type Options struct {
	CacheDirs []string // libcni's caches
	ConfDir   string   // the node's configurations
	Defaults  string   // the node's file of defaults, which may switch mending off

	// Busy reports whether a plugin works for a container. Without it, a pod of which nothing
	// is on the node is made anew after a while, even if a DEL is under way.
	Busy func(containerID string) (bool, error)

	Did    func(p Pod, a attachment.Attachment, op netstate.Op) // an operation was done
	Fight  func(p Pod, object string)                           // another program takes the object away again and again: it is left alone for a while
	Fights func(objects []string)                               // these are fought about now; none: all is over
	Failed func(p Pod, err error)                               // a pod can't be mended; the zero Pod: the node
	Behind func(pods int)                                       // so many pods wait for a look
}

// Pod is a pod as its runtime calls it.
type Pod struct {
	ContainerID          string
	Namespace, Name, UID string // in Kubernetes; may be empty
}

func (p Pod) String() string {
	if p.Name == "" {
		return p.ContainerID
	}
	return p.Namespace + "/" + p.Name
}

const (
	tick  = time.Minute     // between two looks at files of which no event tells
	again = 5 * time.Second // the same after an error
)

// Run mends pods until ctx ends. It returns an error if it can't listen.
func Run(ctx context.Context, o Options) error {
	w, err := watch.Open()
	if err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	defer w.Close()
	stop := context.AfterFunc(ctx, w.Wake)
	defer stop()
	m := newMender(o, w)
	m.refresh(time.Now())
	for ctx.Err() == nil {
		now := time.Now()
		looks, when, more := m.state.Next(now)
		if m.behind != more {
			m.behind = more
			m.o.Behind(more)
		}
		if fights := m.state.Fights(now); !slices.Equal(fights, m.fights) {
			m.fights = fights
			m.o.Fights(fights)
		}
		if len(looks) > 0 && m.on {
			m.look(looks)
			m.looked = true
		} else {
			if next := m.nextRefresh(); !m.on || when.IsZero() || when.After(next) {
				when = next
			}
			m.wait(ctx, when)
		}
		if err := m.read(time.Now()); err != nil {
			return fmt.Errorf("mend: %w", err)
		}
	}
	return nil
}

// mender is a running Run.
type mender struct {
	o        Options
	w        *watch.Watch
	state    *State
	on       bool // mending isn't switched off
	behind   int
	fights   []string
	nextRead time.Time            // events are read then at the earliest
	looked   bool                 // at pods, since events were read: some may be of what it did
	ticked   time.Time            // last refresh
	stamps   map[string]string    // of the files that count, by path
	files    map[string]cacheFile // of the caches
	pods     map[string]Pod
	said     string // the last error about the node
}

// cacheFile is a file of a cache.
type cacheFile struct {
	stamp string
	pod   string // container ID; "" if the file is of no plugin of ours
}

func newMender(o Options, w *watch.Watch) *mender {
	if o.Did == nil {
		o.Did = func(Pod, attachment.Attachment, netstate.Op) {}
	}
	if o.Fight == nil {
		o.Fight = func(Pod, string) {}
	}
	if o.Fights == nil {
		o.Fights = func([]string) {}
	}
	if o.Failed == nil {
		o.Failed = func(Pod, error) {}
	}
	if o.Behind == nil {
		o.Behind = func(int) {}
	}
	if o.Busy == nil {
		o.Busy = func(string) (bool, error) { return false, nil }
	}
	return &mender{o: o, w: w, state: NewState(), stamps: map[string]string{}, files: map[string]cacheFile{}, pods: map[string]Pod{}}
}

// nextRefresh returns when the node's files are looked at, if no event tells of them earlier.
func (m *mender) nextRefresh() time.Time {
	next := m.ticked.Add(tick)
	if next.Before(m.nextRead) {
		return m.nextRead
	}
	return next
}

// wait waits for events until a time. It doesn't wait for events before nextRead, so that a
// flood of them wakes nobody.
func (m *mender) wait(ctx context.Context, until time.Time) {
	pause := time.Until(m.nextRead)
	if pause > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(pause, max(time.Until(until), 0))):
		}
	}
	if left := time.Until(until); left > 0 && !time.Now().Before(m.nextRead) {
		m.w.Wait(left)
	}
}

// read reads events, if it is time to.
func (m *mender) read(now time.Time) error {
	if now.Before(m.nextRead) {
		return nil
	}
	events, err := m.w.Read()
	if err != nil {
		return err
	}
	files, concerns := !now.Before(m.ticked.Add(tick)), false
	for _, e := range events {
		if e.Kind == watch.File {
			files = true
			continue
		}
		concerns = m.state.Event(now, e) || concerns
	}
	switch {
	case concerns:
		m.nextRead = now.Add(settle)
	case len(events) > 0 && !m.looked:
		m.nextRead = now.Add(seldom)
	}
	m.looked = false
	if files {
		m.refresh(now)
	}
	return nil
}

// refresh looks at the node's files.
func (m *mender) refresh(now time.Time) {
	m.ticked = now
	var errs []error
	for _, dir := range m.dirs() {
		if err := m.w.Dir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	changed, err := m.configurations()
	errs = append(errs, err, m.caches(now))
	if changed {
		m.state.All(now)
	}
	err = errors.Join(errs...)
	if err != nil {
		m.ticked = now.Add(again - tick)
	}
	m.tell(err)
}

// tell tells an error about the node, once.
func (m *mender) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != m.said && err != nil {
		m.o.Failed(Pod{}, err)
	}
	m.said = text
}

// dirs returns the directories to watch.
func (m *mender) dirs() []string {
	dirs := []string{m.o.ConfDir, filepath.Dir(m.o.Defaults)}
	for _, d := range m.o.CacheDirs {
		dirs = append(dirs, inspect.ResultsOf(d))
	}
	return slices.DeleteFunc(dirs, func(d string) bool { return d == "" || d == "." })
}

// configurations reports whether the node's configurations or its defaults are others than
// before, and notes whether mending is switched off.
func (m *mender) configurations() (changed bool, err error) {
	stamps := map[string]string{}
	if m.o.ConfDir != "" {
		entries, err := os.ReadDir(m.o.ConfDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, e := range entries {
			path := filepath.Join(m.o.ConfDir, e.Name())
			stamps[path] = stamp(path)
		}
	}
	was := m.on
	m.on = true
	if m.o.Defaults != "" {
		stamps[m.o.Defaults] = stamp(m.o.Defaults)
		var keys map[string]json.RawMessage
		if keys, err = nodeconf.Read(m.o.Defaults); err == nil {
			m.on, err = nodeconf.Mend(keys)
		}
		if err != nil { // plugins go on without the file, if they can; so does this
			m.on = was || len(m.stamps) == 0
		}
	}
	changed = m.on && !was || !maps.Equal(stamps, m.stamps)
	m.stamps = stamps
	return changed, err
}

// stamp changes when a file does.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "none"
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}

// caches notes which pods are there.
func (m *mender) caches(now time.Time) error {
	var errs []error
	there := map[string]bool{}
	for _, dir := range m.o.CacheDirs {
		dir = inspect.ResultsOf(dir)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // an unread directory isn't an empty one
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			there[path] = true
			if is := stamp(path); m.files[path].stamp != is {
				errs = append(errs, m.cached(now, path, is))
			}
		}
	}
	for path, f := range m.files {
		if there[path] {
			continue
		}
		delete(m.files, path)
		if f.pod != "" && !m.has(f.pod) {
			m.state.Delete(f.pod)
			delete(m.pods, f.pod)
		}
	}
	return errors.Join(errs...)
}

// has reports whether a file of the caches is of a pod.
func (m *mender) has(pod string) bool {
	for _, f := range m.files {
		if f.pod == pod {
			return true
		}
	}
	return false
}

// cached reads a new or changed file of a cache. After an error it is read again.
func (m *mender) cached(now time.Time, path, is string) error {
	c, err := inspect.ReadCached(path)
	if errors.As(err, new(*fs.PathError)) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		return err
	}
	former := m.files[path].pod
	m.files[path] = cacheFile{stamp: is}
	if err != nil {
		return nil //nolint:nilerr // it is being written, or repair says what is wrong with it
	}
	list, err := c.List()
	if err != nil || list == nil {
		return nil //nolint:nilerr // the same
	}
	ours := false
	for _, p := range list.Plugins {
		of, known := catalog.Plugins[p.Network.Type]
		ours = ours || known && !of.NodeOnly
	}
	if !ours {
		return nil
	}
	id, err := m.w.NetnsID(c.Netns)
	if errors.Is(err, netns.ErrNone) {
		return nil // the pod is dead
	}
	if err != nil {
		is, id = "", unlistened // looked at from time to time
	}
	m.files[path] = cacheFile{is, c.ContainerID}
	if err != nil && former == c.ContainerID {
		return err
	}
	m.pods[c.ContainerID] = Pod{c.ContainerID, c.Arg("K8S_POD_NAMESPACE"), c.Arg("K8S_POD_NAME"), c.Arg("K8S_POD_UID")}
	m.state.Put(now, c.ContainerID, id)
	return err
}

// unlistened is the number of no namespace.
const unlistened = -2

// look looks at pods.
func (m *mender) look(looks []Look) {
	var living, bare []string
	for _, l := range looks {
		if !l.Revive {
			living = append(living, l.Pod)
			continue
		}
		if busy, err := m.o.Busy(l.Pod); busy || err != nil {
			m.state.Looked(time.Now(), l.Pod, Busy, nil)
			continue
		}
		bare = append(bare, l.Pod)
	}
	m.repair(living, true)
	m.repair(bare, false)
}

// repair repairs pods. With living, those of which nothing is on the node are left.
func (m *mender) repair(ids []string, living bool) {
	if len(ids) == 0 {
		return
	}
	now := time.Now() // changes from now on may not have been seen
	done := map[string][]netstate.Op{}
	plans := map[string][]netstate.Plan{}
	left := slices.Clone(ids)
	looked := func(id string, err error) {
		left = slices.DeleteFunc(left, func(other string) bool { return other == id })
		if len(plans[id]) > 0 {
			m.state.Wants(id, plans[id]...)
		}
		fought, say := m.state.Looked(now, id, outcome(err), done[id])
		for _, op := range fought {
			m.o.Fight(m.pods[id], string(op.NS)+": "+netstate.Words(op.Object()))
		}
		if say {
			m.o.Failed(m.pods[id], err)
		}
	}
	m.tell(repair.Pods(repair.Options{
		CacheDirs: m.o.CacheDirs, ConfDir: m.o.ConfDir, Gentle: true, Living: living,
		Leave: func(a attachment.Attachment, op netstate.Op) bool {
			return m.state.Leave(now, a.ContainerID, op, done[a.ContainerID])
		},
		Did: func(a attachment.Attachment, op netstate.Op) {
			done[a.ContainerID] = append(done[a.ContainerID], op)
			m.o.Did(m.pods[a.ContainerID], a, op)
		},
		Planned: func(a attachment.Attachment, plan netstate.Plan) {
			plans[a.ContainerID] = append(plans[a.ContainerID], plan)
		},
	}, ids, looked))
	for _, id := range slices.Clone(left) {
		looked(id, nil) // its results are gone from the caches
	}
}

func outcome(err error) Outcome {
	switch {
	case err == nil:
		return Fine
	case errors.Is(err, plugin.ErrBare):
		return Bare
	case errors.Is(err, netns.ErrBusy):
		return Busy
	}
	return Failed
}
