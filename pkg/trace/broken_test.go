// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/testbed"
	"github.com/multihome/multihome/pkg/trace"
)

// TestBroken takes away, one after the other, what keeps the ways of scenario
// multi-nic together, and wants each trace to say what that makes of them.
func TestBroken(t *testing.T) {
	s := up(t, "multi-nic")
	host := s.Web.HostEnd(lab.NIC)
	if backend(t) == "iptables" {
		return // what is broken is the same there; the goldens of the scenarios show the backend
	}
	var text bytes.Buffer
	for _, c := range []struct {
		in     *testbed.Netns
		breaks string // by ip(8) or sysctl(8)
		line   string
	}{
		{s.Web.Netns, "ip rule del pref 32763", "--to 192.0.2.10 --in veth0"},
		{s.Web.Netns, "ip rule del from 10.6.168.171", "--to 10.7.0.50 --in eth0"},
		{s.Web.Netns, "ip route del 10.96.0.0/12", "--to 10.96.0.10:80"},
		{s.Web.Netns, "ip route del 10.6.168.123 dev veth0", "--to 10.6.168.123"},
		{s.Web.Netns, "ip route del default", "--to 192.0.2.10 --in veth0"},
		{s.Web.Netns, "ip route del default", "--to 198.51.100.1"},
		{s.Web.Netns, "ip route add blackhole 198.51.100.0/24", "--to 198.51.100.1"},
		{s.Web.Netns, "sysctl -w net.ipv4.conf.veth0.rp_filter=1", "--to 192.0.2.10 --in veth0"},
		{s.Node.Netns, "ip route add 10.7.168.171 dev ens224 table 499", "--to 10.6.168.123 --from 10.7.168.171"},
		{s.Node.Netns, "ip rule add pref 999 lookup 499", "--to 10.6.168.123 --from 10.7.168.171"},
		{s.Node.Netns, "sysctl -w net.ipv4.conf." + host + ".rp_filter=0", "--to 10.6.168.123 --from 10.7.168.171"},
		{s.Node.Netns, "nft delete table inet multihome-sources", "--to 10.6.168.123 --from 10.7.168.171"},
		{s.Node.Netns, "ip -6 route del fd00:6::171 table 500", "--to fd00:6::123"},
		{s.Node.Netns, "sysctl -w net.ipv6.conf.all.forwarding=0", "--to 2001:db8:2::10 --in veth0"},
	} {
		words := strings.Fields(c.breaks)
		_ = c.in.Do(func() error {
			_ = exec.Command(words[0], words[1:]...).Run() // what is gone already is as good
			return nil
		})
		got := follow(t, s.Node.Do, s.Web, c.line)
		fmt.Fprintf(&text, "%s# %s\n$ multihome trace web %s\n", c.in.Name(), c.breaks, c.line)
		if err := report.Write(&text, "text", got); err != nil {
			t.Fatal(err)
		}
		text.WriteString("\n")
	}
	golden(t, "broken.txt", text.Bytes())
}

// TestDisagreement has a kernel that answers otherwise.
func TestDisagreement(t *testing.T) {
	space := &fib.Namespace{
		Links: []fib.Link{{Name: "lo", Up: true, Loopback: true}, {Name: "eth0", Up: true}},
		Addrs: []fib.Addr{{Dev: "eth0", Prefix: netip.MustParsePrefix("10.6.0.5/16"), Peer: netip.MustParsePrefix("10.6.0.0/16")}},
		Rules: []fib.Rule{{Rule: netstate.Rule{Family: netstate.IPv4, Priority: 32766, Table: netstate.TableMain}, Action: fib.Lookup, SuppressPrefix: -1, SuppressGroup: -1}},
		Routes: []fib.Route{
			{Kind: fib.Unicast, Table: netstate.TableMain, Dst: netip.MustParsePrefix("10.6.0.0/16"), Hops: []fib.Hop{{NextHop: fib.NextHop{Dev: "eth0"}}}},
			{Kind: fib.Local, Table: netstate.TableMain, Dst: netip.MustParsePrefix("10.6.0.5/32"), Hops: []fib.Hop{{NextHop: fib.NextHop{Dev: "eth0"}}}},
		},
	}
	w := trace.World{
		State:  inspect.State{Snapshot: netstate.NewSnapshot()},
		Spaces: map[netstate.NS]*fib.Namespace{netstate.Pod: space, netstate.Host: space},
		Ask: func(_ netstate.NS, f fib.Flow) (fib.Answer, error) {
			if f.In != "" {
				return fib.Answer{Kind: fib.Local, Table: netstate.TableMain, Dev: "lo"}, nil
			}
			return fib.Answer{Kind: fib.Unicast, Table: 1000, Dev: "vrf0"}, nil
		},
	}
	got, err := w.Do(trace.Query{Pod: "web", To: netip.MustParseAddrPort("10.6.0.9:80"), From: netip.MustParseAddr("10.6.0.5")})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(got.Err(), trace.ErrDisagrees) || got.Agreed != 1 {
		t.Errorf("got error %v, and %d decisions that agree", got.Err(), got.Agreed)
	}
	var text bytes.Buffer
	if err := report.Write(&text, "text", got); err != nil {
		t.Fatal(err)
	}
	want := "THE KERNEL DECIDES OTHERWISE: pod, 10.6.0.9 from 10.6.0.5 uid 0 ipproto 6 sport 0 dport 80: this says [unicast dev eth0 table 254 src 10.6.0.5], the kernel says unicast dev vrf0 table 1000\n"
	if !strings.HasSuffix(text.String(), want) {
		t.Errorf("got\n%s\nwant at its end\n%s", text.String(), want)
	}
}

func TestQueriesThatMakeNoSense(t *testing.T) {
	w := trace.World{State: inspect.State{Snapshot: netstate.NewSnapshot()}, Spaces: map[netstate.NS]*fib.Namespace{netstate.Pod: {}, netstate.Host: {}}}
	for line, want := range map[string]string{
		"--to 224.0.0.1":               "to 224.0.0.1: want the address of one host",
		"--to 255.255.255.255":         "to 255.255.255.255: want the address of one host",
		"--to ::":                      "to ::: want the address of one host",
		"--to 10.6.0.9 --from fd00::1": "from fd00::1 to 10.6.0.9: want two addresses of one family",
		"--to 10.6.0.9 --in net7":      "pod web has no link net7",
	} {
		if _, err := w.Do(query(t, "web", line)); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", line, err, want)
		}
	}
	for _, to := range []string{"", "10.6.0", "10.6.0.9:0", "10.6.0.9:http", "fe80::1%eth0", "web"} {
		if got, err := trace.ParseDestination(to); err == nil {
			t.Errorf("%q is %v, want an error", to, got)
		}
	}
}
