// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// all is everything a namespace holds that lasts, by other programs than those
// under test. Neighbours that the kernel learned come and go.
const all = `
	echo links; ip -d link
	echo addresses; ip addr
	echo rules; ip rule; ip -6 rule
	echo routes; ip route show table all; ip -6 route show table all
	echo neighbours; ip neigh show nud permanent | sort; ip neigh show proxy | sort
	echo nftables; nft -a list ruleset
	echo sysctls; grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf 2>&1 | sort
`

// files are those that a machine keeps in its /run.
const files = `echo files; find /run | sort`

// state is the lines that say what a node and its pods hold.
type state []string

// stateOf reads all of a node and of namespaces beside it.
func stateOf(t *testing.T, l *lab.Lab, pods ...*nettest.Netns) state {
	t.Helper()
	settle(t, l.Node.Netns)
	var out string
	if err := l.Node.Run(func() (err error) { out, err = shell(all + files); return err }); err != nil {
		t.Fatal(err)
	}
	lines := prefixed("node", out)
	for _, p := range pods {
		settle(t, p)
		lines = append(lines, prefixed(p.Name(), sh(t, p, all))...)
	}
	return lines
}

func (s *stage) state(t *testing.T) state {
	t.Helper()
	return stateOf(t, s.Lab, s.Web.Netns, s.App.Netns)
}

// prefixed puts a name before every line. Link-local addresses come when the
// kernel is done with duplicate address detection, and their routes with them.
func prefixed(name, text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, " fe80:") {
			continue
		}
		lines = append(lines, name+": "+strings.TrimRight(line, "\n"))
	}
	return lines
}

// without returns the state without what is said of one namespace.
func (s state) without(name string) state {
	return slices.DeleteFunc(slices.Clone(s), func(line string) bool { return strings.HasPrefix(line, name+": ") })
}

// unlike returns the state without what a pattern finds in its lines.
func (s state) unlike(pattern *regexp.Regexp) state {
	out := slices.Clone(s)
	for i := range out {
		out[i] = pattern.ReplaceAllString(out[i], "$1")
	}
	return out
}

var numbers = regexp.MustCompile(`^(\w+: )\d+: |@if\d+| link-netnsid \d+| # handle \d+`)

// unnumbered is the state without what numbers objects in the order in which
// they were made, and without that order.
func (s state) unnumbered() state {
	out := s.unlike(numbers)
	slices.Sort(out)
	return out
}

// same fails if two states differ.
func same(t *testing.T, what string, before, after state) {
	t.Helper()
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("%s (-before +after):\n%s", what, d)
	}
}

// sh runs a script in a namespace.
func sh(t *testing.T, n *nettest.Netns, script string) string {
	t.Helper()
	var out string
	if err := n.Do(func() (err error) { out, err = shell(script); return err }); err != nil {
		t.Fatalf("in %s: %v", n.Name(), err)
	}
	return out
}

func shell(script string) (string, error) {
	cmd := exec.Command("sh", "-euc", script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", script, err, stderr.String())
	}
	return string(out), nil
}

// settle waits until each link that has a carrier also has its link-local
// address, which the kernel gives it some time later (linkwatch).
func settle(t *testing.T, n *nettest.Netns) {
	t.Helper()
	const wait = 10 * time.Millisecond
	for range 12_000 {
		if settled(t, n) {
			return
		}
		time.Sleep(wait)
	}
	t.Fatalf("%s: a link doesn't get ready:\n%s", n.Name(), sh(t, n, "ip addr"))
}

func settled(t *testing.T, n *nettest.Netns) bool {
	t.Helper()
	var links []struct {
		Flags     []string
		Operstate string
		Addrs     []struct {
			Family, Scope string
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(sh(t, n, "ip -json addr")), &links); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if slices.Contains(l.Flags, "LOOPBACK") || !slices.Contains(l.Flags, "LOWER_UP") {
			continue
		}
		local := false
		for _, a := range l.Addrs {
			local = local || a.Family == "inet6" && a.Scope == "link"
		}
		if !local || l.Operstate != "UP" {
			return false
		}
	}
	return true
}
