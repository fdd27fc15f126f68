// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
	"github.com/multihome/multihome/pkg/plugin"
)

// chained is coordinator as a conflist has it.
const chained = `{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"]}`

// pluginTime bounds a plugin; one that takes longer hangs, on a slow machine, too.
const pluginTime = 5 * time.Minute

// stage is a scene whose pods have their NIC by macvlan alone. What comes behind
// macvlan in the chain is run by the test, with what libcni would hand it, so
// that it can be hindered, repeated, and given what libcni would not.
type stage struct {
	*lab.Scene
	web, app *attachment
}

// attachment is a NIC of a pod, as macvlan left it.
type attachment struct {
	*lab.Pod
	nic  string
	node *lab.Lab
	prev *types100.Result
}

func newStage(t *testing.T, lan lab.LAN) *stage {
	t.Helper()
	s := &stage{Scene: newScene(t, lan)}
	s.web, s.app = s.attachment(s.Web), s.attachment(s.App)
	return s
}

// newScene makes a scene with a chain of macvlan and whatever is chained to it.
func newScene(t *testing.T, lan lab.LAN, chained ...string) *lab.Scene {
	t.Helper()
	l := newLab(t, lan)
	s, err := l.NewScene(t.Context(), newNetwork(t, l, chained...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newLab(t *testing.T, lans ...lab.LAN) *lab.Lab {
	t.Helper()
	l, err := lab.New(lans...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// newNetwork is a network in the first LAN.
func newNetwork(t *testing.T, l *lab.Lab, chained ...string) *lab.Network {
	t.Helper()
	return networkIn(t, l, l.LANs[0], chained...)
}

func networkIn(t *testing.T, l *lab.Lab, lan *lab.LAN, chained ...string) *lab.Network {
	t.Helper()
	n, err := l.Network(lan.Conflist(chained...), cniPath()...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// only is the LAN with one of its address families: 0 is IPv4, 1 is IPv6.
func only(i int) lab.LAN { return family(i, lab.Ens192())[0] }

func (s *stage) attachment(p *lab.Pod) *attachment {
	return &attachment{Pod: p, nic: lab.NIC, node: s.Lab, prev: p.Results[lab.NIC]}
}

// host is the name that the node's end of the pod's veth has.
func (a *attachment) host() string { return plugin.HostEnd(a.ContainerID) }

// keys are those of a configuration.
type keys map[string]any

// call is one run of coordinator, or of another plugin.
type call struct {
	plugin string // "": coordinator
	on     *lab.Lab
	verb   string
	env    map[string]string // CNI_*, beyond the verb and the path
	stdin  []byte
	under  []string // a command to run it by
	full   bool     // standard output has no room
}

// call is a run for the attachment. Keys are put over those that the network
// has; a nil one is left out.
func (a *attachment) call(verb string, over ...keys) call {
	return call{
		on: a.node, verb: verb, stdin: a.config(over...),
		env: map[string]string{"CNI_CONTAINERID": a.ContainerID, "CNI_NETNS": a.Path(), "CNI_IFNAME": a.nic},
	}
}

// with returns the call with another value in its environment.
func (c call) with(name, value string) call {
	c.env = maps.Clone(c.env)
	c.env[name] = value
	return c
}

func (a *attachment) config(over ...keys) []byte {
	conf := keys{
		"cniVersion": "1.1.0", "name": "lan", "type": "coordinator",
		"serviceCIDR": []string{"10.96.0.0/12", "fd00:10:96::/108"},
		"prevResult":  a.prev,
	}
	for _, k := range over {
		for key, value := range k {
			conf[key] = value
			if value == nil {
				delete(conf, key)
			}
		}
	}
	b, err := json.Marshal(conf)
	if err != nil {
		panic(err) // the tests' own values
	}
	return b
}

// outcome is what a plugin left of itself.
type outcome struct {
	stdout, stderr string
	state          *os.ProcessState
}

// run runs the plugin on the node.
func (c call) run(t *testing.T) outcome {
	t.Helper()
	out, err := c.start(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", c.verb, err)
	}
	return out
}

func (c call) start(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	argv := slices.Concat(c.under, []string{filepath.Join(plugins, cmp.Or(c.plugin, "coordinator"))})
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_PATH=" + strings.Join(cniPath(), ":"), "CNI_COMMAND=" + c.verb}
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.stdin), &stdout, &stderr
	if c.full {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			return outcome{}, err
		}
		defer full.Close()
		cmd.Stdout = full
	}
	err := c.on.Node.Run(cmd.Run)
	if ctx.Err() != nil {
		return outcome{}, fmt.Errorf("it hangs: %w", context.Cause(ctx))
	}
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		return outcome{}, err
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState}, nil
}

// fine runs a call that must succeed, and returns what it printed.
func (c call) fine(t *testing.T) string {
	t.Helper()
	out := c.run(t)
	if !out.state.Success() || out.stderr != "" {
		t.Fatalf("%s: %v: %s%s", c.verb, out.state, out.stdout, out.stderr)
	}
	return out.stdout
}

// fails runs a call that must end with a CNI error, and returns that.
func (c call) fails(t *testing.T) *types.Error {
	t.Helper()
	out := c.run(t)
	e, err := out.asError()
	if err != nil {
		t.Fatalf("%s: %v", c.verb, err)
	}
	return e
}

// asError is the error as CNI wants one to be: on standard output, with exit
// status 1, and nothing beside it.
func (o outcome) asError() (*types.Error, error) {
	if code := o.state.ExitCode(); code != 1 || o.stderr != "" {
		return nil, fmt.Errorf("%v, want exit status 1 and nothing on standard error: %s%s", o.state, o.stdout, o.stderr)
	}
	var e types.Error
	d := json.NewDecoder(bytes.NewReader([]byte(o.stdout)))
	if err := d.Decode(&e); err != nil || e.Code == 0 || e.Msg == "" || d.More() {
		return nil, fmt.Errorf("standard output is not one CNI error: %q", o.stdout)
	}
	return &e, nil
}

// add runs ADD, which must succeed, and keeps the result for the scene.
func (a *attachment) add(t *testing.T, over ...keys) *types100.Result {
	t.Helper()
	return a.keep(t, a.call("ADD", over...).fine(t))
}

func (a *attachment) keep(t *testing.T, printed string) *types100.Result {
	t.Helper()
	r := new(types100.Result)
	if err := json.Unmarshal([]byte(printed), r); err != nil {
		t.Fatal(err)
	}
	a.Results[a.nic] = r
	return r
}

func (a *attachment) check(t *testing.T) {
	t.Helper()
	a.call("CHECK").fine(t)
}

func (a *attachment) del(t *testing.T) {
	t.Helper()
	a.call("DEL").fine(t)
}

// holds runs every check of a scene. A packet that is sent before the kernel has
// seen that a new link has a carrier is lost, and a datagram is sent once.
func holds(t *testing.T, s *lab.Scene) {
	t.Helper()
	for _, n := range []*nettest.Netns{s.Node.Netns, s.Web.Netns, s.App.Netns} {
		settle(t, n)
	}
	results := lab.RunAll(slices.Concat(s.Checks("tcp"), s.Checks("udp")))
	if len(results) == 0 {
		t.Error("the scene has no checks")
	}
	for _, r := range results {
		if r.Err != nil {
			t.Errorf("%s, %s: %v; %s", r.Name, r.Network, r.Err, r.Evidence)
		}
	}
}
