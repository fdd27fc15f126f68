// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"regexp"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// What goes wrong with other systems that do this job, and the tests that show
// that it does not here:
//
//	a NIC that was plugged later shares a live table            TestHotPlug
//	DEL of any NIC takes the pod's veth and node routes along   TestHotPlug, TestDelInEveryOrder
//	DEL leaves rules and routes in the pod and on the node      TestDel, TestDelInEveryOrder
//	DEL does nothing at all                                     TestDelOfVeth
//	DEL needs an agent, a pod object, prevResult or the netns   TestDel, TestDelInEveryOrder
//	DEL hits the next owner of an address                       TestLateDelByBridge
//	ADD again doubles the rules of a further NIC                TestAddAgainOfFurtherNIC
//	ADD again gives the host end a MAC that the pod can't know  TestAddAgain
//	ADD again fails for the first NIC                           TestAddAgainOfFurtherNIC
//	two ADDs at once compute one table                          TestTwoNICsAtOnce
//	a failed ADD leaves what it made                            TestFailingAddLeavesNothing, TestDefaultRouteNICThatIsNotThere, TestWrongModes
//	bad values are ignored, panic, or are refused by the kernel TestBadValuesOfOthers
//	txQueueLen is for a link of the node that has the name      TestLinkOptions
//	mode disabled is unknown                                    TestModeDisabled
//	names must be net1, net2, …                                 TestEightNICs
//	CHECK says yes to everything, or fails always               TestCheckOfFurtherNIC, TestCheckNamesWhatIsDamaged
//	GC and STATUS are unknown                                   TestGC, TestGCOfFurtherNIC
//	the veth is missing in the result                           TestAddAgainOfFurtherNIC
//	marks of applications are overwritten                       TestMarkOfApplication
//	iptables must be there                                      every test: marks are in nftables
//	rp_filter is set on every link of the node                  TestNodeLinksAreLeftAlone
//	the default moves to the newest NIC                         TestDefaultRouteNIC, the control
//	an address that prevResult doesn't know isn't routed        TestSLAAC
//	a multipath default is taken apart, or taken whole          TestTwoNICs, v6

// theChains are the chains with either name of the plugin.
var theChains = map[string]string{
	"coordinator": fixture.Chained,
	"veth":        `{"type": "veth", "service_cidr": ["10.96.0.0/12", "fd00:10:96::/108"]}`,
}

// TestAddAgainOfFurtherNIC repeats ADD of each NIC: nothing is added twice.
func TestAddAgainOfFurtherNIC(t *testing.T) {
	for name := range theChains {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, fixture.TwoLANs["dual"])
			s.AddApp(t)
			add := func(nic string) *types100.Result {
				var r types100.Result
				decode(t, s.As(name, nic, "ADD").Fine(t), &r)
				return &r
			}
			first := map[string]*types100.Result{"eth0": add("eth0"), "net1": add("net1")}
			before := s.State(t)
			for _, nic := range []string{"eth0", "net1", "net1", "eth0"} {
				again := add(nic)
				if d := cmp.Diff(first[nic], again); d != "" {
					t.Errorf("result of ADD of %s again (-first +again):\n%s", nic, d)
				}
				fixture.Same(t, "ADD of "+nic+" again", before, s.State(t))
			}
			s.Web.Results = first
			if end := s.Web.HostEnd("eth0"); end == "" {
				t.Error("the result doesn't have the node's end of the veth")
			}
			for _, nic := range []string{"eth0", "net1"} {
				s.As(name, nic, "CHECK").Fine(t)
			}
			if name == "coordinator" {
				s.Verify(t, fixture.ByTCP(s.Checks())...)
			}
		})
	}
}

// TestDelOfVeth deletes with veth, the older name, what veth made.
func TestDelOfVeth(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"])
	s.AddApp(t)
	before := s.State(t)
	for _, nic := range []string{"eth0", "net1"} {
		s.As("veth", nic, "ADD").Fine(t)
	}
	s.As("veth", "net1", "DEL").Fine(t)
	s.As("veth", "eth0", "CHECK").Fine(t)
	s.As("veth", "eth0", "DEL").Fine(t)
	fixture.Same(t, "DEL", before.But(mainDefaults).Unnumbered(), s.State(t).But(mainDefaults).Unnumbered())
}

// TestCheckOfFurtherNIC removes the objects of a further NIC: CHECK of that NIC names
// each, and ADD restores it.
func TestCheckOfFurtherNIC(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"])
	s.AddApp(t)
	s.Attached("eth0").Add(t)
	net1 := s.Attached("net1")
	net1.Add(t)
	before := s.State(t)
	for _, damage := range []struct{ by, name string }{
		{"ip rule del from 10.7.168.171 lookup 101", "rule pref 32764 from 10.7.168.171 lookup 101"},
		{"ip -6 rule del from fd00:7::171 lookup 101", "rule pref 32764 from fd00:7::171 lookup 101"},
		{"ip route flush table 101", "route 10.96.0.0/12 via 10.6.168.123 dev veth0 table 101"},
		{"ip route del default table 101", "route default via 10.7.0.1 dev net1 table 101"},
		{"ip -6 route flush table 101", "route default via fd00:7::1 dev net1 table 101"},
		{"ip rule del from 10.6.168.172 lookup 99", "rule pref 32764 from 10.6.168.172 lookup 99"},
		{"ip route del 10.7.0.0/16 dev net1 table 101", "route 10.7.0.0/16 dev net1 table 101"},
	} {
		fixture.Sh(t, s.Web.Netns, damage.by)
		if e := net1.Call("CHECK").Fails(t); !strings.Contains(e.Msg, damage.name) {
			t.Errorf("after %q CHECK does not name %q:\n%s", damage.by, damage.name, strings.ReplaceAll(e.Msg, "; ", "\n"))
		}
		net1.Call("ADD").Fine(t)
		net1.Call("CHECK").Fine(t)
		fixture.Same(t, "ADD that repairs", before.Unlike(owner).Unnumbered(), s.State(t).Unlike(owner).Unnumbered())
	}
}

// owner matches the protocol of a route: a lost copy of another's route is restored as
// one of ours.
var owner = regexp.MustCompile(`() proto (?:109|110|multihome-route|multihome)`)

// TestBadValuesOfOthers tries values that other systems accept, and then ignore, panic
// at, or pass to a kernel that refuses them. Here ADD names each, and changes nothing.
func TestBadValuesOfOthers(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	before := s.State(t)
	for _, tt := range []struct {
		key   string
		value any
	}{
		{"vethLinkAddress", "169.254.200"},
		{"podMACPrefix", "0,:1b"},
		{"podMACPrefix", "03:1b"},
		{"podRPFilter", 7},
		{"hostRPFilter", 3},
		{"podDefaultRouteNIC", "a/b"},
		{"txQueueLen", -1},
	} {
		e := s.WebNIC.Call("ADD", fixture.Keys{tt.key: tt.value}).Fails(t)
		if e.Code != 7 || !strings.Contains(e.Msg, tt.key) || strings.Contains(e.Msg, "0xc000") {
			t.Errorf("%s: %v: ADD says %d, %q", tt.key, tt.value, e.Code, e.Msg)
		}
	}
	fixture.Same(t, "ADD with bad values", before, s.State(t))
}

// TestModeDisabled tries both spellings: the plugin passes on the result, and does
// nothing.
func TestModeDisabled(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, fixture.Only(0))
	before := s.State(t)
	for _, mode := range []string{"disabled", "disable"} {
		s.WebNIC.Call("ADD", fixture.Keys{"mode": mode}).Fine(t)
		s.WebNIC.Call("CHECK", fixture.Keys{"mode": mode}).Fine(t)
		s.WebNIC.Call("DEL", fixture.Keys{"mode": mode}).Fine(t)
		fixture.Same(t, "mode "+mode, before, s.State(t))
	}
}

var settingsOfOthers = regexp.MustCompile(`^node: /proc/sys/net/ipv[46]/(conf|neigh)/(all|default|lo|ens)`)

// TestNodeLinksAreLeftAlone checks that the settings of the node's own links stay.
func TestNodeLinksAreLeftAlone(t *testing.T) {
	for name, chain := range theChains {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"])
			others := func() fixture.State {
				var out fixture.State
				for _, l := range s.State(t) {
					if settingsOfOthers.MatchString(l) {
						out = append(out, l)
					}
				}
				return out
			}
			before := others()
			if len(before) == 0 {
				t.Fatal("no settings")
			}
			s.Plug(t, 0, lab.NIC, chain)
			s.Plug(t, 1, "net1", chain)
			fixture.Same(t, "settings of the node's links", before, others())
		})
	}
}
