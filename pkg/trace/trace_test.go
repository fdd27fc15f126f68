// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/testbed"
	"github.com/multihome/multihome/pkg/trace"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// cniPath is where `make build cni-plugins` puts the plugins.
var cniPath = []string{"../../bin", "../../bin/cni"}

// up brings up a scenario until the test ends.
func up(t *testing.T, name string) *lab.Scene {
	t.Helper()
	scenario, err := lab.FindScenario(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Up(t.Context(), cniPath...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// cases are what is traced in a scenario, by pod web, as on a command line.
var cases = map[string][]string{
	"underlay": {
		"--to 10.6.168.123",
		"--to fd00:6::123",
		"--to 10.96.0.10:80",
		"--to [fd00:10:96::10]:80",
		"--to 10.6.0.50",
		"--to 192.0.2.10",
		"--to 2001:db8:2::10",
		"--to 10.6.168.172",
		"--to 10.6.168.171",
		"--to 10.6.0.50 --mark 0x10000000",
		"--to 10.6.0.50 --from 10.6.0.99",
		"--to 10.6.168.123 --in veth0",
		"--to 192.0.2.10 --in veth0",
		"--to 2001:db8:2::10 --in veth0",
		"--to 10.6.0.50 --in eth0",
		"--to 10.6.168.123 --in eth0",
	},
	"multi-nic": {
		"--to 10.6.168.123 --from 10.7.168.171",
		"--to 10.7.168.123",
		"--to 10.7.0.50",
		"--to 192.0.2.10 --from 10.7.168.171",
		"--to 10.96.0.10:80 --from 10.7.168.171",
		"--to 10.7.0.50 --in net1",
		"--to 10.7.0.50 --in eth0",
		"--to 192.0.2.10 --in net1",
		"--to fd00:7::50 --in net1",
		"--to 192.0.2.10 --in veth0 --from 10.7.168.171",
	},
	"overlay": {
		"--to 10.6.168.123",
		"--to 10.96.0.10:80",
		"--to 10.6.0.50",
		"--to 192.0.2.10",
		"--to fd00:6::50",
		"--to 10.6.0.50 --in net1",
		"--to 192.0.2.10 --in eth0",
		"--to 192.0.2.10 --in net1",
	},
	"host-macvlan": {
		"--to 10.6.168.123",
		"--to fd00:6::123",
		"--to 10.6.0.50",
		"--to 10.96.0.10:80",
		"--to 10.6.168.123 --in eth0",
	},
	"vlan": {
		"--to 10.5.168.123",
		"--to 172.100.0.50",
		"--to 192.0.2.10 --in veth0",
	},
	"bond": {
		"--to 10.5.168.123",
		"--to 172.200.0.50",
		"--to 10.5.168.123 --in veth0",
	},
}

// macs are the kernel's choice, and the names of the node's ends by other plugins are
// random.
var (
	macs  = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)
	names = regexp.MustCompile(`\bveth[0-9a-f]{8}\b`)
)

// TestGoldens traces in every scenario that this kernel can do; the user-mode Linux
// one can all.
func TestGoldens(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		if scenario.Possible() != nil {
			continue
		}
		t.Run(scenario.Name, func(t *testing.T) {
			if len(cases[scenario.Name]) == 0 {
				t.Fatal("nothing to trace")
			}
			s, err := scenario.Up(t.Context(), cniPath...)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var text, asJSON bytes.Buffer
			for i, line := range cases[scenario.Name] {
				got := follow(t, s.Node.Do, s.Web, line)
				fmt.Fprintf(&text, "$ multihome trace web %s\n", line)
				if err := report.Write(&text, "text", got); err != nil {
					t.Fatal(err)
				}
				text.WriteString("\n")
				if i == 0 {
					if err := report.Write(&asJSON, "json", got); err != nil {
						t.Fatal(err)
					}
				}
			}
			golden(t, scenario.Name+"-"+backend(t)+".txt", text.Bytes())
			golden(t, scenario.Name+"-"+backend(t)+".json", asJSON.Bytes())
		})
	}
}

// backend is what holds reply marks on this kernel: one without nf_tables for both
// families has no check of sources, either.
func backend(t *testing.T) string {
	t.Helper()
	n, err := testbed.NewNetns("empty")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	name := "iptables"
	err = n.Do(func() error {
		if exec.Command("nft", "add table inet t; add chain inet t c; add rule inet t c fib saddr . iif oif 0 drop").Run() == nil {
			name = "nftables"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// follow traces what a command line says.
func follow(t *testing.T, inNode func(func() error) error, pod *lab.Pod, line string) *trace.Trace {
	t.Helper()
	var got *trace.Trace
	err := inNode(func() error {
		k, err := kernel.Look(pod.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		got, err = trace.Follow(k, query(t, pod.Name(), line))
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if err := got.Err(); err != nil {
		t.Errorf("%s: %v: %v", line, err, got.Disagreements)
	}
	return got
}

func query(t *testing.T, pod, line string) trace.Query {
	t.Helper()
	q := trace.Query{Pod: pod}
	words := strings.Fields(line)
	for i := 0; i < len(words); i += 2 {
		value := words[i+1]
		switch words[i] {
		case "--to":
			to, err := trace.ParseDestination(value)
			if err != nil {
				t.Fatal(err)
			}
			q.To = to
		case "--from":
			q.From = netip.MustParseAddr(value)
		case "--mark":
			if _, err := fmt.Sscan(value, &q.Mark); err != nil {
				t.Fatal(err)
			}
		case "--in":
			q.In = value
		}
	}
	return q
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got = names.ReplaceAll(macs.ReplaceAll(got, []byte("MAC")), []byte("vethRANDOM"))
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestPage holds the page to the goldens that it quotes.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/trace.md")
	if err != nil {
		t.Fatal(err)
	}
	var goldens []byte
	for _, name := range []string{"underlay-nftables.txt", "broken.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		goldens = append(goldens, text...)
	}
	quotes := regexp.MustCompile("(?s)```\n(\\$ .*?)```").FindAllSubmatch(macs.ReplaceAll(page, []byte("MAC")), -1)
	if len(quotes) == 0 {
		t.Error("no golden on the page")
	}
	for _, q := range quotes {
		if !bytes.Contains(goldens, q[1]) {
			t.Errorf("what the page says was printed otherwise by now:\n%s", q[1])
		}
	}
}
