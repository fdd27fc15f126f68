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
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

// sbrPod is a pod like that of the tests of the CNI project's sbr: eth0 and net1,
// each with an address and a route, and a default by eth0.
type sbrPod struct {
	*lab.Pod
	node *lab.Lab
}

func newSBRPod(t *testing.T) *sbrPod {
	t.Helper()
	l := newLab(t, lab.Ens192())
	p, err := l.NewPod("pod")
	if err != nil {
		t.Fatal(err)
	}
	for far, nic := range map[string]string{"far0": "eth0", "far1": "net1"} {
		if err := nettest.ConnectVeth(l.Node.Netns, far, p.Netns, nic); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, p.Netns, `
		ip addr add 10.0.0.2/24 dev eth0
		ip route add 10.2.0.0/24 via 10.0.0.5
		ip route add default via 10.0.0.1
		ip addr add 192.168.1.209/24 dev net1
		ip route add 192.168.2.0/24 via 192.168.1.2
	`)
	return &sbrPod{p, l}
}

// prev is a prevResult of version 0.3.0 with addresses on net1.
func (p *sbrPod) prev(ips ...keys) keys {
	return keys{
		"cniVersion": "0.3.0", "routes": []string{}, "ips": ips,
		"interfaces": []keys{{"name": "net1", "sandbox": p.Path()}},
	}
}

// first is what most have: one address with its gateway.
func (p *sbrPod) first() keys {
	return p.prev(keys{"version": "4", "address": "192.168.1.209/24", "gateway": "192.168.1.1", "interface": 0})
}

// call is what a conflist makes of `"type": "route", "sbr": true` in the place of
// `"type": "sbr"`.
func (p *sbrPod) call(verb string, prev keys, over ...keys) call {
	conf := keys{"cniVersion": "0.3.0", "name": "cni-plugin-sbr-test", "type": "route", "sbr": true}
	if prev != nil {
		conf["prevResult"] = prev
	}
	for _, k := range over {
		for key, value := range k {
			conf[key] = value
		}
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		panic(err) // the tests' own values
	}
	return call{
		plugin: "route", on: p.node, verb: verb, stdin: stdin,
		env: map[string]string{"CNI_CONTAINERID": "dummy", "CNI_NETNS": p.Path(), "CNI_IFNAME": "net1"},
	}
}

// tables is what `ip route` says of tables, and `ip rule` of rules to others than
// the kernel's.
func (p *sbrPod) tables(t *testing.T, tables ...string) string {
	t.Helper()
	script := "ip -4 rule | grep -v 'lookup \\(local\\|main\\|default\\)' || true; ip -6 rule | grep -v 'lookup \\(local\\|main\\|default\\)' || true;"
	for _, table := range append(tables, "main") {
		script += " echo " + table + "; ip -4 route show table " + table + " 2>/dev/null || true; ip -6 route show table " + table + " 2>/dev/null | grep -v ^fe80 || true;"
	}
	return tidy(sh(t, p.Netns, script))
}

// shows compares that with what is wanted.
func (p *sbrPod) shows(t *testing.T, want string, tables ...string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, strings.ReplaceAll(line, "; ", ":\t"))
		}
	}
	got := strings.Split(strings.TrimSpace(p.tables(t, tables...)), "\n")
	if d := cmp.Diff(lines, got); d != "" {
		t.Errorf("rules and routes (-want +got):\n%s", d)
	}
}

// TestSBR are the cases of the tests of the CNI project's sbr. What is the same
// for its users: the numbers of the tables, what is in them, and what is not in
// main any more. What differs on purpose: the rules' priority is explicit, and what
// is ours has our protocol.
func TestSBR(t *testing.T) {
	const eth0 = `
		default via 10.0.0.1 dev eth0
		10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2
		10.2.0.0/24 via 10.0.0.5 dev eth0`
	second := keys{"version": "4", "address": "192.168.101.209/24", "gateway": "192.168.101.1", "interface": 1}
	v6 := keys{"version": "6", "address": "fd00:1::209/64", "gateway": "fd00:1::1", "interface": 0}
	noGateway := func(ip keys) keys {
		out := keys{}
		for k, v := range ip {
			if k != "gateway" {
				out[k] = v
			}
		}
		return out
	}
	first := keys{"version": "4", "address": "192.168.1.209/24", "gateway": "192.168.1.1", "interface": 0}
	for _, tt := range []struct {
		name   string
		setup  string
		ips    []keys
		config keys
		tables []string
		want   string
	}{
		{
			"a 0.3.0 configuration", "", []keys{first}, nil, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.1 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main` + eth0,
		}, {
			"a default route that is set already", "ip route del default; ip route del 10.2.0.0/24; ip route add default via 192.168.1.1", []keys{first}, nil, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.1 dev net1
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main
				10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2`,
		}, {
			"several addresses", "ip addr add 192.168.101.209/24 dev net1", []keys{first, second}, nil, []string{"100", "101"}, `
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
			"a table", "", []keys{{"address": "192.168.1.209/24", "interface": 0}, {"address": "192.168.101.209/24", "interface": 0}}, keys{"table": 5000}, []string{"5000"}, `
				32765; from 192.168.1.209 lookup 5000 proto 110
				32765; from 192.168.101.209 lookup 5000 proto 110
				5000
				main` + eth0 + `
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1`,
		}, {
			"a static gateway, IPv4", "", []keys{noGateway(first)}, keys{"gateways": []string{"192.168.1.9"}}, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.9 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main` + eth0,
		}, {
			"a static gateway in the place of another", "ip route del default; ip route add default via 192.168.1.1", []keys{first}, keys{"gateways": []string{"192.168.1.9"}}, []string{"100"}, `
				32764; from 192.168.1.209 lookup 100 proto 110
				100
				default via 192.168.1.9 dev net1 proto 110
				192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209
				192.168.2.0/24 via 192.168.1.2 dev net1
				main
				10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2
				10.2.0.0/24 via 10.0.0.5 dev eth0`,
		}, {
			"a static gateway, IPv6", "ip addr flush dev net1 scope global; ip addr add fd00:1::209/64 dev net1", []keys{noGateway(v6)}, keys{"gateways": []string{"fd00:1::9"}}, []string{"100"}, `
				32764; from fd00:1::209 lookup 100 proto 110
				100
				fd00:1::/64 dev net1 proto kernel metric 256 pref medium
				default via fd00:1::9 dev net1 proto 110 metric 1024 pref medium
				main` + eth0,
		}, {
			"static gateways, both", "ip addr add fd00:1::209/64 dev net1", []keys{noGateway(first), noGateway(v6)}, keys{"gateways": []string{"192.168.1.9", "fd00:1::9"}}, []string{"100", "101"}, `
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
			"source hints", "ip addr add fd00:1::209/64 dev net1", []keys{first, v6}, keys{"addSourceHints": true}, []string{"100", "101"}, `
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
			// The CNI project's puts IPv6 routes into the table of an IPv4 address.
			"both families", "ip addr add fd00:1::209/64 dev net1; ip -6 route add default via fd00:1::1", []keys{first, v6}, nil, []string{"100", "101"}, `
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
			"tables in use", "ip rule add from 172.16.0.1 lookup 100; ip route add 172.16.0.0/16 dev eth0 table 101", []keys{first}, nil, []string{"102"}, `
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
			p := newSBRPod(t)
			sh(t, p.Netns, tt.setup)
			prev := p.prev(tt.ips...)
			before := stateOf(t, p.node, p.Netns)
			out := p.call("ADD", prev, tt.config).fine(t)
			p.shows(t, tt.want, tt.tables...)
			var result struct{ IPs, Interfaces []any }
			if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.IPs) != len(tt.ips) || len(result.Interfaces) != 1 {
				t.Errorf("prevResult comes out as %s (%v)", out, err)
			}
			// The CNI project's fails when it is repeated, and leaks a rule.
			added := stateOf(t, p.node, p.Netns)
			if again := p.call("ADD", prev, tt.config).fine(t); again != out {
				t.Errorf("ADD again prints %s, want %s", again, out)
			}
			same(t, "ADD again", added, stateOf(t, p.node, p.Netns))
			check := p.call("CHECK", prev, tt.config, keys{"cniVersion": "0.4.0"})
			check.fine(t)
			prio := "32764"
			if tt.config["table"] != nil {
				prio = "32765"
			}
			sh(t, p.Netns, "for f in -4 -6; do while ip $f rule del pref "+prio+" 2>/dev/null; do :; done; done")
			if e := check.fails(t); !strings.Contains(e.Msg, "is missing") {
				t.Errorf("without its rules CHECK says %s", e.Msg)
			}
			p.call("ADD", prev, tt.config).fine(t)
			check.fine(t)

			// The CNI project's leaves the tables, and doesn't give main back its own.
			del := p.call("DEL", nil, tt.config)
			if tt.config["table"] != nil {
				del = p.call("DEL", prev, tt.config) // for an address that the NIC hasn't
			}
			del.fine(t)
			if lost := tt.config["gateways"] != nil && strings.Contains(tt.setup, "default via"); !lost {
				same(t, "DEL", before.unnumbered(), stateOf(t, p.node, p.Netns).unnumbered())
			}
			del.fine(t)
		})
	}
}

// TestSBRUnchained: without a prevResult there is nothing to route by, and CNI
// 0.2.0 has none.
func TestSBRUnchained(t *testing.T) {
	t.Parallel()
	p := newSBRPod(t)
	before := stateOf(t, p.node, p.Netns)
	if e := p.call("ADD", nil).fails(t); e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, "prevResult: missing: route must be chained") {
		t.Errorf("without prevResult: %v", e)
	}
	if e := p.call("ADD", nil, keys{"cniVersion": "0.2.0"}).fails(t); e.Code != types.ErrIncompatibleCNIVersion {
		t.Errorf("with CNI 0.2.0: %v", e)
	}
	same(t, "ADD that was refused", before, stateOf(t, p.node, p.Netns))
}

// TestSBRDelOfDeadPod: the CNI project's makes a file where the namespace was, and
// fails.
func TestSBRDelOfDeadPod(t *testing.T) {
	t.Parallel()
	p := newSBRPod(t)
	p.call("ADD", p.first()).fine(t)
	dir := t.TempDir()
	p.call("DEL", p.first()).with("CNI_NETNS", filepath.Join(dir, "netns")).fine(t)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("where the namespace was there is %v (%v)", left, err)
	}
	p.call("DEL", nil).with("CNI_NETNS", "").fine(t)
}

// TestSBRDelSparesOthers: rules and tables that are another NIC's or somebody's
// stay, and so does what is in a table that the configuration names.
func TestSBRDelSparesOthers(t *testing.T) {
	t.Parallel()
	p := newSBRPod(t)
	sh(t, p.Netns, `
		ip rule add pref 32764 from 192.168.1.0/24 lookup 300
		ip rule add pref 32000 from 192.168.1.209 lookup 5000
		ip route add default via 192.168.1.1 table 5000
		ip route add default via 192.168.1.1 table 300
	`)
	eth0 := p.call("ADD", keys{"cniVersion": "0.3.0", "interfaces": []keys{{"name": "eth0"}}, "ips": []keys{{"version": "4", "address": "10.0.0.2/24", "interface": 0}}}).with("CNI_IFNAME", "eth0")
	eth0.fine(t)
	before := stateOf(t, p.node, p.Netns)
	for _, config := range []keys{nil, {"table": 5000}} {
		p.call("ADD", p.first(), config).fine(t)
		p.call("DEL", nil, config).fine(t)
		same(t, "DEL", before.unnumbered(), stateOf(t, p.node, p.Netns).unnumbered())
	}
}

// ipamRoutes are those that IPAM gives a NIC.
var ipamRoutes = regexp.MustCompile(`"routes": \[.*\]`)

// secondNIC is a pod with a NIC in each of two LANs, of which the second is made by
// macvlan and whatever is chained to it; the first has the pod's default routes.
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
		n, err := l.Network(conflist, cniPath()...)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Add(t.Context(), pod, nic); err != nil {
			t.Fatal(err)
		}
	}
	server, err := pod.Serve(8080, nothing)
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

// fromOutside asks each address of the pod from behind the router: the answer must
// leave by the NIC that has the address. And the pod's own way out stays.
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

// TestSBRTraffic: an answer leaves by the NIC that was asked. Without route it
// leaves by the pod's default.
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
				err := l.Node.Ping(a.Addr(), nettest.Socket{})
				if want := name == "with a bridge"; (err == nil) != want {
					t.Errorf("the node pings net1: %v, want it to: %t", err, want)
				}
			}
		})
	}
}

// TestRepairOfRoute: `multihome repair` gives a pod back what route made, and takes
// nothing away of it.
func TestRepairOfRoute(t *testing.T) {
	t.Parallel()
	l, pod := secondNIC(t, `{"type": "route", "master": "ens224", "bridge": "ens224.host", "sbr": true}`)
	repair := func() {
		t.Helper()
		var out []byte
		err := l.Node.Run(func() (err error) {
			out, err = exec.Command(filepath.Join(plugins, "multihome"), "repair", "--conf-dir", "").CombinedOutput()
			return err
		})
		if err != nil {
			t.Fatalf("repair: %v: %s", err, out)
		}
	}
	before := stateOf(t, l, pod.Netns)
	repair()
	same(t, "repair of what is whole", before, stateOf(t, l, pod.Netns))
	sh(t, pod.Netns, "ip rule flush; ip -6 rule flush; ip rule add pref 32766 lookup main; ip -6 rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
	sh(t, l.Node.Netns, "ip link del ens224.host")
	repair()
	same(t, "repair", before.unnumbered(), stateOf(t, l, pod.Netns).unnumbered())
}
