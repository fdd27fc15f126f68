// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// script is what is done to two namespaces, one line after the other: "+" adds
// the object of the line, "-" deletes it, "!" adds one that can't be added.
const script = `
+ host: link vetha address 02:00:00:00:00:01 mtu 1400 txqueuelen 700 group 109 up alias "multihome:net/pod/eth0" type veth peer name veth0 netns pod address 02:00:00:00:00:02
! host: link vetha address 02:00:00:00:00:01 up alias "multihome:net/pod/eth0" type veth peer name veth1 netns pod address 02:00:00:00:00:02
! host: link vethb address 02:00:00:00:00:03 type veth peer name veth0 netns pod address 02:00:00:00:00:04
! pod: route 10.6.0.5 dev veth0 proto multihome scope link
! pod: route 10.6.0.5 dev nowhere proto multihome scope link
! host: neigh 10.6.0.9 dev nowhere lladdr 02:00:00:00:00:02 nud permanent
+ pod: link veth0 up
+ pod: addr 10.9.0.2/24 dev veth0
! pod: route 192.168.0.0/16 via 10.6.0.5 dev veth0 proto multihome
! pod: route 10.6.0.5 dev veth0 proto multihome scope link src 10.9.0.77
+ pod: route 10.6.0.5 dev veth0 proto multihome scope link src 10.9.0.2
! pod: route 10.6.0.5 dev veth0 proto boot scope link
+ pod: route 192.168.0.0/16 via 10.6.0.5 dev veth0 table 100 proto multihome src 10.9.0.2
+ pod: -6 route fd00:6::5 dev veth0 proto multihome metric 1024
+ pod: -6 route default via fd00:6::5 dev veth0 table 300 proto multihome metric 1024
+ pod: route default via 10.77.0.1 dev veth0 table 101 proto static metric 50 onlink
+ pod: rule pref 32763 from all fwmark 0x40/0x40 lookup 100 proto multihome
+ pod: -6 rule pref 32764 from fd00::1 lookup 300 proto multihome
+ pod: rule pref 32765 from all to 10.9.0.2/24 lookup 101 proto multihome
+ host: rule pref 1000 from all lookup 500 proto multihome
+ host: route 10.9.0.2 dev vetha table 500 proto multihome scope link
+ host: neigh 10.9.0.2 dev vetha lladdr 02:00:00:00:00:02 nud permanent
+ pod: neigh fd00:6::5 dev veth0 lladdr 02:00:00:00:00:01 nud permanent
+ host: sysctl net/ipv4/conf/vetha/rp_filter=1
+ pod: sysctl net/ipv6/conf/veth0/accept_ra=0
- pod: route 192.168.0.0/16 via 10.6.0.5 dev veth0 table 100 proto multihome src 10.9.0.2
- pod: rule pref 32763 from all fwmark 0x40/0x40 lookup 100 proto multihome
- host: neigh 10.9.0.2 dev vetha lladdr 02:00:00:00:00:02 nud permanent
- host: link vetha address 02:00:00:00:00:01 mtu 1400 txqueuelen 700 group 109 up alias "multihome:net/pod/eth0" type veth peer name veth0 netns pod address 02:00:00:00:00:02
`

// nftScript is a script of what needs a kernel whose nf_tables knows the family inet.
const nftScript = `
+ host: nft table inet multihome-sources
- host: nft table inet multihome-sources
`

func TestSimulatorDoesWhatTheKernelDoes(t *testing.T) { runOnBoth(t, script) }

func TestSimulatorDoesWhatNftablesDoes(t *testing.T) { runOnBoth(t, nftScript) }

// runOnBoth runs a script on the simulator and on the kernel, and compares what they
// hold after every line.
func runOnBoth(t *testing.T, script string) {
	t.Helper()
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	err = node.Do(func() error {
		k, err := kernel.Open(pod.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		compare(t, k, script)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, k *kernel.Namespaces, script string) {
	t.Helper()
	simulated := netstate.NewSnapshot()
	var named netstate.Plan // all that the script makes
	for line := range strings.Lines(strings.TrimSpace(script)) {
		line = strings.TrimSpace(line)
		ns, o, err := netstate.Parse(line[2:])
		if err != nil {
			t.Fatal(err)
		}
		if line[0] != '!' {
			named.Want(ns, "", o)
		}
		op := netstate.Op{NS: ns, After: o}
		have, there := object(simulated, ns, o)
		switch l, isLink := o.(netstate.Link); {
		case line[0] == '-':
			op = netstate.Op{NS: ns, Before: have}
		case line[0] == '+' && isLink && there: // the far end of a pair
			up := have.(netstate.Link)
			up.Up = l.Up
			op.Before, op.After = have, up
		}
		theirs, ours := k.Apply([]netstate.Op{op}), simulated.Apply(op)
		if wantErr := line[0] == '!'; (ours != nil) != wantErr || (theirs != nil) != wantErr {
			t.Fatalf("%s\nsimulator: %v\nkernel: %v", line, ours, theirs)
		}
		if d := cmp.Diff(simulated.Lines(), held(t, k, named, simulated)); d != "" {
			t.Fatalf("%s (-simulator +kernel):\n%s", line, d)
		}
	}
}

func object(s *netstate.Snapshot, ns netstate.NS, o netstate.Object) (netstate.Object, bool) {
	for _, line := range s.Lines() {
		if n, have, err := netstate.Parse(line); err == nil && n == ns && have.Key() == o.Key() {
			return have, true
		}
	}
	return nil, false
}

// held reads what the kernel has of the script's objects. What the kernel makes
// by itself (routes of an address, link-local addresses, rules of its own) is no
// business of the simulator.
func held(t *testing.T, k *kernel.Namespaces, named netstate.Plan, simulated *netstate.Snapshot) []string {
	t.Helper()
	snap := netstate.NewSnapshot()
	if err := k.ReadPod(snap); err != nil {
		t.Fatal(err)
	}
	if err := k.Complete(snap, named); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, i := range named.Present {
		keys = append(keys, netstate.Line(i.NS, i.Object.Key()))
	}
	var out []string
	for _, line := range snap.Lines() {
		ns, o, err := netstate.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		_, known := object(simulated, ns, o)
		// A setting that nobody wrote the simulator knows nothing of.
		if !known && (o.Kind() == netstate.KindSysctl || !slices.Contains(keys, netstate.Line(ns, o.Key()))) {
			continue
		}
		out = append(out, line)
	}
	return out
}

// TestNodeAddrs: the source towards the pod comes first, and addresses that
// aren't the node's own don't come. Its subnets are those of links that lead out of it.
func TestNodeAddrs(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	addrs := map[string][]string{
		"ens192":    {"10.6.168.123/16", "fd00:6::123/64", "10.6.200.1/32"},
		"ens224":    {"10.7.0.5/16", "fd00:7::5/64"},
		"kube-ipvs": {"10.96.0.1/32", "fd00:10:96::1/128"},
		"cali123":   {"10.244.0.1/32"},
	}
	for link, list := range addrs {
		name := link
		if link == "kube-ipvs" {
			name = "kube-ipvs0"
		}
		if err := testbed.ConnectVeth(node, name, node, "far"+link); err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if err := node.AddAddrs(name, netip.MustParsePrefix(a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := node.AddBridge("br-pods"); err != nil {
		t.Fatal(err)
	}
	if err := node.AddAddrs("br-pods", netip.MustParsePrefix("10.244.1.1/24")); err != nil {
		t.Fatal(err)
	}
	wantSubnets := []string{"10.6.168.123/16", "10.7.0.5/16", "fd00:6::123/64", "fd00:7::5/64"}
	for _, tt := range []struct {
		pod  []string
		want []string
	}{
		{[]string{"10.6.0.172/16"}, []string{"10.6.168.123", "10.6.200.1", "10.7.0.5", "10.244.1.1", "fd00:6::123", "fd00:7::5"}},
		{[]string{"10.7.0.9/16", "fd00:7::9/64"}, []string{"10.7.0.5", "fd00:7::5", "10.6.168.123", "10.6.200.1", "10.244.1.1", "fd00:6::123"}},
		{[]string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"10.6.168.123", "10.6.200.1", "10.7.0.5", "10.244.1.1", "fd00:6::123", "fd00:7::5"}},
	} {
		var pod []netip.Prefix
		for _, a := range tt.pod {
			pod = append(pod, netip.MustParsePrefix(a))
		}
		var got []string
		err := node.Do(func() error {
			k, err := kernel.OpenHost()
			if err != nil {
				return err
			}
			defer k.Close()
			list, subnets, err := k.NodeAddrs(pod)
			for _, a := range list {
				got = append(got, a.String())
			}
			var of []string
			for _, p := range subnets {
				of = append(of, p.String())
			}
			slices.Sort(of)
			if !slices.Equal(of, wantSubnets) {
				t.Errorf("towards %v: subnets %v, want %v", tt.pod, of, wantSubnets)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("towards %v (-want +got):\n%s", tt.pod, d)
		}
	}
}
