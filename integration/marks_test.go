// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nettest"
)

// inIptables asks for reply marks in iptables.
var inIptables = keys{"markBackend": "iptables"}

// flavours of iptables: each has its own part of the kernel.
var flavours = []string{"nft", "legacy"}

// flavoured returns a directory, to be all of $PATH, in which iptables and ip6tables,
// and what restores for each, are of one flavour.
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

// addBy is add with a $PATH.
func (a *attachment) addBy(t *testing.T, path string, over ...keys) {
	t.Helper()
	a.keep(t, a.call("ADD", over...).with("PATH", path).fine(t))
}

// mangle is all that tables mangle hold, in both flavours and both families.
func mangle(t *testing.T, n *nettest.Netns) state {
	t.Helper()
	var out state
	for _, flavour := range flavours {
		for _, name := range []string{"iptables-", "ip6tables-"} {
			// To look into a table of the legacy flavour makes it.
			out = append(out, prefixed(name+flavour, sh(t, n, name+flavour+" -t mangle -S"))...)
		}
	}
	return out
}

// ourChains are the lines of mangle that are of our making.
func ourChains(t *testing.T, n *nettest.Netns) state {
	t.Helper()
	return slices.DeleteFunc(mangle(t, n), func(line string) bool { return !strings.Contains(line, "MULTIHOME") })
}

// passing is what iptables leaves beside rules: counters, in the words of nft,
// and the lock file of the legacy flavour.
var passing = regexp.MustCompile(`counter packets \d+ bytes \d+|node: /run/xtables.lock`)

// markState is the state of the node and its pods with that of table mangle.
func (s *stage) markState(t *testing.T) state {
	t.Helper()
	m := append(mangle(t, s.Web.Netns), mangle(t, s.App.Netns)...)
	lines := s.state(t).unlike(passing)
	return append(slices.DeleteFunc(lines, func(line string) bool { return line == "" }), m...)
}

// TestMarksInIptables has the traffic of TestTraffic; the control is that exactly
// what needs the marks fails as soon as nothing jumps to our chains.
func TestMarksInIptables(t *testing.T) {
	for _, flavour := range flavours {
		for name, lan := range lans {
			t.Run(flavour+" "+name, func(t *testing.T) {
				t.Parallel()
				s, path := newStage(t, lan), flavoured(t, flavour)
				s.app.addBy(t, path, inIptables)
				s.web.addBy(t, path, inIptables)
				holds(t, s.Scene)
				if rules := sh(t, s.Web.Netns, "nft list tables inet"); strings.Contains(rules, "multihome") {
					t.Errorf("there is a table of nftables as well: %s", rules)
				}
				for i, name := range []string{"iptables-", "ip6tables-"} {
					want := hasFamily(lan, i)
					if name := name + flavour; strings.Contains(sh(t, s.Web.Netns, name+" -t mangle -S"), "MULTIHOME") != want {
						t.Errorf("%s has our chains: %t, want %t", name, !want, want)
					}
				}

				before := s.markState(t)
				for range 2 {
					s.web.addBy(t, path, inIptables)
					same(t, "ADD again", before, s.markState(t))
				}
				s.web.call("CHECK", inIptables).with("PATH", path).fine(t)

				sh(t, s.Web.Netns, "for p in iptables ip6tables; do for f in nft legacy; do for c in PREROUTING OUTPUT; do $p-$f -t mangle -F $c; done; done; done")
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

// TestMarkOfApplicationInIptables is TestMarkOfApplication, as far as replies to
// what entered by veth0 are concerned: our bit is beside the application's.
func TestMarkOfApplicationInIptables(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			s, path := newStage(t, lab.Ens192()), flavoured(t, flavour)
			s.app.addBy(t, path, inIptables)
			s.web.addBy(t, path, inIptables)
			for i, mark := range []uint32{0x1, 0x08000000, 0x20000000, ^uint32(ourBit)} {
				served := uint16(9000 + i)
				server, err := s.Web.Serve(served, nettest.Socket{Mark: mark})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				for f, web := range s.Web.Addrs(lab.NIC) {
					lan := s.LANs[0]
					nodePort := netip.AddrPortFrom(lan.Node[f].Addr(), 30000+served)
					err := s.Node.SetServices(nettest.Service{
						ClusterIP: nodePort, NodePort: nodePort, Endpoint: netip.AddrPortFrom(web.Addr(), served),
					})
					if err != nil {
						t.Fatal(err)
					}
					for _, network := range []string{"tcp", "udp"} {
						marked{"in replies to a NodePort's client", s.Web.Netns, "veth0", mark | ourBit}.leaves(t, func(port uint16) error {
							return ask(lan.Client, network, nodePort, nettest.Socket{Port: port})
						})
						marked{"in replies to the LAN", s.Web.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
							return ask(lan.Client, network, netip.AddrPortFrom(web.Addr(), served), nettest.Socket{Port: port})
						})
					}
				}
			}
		})
	}
}

// TestRulesetIsWhatIptablesSaves compares what people are told with what is
// there.
func TestRulesetIsWhatIptablesSaves(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			s.web.addBy(t, flavoured(t, flavour), inIptables)
			for _, program := range []string{"iptables", "ip6tables"} {
				mark := netstate.Mark{Backend: netstate.Iptables, Dev: "veth0", Bits: ourBit}
				want := prefixed(program, mark.Ruleset())
				got := prefixed(program, sh(t, s.Web.Netns, program+"-"+flavour+"-save -t mangle"))
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
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := newStage(t, lab.Ens192()), flavoured(t, flavour)
			s.app.addBy(t, path, inIptables)
			s.web.addBy(t, path, inIptables)
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
					before := s.markState(t)
					tool := program + "-" + flavour + " -t mangle "
					sh(t, s.Web.Netns, tool+strings.ReplaceAll(damage.by, "@ ", tool))
					e := s.web.call("CHECK", inIptables).with("PATH", path).fails(t)
					if !strings.Contains(e.Msg, damage.name) || !strings.Contains(e.Msg, "pod: "+program+" ") {
						t.Errorf("after %s %s, CHECK does not name %q: %s", program, damage.by, damage.name, e.Msg)
					}
					s.web.addBy(t, path, inIptables)
					s.web.call("CHECK", inIptables).with("PATH", path).fine(t)
					same(t, "ADD that repairs "+damage.by, before.unnumbered(), s.markState(t).unnumbered())
				}
			}
			holds(t, s.Scene)
		})
	}
}

// TestDelOfMarksInIptables: nothing of ours stays, and everything of others,
// whichever flavour they use. DEL is not told of markBackend.
func TestDelOfMarksInIptables(t *testing.T) {
	for _, ours := range flavours {
		for _, theirs := range flavours {
			t.Run("ours by "+ours+", theirs by "+theirs, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, lab.Ens192())
				for _, name := range []string{"iptables", "ip6tables"} {
					sh(t, s.Web.Netns, strings.ReplaceAll(`
						@ -N MULTIHOME-MESH
						@ -A MULTIHOME-MESH -p tcp --dport 15006 -j MARK --set-xmark 0x539/0xfff
						@ -A PREROUTING -j MULTIHOME-MESH
						@ -A OUTPUT -m mark --mark 0x539 -j ACCEPT
						@ -P FORWARD DROP`, "@ ", name+"-"+theirs+" -t mangle "))
				}
				before := mangle(t, s.Web.Netns)
				s.web.call("DEL").fine(t)
				same(t, "DEL without ADD", before, mangle(t, s.Web.Netns))
				for range 2 {
					s.web.addBy(t, flavoured(t, ours), inIptables)
					if slices.Equal(before, mangle(t, s.Web.Netns)) {
						t.Error("ADD made no chains")
					}
					s.web.call("DEL").fine(t)
					same(t, "DEL", before, mangle(t, s.Web.Netns))
				}
			})
		}
	}
}

// TestProgramsOfIptables counts what each verb runs for both families: ADD makes all
// chains of one by one program, and asks another one what they are now. What isn't
// there is found without one, and so is what nf_tables holds.
func TestProgramsOfIptables(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	for _, tt := range []struct {
		path                   string
		over                   keys
		add, again, check, del int
	}{
		{os.Getenv("PATH"), keys{}, 0, 0, 0, 0},
		{flavoured(t, "nft"), inIptables, 4, 2, 2, 0},
		{flavoured(t, "legacy"), inIptables, 4, 2, 2, 4},
	} {
		for _, step := range []struct {
			verb string
			want int
		}{{"ADD", tt.add}, {"ADD", tt.again}, {"CHECK", tt.check}, {"DEL", tt.del}} {
			log := filepath.Join(t.TempDir(), "strace")
			c := s.web.call(step.verb, tt.over).with("PATH", tt.path)
			if step.verb == "DEL" {
				c = s.web.call("DEL")
			}
			c.under = []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=execve"}
			out := c.fine(t)
			if step.verb == "ADD" {
				s.web.keep(t, out)
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

// TestMarksBesideForeignRules: table mangle has rules that iptables-nft can't print, so
// that it lists nothing of the table, or of a chain. ADD, CHECK and DEL work as ever,
// and leave them alone.
func TestMarksBesideForeignRules(t *testing.T) {
	for _, chain := range []string{"FORWARD", "PREROUTING", "OUTPUT"} {
		t.Run(chain, func(t *testing.T) {
			t.Parallel()
			s, path := newStage(t, lab.Ens192()), flavoured(t, "nft")
			for program, family := range map[string]string{"iptables-nft": "ip", "ip6tables-nft": "ip6"} {
				sh(t, s.Web.Netns, fmt.Sprintf(`%s -t mangle -A FORWARD -p tcp -j ACCEPT
					for c in PREROUTING OUTPUT; do %s -t mangle -A $c -p udp --dport 9 -j ACCEPT; done
					nft add rule %s mangle %s fib saddr type local counter`, program, program, family, chain))
			}
			rules := func() state {
				return prefixed("web", passing.ReplaceAllString(sh(t, s.Web.Netns, "nft list table ip mangle; nft list table ip6 mangle"), ""))
			}
			before := rules()
			for range 2 {
				s.web.addBy(t, path, inIptables)
				s.web.call("CHECK", inIptables).with("PATH", path).fine(t)
				for _, family := range []string{"ip", "ip6"} {
					for _, jump := range []string{"MULTIHOME-PREROUTING", "MULTIHOME-OUTPUT"} {
						if n := strings.Count(sh(t, s.Web.Netns, "nft list table "+family+" mangle"), "jump "+jump); n != 1 {
							t.Errorf("%s: %d rules jump to %s", family, n, jump)
						}
					}
				}
				sh(t, s.Web.Netns, "iptables-nft -t mangle -F MULTIHOME-OUTPUT")
				if e := s.web.call("CHECK", inIptables).with("PATH", path).fails(t); !strings.Contains(e.Msg, "no -A MULTIHOME-OUTPUT -m conntrack") {
					t.Errorf("CHECK: %s", e.Msg)
				}
			}
			s.web.call("DEL").fine(t)
			same(t, "DEL", before, rules())
		})
	}
}

// TestMarksOfOddLinksInIptables has first NICs with names that mean something to
// iptables-restore, or to iptables.
func TestMarksOfOddLinksInIptables(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := newStage(t, lab.Ens192()), flavoured(t, flavour)
			for _, nic := range []string{`"q"\`, `"`, "-x", "!", "#n", "naïve-ß", "net.100", "eth+"} {
				if err := s.Network.Add(t.Context(), s.Web, nic); err != nil {
					t.Fatal(err)
				}
				call := func(verb string) call {
					return s.web.call(verb, inIptables, keys{"hostLink": "macvlan", "podDefaultCNINIC": nic, "prevResult": s.Web.Results[nic]}).
						with("CNI_IFNAME", nic).with("PATH", path)
				}
				if nic == "eth+" {
					if e := call("ADD").fails(t); !strings.Contains(e.Msg, nic) || !strings.Contains(e.Msg, "nftables") {
						t.Errorf("ADD of %s: %s", nic, e.Msg)
					}
				} else {
					call("ADD").fine(t)
					call("CHECK").fine(t)
					for _, program := range []string{"iptables-", "ip6tables-"} {
						if got := sh(t, s.Web.Netns, program+flavour+" -t mangle -S"); !strings.Contains(got, "-A MULTIHOME-PREROUTING -i "+nic+" -m mac ") {
							t.Errorf("%s: %s%s has\n%s", nic, program, flavour, got)
						}
					}
				}
				call("DEL").fine(t)
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

// TestMarkBackendChanges: one backend takes over from the other.
func TestMarkBackendChanges(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			t.Parallel()
			s, path := newStage(t, lab.Ens192()), flavoured(t, flavour)
			s.app.add(t)
			for _, backend := range []string{"nftables", "iptables", "auto", "iptables", "nftables"} {
				over := keys{"markBackend": backend}
				s.web.addBy(t, path, over)
				s.web.call("CHECK", over).with("PATH", path).fine(t)
				nft := strings.Contains(sh(t, s.Web.Netns, "nft list tables"), "table inet multihome")
				iptables := len(ourChains(t, s.Web.Netns)) > 0
				if nft == iptables || iptables != (backend == "iptables") {
					t.Errorf("%s: marks by nftables: %t, by iptables: %t", backend, nft, iptables)
				}
				holds(t, s.Scene)
			}
			e := s.web.call("CHECK", inIptables).with("PATH", path).fails(t)
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

// stumbling returns a directory like flavoured does. The n-th program that is run
// does not do as it is told: it kills its parent, before or after it did its
// work, or fails.
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

// TestAddStumblesInIptables lets each program that ADD runs kill it or fail. An
// ADD that failed has left nothing; after one that was killed, ADD makes
// everything whole and DEL leaves nothing.
func TestAddStumblesInIptables(t *testing.T) {
	for _, flavour := range flavours {
		for _, how := range []string{"before", "after", "fails"} {
			t.Run(flavour+" "+how, func(t *testing.T) {
				t.Parallel()
				s, path := newStage(t, lab.Ens192()), flavoured(t, flavour)
				s.app.add(t)
				s.web.addBy(t, path, inIptables)
				whole := s.markState(t)
				s.web.del(t)
				empty := s.markState(t)
				for n := 1; !t.Failed(); n++ {
					stumble, stumbled := stumbling(t, flavour, how, n)
					what := fmt.Sprintf("ADD that stumbled over program %d", n)
					out := s.web.call("ADD", inIptables).with("PATH", stumble).run(t)
					if !stumbled() {
						if n == 1 {
							t.Error("ADD ran no program")
						}
						break
					}
					if how == "fails" {
						if e, err := out.asError(); err != nil {
							t.Errorf("%s: %v", what, err)
						} else if !strings.Contains(e.Msg, "tables table mangle") || strings.Contains(e.Msg, "\n") {
							t.Errorf("%s: %q", what, e.Msg)
						}
						same(t, what, empty.unnumbered(), s.markState(t).unnumbered())
						continue
					}
					if n%2 == 0 { // or else DEL finds what ADD left
						s.web.addBy(t, path, inIptables)
						same(t, "ADD after "+what, whole.unnumbered(), s.markState(t).unnumbered())
					}
					s.web.del(t)
					same(t, "DEL after "+what, empty.unnumbered(), s.markState(t).unnumbered())
				}
				s.web.addBy(t, path, inIptables)
				s.web.call("CHECK", inIptables).with("PATH", path).fine(t)
				holds(t, s.Scene)
			})
		}
	}
}

// TestMarksWithoutNftables hides nf_tables from the plugin: auto is iptables
// then, of the legacy flavour where there is one, and DEL works as well.
func TestMarksWithoutNftables(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.app.add(t)
	before := ourChains(t, s.Web.Netns)
	s.web.keep(t, s.web.withoutNftables(t, "ADD").fine(t))
	s.web.withoutNftables(t, "CHECK").fine(t)
	if rules := sh(t, s.Web.Netns, "iptables-legacy -t mangle -S; ip6tables-legacy -t mangle -S"); strings.Count(rules, "-N MULTIHOME") != 4 {
		t.Errorf("not all chains are there:\n%s", rules)
	}
	holds(t, s.Scene)
	s.web.withoutNftables(t, "DEL").fine(t)
	same(t, "DEL", before, ourChains(t, s.Web.Netns))
}

// withoutNftables is a call for which the kernel has no nf_tables.
func (a *attachment) withoutNftables(t *testing.T, verb string, over ...keys) call {
	t.Helper()
	hide := filepath.Join(t.TempDir(), "hide")
	if _, err := golang("", "build", "-buildvcs=false", "-o", hide, "./hide"); err != nil {
		t.Fatal(err)
	}
	c := a.call(verb, over...)
	c.under = []string{hide}
	return c
}

// TestNoMarkBackend is a node on which ADD can't work: it says so, and why,
// before it changes anything.
func TestNoMarkBackend(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	before := s.state(t)
	const (
		nowhere    = "/nowhere"
		noIptables = `"iptables": executable file not found`
		noNftables = "nftables: "
	)
	for _, tt := range []struct {
		call call
		want []string
	}{
		{s.web.call("ADD", inIptables).with("PATH", nowhere), []string{"pod: ", noIptables}},
		{s.web.call("STATUS", inIptables).with("PATH", nowhere), []string{"host: ", noIptables}},
		{s.web.withoutNftables(t, "ADD", keys{"markBackend": "nftables"}), []string{"pod: ", noNftables, "protocol not supported"}},
	} {
		e := tt.call.fails(t)
		for _, want := range tt.want {
			if !strings.Contains(e.Msg, want) {
				t.Errorf("%s: no %q in %q", tt.call.verb, want, e.Msg)
			}
		}
		if want := uint(50); tt.call.verb == "STATUS" && e.Code != want {
			t.Errorf("STATUS: code %d, want %d", e.Code, want)
		}
	}
	s.web.call("STATUS").with("PATH", nowhere).fine(t) // auto
	same(t, "ADD that can't work", before, s.state(t))
	s.web.call("ADD").with("PATH", nowhere).fine(t)
	s.web.call("DEL").with("PATH", nowhere).fine(t)
	s.web.addBy(t, flavoured(t, "nft"), inIptables)
	s.web.call("DEL").with("PATH", nowhere).fine(t) // iptables was removed from the node
	if left := ourChains(t, s.Web.Netns); len(left) > 0 {
		t.Errorf("DEL left %q", left)
	}

	e := s.web.call("ADD", keys{"markBackend": "ebpf"}).fails(t)
	if e.Code != 7 || !strings.Contains(e.Msg, "markBackend") || !strings.Contains(e.Msg, "iptables") {
		t.Errorf("a backend that isn't: %d, %s", e.Code, e.Msg)
	}
}
