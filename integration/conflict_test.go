// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/testbed"
)

// situation is a way in which a pod gets a NIC: the pod's state before, and the plugin.
type situation struct {
	nic    string
	lan    int
	before func(t *testing.T, s *fixture.Site, number int) // number is the end of the pod's other addresses
	call   func(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call
}

func coordinated(own ...fixture.Keys) func(*fixture.Attachment, string, ...fixture.Keys) fixture.Call {
	return func(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call {
		return a.Call(verb, slices.Concat(own, over)...)
	}
}

func byRoute(own ...fixture.Keys) func(*fixture.Attachment, string, ...fixture.Keys) fixture.Call {
	return func(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call {
		return a.Route(verb, slices.Concat(own, over)...)
	}
}

// afterFirst gives the pod its first NIC.
func afterFirst(over ...fixture.Keys) func(*testing.T, *fixture.Site, int) {
	return func(t *testing.T, s *fixture.Site, number int) {
		s.ByHand(t, 0, "eth0", fixture.PrefixesOf(fmt.Sprintf("10.6.170.%d/16", number), fmt.Sprintf("fd00:6:0:0:170::%d/64", number))).Add(t, over...)
	}
}

// afterOverlay gives the pod a first NIC of an overlay, by its own link or by a bridge.
func afterOverlay(bridge bool) func(*testing.T, *fixture.Site, int) {
	return func(t *testing.T, s *fixture.Site, number int) {
		if bridge {
			fixture.Sh(t, s.Node.Netns, "! ip link show cni0 >/dev/null 2>&1 || exit 0\n"+strings.ReplaceAll(fixture.Overlays["flannel"].Node, "ip link set cali1 name veth0a1b master cni0", ""))
			s.OnBridge(t, s.Web, number)
			return
		}
		end := fmt.Sprintf("cali%d", number)
		if err := testbed.ConnectVeth(s.Web.Netns, "eth0", s.Node.Netns, end); err != nil {
			t.Fatal(err)
		}
		of := func(script string) string {
			return strings.NewReplacer("cali1", end, "10.244.1.5", fmt.Sprintf("10.244.1.%d", number), "fd00:244::5", fmt.Sprintf("fd00:244::%d", number)).Replace(script)
		}
		fixture.Sh(t, s.Node.Netns, of(fixture.Overlays["calico"].Node))
		fixture.Sh(t, s.Web.Netns, of(fixture.Overlays["calico"].Pod+fixture.Overlays["calico"].Defaults))
	}
}

func situations() map[string]situation {
	nothing := func(*testing.T, *fixture.Site, int) {}
	return map[string]situation{
		"first NIC by veth":      {"eth0", 0, nothing, coordinated()},
		"first NIC by macvlan":   {"eth0", 0, nothing, coordinated(byMacvlan)},
		"further NIC by veth":    {"net1", 1, afterFirst(), coordinated()},
		"further NIC by macvlan": {"net1", 1, afterFirst(byMacvlan), coordinated(byMacvlan)},
		"overlay":                {"net1", 1, afterOverlay(false), coordinated()},
		"overlay on a bridge":    {"net1", 1, afterOverlay(true), coordinated()},
		"route":                  {"eth0", 0, nothing, byRoute()},
	}
}

// begin gives web a NIC with addresses, as the situation says, so that its plugin can
// run.
func (w situation) begin(t *testing.T, s *fixture.Site, number int, addrs []netip.Prefix) *fixture.Attachment {
	t.Helper()
	w.before(t, s, number)
	return s.ByHand(t, w.lan, w.nic, addrs)
}

// explainFails runs `multihome explain` on the node for a call, and expects an error.
func explainFails(t *testing.T, a *fixture.Attachment, add fixture.Call) string {
	t.Helper()
	prev := filepath.Join(t.TempDir(), "prev.json")
	result, err := json.Marshal(a.Prev)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prev, result, 0o644); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), filepath.Join(fixture.Plugins, "multihome"), "explain", "-", "--netns", a.Path(), "--ifname", a.NIC, "--container-id", a.ContainerID, "--prev-result", prev)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(add.Stdin)), &stderr
	if err := a.Node.Node.Run(cmd.Run); err == nil {
		t.Error("explain is no error")
	}
	return stderr.String()
}

// timers matches the timers of a bridge, which change all the time.
var timers = regexp.MustCompile(`((?:gc|forward_delay)_timer) +[0-9.]+`)

func withoutTimers(s fixture.State) fixture.State { return s.Unlike(timers) }

// TestNodesOwnAddress gives a pod an address of its node, on links of every sort: ADD
// names address and link, and changes nothing.
func TestNodesOwnAddress(t *testing.T) {
	ways := situations()
	ways["sbr"] = situation{"eth0", 0, func(*testing.T, *fixture.Site, int) {}, byRoute(fixture.Keys{"master": nil, "bridge": nil, "sbr": true})}
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			for i, tt := range []struct{ script, addr, dev string }{
				{"", "10.6.168.123/16", "ens192"},
				{"", "fd00:6::123/64", "ens192"},
				{"ip addr add 10.6.168.77/32 dev lo", "10.6.168.77/16", "lo"},
				{"ip addr add fd00:6::77/128 dev lo nodad", "fd00:6::77/64", "lo"},
				{"ip link add kube-ipvs0 type bridge; ip addr add 10.96.0.10/32 dev kube-ipvs0", "10.96.0.10/12", "kube-ipvs0"}, // down
				{"ip link add cni7 up type bridge; ip link add p7 up master cni7 type veth peer name far7; ip link set far7 up; ip addr add fd00:7:1::1/64 dev cni7 nodad", "fd00:7:1::1/64", "cni7"},
			} {
				fixture.Sh(t, s.Node.Netns, tt.script)
				a := w.begin(t, s.Of(s.AddPod(t, fmt.Sprintf("pod%d", i))), 5+i, fixture.PrefixesOf(tt.addr))
				want := fmt.Sprintf("host: addr %s dev %s is the node's own: link %s of the pod can't have it", netip.MustParsePrefix(tt.addr).Addr(), tt.dev, w.nic)
				before := fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns)))
				refused := func(verb string) {
					t.Helper()
					if e := w.call(a, verb).Fails(t); !strings.Contains(e.Msg, want) {
						t.Errorf("%s says %q, want %q", verb, e.Msg, want)
					}
				}
				refused("ADD")
				refused("CHECK")
				if got := explainFails(t, a, w.call(a, "ADD")); !strings.Contains(got, want) {
					t.Errorf("explain says %q, want %q", got, want)
				}
				fixture.Same(t, "ADD that was refused", before, fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns))))
				fixture.Sh(t, s.Node.Netns, "ip rule del pref 1000; ip -6 rule del pref 1000") // as before the node's first pod
				refused("ADD")
				fixture.Sh(t, s.Node.Netns, "ip rule add pref 1000 lookup 500 proto 109; ip -6 rule add pref 1000 lookup 500 proto 109")
			}
		})
	}
}

// TestNodeAddressOfThePod configures one of the pod's own addresses as the node's.
func TestNodeAddressOfThePod(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	a := s.ByHand(t, 0, "eth0", fixture.PrefixesOf("10.6.168.50/16", "fd00:6::50/64"))
	before := s.State(t)
	for _, addr := range []string{"10.6.168.50", "fd00:6::50"} {
		for _, verb := range []string{"ADD", "CHECK"} {
			e := a.Call(verb, fixture.Keys{"nodeAddresses": []string{"10.6.168.123", "fd00:6::123", addr}}).Fails(t)
			if want := "nodeAddresses: " + addr + ": link eth0 of the pod has that address"; e.Code != 7 || !strings.Contains(e.Msg, want) {
				t.Errorf("%s says %d, %q, want 7, %q", verb, e.Code, e.Msg, want)
			}
		}
	}
	fixture.Same(t, "ADD that was refused", before, s.State(t))
}

// losses are the ways in which a pod without DEL loses the addresses of nic.
var losses = map[string]func(t *testing.T, s *fixture.Site, nic string){
	"its NIC is gone":   func(t *testing.T, s *fixture.Site, nic string) { fixture.Sh(t, s.Web.Netns, "ip link del "+nic) },
	"its addresses are": func(t *testing.T, s *fixture.Site, nic string) { fixture.Sh(t, s.Web.Netns, "ip addr flush dev "+nic) },
}

// TestFormerPodsAddress gives the next pod an address whose former pod had no DEL yet.
// While the former pod has it, ADD names that pod and changes nothing. When it no
// longer has it, the address goes to the next pod, whatever the former pod's DEL does
// later.
func TestFormerPodsAddress(t *testing.T) {
	addrs := func(lan int) []netip.Prefix {
		return fixture.PrefixesOf(fmt.Sprintf("10.%d.168.200/16", 6+lan), fmt.Sprintf("fd00:%d::200/64", 6+lan))
	}
	for name, w := range situations() {
		for lost, lose := range losses {
			t.Run(name+"/"+lost, func(t *testing.T) {
				t.Parallel()
				s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
				fixture.AgentReady(t, s.Lab)
				former := w.begin(t, s, 5, addrs(w.lan))
				w.call(former, "ADD").Fine(t)
				next := s.Of(s.AddPod(t, "next"))
				w.before(t, next, 6)
				a := next.ByHand(t, w.lan, w.nic, addrs(w.lan))
				if name == "overlay on a bridge" { // the kernel forgets all neighbours, as it does for a port with a lower MAC
					fixture.Sh(t, s.Node.Netns, "ip link set cni0 address 02:00:00:00:00:01")
				}
				states := func() fixture.State { return withoutTimers(fixture.StateOf(t, s.Lab, s.Web.Netns, next.Web.Netns)) }
				before := states()
				e := w.call(a, "ADD").Fails(t)
				if !strings.Contains(e.Msg, former.ContainerID) || !strings.Contains(e.Msg, addrs(w.lan)[0].Addr().String()) && !strings.Contains(e.Msg, addrs(w.lan)[1].Addr().String()) {
					t.Errorf("ADD doesn't name the pod %s that has the address: %s", former.ContainerID, e.Msg)
				}
				fixture.Same(t, "ADD that was refused", before, states())

				mac, err := s.Web.MAC(w.nic)
				if err != nil {
					t.Fatal(err)
				}
				lose(t, s, w.nic)
				if lost == "its NIC is gone" { // a fixed MAC, as of a StatefulSet's pod: it doesn't tell the two apart
					fixture.Sh(t, next.Web.Netns, "ip link set "+w.nic+" address "+mac.String())
				}
				log := filepath.Join(t.TempDir(), "log")
				w.call(a, "ADD", fixture.Keys{"logOptions": fixture.Keys{"logFile": log}}).Fine(t)
				if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "taken over") || !strings.Contains(string(text), former.ContainerID) {
					t.Errorf("the log doesn't name the former pod: %v\n%s", err, text)
				}
				w.call(a, "CHECK").Fine(t)
				w.call(former, "DEL").Fine(t)
				w.call(a, "CHECK").Fine(t)
				server, err := next.Web.Serve(8080, fixture.Nothing)
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				fixture.Settle(t, s.Node.Netns)
				fixture.Settle(t, next.Web.Netns)
				for _, p := range addrs(w.lan) {
					fixture.Reached(t, s.Lab, next.Web, p)
				}
				w.call(a, "DEL").Fine(t)
			})
		}
	}
}

// TestTableInUse: before its first pod, a node has routes of its administrator in table 500. ADD would
// add the rule that leads all of the node's traffic by them: it names the route, and changes nothing. A route to
// a single address does no such harm.
func TestTableInUse(t *testing.T) {
	ways := situations()
	delete(ways, "route") // its routes to pods are in table main
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			a := w.begin(t, s.Of(s.AddPod(t, "pod")), 5, fixture.PrefixesOf(fmt.Sprintf("10.%d.170.99/16", 6+w.lan), fmt.Sprintf("fd00:%d::170:99/64", 6+w.lan)))
			for version, via := range map[string]string{"-4": "10.6.0.1", "-6": "fd00:6::1"} {
				asBefore := "for v in -4 -6; do ip $v route flush table 500; ip $v rule del pref 1000; done 2>/dev/null; "
				fixture.Sh(t, s.Node.Netns, asBefore+fmt.Sprintf("ip %s route add default via %s dev ens192 table 500", version, via))
				before := fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns)))
				want := fmt.Sprintf("host: table 500 is in use: default via %s dev ens192 table 500", via)
				if e := w.call(a, "ADD").Fails(t); !strings.Contains(e.Msg, want) || !strings.Contains(e.Msg, "set hostRuleTable to a table that is free") {
					t.Errorf("ADD says %q, want %q", e.Msg, want)
				}
				if got := explainFails(t, a, w.call(a, "ADD")); !strings.Contains(got, want) {
					t.Errorf("explain says %q, want %q", got, want)
				}
				fixture.Same(t, "ADD that was refused", before, fixture.NoRun(withoutTimers(fixture.StateOf(t, s.Lab, a.Netns))))

				another := fixture.Keys{"hostRuleTable": 501}
				w.call(a, "ADD", another).Fine(t)
				w.call(a, "DEL", another).Fine(t)
				fixture.Sh(t, s.Node.Netns, asBefore+fmt.Sprintf("ip %s route add %s dev ens192 table 500", version, via))
				w.call(a, "ADD").Fine(t)
				w.call(a, "DEL").Fine(t)
			}
		})
	}
}
