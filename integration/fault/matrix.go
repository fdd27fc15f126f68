// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// matrix is one run of Matrix.
type matrix struct {
	Subject
	t        *testing.T
	injector string // the program
	dir      string

	before, whole []string // states: without the attachment, and with it
	calls         map[string][]string

	faults, failed, kills int // of one verb: injected, reported, survived
}

// kind is a verb that is struck, and what is looked at then.
type kind struct {
	verb  string // that is struck
	added bool   // it begins with the attachment there
	fails []int  // calls behind the one struck that fail too; nil: it is killed
	after func(m *matrix, s struck)
}

// Two sorts of fault; in a third one of the next calls fails as well, which are the
// first ones of whatever undoes what was done.
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

// Matrix strikes each call of each verb, by each kind of fault, and logs how many
// that were. The flag -strikes takes a part of them, more of the netlink requests of
// ADD, and each call that was a defect once.
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
	m := &matrix{Subject: s, t: t, injector: injector, dir: dir, calls: map[string][]string{}}
	m.survey()
	if t.Failed() {
		return
	}
	for _, verb := range []string{"ADD", "CHECK", "STATUS", "DEL", "GC"} {
		m.faults, m.failed, m.kills = 0, 0, 0
		for i, k := range kinds {
			if k.verb == verb && !m.strikeAll(i, k) {
				return
			}
		}
		_, mode, _ := strings.Cut(t.Name(), "/")
		// hack/test.sh adds these lines up.
		t.Logf("faults: %s: %s: %d calls, %d faults injected, %d times reported, %d kills survived",
			strings.ReplaceAll(mode, "_", " "), verb, len(m.calls[verb]), m.faults, m.failed, m.kills)
	}
}

// survey learns what is right, and which calls there are. What is made once and
// for all is made by then.
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

// strikeAll strikes the calls of a verb one after the other, and reports whether
// it is of use to go on.
func (m *matrix) strikeAll(number int, k kind) bool {
	m.t.Helper()
	for _, n := range picks(number, k, m.calls[k.verb]) {
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
		if !m.same("DEL after "+struck.what, m.before, m.state("DEL")) {
			return false
		}
	}
	return true
}

// spots are calls that plugins did not survive once.
var spots = []string{
	"/fd/",                             // opening CNI_NETNS: an error was taken for the pod's end
	"_tables_names",                    // an error was taken for a kernel without iptables
	"/.half-written-of-",               // a record that is half written stayed
	"DEL openat /run/multihome/.users", // an error was taken for a record that is none
	"DEL sendto message of type 29",    // RTM_DELNEIGH: the routes that it was found by had gone
	"DEL sendto message of type 33",    // RTM_DELRULE: the routes of the table were not found any more
}

func isSpot(verb, call string) bool {
	_, call, _ = strings.Cut(call, " ") // its number
	return slices.ContainsFunc(spots, func(s string) bool { return strings.Contains(verb+" "+call, s) })
}

// picks returns the numbers of those calls of a verb that a kind of fault strikes:
// other ones for each kind, evenly spread; unless only few are wanted, each request
// of ADD; and those that were a defect once.
func picks(number int, k kind, calls []string) []int {
	const few = 5
	stride := 1
	if *strikes > 0 {
		stride = max(1, len(calls) / *strikes)
	}
	var out []int
	for i, call := range calls {
		if i%stride == number%stride || number == 0 && *strikes >= few && isRequest(call) || len(k.fails) == 0 && isSpot(k.verb, call) {
			out = append(out, i+1)
		}
	}
	return out
}

// isRequest reports whether a call is a netlink request of the plugin itself.
func isRequest(call string) bool {
	return strings.Contains(call, " send") && !strings.Contains(call, " by ")
}

// afterAdd: all or nothing.
func (m *matrix) afterAdd(s struck) {
	m.t.Helper()
	if s.ended == nil {
		m.isWhole(s)
		return
	}
	m.same(fmt.Sprintf("after %s, which ended with %v", s.what, s.ended), m.before, m.state("ADD"))
}

// afterUndo: as well, or the error says that something is left.
func (m *matrix) afterUndo(s struck) {
	m.t.Helper()
	switch {
	case s.ended == nil && !s.unheard:
		m.isWhole(s)
	case s.ended == nil || !strings.Contains(s.ended.Msg, "not undone"):
		m.same(fmt.Sprintf("after %s, which ended with %v", s.what, s.ended), m.before, m.state("ADD"))
	}
}

// state is the state without what the verb rightly left.
func (m *matrix) state(after string) []string {
	m.Tidy(after)
	return m.State()
}

func (m *matrix) isWhole(s struck) {
	m.t.Helper()
	m.fine(s.what, "CHECK")
	m.same("after "+s.what, m.whole, m.State())
}

func (m *matrix) addAgain(s struck) {
	m.t.Helper()
	m.fine(s.what, "ADD")
	m.isWhole(s)
}

func (m *matrix) untouched(s struck) {
	m.t.Helper()
	m.same("after "+s.what, m.whole, m.State())
}

// delAll leaves all to DEL, which follows every strike.
func (m *matrix) delAll(struck) {}

// afterDel: a DEL that succeeds has left nothing.
func (m *matrix) afterDel(s struck) {
	m.t.Helper()
	if s.ended == nil {
		m.same("after "+s.what, m.before, m.state("DEL"))
	}
}

// afterGC: a GC that succeeds has left nothing on the node.
func (m *matrix) afterGC(s struck) {
	m.t.Helper()
	if s.ended != nil {
		m.gcAll(s)
		return
	}
	m.same("after "+s.what, ofNode(m.before), ofNode(m.state("GC")))
	m.fine("GC", "ADD")
}

// gcAll: GC alone leaves nothing on the node. What is in the pod dies with it, or
// is taken over by another ADD.
func (m *matrix) gcAll(s struck) {
	m.t.Helper()
	m.fine(s.what, "GC")
	m.same("GC after "+s.what, ofNode(m.before), ofNode(m.state("GC")))
	m.fine("GC", "ADD")
}

func ofNode(state []string) []string {
	return slices.DeleteFunc(slices.Clone(state), func(line string) bool { return !strings.HasPrefix(line, "node: ") })
}

func (m *matrix) same(what string, before, after []string) bool {
	m.t.Helper()
	d := cmp.Diff(before, after)
	if d != "" {
		m.t.Errorf("%s (-want +got):\n%s", what, d)
	}
	return d == ""
}
