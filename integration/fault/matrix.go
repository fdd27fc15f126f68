// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// matrix is one run of Matrix.
type matrix struct {
	Subject
	t        *testing.T
	injector string // the program
	dir      string

	before, whole []string            // states without and with the attachment
	calls         map[string][]string // of each verb
	done          map[string]*tally   // of each verb
}

// tally counts the faults of a verb.
type tally struct{ faults, reported, kills int }

var verbs = []string{"ADD", "CHECK", "STATUS", "DEL", "GC"}

// kind is a kind of strike: a verb, the faults, and the check that follows.
type kind struct {
	verb  string // the verb with the faults
	added bool   // the attachment exists before
	fails []int  // further calls that fail, as distances from the first; nil to kill the verb
	after func(m *matrix, s struck)
}

// These are values of kind.fails: one call fails, or the verb is killed. In other kinds, one
// of the next calls fails as well; these are the first calls that undo what was done.
var (
	alone  = []int{}
	killed []int
)

var kinds = []kind{
	{"ADD", false, alone, (*matrix).afterAdd},
	{"ADD", false, []int{1}, (*matrix).afterUndo},
	{"ADD", false, []int{2}, (*matrix).afterUndo},
	{"ADD", false, []int{3}, (*matrix).afterUndo},
	{"ADD", false, []int{4}, (*matrix).afterUndo},
	{"ADD", false, killed, (*matrix).addAgain},
	{"ADD", false, killed, (*matrix).delAll},
	{"ADD", false, killed, (*matrix).gcAll},
	{"CHECK", true, alone, (*matrix).untouched},
	{"CHECK", true, killed, (*matrix).untouched},
	{"STATUS", true, alone, (*matrix).untouched},
	{"DEL", true, alone, (*matrix).afterDel},
	{"DEL", true, killed, (*matrix).delAll},
	{"DEL", true, killed, (*matrix).gcAll},
	{"GC", true, alone, (*matrix).afterGC},
	{"GC", true, killed, (*matrix).gcAll},
}

// String describes a kind for a log.
func (k kind) String() string {
	switch {
	case k.fails == nil:
		return k.verb + " killed"
	case len(k.fails) > 0:
		return fmt.Sprintf("%s and undoing %d fail", k.verb, k.fails[0])
	}
	return k.verb + " fails"
}

// Matrix strikes calls of each verb with each kind of fault, as many as the flags ask for. It
// logs the strikes, and the number of faults.
func Matrix(t *testing.T, injector string, s Subject) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "faults-") // a node has a /run of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	m := &matrix{Subject: s, t: t, injector: injector, dir: dir, calls: map[string][]string{}, done: map[string]*tally{}}
	for _, verb := range verbs {
		m.done[verb] = &tally{}
	}
	m.survey()
	if t.Failed() {
		return
	}
	_, mode, _ := strings.Cut(t.Name(), "/")
	mode = strings.ReplaceAll(mode, "_", " ")
	by := cmp.Or(*seed, rand.Uint64()>>32)
	all := draw(m.calls, by)
	t.Logf("faults: %s: %d strikes there are, at least %d to be drawn, by -faults-seed %d", mode, len(all), atLeast, by) // now: this may be cut off
	struck := m.strikeAll(all)
	t.Logf("faults: %s: drew %d of %d strikes; again: -faults-seed %d -strikes %[2]d", mode, struck, len(all), by)
	t.Log("drawn:\n" + listed(all[:struck]))
	for _, verb := range verbs {
		// hack/test.sh adds these lines up.
		t.Logf("faults: %s: %s: %d calls, %d faults injected, %d times reported, %d kills survived",
			mode, verb, len(m.calls[verb]), m.done[verb].faults, m.done[verb].reported, m.done[verb].kills)
	}
}

// survey runs all verbs without faults, and keeps the right states and the calls. It also
// makes the objects that outlive an attachment, before it reads the first state.
func (m *matrix) survey() {
	m.t.Helper()
	m.fine("nothing", "ADD")
	m.fine("ADD", "DEL")
	m.before = m.state("DEL")
	for _, verb := range []string{"ADD", "CHECK", "STATUS"} {
		m.calls[verb] = m.run(verb, strike{}).calls
	}
	m.whole = m.State()
	m.calls["DEL"] = m.run("DEL", strike{}).calls
	m.fine("DEL", "ADD")
	m.calls["GC"] = m.run("GC", strike{}).calls
	m.fine("GC", "ADD")
	m.fine("GC and ADD", "DEL")
	m.same("after ADD and DEL", m.before, m.state("DEL"))
}

// strikeAll strikes in the order of the draw, up to the limit of the flags, or until a strike
// leaves a wrong state. It returns the number of strikes.
func (m *matrix) strikeAll(all []drawn) int {
	m.t.Helper()
	end := len(all)
	if *strikes > 0 {
		end = min(end, *strikes)
	}
	start := time.Now()
	for i, d := range all[:end] {
		if *strikes == 0 && *lasts > 0 && i >= atLeast && time.Since(start) > *lasts {
			return i
		}
		if !m.strike(kinds[d.kind], d.call) {
			return i + 1
		}
	}
	return end
}

// strike strikes one call, and reports whether DEL restores the state after it.
func (m *matrix) strike(k kind, n int) bool {
	m.t.Helper()
	if k.added {
		m.fine("DEL", "ADD")
	}
	s := strike{kill: n}
	if k.fails != nil {
		s = strike{fail: []int{n}}
		for _, behind := range k.fails {
			s.fail = append(s.fail, n+behind)
		}
	}
	struck := m.run(k.verb, s)
	if struck.odd == nil {
		k.after(m, struck)
	}
	m.fine(struck.what, "DEL")
	return m.same("DEL after "+struck.what, m.before, m.state("DEL"))
}

// spots lists calls that plugins did not survive in the past. They are parts of a verb with a
// call.
var spots = []string{
	"/fd/",                             // opening CNI_NETNS: an error was taken for the end of the pod
	"_tables_names",                    // an error was taken for a kernel without iptables
	"/.half-written-of-",               // a half-written record stayed
	"DEL openat /run/multihome/.users", // an error was taken for a missing record
	"DEL sendto message of type 29",    // RTM_DELNEIGH: the routes that lead to the neighbour had gone
	"DEL sendto message of type 33",    // RTM_DELRULE: the routes of the table were not found any more
}

// spotOf returns the spot that a call of a verb is, or "".
func spotOf(verb, call string) string {
	_, call, _ = strings.Cut(call, " ") // its number
	for _, s := range spots {
		if strings.Contains(verb+" "+call, s) {
			return s
		}
	}
	return ""
}

// drawn is a strike: the index of its kind, and the number of its call.
type drawn struct{ kind, call int }

// atLeast is the number of strikes to do in each matrix, however long they take.
const atLeast = 8

// draw returns all strikes in an order that depends on a seed. One at each spot comes first.
// Then the kinds take turns in a random order, so that any part from the beginning has about as
// many strikes of each kind.
func draw(calls map[string][]string, seed uint64) (all []drawn) {
	r := rand.New(rand.NewPCG(seed, 0))
	decks := make([][]drawn, len(kinds))
	at := map[string][]drawn{}
	for i, k := range kinds {
		for n, call := range calls[k.verb] {
			d := drawn{i, n + 1}
			decks[i] = append(decks[i], d)
			if spot := spotOf(k.verb, call); spot != "" && len(k.fails) == 0 {
				at[spot] = append(at[spot], d)
			}
		}
		r.Shuffle(len(decks[i]), func(a, b int) { decks[i][a], decks[i][b] = decks[i][b], decks[i][a] })
	}
	r.Shuffle(len(decks), func(a, b int) { decks[a], decks[b] = decks[b], decks[a] })
	for _, spot := range spots {
		if n := len(at[spot]); n > 0 {
			d := at[spot][r.IntN(n)]
			all = append(all, d)
			for i := range decks {
				decks[i] = slices.DeleteFunc(decks[i], func(other drawn) bool { return other == d })
			}
		}
	}
	for round := 0; ; round++ {
		before := len(all)
		for _, deck := range decks {
			if round < len(deck) {
				all = append(all, deck[round])
			}
		}
		if len(all) == before {
			return all
		}
	}
}

// listed returns a line for each kind, with the numbers of its calls.
func listed(all []drawn) string {
	var b strings.Builder
	for i, k := range kinds {
		var calls []int
		for _, d := range all {
			if d.kind == i {
				calls = append(calls, d.call)
			}
		}
		slices.Sort(calls)
		fmt.Fprintf(&b, "%s: %v\n", k, calls)
	}
	return b.String()
}

// afterAdd checks that ADD did all or nothing.
func (m *matrix) afterAdd(s struck) {
	m.t.Helper()
	if s.ended == nil {
		m.isWhole(s)
		return
	}
	m.same(fmt.Sprintf("after %s, which ended with %v", s.what, s.ended), m.before, m.state("ADD"))
}

// afterUndo checks the same, but accepts an error that says that something was not undone.
func (m *matrix) afterUndo(s struck) {
	m.t.Helper()
	switch {
	case s.ended == nil && !s.unheard:
		m.isWhole(s)
	case s.ended == nil || !strings.Contains(s.ended.Msg, "not undone"):
		m.same(fmt.Sprintf("after %s, which ended with %v", s.what, s.ended), m.before, m.state("ADD"))
	}
}

// state returns the state, without the objects that a verb leaves on purpose.
func (m *matrix) state(after string) []string {
	m.Tidy(after)
	return m.State()
}

// isWhole checks that all objects of the attachment exist.
func (m *matrix) isWhole(s struck) {
	m.t.Helper()
	m.fine(s.what, "CHECK")
	m.same("after "+s.what, m.whole, m.State())
}

// addAgain checks that another ADD makes all objects.
func (m *matrix) addAgain(s struck) {
	m.t.Helper()
	m.fine(s.what, "ADD")
	m.isWhole(s)
}

// untouched checks that the verb changed nothing.
func (m *matrix) untouched(s struck) {
	m.t.Helper()
	m.same("after "+s.what, m.whole, m.State())
}

// delAll checks nothing, because DEL follows every strike.
func (m *matrix) delAll(struck) {}

// afterDel checks that a DEL that succeeds leaves nothing.
func (m *matrix) afterDel(s struck) {
	m.t.Helper()
	if s.ended == nil {
		m.same("after "+s.what, m.before, m.state("DEL"))
	}
}

// afterGC checks that a GC that succeeds leaves nothing on the node.
func (m *matrix) afterGC(s struck) {
	m.t.Helper()
	if s.ended != nil {
		m.gcAll(s)
		return
	}
	m.same("after "+s.what, ofNode(m.before), ofNode(m.state("GC")))
	m.fine("GC", "ADD")
}

// gcAll checks that GC alone leaves nothing on the node. Objects in the pod die with it, or
// another ADD takes them over.
func (m *matrix) gcAll(s struck) {
	m.t.Helper()
	m.fine(s.what, "GC")
	m.same("GC after "+s.what, ofNode(m.before), ofNode(m.state("GC")))
	m.fine("GC", "ADD")
}

// ofNode returns the lines of the node.
func ofNode(state []string) []string {
	return slices.DeleteFunc(slices.Clone(state), func(line string) bool { return !strings.HasPrefix(line, "node: ") })
}

// same compares two states, and reports whether they are equal.
func (m *matrix) same(what string, before, after []string) bool {
	m.t.Helper()
	d := gocmp.Diff(before, after)
	if d != "" {
		m.t.Errorf("%s (-want +got):\n%s", what, d)
	}
	return d == ""
}
