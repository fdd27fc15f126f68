// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestSBR runs the cases of the tests of the CNI project's sbr. The numbers of the
// tables, their routes, and the routes that leave main are the same. Two things differ
// on purpose: rules have an explicit priority, and our objects have our protocol.
func TestSBR(t *testing.T) {
	const eth0 = `
		default via 10.0.0.1 dev eth0
		10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2
		10.2.0.0/24 via 10.0.0.5 dev eth0`
	second := fixture.Keys{"version": "4", "address": "192.168.101.209/24", "gateway": "192.168.101.1", "interface": 1}
	v6 := fixture.Keys{"version": "6", "address": "fd00:1::209/64", "gateway": "fd00:1::1", "interface": 0}
	noGateway := func(ip fixture.Keys) fixture.Keys {
		out := fixture.Keys{}
		for k, v := range ip {
			if k != "gateway" {
				out[k] = v
			}
		}
		return out
	}
	first := fixture.Keys{"version": "4", "address": "192.168.1.209/24", "gateway": "192.168.1.1", "interface": 0}
	for _, tt := range []struct {
		name   string
		setup  string
		ips    []fixture.Keys
		config fixture.Keys
		tables []string
		want   string
	}{
		{
			"a 0.3.0 configuration", "", []fixture.Keys{first}, nil, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main` + eth0,
		}, {
			"a default route that is set already", "ip route del default; ip route del 10.2.0.0/24; ip route add default via 192.168.1.1", []fixture.Keys{first}, nil, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.1 dev net1
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main
				10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2`,
		}, {
			"several addresses", "ip addr add 192.168.101.209/24 dev net1", []fixture.Keys{first, second}, nil, []string{"100", "101"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				32764; from 192.168.101.209 lookup 101 proto 110
				100
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				101
				default via 192.168.101.1 dev net1 proto 110
				192.168.101.0/24 dev net1 proto kernel scope link src 192.168.101.209
				main` + eth0,
		}, {
			"a table", "", []fixture.Keys{{"address": "192.168.1.209/24", "interface": 0}, {"address": "192.168.101.209/24", "interface": 0}}, fixture.Keys{"table": 5000}, []string{"5000"}, `
				32765; from 192.168.1.209 lookup 5000 proto 110
				32765; from 192.168.101.209 lookup 5000 proto 110
				5000
				main` + eth0 + `
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1`,
		}, {
			"a static gateway, IPv4", "", []fixture.Keys{noGateway(first)}, fixture.Keys{"gateways": []string{"192.168.1.9"}}, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.9 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main` + eth0,
		}, {
			"a static gateway in the place of another", "ip route del default; ip route add default via 192.168.1.1", []fixture.Keys{first}, fixture.Keys{"gateways": []string{"192.168.1.9"}}, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.9 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main
				10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2
				10.2.0.0/24 via 10.0.0.5 dev eth0`,
		}, {
			"a static gateway, IPv6", "ip addr flush dev net1 scope global; ip addr add fd00:1::209/64 dev net1", []fixture.Keys{noGateway(v6)}, fixture.Keys{"gateways": []string{"fd00:1::9"}}, []string{"100"}, `
				32764; from fd00:1::209 lookup 100 proto 110
				100
				fd00:1::/64 dev net1 proto kernel metric 256 pref medium
				default via fd00:1::9 dev net1 proto 110 metric 1024 pref medium
				main` + eth0,
		}, {
			"static gateways, both", "ip addr add fd00:1::209/64 dev net1", []fixture.Keys{noGateway(first), noGateway(v6)}, fixture.Keys{"gateways": []string{"192.168.1.9", "fd00:1::9"}}, []string{"100", "101"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				32764; from fd00:1::209 lookup 101 proto 110
				100
				default via 192.168.1.9 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				101
				fd00:1::/64 dev net1 proto kernel metric 256 pref medium
				default via fd00:1::9 dev net1 proto 110 metric 1024 pref medium
				main` + eth0,
		}, {
			"source hints", "ip addr add fd00:1::209/64 dev net1", []fixture.Keys{first, v6}, fixture.Keys{"addSourceHints": true}, []string{"100", "101"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				32764; from fd00:1::209 lookup 101 proto 110
				100
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				101
				fd00:1::/64 dev net1 proto kernel metric 256 pref medium
				default via fd00:1::1 dev net1 proto 110 metric 1024 pref medium
				main` + eth0 + `
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				fd00:1::/64 dev net1 proto 110 src fd00:1::209 metric 1024 pref medium`,
		}, {
			// The CNI project's sbr puts IPv6 routes into the table of an IPv4 address.
			"both families", "ip addr add fd00:1::209/64 dev net1; ip -6 route add default via fd00:1::1", []fixture.Keys{first, v6}, nil, []string{"100", "101"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				32764; from fd00:1::209 lookup 101 proto 110
				100
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				101
				fd00:1::/64 dev net1 proto kernel metric 256 pref medium
				default via fd00:1::1 dev net1 metric 1024 pref medium
				main` + eth0,
		}, {
			"tables in use", "ip rule add from 172.16.0.1 lookup 100; ip route add 172.16.0.0/16 dev eth0 table 101", []fixture.Keys{first}, nil, []string{"102"}, `
				32764; from 192.168.1.209 lookup 102 proto 110
				32765; from 172.16.0.1 lookup 100
				102
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main` + eth0,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := fixture.NewSBRPod(t)
			fixture.Sh(t, p.Netns, tt.setup)
			prev := p.Prev(tt.ips...)
			before := fixture.StateOf(t, p.Node, p.Netns)
			out := p.Call("ADD", prev, tt.config).Fine(t)
			p.Shows(t, tt.want, tt.tables...)
			var result struct{ IPs, Interfaces []any }
			if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.IPs) != len(tt.ips) || len(result.Interfaces) != 1 {
				t.Errorf("prevResult is printed as %s (%v)", out, err)
			}
			// The CNI project's sbr fails when it is repeated, and leaks a rule.
			added := fixture.StateOf(t, p.Node, p.Netns)
			if again := p.Call("ADD", prev, tt.config).Fine(t); again != out {
				t.Errorf("ADD again prints %s, want %s", again, out)
			}
			fixture.Same(t, "ADD again", added, fixture.StateOf(t, p.Node, p.Netns))
			check := p.Call("CHECK", prev, tt.config, fixture.Keys{"cniVersion": "0.4.0"})
			check.Fine(t)
			prio := "32764"
			if tt.config["table"] != nil {
				prio = "32765"
			}
			fixture.Sh(t, p.Netns, "for f in -4 -6; do while ip $f rule del pref "+prio+" 2>/dev/null; do :; done; done")
			if e := check.Fails(t); !strings.Contains(e.Msg, "is missing") {
				t.Errorf("without its rules CHECK says %s", e.Msg)
			}
			p.Call("ADD", prev, tt.config).Fine(t)
			check.Fine(t)

			// The CNI project's sbr leaves the tables, and doesn't restore main.
			del := p.Call("DEL", nil, tt.config)
			if tt.config["table"] != nil {
				del = p.Call("DEL", prev, tt.config) // for an address that the NIC doesn't have
			}
			del.Fine(t)
			if lost := tt.config["gateways"] != nil && strings.Contains(tt.setup, "default via"); !lost {
				fixture.Same(t, "DEL", before.Unnumbered(), fixture.StateOf(t, p.Node, p.Netns).Unnumbered())
			}
			del.Fine(t)
		})
	}
}

// TestSBRUnchained expects an error without a prevResult, which has the addresses,
// and CNI 0.2.0 has no prevResult.
func TestSBRUnchained(t *testing.T) {
	t.Parallel()
	p := fixture.NewSBRPod(t)
	before := fixture.StateOf(t, p.Node, p.Netns)
	if e := p.Call("ADD", nil).Fails(t); e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, "prevResult: missing: route must be chained") {
		t.Errorf("without prevResult: %v", e)
	}
	if e := p.Call("ADD", nil, fixture.Keys{"cniVersion": "0.2.0"}).Fails(t); e.Code != types.ErrIncompatibleCNIVersion {
		t.Errorf("with CNI 0.2.0: %v", e)
	}
	fixture.Same(t, "ADD that was refused", before, fixture.StateOf(t, p.Node, p.Netns))
}

// TestSBRDelOfDeadPod deletes a pod without its namespace: the CNI project's sbr makes
// a file in its place, and fails.
func TestSBRDelOfDeadPod(t *testing.T) {
	t.Parallel()
	p := fixture.NewSBRPod(t)
	p.Call("ADD", p.First()).Fine(t)
	dir := t.TempDir()
	p.Call("DEL", p.First()).With("CNI_NETNS", filepath.Join(dir, "netns")).Fine(t)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("at the path of the namespace there is now %v (%v)", left, err)
	}
	p.Call("DEL", nil).With("CNI_NETNS", "").Fine(t)
}

// TestSBRDelSparesOthers checks that rules and tables of another NIC or of other
// software stay, and so do the routes of a table that the configuration names.
func TestSBRDelSparesOthers(t *testing.T) {
	t.Parallel()
	p := fixture.NewSBRPod(t)
	fixture.Sh(t, p.Netns, `
		ip rule add pref 32764 from 192.168.1.0/24 lookup 300
		ip rule add pref 32000 from 192.168.1.209 lookup 5000
		ip route add default via 192.168.1.1 table 5000
		ip route add default via 192.168.1.1 table 300
	`)
	eth0 := p.Call("ADD", fixture.Keys{"cniVersion": "0.3.0", "interfaces": []fixture.Keys{{"name": "eth0"}}, "ips": []fixture.Keys{{"version": "4", "address": "10.0.0.2/24", "interface": 0}}}).With("CNI_IFNAME", "eth0")
	eth0.Fine(t)
	before := fixture.StateOf(t, p.Node, p.Netns)
	for _, config := range []fixture.Keys{nil, {"table": 5000}} {
		p.Call("ADD", p.First(), config).Fine(t)
		p.Call("DEL", nil, config).Fine(t)
		fixture.Same(t, "DEL", before.Unnumbered(), fixture.StateOf(t, p.Node, p.Netns).Unnumbered())
	}
}

// ipamRoutes matches the routes that IPAM gives a NIC.
var ipamRoutes = regexp.MustCompile(`"routes": \[.*\]`)

// secondNIC makes a pod with a NIC in each of two LANs. macvlan and the given chain
// make the second; the first has the pod's default routes.
func secondNIC(t *testing.T, chained ...string) (*lab.Lab, *lab.Pod) {
	t.Helper()
	l, err := lab.New(lab.Ens192(), lab.Ens224())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	pod, err := l.NewPod("pod")
	if err != nil {
		t.Fatal(err)
	}
	for i, nic := range []string{"eth0", "net1"} {
		var chain []string
		if i == 1 {
			chain = chained
		}
		conflist := l.LANs[i].Conflist(chain...)
		if i == 1 {
			conflist = ipamRoutes.ReplaceAllString(conflist, `"routes": []`)
		}
		n, err := l.Network(conflist, fixture.CNIPath()...)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Add(t.Context(), pod, nic); err != nil {
			t.Fatal(err)
		}
	}
	server, err := pod.Serve(8080, fixture.Nothing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, pod
}

// fromOutside sends a request to each address of the pod from behind the router: the
// reply must leave by the NIC that has the address. The pod's own default route stays.
func fromOutside(l *lab.Lab, pod *lab.Pod) (checks []lab.Check) {
	sees := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:2::10")}
	for _, nic := range []string{"eth0", "net1"} {
		for i, a := range pod.Addrs(nic) {
			for _, network := range []string{"tcp", "udp"} {
				checks = append(checks, lab.Check{
					Name: "outside client to " + nic, Coordinator: nic == "net1", Network: network,
					From: l.Outside, To: netip.AddrPortFrom(a.Addr(), 8080), Answers: pod.Netns, Sees: sees[i],
					RequestBy: "eth0", ReplyBy: nic,
				})
			}
		}
	}
	return checks
}

// TestSBRTraffic checks that a reply leaves by the NIC that got the request. Without
// route it leaves by the pod's default route.
func TestSBRTraffic(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string][]string{
		"alone":         {`{"type": "route", "sbr": true}`},
		"with a bridge": {`{"type": "route", "master": "ens224", "bridge": "ens224.host", "sbr": true}`},
		"without":       nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, pod := secondNIC(t, chain...)
			for _, r := range lab.RunAll(fromOutside(l, pod)) {
				if want := chain == nil && r.Coordinator; (r.Err != nil) != want {
					t.Errorf("%s, %s %s: got error %v, want one: %t; %s", r.Name, r.Network, r.To, r.Err, want, r.Evidence)
				}
			}
			for _, a := range pod.Addrs("net1") {
				err := l.Node.Ping(a.Addr(), testbed.Socket{})
				if want := name == "with a bridge"; (err == nil) != want {
					t.Errorf("the node pings net1: %v, want it to: %t", err, want)
				}
			}
		})
	}
}

// TestRepairOfRoute checks that `multihome repair` restores the objects of route in a
// pod, and removes none of them.
func TestRepairOfRoute(t *testing.T) {
	t.Parallel()
	l, pod := secondNIC(t, `{"type": "route", "master": "ens224", "bridge": "ens224.host", "sbr": true}`)
	repair := func() {
		t.Helper()
		var out []byte
		err := l.Node.Run(func() (err error) {
			out, err = exec.Command(filepath.Join(fixture.Plugins, "multihome"), "repair", "--conf-dir", "").CombinedOutput()
			return err
		})
		if err != nil {
			t.Fatalf("repair: %v: %s", err, out)
		}
	}
	before := fixture.StateOf(t, l, pod.Netns)
	repair()
	fixture.Same(t, "repair of what is whole", before, fixture.StateOf(t, l, pod.Netns))
	fixture.Sh(t, pod.Netns, "ip rule flush; ip -6 rule flush; ip rule add pref 32766 lookup main; ip -6 rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
	fixture.Sh(t, l.Node.Netns, "ip link del ens224.host")
	repair()
	fixture.Same(t, "repair", before.Unnumbered(), fixture.StateOf(t, l, pod.Netns).Unnumbered())
}
