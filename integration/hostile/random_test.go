// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

var runs = flag.Int("runs", 40, "how many runs TestRandomInput has of each plugin")

// junk are bad values for any key of a configuration.
var junk = []string{
	`null`, `true`, `-1`, `0`, `1e400`, `18446744073709551616`, `1.5`, `""`, `"\u0000"`, `"../../etc/passwd"`, `"$(reboot)"`,
	`"` + strings.Repeat("x", 1<<16) + `"`, `[]`, `{}`, `[null]`, `[[]]`, `{"":{}}`, `"10.6.0.1/33"`, `["::ffff:10.6.0.1/128"]`,
	strings.Repeat("[", 20000), strings.Repeat("[", 5000) + strings.Repeat("]", 5000), `"\ud800"`, `[{"dst":null,"gw":[]}]`,
	`[{"name":"eth0","sandbox":""},null]`, `{"interfaces":[{}],"ips":[{"address":"0.0.0.0/0","interface":0}]}`,
}

// hostileEnv are values of the environment.
func hostileEnv(t *testing.T, s *fixture.Stage) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string][]string{
		"CNI_IFNAME": {"", ".", "..", "a/b", "../eth0", "eth 0", "eth0\n", "sixteen-bytes-16", strings.Repeat("e", 4096), "eth\xff", "veth0", "lo", "*", "eth9", "a:b", ".new-1"},
		"CNI_CONTAINERID": {
			"", ".", "..", "../../etc", "a/b", "/", " ", "-x", ".locks", ".routes", strings.Repeat("c", 1<<16), "c\nd", "\xff\xfe", "other",
		},
		"CNI_ARGS":  {"x", "=", ";;;", "IgnoreUnknown=maybe", "K8S_POD_NAME=../..", strings.Repeat("a=b;", 1<<14), "\xff=\x01", "IP=10.6.0.1/99"},
		"CNI_NETNS": {"", "relative", dir, dir + "/fifo", dir + "/file", dir + "/none", "/dev/zero", "/proc/self/ns/mnt", "/proc/self/ns/net", s.Node.Path(), s.App.Path(), "/" + strings.Repeat("n/", 3000)},
		"CNI_PATH":  {"", "relative", dir},
	}
}

// mangled returns a configuration with an error in it.
func mangled(r *rand.Rand, conf []byte) []byte {
	out := slices.Clone(conf)
	switch r.IntN(5) {
	case 0: // changes some bytes
		for range 1 + r.IntN(8) {
			out[r.IntN(len(out))] = byte(r.IntN(256))
		}
		return out
	case 1:
		return out[:r.IntN(len(out))]
	case 2: // repeats a part
		at := r.IntN(len(out))
		return slices.Concat(out[:at], out[r.IntN(at+1):])
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(out, &keys); err != nil {
		panic(err) // the tests' own configuration
	}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	slices.Sort(names)
	names = append(names, "logOptions", "nodeAddresses", "interfaces", "bond", "table", "rp_filter", "policyRoutes", "runtimeConfig", "", "hostRuleTable")
	keys[names[r.IntN(len(names))]] = nil
	var b strings.Builder
	b.WriteByte('{')
	for i, name := range names {
		value, there := keys[name]
		if !there {
			continue
		}
		if value == nil {
			value = json.RawMessage(junk[r.IntN(len(junk))])
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", name, value)
	}
	b.WriteByte('}')
	return []byte(b.String())
}

// TestRandomInput runs each plugin with random input: every run ends in time, with
// success or with one CNI error and exit status 1, and leaves node and pods as they
// were. The seed is fixed, so that a failure can be repeated.
func TestRandomInput(t *testing.T) {
	verbs := []string{"ADD", "ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION", "add", ""}
	for _, plugin := range []string{"coordinator", "veth", "route", "ifacer"} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.AppNIC.Add(t) // this pod must not change
			good := map[string]fixture.Call{
				"coordinator": s.WebNIC.Call("ADD"),
				"veth":        s.WebNIC.Call("ADD", fixture.Keys{"type": "veth", "serviceCIDR": nil, "service_cidr": []string{"10.96.0.0/12", "fd00:10:96::/108"}}),
				"route":       s.WebNIC.Route("ADD"),
				"ifacer":      s.WebNIC.Call("ADD", fixture.Keys{"type": "ifacer", "serviceCIDR": nil, "interfaces": []string{"ens192"}}),
			}[plugin]
			good.Plugin = plugin
			for _, verb := range []string{"ADD", "DEL"} { // makes everything that pods share
				good.Verb = verb
				good.Fine(t)
			}
			r := rand.New(rand.NewPCG(7, uint64(len(plugin))))
			env := hostileEnv(t, s)
			names := make([]string, 0, len(env))
			for name := range env {
				names = append(names, name)
			}
			slices.Sort(names)
			before := s.State(t)
			var since []string
			ends := map[string]int{}
			for i := range *runs {
				c := good
				c.Verb = verbs[r.IntN(len(verbs))]
				what := c.Verb
				if r.IntN(3) == 0 {
					name := names[r.IntN(len(names))]
					value := env[name][r.IntN(len(env[name]))]
					c = c.With(name, value)
					what += fmt.Sprintf(" %s=%.40q", name, value)
				} else {
					c.Stdin = mangled(r, c.Stdin)
					what += fmt.Sprintf(" <%.300q", c.Stdin)
				}
				since = append(since, what)
				out := c.Run(t)
				if strings.Contains(out.Stderr, "goroutine") {
					t.Fatalf("%s: %s", what, out.Stderr)
				}
				changed := out.State.Success() && (c.Verb == "ADD" || c.Verb == "GC")
				if !out.State.Success() {
					if _, err := out.AsError(); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					ends["refused"]++
				} else {
					ends["succeeded"]++
				}
				if !changed && i%20 != 19 {
					continue
				}
				after := s.State(t)
				if changed {
					c.Verb = "DEL"
					c.Run(t)
					after = s.State(t).Without("node")
					before = before.Without("node")
				}
				fixture.Same(t, "after\n"+strings.Join(since, "\n"), fixture.NoRun(before).Unnumbered(), fixture.NoRun(after).Unnumbered())
				if t.Failed() {
					return
				}
				before, since = after, nil
				if changed {
					before = s.State(t)
				}
			}
			s.AppNIC.Check(t)
			t.Logf("%d runs: %v", *runs, ends)
		})
	}
}
