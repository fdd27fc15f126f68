// SPDX-License-Identifier: Apache-2.0

package mend

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/watch"
)

const (
	// settle is how long it must be quiet before a look, and longest how long a look waits
	// at most after the first change.
	settle  = 200 * time.Millisecond
	longest = time.Second
	// apart is the least time between two looks at a pod.
	apart = 500 * time.Millisecond
	// seldom is the least time between two times that changes are read which concern no pod, and
	// between two looks at a pod for changes that may not concern it.
	seldom = time.Second
	// doubt is the longest time between looks at a pod that found nothing, while changes go on
	// that may or may not concern it.
	doubt = time.Minute
	// idle is the mean time between looks at a pod of which no change tells. Pods differ by up
	// to half of it, so that not all are looked at at once. Looks that are due within together
	// of each other are one round.
	idle     = 10 * time.Minute
	together = 10 * time.Second
	// A pod that can't be mended is looked at again after seldom, twice that and so on, up to
	// failing. One that another plugin works on is looked at again after seldom.
	failing = time.Minute
	// bare is how long nothing of a pod must have been on the node before it is made anew.
	bare = 5 * time.Second
	// An object that was mended fights times within fightIn is left alone for truce, and for
	// twice as long each time, up to longTruce. After calm without a fight it is forgotten.
	// Who flushes by hand, or by a script that waits for its traffic, is slower than that.
	fights    = 10
	fightIn   = time.Minute
	truce     = time.Minute
	longTruce = 32 * time.Minute
	calm      = 2 * longTruce
	// pace is how long a pod waits between two looks at least for each pod of the node, so that
	// ceaseless changes that concern all pods don't take a whole processor.
	pace = 10 * time.Millisecond
	// atOnce is how many pods are looked at before changes are read again.
	atOnce = 32
)

// State decides which pods are to be looked at, and when. It is pure but for the maps in it:
// all times come from its caller.
type State struct {
	pods  map[string]*pod   // by container ID
	known map[string]string // addresses and links as last seen, to tell changes from repetitions
	mends map[object]*mends
}

// pod is what the State knows of a pod.
type pod struct {
	netns int             // ID of its namespace, as events have it
	wants map[string]bool // what its plans want, as keys of changes

	first, last time.Time // of the changes that no look has followed yet; zero if there are none
	sure        bool      // one of them concerns the pod for certain
	notBefore   time.Time
	looked      time.Time
	truce       time.Time // end of a truce about an object of the pod; zero if there is none
	vain        int       // looks in doubt that found nothing, one after the other
	failed      int       // looks that failed, one after the other
	bareSince   time.Time
}

// object is something that was mended.
type object struct {
	pod string // container ID; "" for an object of the node
	ns  netstate.NS
	key netstate.Object
}

// mends are the times at which an object was mended.
type mends struct {
	words  string // the object
	at     []time.Time
	fights int       // in how many fights it was, one after the other
	until  time.Time // it is left alone
}

// NewState returns a State without pods.
func NewState() *State {
	return &State{pods: map[string]*pod{}, known: map[string]string{}, mends: map[object]*mends{}}
}

// Put adds a pod, or notes that it has another network or namespace. It is looked at soon.
func (s *State) Put(now time.Time, id string, netns int) {
	p := s.pods[id]
	if p == nil {
		p = &pod{}
		s.pods[id] = p
	}
	p.netns = netns
	p.touch(now, true)
}

// Delete forgets a pod.
func (s *State) Delete(id string) {
	delete(s.pods, id)
	maps.DeleteFunc(s.mends, func(o object, _ *mends) bool { return o.pod != "" && o.pod == id })
}

// All makes all pods be looked at: something that all depend on has changed.
func (s *State) All(now time.Time) {
	for _, p := range s.pods {
		p.touch(now, true)
	}
}

// Event notes a change, and reports whether it concerns a pod.
func (s *State) Event(now time.Time, e watch.Event) (concerns bool) {
	if e.Kind == watch.Lost {
		clear(s.known) // some are outdated
	}
	if !s.isNews(e) {
		return false
	}
	for _, p := range s.pods {
		sure, maybe := p.concerned(e)
		if sure || maybe {
			p.touch(now, sure)
			concerns = true
		}
	}
	return concerns
}

// touch notes a change that concerns the pod.
func (p *pod) touch(now time.Time, sure bool) {
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
	p.sure = p.sure || sure
}

// isNews reports whether links and addresses are otherwise than before. The kernel repeats
// itself: each router advertisement announces the same addresses again.
func (s *State) isNews(e watch.Event) bool {
	var key, is string
	switch e.Kind {
	case watch.Link:
		l := e.Link
		l.TxQueueLen = 0
		key, is = fmt.Sprint("link ", e.Netns, " ", e.Index), l.String()
	case watch.Addr:
		key = fmt.Sprint("addr ", e.Netns, " ", e.Index, " ", e.Addr.Prefix)
		is = fmt.Sprint(e.Addr.Deprecated, e.Addr.Tentative, e.Addr.Failed)
	default:
		return true
	}
	if e.Removed {
		delete(s.known, key)
		return true
	}
	if s.known[key] == is {
		return false
	}
	s.known[key] = is
	return true
}

// concerned reports whether a change concerns the pod for certain, or may.
func (p *pod) concerned(e watch.Event) (sure, maybe bool) {
	if e.Kind == watch.Lost {
		return false, true
	}
	ours := e.Proto == netstate.ProtoCoordinator || e.Proto == netstate.ProtoRoute
	if ours && !e.Removed {
		return false, false // a plugin or this program made it
	}
	if e.Netns != watch.Node {
		if e.Netns != p.netns {
			return false, false
		}
		switch e.Kind {
		case watch.Rule:
			return ours, false
		case watch.Route:
			return ours, true
		case watch.Neigh:
			return e.Removed && p.wants[insideKey(e.Dst)], false
		case watch.Table:
			return isOurs(e.Name), false
		}
		return true, false // a link or an address
	}
	switch e.Kind {
	case watch.Rule:
		return ours, false
	case watch.Route: // default routes tell which addresses are the node's
		wanted := p.wants[addrKey(e.Dst)]
		return wanted, e.Dst.Bits() == 0
	case watch.Neigh:
		return e.Removed && p.wants[addrKey(e.Dst)], false
	case watch.Link:
		return p.wants[linkKey(e.Link.Name)], false
	case watch.Addr:
		return kernel.MayBeNodes(e.Link), false
	case watch.Table:
		return isOurs(e.Name), false
	}
	return false, false
}

func isOurs(table string) bool { return table == netstate.MarkTable || table == netstate.SourceTable }

// The keys of changes: of routes and neighbours of the node, by their destinations, of
// neighbours in the pod, and of links of the node.
func addrKey(dst netip.Prefix) string   { return dst.String() }
func insideKey(dst netip.Prefix) string { return "pod " + dst.String() }
func linkKey(name string) string        { return "dev " + name }

// Wants notes what the plans of a pod want, as far as changes of it are told apart.
func (s *State) Wants(id string, plans ...netstate.Plan) {
	p := s.pods[id]
	if p == nil {
		return
	}
	p.wants = map[string]bool{}
	for _, plan := range plans {
		for _, item := range plan.Present {
			if item.NS == netstate.Pod {
				if n, ok := item.Object.(netstate.Neigh); ok {
					p.wants[insideKey(netstate.Single(n.Dst))] = true
				}
				continue
			}
			switch o := item.Object.(type) {
			case netstate.Route:
				p.wants[addrKey(o.Dst)], p.wants[linkKey(o.Dev)] = true, true
			case netstate.Neigh:
				p.wants[addrKey(netstate.Single(o.Dst))], p.wants[linkKey(o.Dev)] = true, true
			case netstate.Link:
				p.wants[linkKey(o.Name)] = true
			}
		}
	}
}

// Look is a pod to look at.
type Look struct {
	Pod string // container ID
	// Revive is set if nothing of the pod was on the node for a while: if no plugin works on
	// it, it is to be made anew.
	Revive bool
}

// Next returns the pods to look at now, at most atOnce, those that wait longest first. If
// there are none, it returns when there will be some. more is how many pods are due.
func (s *State) Next(now time.Time) (looks []Look, when time.Time, more int) {
	type due struct {
		id string
		at time.Time
	}
	var all []due
	for id, p := range s.pods {
		at := p.due(id)
		if !at.After(now) {
			all = append(all, due{id, at})
		} else if when.IsZero() || at.Before(when) {
			when = at
		}
	}
	slices.SortFunc(all, func(a, b due) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	for _, d := range all[:min(len(all), atOnce)] {
		since := s.pods[d.id].bareSince
		looks = append(looks, Look{d.id, !since.IsZero() && now.Sub(since) >= bare})
	}
	return looks, when, len(all)
}

// due returns when to look at the pod.
func (p *pod) due(id string) time.Time {
	if p.first.IsZero() {
		at := p.looked.Add(spread(id))
		if !p.truce.IsZero() && p.truce.Before(at) {
			at = p.truce
		}
		at = later(at, p.notBefore)
		if round := at.Truncate(together); round.Before(at) {
			at = round.Add(together)
		}
		return at
	}
	at := p.last.Add(settle)
	if most := p.first.Add(longest); most.Before(at) {
		at = most
	}
	at = later(at, p.notBefore)
	if !p.sure {
		at = later(at, p.looked.Add(min(seldom<<min(p.vain, 8), doubt)))
	}
	return at
}

// spread returns the time between idle looks at a pod.
func spread(id string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // a hash never fails to write
	return idle/2 + time.Duration(h.Sum32()%1000)*idle/1000
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Leave reports whether an operation isn't to be done: its object is fought about, or is among
// what this look has done for another NIC of the pod, and gone again.
func (s *State) Leave(now time.Time, id string, op netstate.Op, done []netstate.Op) bool {
	m := s.mends[objectOf(id, op)]
	return m != nil && now.Before(m.until) ||
		slices.ContainsFunc(done, func(d netstate.Op) bool { return objectOf(id, d) == objectOf(id, op) })
}

func objectOf(id string, op netstate.Op) object {
	if op.NS == netstate.Host {
		id = "" // pods share some, and the others name the pod's address
	}
	return object{id, op.NS, op.Object().Key()}
}

// Outcome says how a look at a pod ended.
type Outcome int

const (
	Fine   Outcome = iota
	Failed         // with an error
	Busy           // another plugin works on the pod
	Bare           // nothing of the pod is on the node
)

// Looked notes a look at a pod that began at the time now, and what it did. It returns the
// operations whose objects are fought about from now on. say is set if an error is to be
// told: the second one in a row, because the first may come from what is under way.
func (s *State) Looked(now time.Time, id string, out Outcome, done []netstate.Op) (fought []netstate.Op, say bool) {
	for _, op := range done {
		if s.mended(now, id, op) {
			fought = append(fought, op)
		}
	}
	p := s.pods[id]
	if p == nil {
		return fought, false
	}
	switch {
	case len(done) > 0, p.sure, p.first.IsZero():
		p.vain = 0
	default:
		p.vain++
	}
	p.first, p.last, p.sure = time.Time{}, time.Time{}, false
	p.looked, p.notBefore = now, now.Add(max(apart, time.Duration(len(s.pods))*pace))
	if !now.Before(p.truce) {
		p.truce = time.Time{}
	}
	for _, op := range fought {
		p.truce = later(p.truce, s.mends[objectOf(id, op)].until)
	}
	if out != Bare {
		p.bareSince = time.Time{}
	}
	again := func(after time.Duration) {
		p.touch(now, true)
		p.notBefore = now.Add(after)
	}
	switch out {
	case Fine:
		p.failed = 0
	case Failed:
		again(min(seldom<<min(p.failed, 10), failing))
		p.failed++
		say = p.failed == 2
	case Busy:
		again(seldom)
	case Bare:
		if p.bareSince.IsZero() {
			p.bareSince = now
		}
		again(bare)
	}
	return fought, say
}

// mended notes that an object was mended, and reports whether that began a fight.
func (s *State) mended(now time.Time, id string, op netstate.Op) bool {
	maps.DeleteFunc(s.mends, func(_ object, m *mends) bool { return now.Sub(later(m.until, m.at[len(m.at)-1])) > calm })
	o := objectOf(id, op)
	m := s.mends[o]
	if m == nil {
		m = &mends{words: string(op.NS) + ": " + netstate.Words(op.Object())}
		s.mends[o] = m
	}
	m.at = append(slices.DeleteFunc(m.at, func(t time.Time) bool { return now.Sub(t) >= fightIn }), now)
	if len(m.at) < fights {
		return false
	}
	m.until = now.Add(min(truce<<min(m.fights, 10), longTruce))
	m.fights++
	return true
}

// Fights returns the objects that are fought about, as words: those that are left alone, and
// those that were until a minute ago.
func (s *State) Fights(now time.Time) (out []string) {
	for _, m := range s.mends {
		if m.fights > 0 && now.Before(m.until.Add(fightIn)) {
			out = append(out, m.words)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
