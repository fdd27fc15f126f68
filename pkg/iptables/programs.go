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

// waitSeconds is how many seconds a program waits for the lock that those of
// the legacy flavour share on a node.
const waitSeconds = "30"

// Families is the iptables of one address family.
var Families = map[netstate.Family]struct {
	Program string
	Nft     nft.Table // the one that programs of the nft flavour call mangle
	Legacy  string    // lists the tables of the legacy flavour that a namespace has
}{
	netstate.IPv4: {"iptables", nft.Table{Family: unix.NFPROTO_IPV4, Name: netstate.MangleTable}, "/proc/thread-self/net/ip_tables_names"},
	netstate.IPv6: {"ip6tables", nft.Table{Family: unix.NFPROTO_IPV6, Name: netstate.MangleTable}, "/proc/thread-self/net/ip6_tables_names"},
}

// Restorer is the program of the same flavour that makes many changes at once.
func Restorer(program string) string { return program + "-restore" }

// FirstInPath returns the first program that is there; the error names the last
// one, which every node has that has any.
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

// Failure is that a program of iptables failed.
type Failure struct {
	program string
	status  int
	text    string // what it said
	err     error
}

// Run runs a program of iptables in the namespace of the calling thread, and
// returns the lines that it prints.
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

// Refused reports whether a program failed because it found something otherwise than
// it was told.
func Refused(err error) bool {
	var e *Failure
	return errors.As(err, &e) && e.status == 1
}
