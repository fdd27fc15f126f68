// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// flavoured returns a directory for $PATH, in which iptables and ip6tables, and their
// restore programs, are of one flavour.
func flavoured(t *testing.T, flavour string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, does := range []string{"", "-restore"} {
			program, err := exec.LookPath(name + "-" + flavour + does)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(program, filepath.Join(dir, name+does)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// ourChains returns the lines of table mangle that are ours.
func ourChains(t *testing.T, n *testbed.Netns) fixture.State {
	t.Helper()
	return slices.DeleteFunc(fixture.Mangle(t, n), func(line string) bool { return !strings.Contains(line, "MULTIHOME") })
}

// TestMarksInIptables sends the traffic of TestTraffic. In the control, without a jump
// to our chains, exactly the traffic that needs the marks fails.
func TestMarksInIptables(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		for name, lan := range lans {
			t.Run(flavour+" "+name, func(t *testing.T) {
				t.Parallel()
				s, path := fixture.NewStage(t, lan), flavoured(t, flavour)
				s.AppNIC.AddBy(t, path, fixture.InIptables)
				s.WebNIC.AddBy(t, path, fixture.InIptables)
				fixture.Holds(t, s.Scene)
				if rules := fixture.Sh(t, s.Web.Netns, "nft list tables inet"); strings.Contains(rules, "multihome") {
					t.Errorf("a table of nftables is there as well: %s", rules)
				}
				for i, name := range []string{"iptables-", "ip6tables-"} {
					want := hasFamily(lan, i)
					if name := name + flavour; strings.Contains(fixture.Sh(t, s.Web.Netns, name+" -t mangle -S"), "MULTIHOME") != want {
						t.Errorf("%s has our chains: %t, want %t", name, !want, want)
					}
				}

				before := s.MarkState(t)
				for range 2 {
					s.WebNIC.AddBy(t, path, fixture.InIptables)
					fixture.Same(t, "ADD again", before, s.MarkState(t))
				}
				s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fine(t)

				fixture.Sh(t, s.Web.Netns, "for p in iptables ip6tables; do for f in nft legacy; do for c in PREROUTING OUTPUT; do $p-$f -t mangle -F $c; done; done; done")
				for _, r := range lab.RunAll(slices.Concat(s.Checks("tcp"), s.Checks("udp"))) {
					if nodePort := strings.Contains(r.Name, "client to NodePort"); nodePort != (r.Err != nil) {
						t.Errorf("without a jump: %s, %s: %v; %s", r.Name, r.Network, r.Err, r.Evidence)
					}
				}
			})
		}
	}
}

// hasFamily reports whether the LAN has the family of the i-th program.
func hasFamily(lan lab.LAN, i int) bool {
	return slices.ContainsFunc(lan.Node, func(p netip.Prefix) bool { return p.Addr().Is6() == (i == 1) })
}

// TestMarkOfApplicationInIptables is TestMarkOfApplication for replies to connections
// that entered by veth0: they carry our bit beside the application's.
func TestMarkOfApplicationInIptables(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		t.Run(flavour, func(t *testing.T) {
			s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, flavour)
			s.AppNIC.AddBy(t, path, fixture.InIptables)
			s.WebNIC.AddBy(t, path, fixture.InIptables)
			for i, mark := range []uint32{0x1, 0x08000000, 0x20000000, ^uint32(ourBit)} {
				served := uint16(9000 + i)
				server, err := s.Web.Serve(served, testbed.Socket{Mark: mark})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				for f, web := range s.Web.Addrs(lab.NIC) {
					lan := s.LANs[0]
					nodePort := netip.AddrPortFrom(lan.Node[f].Addr(), 30000+served)
					err := s.Node.SetServices(testbed.Service{
						ClusterIP: nodePort, NodePort: nodePort, Endpoint: netip.AddrPortFrom(web.Addr(), served),
					})
					if err != nil {
						t.Fatal(err)
					}
					for _, network := range []string{"tcp", "udp"} {
						marked{"in replies to a NodePort's client", s.Web.Netns, "veth0", mark | ourBit}.leaves(t, func(port uint16) error {
							return ask(lan.Client, network, nodePort, testbed.Socket{Port: port})
						})
						marked{"in replies to the LAN", s.Web.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
							return ask(lan.Client, network, netip.AddrPortFrom(web.Addr(), served), testbed.Socket{Port: port})
						})
					}
				}
			}
		})
	}
}

// TestRulesetIsWhatIptablesSaves compares the ruleset that we print with the one that
// is there.
func TestRulesetIsWhatIptablesSaves(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.WebNIC.AddBy(t, flavoured(t, flavour), fixture.InIptables)
			for _, program := range []string{"iptables", "ip6tables"} {
				mark := netstate.Mark{Backend: netstate.Iptables, Dev: "veth0", Bits: ourBit}
				want := fixture.Prefixed(program, mark.Ruleset())
				got := fixture.Prefixed(program, fixture.Sh(t, s.Web.Netns, program+"-"+flavour+"-save -t mangle"))
				for _, lines := range []*[]string{&want, &got} {
					*lines = slices.DeleteFunc(*lines, func(l string) bool { return !strings.Contains(l, "MULTIHOME") })
					slices.Sort(*lines)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("Ruleset and %s-save (-want +got):\n%s", program, d)
				}
			}
		})
	}
}

// TestCheckNamesWhatIsDamagedInIptables is TestCheckNamesWhatIsDamaged for our
// chains.
func TestCheckNamesWhatIsDamagedInIptables(t *testing.T) {
	const (
		entering = "MULTIHOME-PREROUTING -i veth0 -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x10000000/0x10000000"
		reply    = " -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0x10000000 --ctmask 0x10000000"
	)
	for _, flavour := range fixture.Flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, flavour)
			s.AppNIC.AddBy(t, path, fixture.InIptables)
			s.WebNIC.AddBy(t, path, fixture.InIptables)
			before := s.MarkState(t)
			for _, program := range []string{"iptables", "ip6tables"} {
				for _, damage := range []struct{ by, name string }{
					{"-D " + entering, "no -A " + entering},
					{"-D MULTIHOME-PREROUTING" + reply, "no -A MULTIHOME-PREROUTING" + reply},
					{"-D MULTIHOME-OUTPUT" + reply, "no -A MULTIHOME-OUTPUT" + reply},
					{"-D PREROUTING -j MULTIHOME-PREROUTING", "no -A PREROUTING -j MULTIHOME-PREROUTING"},
					{"-D OUTPUT -j MULTIHOME-OUTPUT", "no -A OUTPUT -j MULTIHOME-OUTPUT"},
					{"-F MULTIHOME-PREROUTING", "no -A " + entering + ", no -A MULTIHOME-PREROUTING" + reply},
					{"-F OUTPUT; @ -F MULTIHOME-OUTPUT; @ -X MULTIHOME-OUTPUT", "no -N MULTIHOME-OUTPUT"},
					{"-A MULTIHOME-OUTPUT -j ACCEPT", "also -A MULTIHOME-OUTPUT -j ACCEPT"},
					{"-R MULTIHOME-PREROUTING 1 " + strings.Replace(entering, "MULTIHOME-PREROUTING -i veth0", "-i eth0", 1), "also -A MULTIHOME-PREROUTING -i eth0"},
					{"-F; @ -X", program + " table mangle iifname veth0 mark 0x10000000 is missing"},
				} {
					tool := program + "-" + flavour + " -t mangle "
					fixture.Sh(t, s.Web.Netns, tool+strings.ReplaceAll(damage.by, "@ ", tool))
					e := s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fails(t)
					if !strings.Contains(e.Msg, damage.name) || !strings.Contains(e.Msg, "pod: "+program+" ") {
						t.Errorf("after %s %s, CHECK does not name %q: %s", program, damage.by, damage.name, e.Msg)
					}
					s.WebNIC.AddBy(t, path, fixture.InIptables)
					s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fine(t)
					fixture.Same(t, "ADD that repairs "+damage.by, before.Unnumbered(), s.MarkState(t).Unnumbered())
				}
			}
			fixture.Holds(t, s.Scene)
		})
	}
}

// TestDelOfMarksInIptables checks that nothing of ours stays, and everything of others
// does, whichever flavour they use. DEL doesn't know markBackend.
func TestDelOfMarksInIptables(t *testing.T) {
	for _, ours := range fixture.Flavours {
		for _, theirs := range fixture.Flavours {
			t.Run("ours by "+ours+", theirs by "+theirs, func(t *testing.T) {
				t.Parallel()
				s := fixture.NewStage(t, lab.Ens192())
				for _, name := range []string{"iptables", "ip6tables"} {
					fixture.Sh(t, s.Web.Netns, strings.ReplaceAll(`
						@ -N MULTIHOME-MESH
						@ -A MULTIHOME-MESH -p tcp --dport 15006 -j MARK --set-xmark 0x539/0xfff
						@ -A PREROUTING -j MULTIHOME-MESH
						@ -A OUTPUT -m mark --mark 0x539 -j ACCEPT
						@ -P FORWARD DROP`, "@ ", name+"-"+theirs+" -t mangle "))
				}
				before := fixture.Mangle(t, s.Web.Netns)
				s.WebNIC.Call("DEL").Fine(t)
				fixture.Same(t, "DEL without ADD", before, fixture.Mangle(t, s.Web.Netns))
				for range 2 {
					s.WebNIC.AddBy(t, flavoured(t, ours), fixture.InIptables)
					if slices.Equal(before, fixture.Mangle(t, s.Web.Netns)) {
						t.Error("ADD made no chains")
					}
					s.WebNIC.Call("DEL").Fine(t)
					fixture.Same(t, "DEL", before, fixture.Mangle(t, s.Web.Netns))
				}
			})
		}
	}
}

// TestProgramsOfIptables counts the programs that each verb runs for both families. For
// each family ADD runs one program that makes all chains, and one that prints them. No
// program is needed to see that there are no chains, or that nf_tables holds the marks.
func TestProgramsOfIptables(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	for _, tt := range []struct {
		path                   string
		over                   fixture.Keys
		add, again, check, del int
	}{
		{os.Getenv("PATH"), fixture.Keys{}, 0, 0, 0, 0},
		{flavoured(t, "nft"), fixture.InIptables, 4, 2, 2, 0},
		{flavoured(t, "legacy"), fixture.InIptables, 4, 2, 2, 4},
	} {
		for _, step := range []struct {
			verb string
			want int
		}{{"ADD", tt.add}, {"ADD", tt.again}, {"CHECK", tt.check}, {"DEL", tt.del}} {
			log := filepath.Join(t.TempDir(), "strace")
			c := s.WebNIC.Call(step.verb, tt.over).With("PATH", tt.path)
			if step.verb == "DEL" {
				c = s.WebNIC.Call("DEL")
			}
			c.Under = []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=execve"}
			out := c.Fine(t)
			if step.verb == "ADD" {
				s.WebNIC.Keep(t, out)
			}
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if ran := strings.Count(string(b), "execve(") - 1; ran != step.want { // the plugin itself
				t.Errorf("%s with %v ran %d programs, want %d:\n%s", step.verb, tt.over, ran, step.want, b)
			}
		}
	}
}

// TestMarksBesideForeignRules adds rules to table mangle that iptables-nft can't print,
// so that it lists nothing of the table, or of a chain. ADD, CHECK and DEL still work,
// and leave these rules alone.
func TestMarksBesideForeignRules(t *testing.T) {
	for _, chain := range []string{"FORWARD", "PREROUTING", "OUTPUT"} {
		t.Run(chain, func(t *testing.T) {
			t.Parallel()
			s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, "nft")
			for program, family := range map[string]string{"iptables-nft": "ip", "ip6tables-nft": "ip6"} {
				fixture.Sh(t, s.Web.Netns, fmt.Sprintf(`%s -t mangle -A FORWARD -p tcp -j ACCEPT
					for c in PREROUTING OUTPUT; do %s -t mangle -A $c -p udp --dport 9 -j ACCEPT; done
					nft add rule %s mangle %s fib saddr type local counter`, program, program, family, chain))
			}
			rules := func() fixture.State {
				return fixture.Prefixed("web", fixture.Passing.ReplaceAllString(fixture.Sh(t, s.Web.Netns, "nft list table ip mangle; nft list table ip6 mangle"), ""))
			}
			before := rules()
			for range 2 {
				s.WebNIC.AddBy(t, path, fixture.InIptables)
				s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fine(t)
				for _, family := range []string{"ip", "ip6"} {
					for _, jump := range []string{"MULTIHOME-PREROUTING", "MULTIHOME-OUTPUT"} {
						if n := strings.Count(fixture.Sh(t, s.Web.Netns, "nft list table "+family+" mangle"), "jump "+jump); n != 1 {
							t.Errorf("%s: %d rules jump to %s", family, n, jump)
						}
					}
				}
				fixture.Sh(t, s.Web.Netns, "iptables-nft -t mangle -F MULTIHOME-OUTPUT")
				if e := s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fails(t); !strings.Contains(e.Msg, "no -A MULTIHOME-OUTPUT -m conntrack") {
					t.Errorf("CHECK: %s", e.Msg)
				}
			}
			s.WebNIC.Call("DEL").Fine(t)
			fixture.Same(t, "DEL", before, rules())
		})
	}
}

// TestMarksOfOddLinksInIptables uses first NICs whose names have a meaning for
// iptables-restore, or for iptables.
func TestMarksOfOddLinksInIptables(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, flavour)
			for _, nic := range []string{`"q"\`, `"`, "-x", "!", "#n", "naïve-ß", "net.100", "eth+"} {
				if err := s.Network.Add(t.Context(), s.Web, nic); err != nil {
					t.Fatal(err)
				}
				call := func(verb string) fixture.Call {
					return s.WebNIC.Call(verb, fixture.InIptables, fixture.Keys{"hostLink": "macvlan", "podDefaultCNINIC": nic, "prevResult": s.Web.Results[nic]}).
						With("CNI_IFNAME", nic).With("PATH", path)
				}
				if nic == "eth+" {
					if e := call("ADD").Fails(t); !strings.Contains(e.Msg, nic) || !strings.Contains(e.Msg, "nftables") {
						t.Errorf("ADD of %s: %s", nic, e.Msg)
					}
				} else {
					call("ADD").Fine(t)
					call("CHECK").Fine(t)
					for _, program := range []string{"iptables-", "ip6tables-"} {
						if got := fixture.Sh(t, s.Web.Netns, program+flavour+" -t mangle -S"); !strings.Contains(got, "-A MULTIHOME-PREROUTING -i "+nic+" -m mac ") {
							t.Errorf("%s: %s%s has\n%s", nic, program, flavour, got)
						}
					}
				}
				call("DEL").Fine(t)
				if left := ourChains(t, s.Web.Netns); len(left) > 0 {
					t.Errorf("%s: DEL leaves %q", nic, left)
				}
				if err := s.Network.Del(t.Context(), s.Web, nic); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestMarkBackendChanges switches from one backend to the other.
func TestMarkBackendChanges(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, flavour)
			s.AppNIC.Add(t)
			for _, backend := range []string{"nftables", "iptables", "auto", "iptables", "nftables"} {
				over := fixture.Keys{"markBackend": backend}
				s.WebNIC.AddBy(t, path, over)
				s.WebNIC.Call("CHECK", over).With("PATH", path).Fine(t)
				nft := strings.Contains(fixture.Sh(t, s.Web.Netns, "nft list tables"), "table inet multihome")
				iptables := len(ourChains(t, s.Web.Netns)) > 0
				if nft == iptables || iptables != (backend == "iptables") {
					t.Errorf("%s: marks by nftables: %t, by iptables: %t", backend, nft, iptables)
				}
				fixture.Holds(t, s.Scene)
			}
			e := s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fails(t)
			for _, want := range []string{
				"pod: iptables table mangle iifname veth0 mark 0x10000000 is missing",
				"pod: ip6tables table mangle iifname veth0 mark 0x10000000 is missing",
				"pod: nft table inet multihome iifname veth0 mark 0x10000000 should not be there",
			} {
				if !strings.Contains(e.Msg, want) {
					t.Errorf("CHECK with the other backend does not say %q: %s", want, e.Msg)
				}
			}
		})
	}
}

// stumbling returns a directory like flavoured does. The n-th program that runs
// misbehaves: it kills its parent, before or after it did its work, or fails.
func stumbling(t *testing.T, flavour, how string, n int) (path string, stumbled func() bool) {
	t.Helper()
	dir, tools := t.TempDir(), flavoured(t, flavour)
	count := filepath.Join(dir, "count")
	for _, name := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore"} {
		script := fmt.Sprintf(`#!/bin/sh
			echo >>%[1]s
			n=0; while read -r _; do n=$((n+1)); done <%[1]s
			run() { %[2]s "$@"; }
			test $n = %[3]d || { run "$@"; exit; }
			case %[4]s in
			before) kill -KILL $PPID;;
			after) run "$@"; kill -KILL $PPID;;
			fails) exit 4;;
			esac
		`, count, filepath.Join(tools, name), n, how)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func() bool {
		b, _ := os.ReadFile(count)
		return len(b) >= n
	}
}

// TestAddStumblesInIptables lets each program that ADD runs kill ADD or fail. A failed
// ADD leaves nothing; after a killed one, ADD completes the state, and DEL leaves
// nothing.
func TestAddStumblesInIptables(t *testing.T) {
	for _, flavour := range fixture.Flavours {
		for _, how := range []string{"before", "after", "fails"} {
			t.Run(flavour+" "+how, func(t *testing.T) {
				t.Parallel()
				s, path := fixture.NewStage(t, lab.Ens192()), flavoured(t, flavour)
				s.AppNIC.Add(t)
				s.WebNIC.AddBy(t, path, fixture.InIptables)
				whole := s.MarkState(t)
				s.WebNIC.Del(t)
				empty := s.MarkState(t)
				for n := 1; !t.Failed(); n++ {
					stumble, stumbled := stumbling(t, flavour, how, n)
					what := fmt.Sprintf("ADD that stumbled over program %d", n)
					out := s.WebNIC.Call("ADD", fixture.InIptables).With("PATH", stumble).Run(t)
					if !stumbled() {
						if n == 1 {
							t.Error("ADD ran no program")
						}
						break
					}
					if how == "fails" {
						if e, err := out.AsError(); err != nil {
							t.Errorf("%s: %v", what, err)
						} else if !strings.Contains(e.Msg, "tables table mangle") || strings.Contains(e.Msg, "\n") {
							t.Errorf("%s: %q", what, e.Msg)
						}
						fixture.Same(t, what, empty.Unnumbered(), s.MarkState(t).Unnumbered())
						continue
					}
					if n%2 == 0 { // otherwise DEL finds what ADD left
						s.WebNIC.AddBy(t, path, fixture.InIptables)
						fixture.Same(t, "ADD after "+what, whole.Unnumbered(), s.MarkState(t).Unnumbered())
					}
					s.WebNIC.Del(t)
					fixture.Same(t, "DEL after "+what, empty.Unnumbered(), s.MarkState(t).Unnumbered())
				}
				s.WebNIC.AddBy(t, path, fixture.InIptables)
				s.WebNIC.Call("CHECK", fixture.InIptables).With("PATH", path).Fine(t)
				fixture.Holds(t, s.Scene)
			})
		}
	}
}

// TestMarksWithoutNftables hides nf_tables from the plugin: auto then chooses iptables,
// of the legacy flavour where there is one, and DEL works as well.
func TestMarksWithoutNftables(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	before := ourChains(t, s.Web.Netns)
	s.WebNIC.Keep(t, s.WebNIC.WithoutNftables(t, "ADD").Fine(t))
	s.WebNIC.WithoutNftables(t, "CHECK").Fine(t)
	if rules := fixture.Sh(t, s.Web.Netns, "iptables-legacy -t mangle -S; ip6tables-legacy -t mangle -S"); strings.Count(rules, "-N MULTIHOME") != 4 {
		t.Errorf("chains are missing:\n%s", rules)
	}
	fixture.Holds(t, s.Scene)
	s.WebNIC.WithoutNftables(t, "DEL").Fine(t)
	fixture.Same(t, "DEL", before, ourChains(t, s.Web.Netns))
}

// TestNoMarkBackend uses a node on which ADD can't work: ADD says so, and why, before
// it changes anything.
func TestNoMarkBackend(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	before := s.State(t)
	const (
		nowhere    = "/nowhere"
		noIptables = `"iptables": executable file not found`
		noNftables = "nftables: "
	)
	for _, tt := range []struct {
		call fixture.Call
		want []string
	}{
		{s.WebNIC.Call("ADD", fixture.InIptables).With("PATH", nowhere), []string{"pod: ", noIptables}},
		{s.WebNIC.Call("STATUS", fixture.InIptables).With("PATH", nowhere), []string{"host: ", noIptables}},
		{s.WebNIC.WithoutNftables(t, "ADD", fixture.Keys{"markBackend": "nftables"}), []string{"pod: ", noNftables, "protocol not supported"}},
	} {
		e := tt.call.Fails(t)
		for _, want := range tt.want {
			if !strings.Contains(e.Msg, want) {
				t.Errorf("%s: no %q in %q", tt.call.Verb, want, e.Msg)
			}
		}
		if want := uint(50); tt.call.Verb == "STATUS" && e.Code != want {
			t.Errorf("STATUS: code %d, want %d", e.Code, want)
		}
	}
	s.WebNIC.Call("STATUS").With("PATH", nowhere).Fine(t) // auto
	fixture.Same(t, "ADD that can't work", before, s.State(t))
	s.WebNIC.Call("ADD").With("PATH", nowhere).Fine(t)
	s.WebNIC.Call("DEL").With("PATH", nowhere).Fine(t)
	s.WebNIC.AddBy(t, flavoured(t, "nft"), fixture.InIptables)
	s.WebNIC.Call("DEL").With("PATH", nowhere).Fine(t) // iptables was removed from the node
	if left := ourChains(t, s.Web.Netns); len(left) > 0 {
		t.Errorf("DEL left %q", left)
	}

	e := s.WebNIC.Call("ADD", fixture.Keys{"markBackend": "ebpf"}).Fails(t)
	if e.Code != 7 || !strings.Contains(e.Msg, "markBackend") || !strings.Contains(e.Msg, "iptables") {
		t.Errorf("an unknown backend: %d, %s", e.Code, e.Msg)
	}
}
