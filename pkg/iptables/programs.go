// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// waitSeconds is the number of seconds that a program waits for the lock which all programs
// of the legacy flavour on a node share.
const waitSeconds = "30"

// Families holds for each address family the name of the program, and the places of its
// table mangle.
var Families = map[netstate.Family]struct {
	Program string
	Nft     nft.Table // table mangle of the nft flavour
	Legacy  string    // the file that lists a namespace's tables of the legacy flavour
}{
	netstate.IPv4: {"iptables", nft.Table{Family: unix.NFPROTO_IPV4, Name: netstate.MangleTable}, "/proc/thread-self/net/ip_tables_names"},
	netstate.IPv6: {"ip6tables", nft.Table{Family: unix.NFPROTO_IPV6, Name: netstate.MangleTable}, "/proc/thread-self/net/ip6_tables_names"},
}

// Restorer returns the name of the program of the same flavour that makes many changes at
// once.
func Restorer(program string) string { return program + "-restore" }

// FirstInPath returns the first of the programs that is in PATH. If none is, the error names
// the last one: pass the most common name last.
func FirstInPath(names ...string) (name string, err error) {
	for _, name = range names {
		if err = InPath(name); err == nil {
			return name, nil
		}
	}
	return "", err
}

// InPath returns an error if a program is not in PATH.
func InPath(name string) error {
	_, err := exec.LookPath(name)
	return err
}

// Failure is the error of a program of iptables that failed.
type Failure struct {
	program string
	status  int
	text    string // its output on stderr, in one line
	err     error
}

// Run runs a program of iptables in the namespace of the calling thread with stdin as its
// input, and returns the lines of its output. If the program fails, the error is a
// [*Failure].
func Run(stdin, program string, args ...string) ([]string, error) {
	cmd := exec.Command(program, append([]string{"-w", waitSeconds}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		text := strings.Join(strings.FieldsFunc(stderr.String(), func(r rune) bool { return r == '\n' }), " ")
		return nil, &Failure{program, cmd.ProcessState.ExitCode(), text, err}
	}
	return strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n"), nil
}

// Refused reports whether a program ended with status 1: a chain or rule that the arguments
// name isn't there, or the program can't show the table.
func Refused(err error) bool {
	var e *Failure
	return errors.As(err, &e) && e.status == 1
}
