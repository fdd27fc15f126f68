// SPDX-License-Identifier: Apache-2.0

//go:build uml

// Package uml tests the plugins on a kernel with bonding, 8021q and dummy, which the
// machine's own kernel may lack: `make test-uml` runs it on a user-mode Linux kernel,
// with the binaries in bin.
package uml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/testbed"
)

// node is a machine with NICs in one switch.
type node struct {
	*testbed.Machine
	t      *testing.T
	sw     *testbed.Netns
	plugin string
	under  []string // a command that runs the plugin
}

// newNode makes a node with these NICs, up, without addresses.
func newNode(t *testing.T, nics ...string) *node {
	t.Helper()
	plugin, err := filepath.Abs("../../bin/ifacer")
	if err == nil {
		_, err = os.Stat(plugin)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, plugin: plugin}
	if n.Machine, err = testbed.NewMachine("node"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if n.sw, err = testbed.NewNetns("switch"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.sw.Close() })
	if err := n.sw.AddBridge("br0"); err != nil {
		t.Fatal(err)
	}
	for _, nic := range nics {
		if err := testbed.ConnectVeth(n.sw, nic, n.Netns, nic); err != nil {
			t.Fatal(err)
		}
		if err := n.sw.SetMaster(nic, "br0"); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// two makes a node with the NICs of the documents.
func two(t *testing.T) *node { t.Helper(); return newNode(t, "ens192", "ens224") }

// sh runs a script on the node, which must succeed, and returns its output.
func (n *node) sh(script string) string {
	n.t.Helper()
	var out []byte
	err := n.Run(func() (err error) {
		out, err = exec.Command("sh", "-euc", script).CombinedOutput()
		return err
	})
	if err != nil {
		n.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// call is one run of the plugin.
type call struct {
	verb, id string
	conf     string // the plugin's own keys, an object in JSON
	version  string
	more     string // other keys, in JSON
}

// outcome is the result of a run.
type outcome struct {
	stdout string
	code   int          // the exit status
	err    *types.Error // nil: success
}

// errNoAnswer means that a plugin printed neither a result nor an error, as CNI
// demands.
var errNoAnswer = errors.New("neither success nor a CNI error")

// start runs the plugin on the node. The plugin doesn't use the pod's namespace.
func (n *node) start(c call) (outcome, error) {
	if c.version == "" {
		c.version = "1.1.0"
	}
	conf := fmt.Sprintf(`"cniVersion": %q, "type": "ifacer"`, c.version)
	if !strings.Contains(c.conf, `"removeUnused": true, "name"`) { // of another network
		conf += `, "name": "net"`
	}
	if c.more != "" {
		conf += ", " + c.more
	}
	if c.conf != "" {
		conf += ", " + strings.TrimPrefix(c.conf, "{")
	} else {
		conf += "}"
	}
	argv := append(slices.Clone(n.under), n.plugin)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + c.verb, "CNI_CONTAINERID=" + c.id, "CNI_NETNS=/run/netns/pod", "CNI_IFNAME=eth0", "CNI_PATH=/"}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("{"+conf), &stdout, &stderr
	err := n.Run(cmd.Run)
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		return outcome{}, err
	}
	out := outcome{stdout: stdout.String(), code: cmd.ProcessState.ExitCode()}
	if err != nil {
		out.err = &types.Error{}
		if json.Unmarshal(stdout.Bytes(), out.err) != nil || out.err.Code == 0 {
			return out, fmt.Errorf("%s: %w: %s%s", c.verb, errNoAnswer, stdout.String(), stderr.String())
		}
	}
	return out, nil
}

// fine runs a call that must succeed.
func (n *node) fine(c call) string {
	n.t.Helper()
	out, err := n.start(c)
	if err != nil {
		n.t.Fatal(err)
	}
	if out.err != nil {
		n.t.Fatalf("%s %s: %v", c.verb, c.conf, out.err)
	}
	return out.stdout
}

// fails runs a call that must fail with these words.
func (n *node) fails(c call, want string) {
	n.t.Helper()
	out, err := n.start(c)
	if err != nil {
		n.t.Fatal(err)
	}
	if out.err == nil || !strings.Contains(out.err.Msg, want) {
		n.t.Errorf("%s %s: %v, want an error with %q", c.verb, c.conf, out.err, want)
	}
}

// refused runs a call that must fail with these words and change nothing.
func (n *node) refused(c call, want string) {
	n.t.Helper()
	before := n.state()
	n.fails(c, want)
	n.same("refused: "+want, before)
}

// add runs ADD of pod "a", addRefused runs one that must fail, and check runs its
// CHECK.
func (n *node) add(conf string) string {
	n.t.Helper()
	return n.fine(call{verb: "ADD", id: "a", conf: conf})
}

func (n *node) addRefused(conf, want string) {
	n.t.Helper()
	n.refused(call{verb: "ADD", id: "a", conf: conf}, want)
}

const prev = `"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "x0"}], "ips": [{"address": "10.1.0.2/16"}], "dns": {}}`

func (n *node) check(conf string) {
	n.t.Helper()
	n.fine(call{verb: "CHECK", id: "a", conf: conf, more: prev})
}

// everything prints all state of a node that can change, in any order.
const everything = `
	ip -d link; ip addr; ip route show table all; ip -6 route show table all; ip rule
	find /run -type f`

// volatile matches text that changes by itself, or counters. A bond's members negotiate
// their state all the time.
var volatile = regexp.MustCompile(`^\d+: |@if\d+| (link-netnsid|expires|hoplimit) \S+|NO-CARRIER,|,LOWER_UP|,M-DOWN| (active_slave|promiscuity|state|qdisc|mii_status|link_failure_count|bond_slave state|group default|mode) \S+| tentative| linkdown| \w+_timer +\S+| ad_(actor|partner)_oper_port_state\S* \S+`)

// state returns the state of the node, line by line.
func (n *node) state() []string {
	n.t.Helper()
	n.settle()
	var lines []string
	for line := range strings.Lines(n.sh(everything)) {
		lines = append(lines, volatile.ReplaceAllString(strings.TrimRight(line, " \n"), ""))
	}
	// Locks stay, see pkg/kernel/locks.go.
	lines = slices.DeleteFunc(lines, func(l string) bool {
		return strings.Contains(l, "/.locks/") || strings.HasPrefix(l, "multicast ") || strings.Contains(l, "valid_lft")
	})
	slices.Sort(lines)
	return lines
}

// settle waits until all links that are up and have a carrier have their link-local
// addresses, with their routes.
func (n *node) settle() {
	n.t.Helper()
	for range 1500 {
		var links []struct {
			Flags []string
			Addrs []struct{ Scope, Family string } `json:"addr_info"`
		}
		if err := json.Unmarshal([]byte(n.sh("ip -j addr")), &links); err != nil {
			n.t.Fatal(err)
		}
		waiting := false
		for _, l := range links {
			local := slices.ContainsFunc(l.Addrs, func(a struct{ Scope, Family string }) bool { return a.Family == "inet6" && a.Scope != "global" })
			up := slices.Contains(l.Flags, "LOWER_UP") && !slices.Contains(l.Flags, "NOARP") && !slices.Contains(l.Flags, "SLAVE") && !slices.Contains(l.Flags, "LOOPBACK")
			waiting = waiting || up && !local
		}
		if !waiting {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// same fails the test if the node isn't as it was.
func (n *node) same(what string, before []string) {
	n.t.Helper()
	if d := cmp.Diff(before, n.state()); d != "" {
		n.t.Errorf("%s (-before +after):\n%s", what, d)
	}
}

// shows fails the test if the output of a command lacks a line that matches.
func (n *node) shows(command, pattern string) {
	n.t.Helper()
	out := n.sh(command)
	if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
		n.t.Errorf("%s: nothing matches %s:\n%s", command, pattern, out)
	}
}

// lacks fails the test if there is a link of that name.
func (n *node) lacks(link string) {
	n.t.Helper()
	if out := n.sh("ip -o link show"); strings.Contains(out, ": "+link+":") || strings.Contains(out, ": "+link+"@") {
		n.t.Errorf("there is a link %s:\n%s", link, out)
	}
}

// eventually is like shows, but waits for the line.
func (n *node) eventually(command, pattern string) {
	n.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	for range 6000 {
		if re.MatchString(n.sh(command)) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.shows(command, pattern)
}
