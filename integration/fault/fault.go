// SPDX-License-Identifier: Apache-2.0

// Package fault tests how plugins survive faults: it makes each system call of each verb fail
// in turn, or kills the plugin before it, and checks what the plugin leaves behind. The program
// inject, in the directory of that name, injects the faults.
//
//	fault.Matrix(t, "bin/test/inject", fault.Subject{Run: run, State: state, Tidy: tidy})
//
// Beware: a whole matrix takes hours. The flags -faults-for and -strikes limit it, and
// -faults-seed repeats the strikes of an earlier run.
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

// These flags limit the strikes, because all of a matrix takes hours.
var (
	lasts   = flag.Duration("faults-for", 10*time.Second, "time limit of each matrix of faults; 0 for all strikes")
	strikes = flag.Int("strikes", 0, "number of strikes in each matrix, without a time limit; 0 for the limit of -faults-for")
	seed    = flag.Uint64("faults-seed", 0, "seed of the order of the strikes; 0 for a random one")
)

// ErrKilled is the error of a verb that was killed.
var ErrKilled = errors.New("killed")

// KilledStatus is the exit status of inject if the command was killed.
const KilledStatus = 137

// Subject is a plugin in one of its modes, with a node and perhaps a pod to work on. At the
// start, node and pod have no objects of the plugin.
type Subject struct {
	// Run runs a verb through a command, such as inject with its flags. It returns the CNI
	// error that the plugin printed, nil if the verb succeeded. The second error is
	// ErrKilled, or describes an end that is no CNI error, such as a panic.
	Run func(verb string, by ...string) (*types.Error, error)
	// State returns all objects of node and pod as lines. Order and names must not depend
	// on the run. Lines of the node begin with "node: ".
	State func() []string
	// Tidy removes objects that a verb leaves on purpose, because pods share them. The verb
	// is ADD, after a failure, DEL or GC.
	Tidy func(verb string)
}

// errnos lists the errors of failing calls. They take turns.
var errnos = []string{"ENOMEM", "EINTR", "EBUSY", "ENOBUFS", "EPERM"}

// strike is the faults in one run of a verb.
type strike struct {
	fail []int // numbers of calls that fail
	kill int   // number of the call before which the verb is killed; 0 for none
}

// struck is the result of a strike.
type struck struct {
	what    string // the verb and its faults, for people
	all     bool   // all faults of the strike were injected
	ended   *types.Error
	odd     error // an end that is no CNI error
	killed  bool
	calls   []string // all calls of the verb
	unheard bool     // the plugin could not print its result
}

// command returns inject with the flags of a strike.
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

// run runs a verb with the faults of a strike. An end that is no CNI error fails the test,
// unless a fault kept the plugin from printing its error.
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
	out.unheard = out.unheard && err != nil // Go writes again after EINTR
	out.what = verb + " with " + strings.Join(what, ", ")
	out.all = len(what) == max(len(s.fail), 1)
	switch {
	case s.kill > 0 && len(what) > 0 && !out.killed:
		m.t.Errorf("%s was not killed", out.what)
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

// fine runs a verb without faults. The verb must succeed.
func (m *matrix) fine(after, verb string) {
	m.t.Helper()
	if e, err := m.Run(verb); e != nil || err != nil {
		m.t.Errorf("%s after %s: %v %v", verb, after, e, err)
	}
}
