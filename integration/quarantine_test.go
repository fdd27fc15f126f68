// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/spool"
)

// TestConflictNoted: another machine of the LAN has an address that the spool gave a pod. ADD
// fails as without a spool, and the agent finds the address, the pod and the other machine's MAC in a
// note. When the spool has another address for the pod, the next ADD succeeds with it.
func TestConflictNoted(t *testing.T) {
	for i, family := range []string{"IPv4, by ARP", "IPv6, by NDP"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			l := fixture.NewLab(t, lab.Ens192())
			lan := l.LANs[0]
			chained := strings.Replace(fixture.Chained, "{", `{"detectIPConflict": true, `, 1)
			network, err := l.Network(fixture.WithIPAM(t, lan.Conflist(chained), fixture.Keys{"type": "multihome-ipam"}), fixture.CNIPath()...)
			if err != nil {
				t.Fatal(err)
			}
			serve := func(name string, n int) spool.NIC {
				nic := fixture.SpoolNIC(lan, lab.NIC, "macvlan-ens192", n)
				fixture.InSpool(t, l, func(d *spool.Directory) error {
					return spool.PutPod(d, spool.Pod{Namespace: "default", Name: name, UID: lab.PodUID(name), NICs: []spool.NIC{nic}})
				})
				return nic
			}
			fixture.AgentReady(t, l)
			taken := serve("first", 2).Addresses[i]
			mac, err := lan.Client.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			addr := taken.Address.Addr()
			if err := lan.Client.AddAddrs("eth0", netip.PrefixFrom(addr, addr.BitLen())); err != nil {
				t.Fatal(err)
			}
			first, err := l.NewPod("first")
			if err != nil {
				t.Fatal(err)
			}
			want := "addr " + addr.String() + " dev eth0: " + mac.String() + " has it already"
			if err := network.Add(t.Context(), first, lab.NIC); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("ADD says %v, want %s", err, want)
			}
			fixture.InSpool(t, l, func(d *spool.Directory) error {
				notes, err := spool.Conflicts(d)
				if len(notes) != 1 || notes[0].At.IsZero() {
					t.Fatalf("notes: %+v", notes)
				}
				n := notes[0]
				got := []string{n.Namespace, n.Pod, n.UID, n.ContainerID, n.Interface, n.Address.Address.String(), n.Address.Pool, n.MAC}
				if want := []string{"default", "first", first.UID(), first.ContainerID, "eth0", taken.Address.String(), "lan", mac.String()}; !slices.Equal(got, want) {
					t.Errorf("the note has %q, want %q", got, want)
				}
				return err
			})
			if err := network.Del(t.Context(), first, lab.NIC); err != nil {
				t.Fatal(err)
			}
			instead := serve("first", 3).Addresses[i]
			if err := network.Add(t.Context(), first, lab.NIC); err != nil {
				t.Fatal(err)
			}
			if got := first.Addrs(lab.NIC); !slices.Contains(got, instead.Address) || slices.Contains(got, taken.Address) {
				t.Errorf("the pod has %v, want %s", got, instead.Address)
			}
			fixture.Sh(t, lan.Client, "ip addr del "+addr.String()+" dev eth0")
			for n, name := range []string{"web", "app"} {
				serve(name, n)
			}
			s, err := l.NewScene(t.Context(), network)
			if err != nil {
				t.Fatal(err)
			}
			fixture.Holds(t, s)
		})
	}
}

// TestConflictOfOthers: no note is left about an address that isn't from the spool, nor without a
// spool, nor where it can't be written; ADD says the same.
func TestConflictOfOthers(t *testing.T) {
	s := fixture.NewStage(t, fixture.Only(0))
	client := s.LANs[0].Client
	a := s.Web.Addrs(lab.NIC)[0].Addr()
	if err := client.AddAddrs("eth0", netip.PrefixFrom(a, a.BitLen())); err != nil {
		t.Fatal(err)
	}
	add := func() string { return s.WebNIC.Call("ADD", fixture.Keys{"detectIPConflict": true}).Fails(t).Msg }
	want := add() // without a spool
	s.OnNode(t, "test ! -e /run/multihome/ipam")
	fixture.AgentReady(t, s.Lab)
	if got := add(); got != want {
		t.Errorf("with a spool that doesn't know the address, ADD says %q, want %q", got, want)
	}
	if lines := fixture.SpoolState(t, s.Lab); len(lines) > 0 {
		t.Errorf("the spool has %q", lines)
	}
	putClaim(t, s, claim(s))
	ipamCall(s, "ADD", fixture.Keys{"prevResult": nil}).Fine(t)
	inTheWay := spool.Dir + "/" + spool.Conflict{UID: s.Web.UID(), Interface: lab.NIC, Address: spool.Address{Address: s.Web.Addrs(lab.NIC)[0]}}.File()
	s.OnNode(t, "mkdir -p "+inTheWay+"/x")
	if got := add(); got != want {
		t.Errorf("with a note that can't be written, ADD says %q, want %q", got, want)
	}
	s.OnNode(t, "rm -r "+inTheWay)
	if got := add(); got != want {
		t.Errorf("with a spool, ADD says %q, want %q", got, want)
	}
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		notes, err := spool.Conflicts(d)
		if len(notes) != 1 {
			t.Errorf("the control: notes %+v", notes)
		}
		return err
	})
}

// TestConflictShared: an address that the spool says another pod has, too, isn't asked for: the
// source of a live migration answers for it. Other addresses are.
func TestConflictShared(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	client := s.LANs[0].Client
	var all []netip.Addr
	for _, a := range s.Web.Addrs(lab.NIC) {
		all = append(all, a.Addr())
		if err := client.AddAddrs("eth0", netip.PrefixFrom(a.Addr(), a.Addr().BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	fixture.AgentReady(t, s.Lab)
	p := claim(s)
	share := func(which ...bool) {
		for i, shared := range which {
			p.NICs[0].Addresses[i].Shared = shared
		}
		putClaim(t, s, p)
		ipamCall(s, "DEL", fixture.Keys{"prevResult": nil}).Fine(t)
		ipamCall(s, "ADD", fixture.Keys{"prevResult": nil}).Fine(t)
	}
	detect := fixture.Keys{"detectIPConflict": true}
	for i, other := range []int{1, 0} {
		share(i == 0, i == 1)
		if e := s.WebNIC.Call("ADD", detect).Fails(t); !strings.Contains(e.Msg, "addr "+all[other].String()+" dev eth0") {
			t.Errorf("with %s shared, ADD says %q", all[i], e.Msg)
		}
	}
	share(true, true)
	s.WebNIC.Add(t, detect)
}
