// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
)

// TestShow runs the command on the node of a lab.
func TestShow(t *testing.T) {
	scenario, err := lab.FindScenario("underlay")
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Up(t.Context(), "../../bin", "../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// run runs the command with its output going to a file, or to what it returns.
	run := func(to *os.File, args ...string) (stdout, stderr string, ok bool) {
		t.Helper()
		var out, errs bytes.Buffer
		err := s.Node.Run(func() error {
			c := exec.Command(self, append([]string{"show"}, args...)...)
			c.Env = append(os.Environ(), asCommand+"=1")
			c.Stdout, c.Stderr = &out, &errs
			if to != nil {
				c.Stdout = to
			}
			return c.Run()
		})
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), errs.String(), err == nil
	}

	short := s.Web.ContainerID[:8]
	for _, test := range []struct{ args, want string }{
		{"", s.Web.ContainerID[:12] + "  default/web  /run/netns/web  eth0 (macvlan-ens192)"},
		{"-o json", `"containerID": "` + s.Web.ContainerID + `"`},
		{short, "+ 10.96.0.0/12 via 10.6.168.123 dev veth0 src 10.6.168.171 "},
		{"web", "pod default/web, container " + short},
		{s.Web.NetNS + " -o json", `"text": "from all fwmark 0x10000000/0x10000000 lookup 100"`},
		{"web -o yaml", "\n  tables:\n  - id: 100\n"},
		{"web -o svg", "<title>pod default/web, container " + short},
		{"web -o dot", "digraph pod {"},
	} {
		out, errs, ok := run(nil, strings.Fields(test.args)...)
		if !ok || errs != "" || !strings.Contains(out, test.want) {
			t.Errorf("show %s: no %q in:\n%s%s", test.args, test.want, errs, out)
		}
	}

	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, test := range []struct {
		to         *os.File
		args, want string
	}{
		{terminal, "web -o svg", "multihome: show: a terminal can't show svg; redirect it to a file: multihome show web -o svg > pod.svg\n"},
		{nil, "-o svg", "multihome: show: -o svg is for one pod; name it\n"},
		{nil, "web -o gif", `"-o, --output" flag: want one of text, json, yaml, svg, dot`},
		{nil, "nobody", `multihome: show: pod "nobody": no namespace, process or container of this node is called so`},
		{nil, "web app", "accepts at most 1 arg"},
	} {
		if _, errs, ok := run(test.to, strings.Fields(test.args)...); ok || !strings.Contains(errs, test.want) {
			t.Errorf("show %s: got %q, want %q", test.args, errs, test.want)
		}
	}
}
