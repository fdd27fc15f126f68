// SPDX-License-Identifier: Apache-2.0

package show_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/netstate"
)

// Where `make build cni-plugins` puts the plugins.
var cniPath = []string{"../../bin", "../../bin/cni"}

// TestStates reads a pod of each scenario that this kernel can, and holds what it
// finds to testdata/NAME.txtar, which everything else here is made from.
func TestStates(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		t.Run(scenario.Name, func(t *testing.T) {
			if scenario.Possible() != nil {
				return // hack/test.sh has another kernel do it
			}
			s, err := scenario.Up(t.Context(), cniPath...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			golden(t, "testdata/"+scenario.Name+".txtar", found(t, s.Lab, "the pod web of scenario "+scenario.Name))
		})
	}
}

// TestFurtherStates does the same with what no scenario has: pods with three NICs, two
// of them in one LAN.
func TestFurtherStates(t *testing.T) {
	for name, c := range map[string]struct{ about, chained string }{
		"older-veth": {"three NICs, by coordinator under its older name", `{"type": "veth", "service_cidr": ["10.96.0.0/12", "fd00:10:96::/108"]}`},
		"host-link": {
			"three NICs, linked to the node by a macvlan of the node's",
			`{"type": "coordinator", "hostLink": "macvlan", "serviceCIDR": ["10.96.0.0/12"], "hijackCIDR": ["192.0.2.0/24"], "overlayPodCIDR": ["fd00:244::/32"]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := lab.New(lab.Ens192(), lab.Ens224())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			pod, err := l.NewPod("web")
			if err != nil {
				t.Fatal(err)
			}
			for i, lan := range []*lab.LAN{l.LANs[0], l.LANs[0], l.LANs[1]} {
				network, err := l.Network(lan.Conflist(c.chained), cniPath...)
				if err != nil {
					t.Fatal(err)
				}
				if err := network.Add(t.Context(), pod, []string{"eth0", "net1", "net2"}[i]); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, "testdata/"+name+".txtar", found(t, l, c.about))
		})
	}
}

// found is what is found of the pod web of a lab, as a file.
func found(t *testing.T, l *lab.Lab, about string) string {
	t.Helper()
	var pod inspect.Pod
	var state inspect.State
	if err := l.Node.Run(func() (err error) {
		if pod, err = inspect.Find("web", inspect.CacheDirs); err == nil {
			state, err = pod.Read()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return written(t, about, pod, state)
}

// written is a state as a file, with names in place of what is another one each time:
// MACs, the end of a veth that ptp made, what was learnt.
func written(t *testing.T, about string, pod inspect.Pod, state inspect.State) string {
	t.Helper()
	var configs []txtar.File
	for i, a := range pod.Attachments {
		configs = append(configs, txtar.File{Name: "config/" + a.IfName, Data: a.Config})
		pod.Attachments[i].Config, pod.Attachments[i].Result = nil, nil
	}
	for i := range pod.Records {
		pod.Records[i].Netns.Inode = 0
	}
	rename := append([]string{" tentative", ""}, renamed(state)...)
	var kept []string
	for _, l := range state.Lines() {
		if !strings.Contains(l, ": neigh ") || strings.HasSuffix(l, "permanent") {
			kept = append(kept, l)
		}
	}
	replacer := strings.NewReplacer(rename...)
	for i, l := range kept {
		kept[i] = replacer.Replace(l)
	}
	slices.Sort(kept) // after their new names
	a := &txtar.Archive{Comment: []byte(about + "\n"), Files: append(
		[]txtar.File{{Name: "pod", Data: indented(t, pod)}, {Name: "parents", Data: indented(t, state.Parents)}},
		append(configs, txtar.File{Name: "state", Data: []byte(strings.Join(kept, "\n") + "\n")})...)}
	return replacer.Replace(string(txtar.Format(a)))
}

// renamed are names and what stands for them.
func renamed(state inspect.State) (out []string) {
	known := map[netstate.MAC]bool{{}: true}
	number := func(m netstate.MAC) {
		if !known[m] {
			out = append(out, m.String(), fmt.Sprintf("02:00:00:00:00:%02x", len(known)))
			known[m] = true
		}
	}
	for _, ns := range []netstate.NS{netstate.Host, netstate.Pod} {
		links := netstate.All[netstate.Link](state.Snapshot, ns)
		for i, l := range links {
			if random.MatchString(l.Name) {
				links[i].Name = "veth5e6f7a8b" // another pod's
				if l.Peer.Name != "" {
					links[i].Name = "veth1a2b3c4d"
				}
				out = append(out, l.Name, links[i].Name)
			}
		}
		slices.SortFunc(links, func(a, b netstate.Link) int { return cmp.Compare(a.Name, b.Name) })
		for _, l := range links {
			number(l.MAC)
		}
	}
	for _, n := range netstate.All[netstate.Neigh](state.Snapshot, netstate.Host) {
		if n.Permanent {
			number(n.MAC) // another pod's
		}
	}
	return out
}

// random is a name that the project's plugins make by ip.RandomVethName.
var random = regexp.MustCompile("^veth[0-9a-f]{8}$")

func indented(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// read returns what is in testdata/NAME.txtar.
func read(t *testing.T, name string) (pod inspect.Pod, state inspect.State) {
	t.Helper()
	a, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	state.Snapshot = netstate.NewSnapshot()
	for _, f := range a.Files {
		ifname, isConfig := strings.CutPrefix(f.Name, "config/")
		switch {
		case isConfig:
			for i, a := range pod.Attachments {
				if a.IfName == ifname {
					pod.Attachments[i].Config = f.Data
				}
			}
		case f.Name == "pod":
			err = json.Unmarshal(f.Data, &pod)
		case f.Name == "parents":
			err = json.Unmarshal(f.Data, &state.Parents)
		case f.Name == "state":
			for line := range strings.Lines(string(f.Data)) {
				ns, o, e := netstate.Parse(strings.TrimSpace(line))
				if e != nil {
					t.Fatal(e)
				}
				state.Put(ns, o)
			}
		default:
			t.Fatalf("what is %q?", f.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return pod, state
}

// golden holds a text to a file; -update rewrites that.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-golden +got), `go test -update` rewrites it:\n%s", file, d)
	}
}
