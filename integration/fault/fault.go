// SPDX-License-Identifier: Apache-2.0

// Package fault lets a plugin fail and die at each of its system calls in turn,
// and looks at what that leaves. What does it to a process is the program in
// inject.
package fault

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// How much of a matrix is done: all of it takes hours.
var (
	lasts   = flag.Duration("faults-for", 30*time.Second, "how long each matrix of faults goes on; 0: until all strikes are through")
	strikes = flag.Int("strikes", 0, "strike so many times in each matrix, however long that takes; 0: as -faults-for says")
	seed    = flag.Uint64("faults-seed", 0, "draw the strikes by this number; 0: by another one in each run")
)

// ErrKilled is how a verb ends that was killed.
var ErrKilled = errors.New("killed")

// KilledStatus is the exit status of inject then.
const KilledStatus = 137

// Subject is a plugin in one of its modes, with a node and perhaps a pod that it
// works on, both without what it makes.
type Subject struct {
	// Run runs a verb by way of a command. It returns the CNI error that was
	// printed, nil if the verb succeeded, and ErrKilled, or what else is neither:
	// a panic, say.
	Run func(verb string, by ...string) (*types.Error, error)
	// State is all that the node and the pod hold, line by line, in an order and
	// with names that don't depend on when it was made. Lines of the node begin
	// with "node: ".
	State func() []string
	// Tidy takes away what a verb rightly leaves, for pods share it: a failed ADD,
	// DEL, or GC.
	Tidy func(verb string)
}

// errnos are what calls fail with, in turn.
var errnos = []string{"ENOMEM", "EINTR", "EBUSY", "ENOBUFS", "EPERM"}

// strike is what happens to one run of a verb.
type strike struct {
	fail []int // calls that fail
	kill int   // the call that it is killed before
}

// struck is what became of that.
type struck struct {
	what    string // that was struck, for people
	all     bool   // all that was to be
	ended   *types.Error
	odd     error // an end that CNI doesn't know
	killed  bool
	calls   []string // all that there were
	unheard bool     // it could not say how it ended
}

// command is inject with its flags.
func (s strike) command(injector, list string) []string {
	by := []string{injector, "-list", list}
	var fail []string
	for _, n := range s.fail {
		fail = append(fail, strconv.Itoa(n)+"="+errnos[n%len(errnos)])
	}
	if len(fail) > 0 {
		by = append(by, "-fail", strings.Join(fail, ","))
	}
	if s.kill > 0 {
		by = append(by, "-kill", strconv.Itoa(s.kill))
	}
	return by
}

// run runs a verb and strikes it. An end that CNI doesn't know is a failure of
// the test, unless the error was what could not be printed.
func (m *matrix) run(verb string, s strike) struck {
	m.t.Helper()
	list := filepath.Join(m.dir, "calls")
	e, err := m.Run(verb, s.command(m.injector, list)...)
	text, readErr := os.ReadFile(list)
	if readErr != nil {
		m.t.Fatal(readErr)
	}
	out := struck{ended: e, killed: errors.Is(err, ErrKilled), calls: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}
	var what []string
	for _, line := range out.calls {
		if _, done, found := strings.Cut(line, ": "); found && done != "" {
			what = append(what, line)
			out.unheard = out.unheard || strings.Contains(line, "write pipe:") && len(what) > 1
		}
	}
	out.what = verb + " with " + strings.Join(what, ", ")
	out.all = len(what) == max(len(s.fail), 1)
	switch {
	case s.kill > 0 && len(what) > 0 && !out.killed:
		m.t.Errorf("%s lives on", out.what)
	case err != nil && !out.killed && !out.unheard:
		out.odd = err
		m.t.Errorf("%s: %v", out.what, err)
	case err == nil && e != nil:
		m.done[verb].reported++
	}
	if s.kill > 0 && len(what) > 0 {
		m.done[verb].kills++
	} else {
		m.done[verb].faults += len(what)
	}
	return out
}

// fine runs a verb that must succeed.
func (m *matrix) fine(after, verb string) {
	m.t.Helper()
	if e, err := m.Run(verb); e != nil || err != nil {
		m.t.Errorf("%s after %s: %v %v", verb, after, e, err)
	}
}
