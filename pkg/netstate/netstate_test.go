// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines are objects of every kind as Line prints them.
var lines = []string{
	`host: link vethabc address 02:00:00:00:00:01 mtu 1500 up alias "multihome:net/pod/eth0" type veth peer name veth0 netns pod address 02:00:00:00:00:02`,
	`host: link ens192.host link ens192 mtu 9000 txqueuelen 500 up type macvlan`,
	`host: link vethport master cni0 type veth`,
	`host: link ens192.100 link ens192 mtu 1500 up alias "multihome:ifacer" type vlan protocol 802.1Q id 100`,
	`host: link bond0 up type bond mode active-backup miimon 100 arp_ip_target 10.0.0.1,10.0.0.2`,
	`pod: addr 10.6.0.172/16 dev eth0`,
	`pod: addr 2001:db8::1/64 dev eth0 dynamic tentative`,
	`pod: route default via 10.6.0.1 dev eth0`,
	`pod: -6 route default via fe80::1 dev eth0 proto ra metric 1024`,
	`pod: route 10.6.0.5 dev veth0 proto multihome scope link src 10.6.0.172`,
	`pod: route 10.96.0.0/12 via 10.6.0.5 dev veth0 table 100 proto multihome metric 7 onlink`,
	`pod: -6 route fd00:10:96::/108 via fd00::5 dev veth0 proto multihome src fd00::1 metric 1024`,
	`pod: rule pref 32763 from all fwmark 0x10000000/0x10000000 lookup 100 proto multihome`,
	`pod: -6 rule pref 32764 from fd00::1 to fd00::/64 lookup main proto kernel`,
	`host: neigh 10.6.0.172 dev vethabc lladdr 02:00:00:00:00:02 nud permanent`,
	`pod: neigh fd00::5 dev veth0 lladdr 02:00:00:00:00:01`,
	`host: sysctl net/ipv4/conf/eth0.100/rp_filter=1`,
	`pod: sysctl net/ipv6/conf/veth0/accept_ra=0`,
	`pod: nft table inet multihome iifname veth0 mark 0x10000000`,
	`pod: nft table inet multihome iifname eth0 from 02:00:00:00:00:01 mark 0x40`,
	`pod: nft table inet multihome damaged "chain output"`,
	`pod: iptables table mangle iifname veth0 mark 0x10000000`,
	`pod: ip6tables table mangle iifname eth0 from 02:00:00:00:00:0a mark 0x1`,
	`host: link vethdef group 109 up type veth`,
	`host: nft table inet multihome-sources`,
	`host: nft table inet multihome-sources damaged "chain prerouting"`,
	`pod: iptables table mangle damaged "no -A OUTPUT -j MULTIHOME-OUTPUT"`,
}

func TestParseReadsWhatLinePrints(t *testing.T) {
	for _, line := range lines {
		ns, o, err := Parse(line)
		if err != nil {
			t.Errorf("Parse: %v", err)
			continue
		}
		if got := Line(ns, o); got != line {
			t.Errorf("Line(Parse(line)):\n got %s\nwant %s", got, line)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"nowhere: link eth0", "host or pod"},
		{"pod: tunnel eth0", `"tunnel"`},
		{"pod: link", "missing"},
		{"pod: link eth0 mtu many", "many"},
		{"pod: route 10.0.0.0/33 dev eth0", "/33"},
		{"pod: route default dev eth0 colour red", `"colour"`},
		{"pod: rule pref 1 from all fwmark 1 lookup 5", "invalid syntax"},
		{"pod: neigh 10.0.0.1 lladdr 02:00", "six bytes"},
		{"pod: sysctl kernel/hostname=1", "net/ipv4/conf"},
		{"pod: nft table inet other iifname veth0 mark 0x1", `want "multihome"`},
		{"pod: ip6tables table mangle mark 0x1", "missing"},
	} {
		if _, _, err := Parse(tt.line); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", tt.line, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range lines {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		ns, o, err := Parse(line)
		if err != nil {
			return
		}
		printed := Line(ns, o)
		ns2, o2, err := Parse(printed)
		if err != nil {
			t.Fatalf("%q prints as %q, which is not read: %v", line, printed, err)
		}
		if again := Line(ns2, o2); again != printed {
			t.Errorf("%q prints as %q, which is read as %q", line, printed, again)
		}
	})
}

// parse builds a snapshot, or a plan's items, of lines.
func parse(t testing.TB, text string) (items []Item) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		ns, o, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, Item{NS: ns, Object: o})
	}
	return items
}

func snapshot(t testing.TB, text string) *Snapshot {
	t.Helper()
	s := NewSnapshot()
	for _, i := range parse(t, text) {
		s.Put(i.NS, i.Object)
	}
	return s
}

func TestDiff(t *testing.T) {
	const eth0 = `
		pod: link eth0 mtu 1500 up type macvlan
		pod: addr 10.6.0.172/16 dev eth0
	`
	for _, tt := range []struct {
		name, have, want, absent string
		ops                      []string
	}{{
		name: "a pair comes whole, and its far end is then set up",
		want: `
			host: link vethabc address 02:00:00:00:00:01 mtu 1400 up type veth peer name veth0 netns pod address 02:00:00:00:00:02
			pod: link veth0 address 02:00:00:00:00:02 mtu 1400 up type veth peer name vethabc netns host address 02:00:00:00:00:01`,
		ops: []string{
			"host: ip link add vethabc address 02:00:00:00:00:01 mtu 1400 up type veth peer name veth0 netns pod address 02:00:00:00:00:02",
			"pod: ip link set veth0 up",
		},
	}, {
		name: "what a plan leaves open is left as it is",
		have: eth0,
		want: `pod: link eth0 up`,
	}, {
		name: "only what differs is set",
		have: eth0,
		want: `pod: link eth0 address 02:00:00:00:00:09 mtu 1500 txqueuelen 77`,
		ops:  []string{"pod: ip link set eth0 address 02:00:00:00:00:09 txqueuelen 77"},
	}, {
		name: "a route with another source is replaced",
		have: eth0 + `pod: route 10.6.0.5 dev eth0 proto multihome scope link`,
		want: `pod: route 10.6.0.5 dev eth0 proto multihome scope link src 10.6.0.172`,
		ops:  []string{"pod: ip route replace 10.6.0.5 dev eth0 proto multihome scope link src 10.6.0.172"},
	}, {
		name: "a route of ours by another link is replaced",
		have: eth0 + `
			pod: link net1 up
			pod: route 10.6.0.5 dev net1 proto multihome scope link`,
		want: `pod: route 10.6.0.5 dev eth0 proto multihome scope link`,
		ops:  []string{"pod: ip route replace 10.6.0.5 dev eth0 proto multihome scope link"},
	}, {
		name: "what somebody else already does is good",
		have: eth0 + `
			pod: route 10.6.0.5 dev eth0 scope link
			host: rule pref 1000 from all lookup 500 proto static`,
		want: `
			pod: route 10.6.0.5 dev eth0 proto multihome scope link
			host: rule pref 1000 from all lookup 500 proto multihome`,
	}, {
		name: "what somebody else does with a source that the kernel chooses is good",
		have: eth0 + `pod: route 10.244.0.0/16 via 10.6.0.1 dev eth0`,
		want: `pod: route 10.244.0.0/16 via 10.6.0.1 dev eth0 proto multihome src 10.6.0.172`,
	}, {
		name: "a neighbour that was learnt becomes permanent",
		have: eth0 + `pod: neigh 10.6.0.5 dev eth0 lladdr 02:00:00:00:00:01`,
		want: `pod: neigh 10.6.0.5 dev eth0 lladdr 02:00:00:00:00:01 nud permanent`,
		ops:  []string{"pod: ip neigh replace 10.6.0.5 dev eth0 lladdr 02:00:00:00:00:01 nud permanent"},
	}, {
		name:   "additions come before deletions",
		have:   eth0 + `pod: route default via 10.6.0.1 dev eth0`,
		want:   `pod: route default via 10.6.0.1 dev eth0 table 101 proto multihome`,
		absent: `pod: route default via 10.6.0.1 dev eth0`,
		ops: []string{
			"pod: ip route add default via 10.6.0.1 dev eth0 table 101 proto multihome",
			"pod: ip route del default via 10.6.0.1 dev eth0",
		},
	}, {
		name: "a foreign route that shall go is replaced by the one in its place",
		have: eth0 + `
			pod: link net1 up
			pod: addr 10.7.0.2/16 dev net1
			pod: route default via 10.6.0.1 dev eth0`,
		want:   `pod: route default via 10.7.0.1 dev net1 proto multihome`,
		absent: `pod: route default via 10.6.0.1 dev eth0`,
		ops:    []string{"pod: ip route replace default via 10.7.0.1 dev net1 proto multihome"},
	}, {
		name: "a link of ours that is the wrong one is made anew, and what was on it named",
		have: `
			host: link vethabc up alias "multihome:net/pod/eth0" type veth
			host: route 10.6.0.172 dev vethabc table 500 proto multihome scope link`,
		want: `
			host: link vethabc up alias "multihome:net/pod/eth0" type veth peer name veth0 netns pod
			host: route 10.6.0.172 dev vethabc table 500 proto multihome scope link`,
		ops: []string{
			"host: ip route del 10.6.0.172 dev vethabc table 500 proto multihome scope link",
			"host: ip link del vethabc",
			`host: ip link add vethabc up alias "multihome:net/pod/eth0" type veth peer name veth0 netns pod`,
			"host: ip route add 10.6.0.172 dev vethabc table 500 proto multihome scope link",
		},
	}, {
		name: "a damaged table is replaced whole",
		have: `pod: nft table inet multihome damaged "chain output"`,
		want: `pod: nft table inet multihome iifname veth0 mark 0x10000000`,
		ops: []string{"pod: nft 'delete table inet multihome; " +
			strings.TrimSpace(Mark{Dev: "veth0", Bits: 0x10000000}.Ruleset()) + "'"},
	}, {
		name:   "one backend takes over from the other",
		have:   `pod: nft table inet multihome iifname veth0 mark 0x1`,
		want:   `pod: iptables table mangle iifname veth0 mark 0x1`,
		absent: `pod: nft table inet multihome iifname veth0 mark 0x1`,
		ops: []string{"pod: iptables-restore --noflush <<END\n" +
			"*mangle\n" +
			":MULTIHOME-PREROUTING - [0:0]\n" +
			":MULTIHOME-OUTPUT - [0:0]\n" +
			"-I PREROUTING -j MULTIHOME-PREROUTING\n" +
			"-I OUTPUT -j MULTIHOME-OUTPUT\n" +
			"-A MULTIHOME-PREROUTING -i veth0 -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x1/0x1\n" +
			"-A MULTIHOME-PREROUTING -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1\n" +
			"-A MULTIHOME-OUTPUT -m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1\n" +
			"COMMIT\nEND",
			"pod: nft delete table inet multihome"},
	}, {
		name:   "chains go jumps first, for each family by its own program",
		have:   `pod: ip6tables table mangle iifname veth0 mark 0x1`,
		absent: `pod: ip6tables table mangle iifname veth0 mark 0x1`,
		ops: []string{"pod: ip6tables -t mangle -D OUTPUT -j MULTIHOME-OUTPUT; " +
			"ip6tables -t mangle -F MULTIHOME-OUTPUT; ip6tables -t mangle -X MULTIHOME-OUTPUT; " +
			"ip6tables -t mangle -D PREROUTING -j MULTIHOME-PREROUTING; " +
			"ip6tables -t mangle -F MULTIHOME-PREROUTING; ip6tables -t mangle -X MULTIHOME-PREROUTING"},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			have := snapshot(t, tt.have)
			plan := Plan{Present: parse(t, tt.want), Absent: parse(t, tt.absent)}
			ops, err := Diff(plan, have)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, op := range ops {
				got = append(got, op.String())
			}
			if d := cmp.Diff(tt.ops, got); d != "" {
				t.Errorf("ops (-want +got):\n%s", d)
			}
			check(t, plan, have, ops)
		})
	}
}

func TestDiffConflicts(t *testing.T) {
	for _, tt := range []struct{ name, have, want, err string }{{
		"a link that isn't ours", `host: link vethabc up type bridge`,
		`host: link vethabc up type veth peer name veth0 netns pod`,
		"host: link vethabc up type bridge is in the way of vethabc up type veth peer name veth0 netns pod",
	}, {
		"a far end that isn't ours", `pod: link veth0 up type dummy`,
		`host: link vethabc up type veth peer name veth0 netns pod`,
		"pod: link veth0 up type dummy is in the way of veth0 type veth peer name vethabc netns host",
	}, {
		"a route to another pod", "host: link vetha up\nhost: link vethb up alias \"multihome:net/pod-b/eth0\"\nhost: route 10.6.0.5 dev vethb proto multihome scope link",
		`host: route 10.6.0.5 dev vetha proto multihome scope link`,
		`host: route 10.6.0.5 dev vethb proto multihome scope link (link vethb up alias "multihome:net/pod-b/eth0") is in the way of 10.6.0.5 dev vetha proto multihome scope link`,
	}, {
		"a route that isn't ours", "pod: link eth0 up\npod: link veth0 up\npod: route 10.6.0.5 dev eth0 scope link",
		`pod: route 10.6.0.5 dev veth0 proto multihome scope link`,
		"pod: route 10.6.0.5 dev eth0 scope link is in the way of 10.6.0.5 dev veth0 proto multihome scope link",
	}, {
		"a route that isn't ours, with another source", "pod: link eth0 up\npod: route 10.6.0.5 dev eth0 scope link src 10.6.0.9",
		`pod: route 10.6.0.5 dev eth0 proto multihome scope link src 10.6.0.172`,
		"pod: route 10.6.0.5 dev eth0 scope link src 10.6.0.9 is in the way of 10.6.0.5 dev eth0 proto multihome scope link src 10.6.0.172",
	}} {
		t.Run(tt.name, func(t *testing.T) {
			ops, err := Diff(Plan{Present: parse(t, tt.want)}, snapshot(t, tt.have))
			var conflict *Conflict
			if !errors.As(err, &conflict) || err.Error() != tt.err {
				t.Errorf("Diff = %v, %v, want the conflict %q", ops, err, tt.err)
			}
		})
	}
}

func TestApplyRefusesWhatTheKernelRefuses(t *testing.T) {
	const have = `
		pod: link eth0 up
		pod: link down0
		pod: addr 10.6.0.172/16 dev eth0
		pod: route 10.6.0.0/16 dev eth0 proto kernel scope link`
	for _, tt := range []struct {
		add  string
		want error
	}{
		{"pod: link eth0 up", ErrExists},
		{"pod: link v link nowhere type macvlan", ErrNoDevice},
		{"host: link v type veth peer name eth0 netns pod", ErrExists},
		{"pod: route 10.9.0.0/16 dev nowhere", ErrNoDevice},
		{"pod: route 10.9.0.0/16 dev down0", ErrNetworkDown},
		{"pod: route 10.6.0.0/16 dev eth0 scope link", ErrExists},
		{"pod: route 10.9.0.0/16 via 10.7.0.1 dev eth0", ErrUnreachable},
		{"pod: route 10.9.0.0/16 via 10.6.0.1 dev eth0 src 10.6.0.9", ErrInvalidSrc},
		{"pod: route 10.9.0.0/16 via 10.6.0.1 dev eth0 src 10.6.0.172", nil},
		{"pod: route 10.9.0.0/16 via 10.7.0.1 dev eth0 onlink", nil},
		{"pod: neigh 10.6.0.1 dev nowhere lladdr 02:00:00:00:00:01", ErrNoDevice},
	} {
		add := parse(t, tt.add)[0]
		if err := snapshot(t, have).Apply(Op{NS: add.NS, After: add.Object}); !errors.Is(err, tt.want) {
			t.Errorf("add %s: %v, want %v", tt.add, err, tt.want)
		}
	}
	route := Route{Table: TableMain, Dst: netip.MustParsePrefix("10.1.0.0/16"), Dev: "eth0"}
	if err := snapshot(t, have).Apply(Op{NS: Pod, Before: route}); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete of a missing route: %v, want %v", err, ErrNotFound)
	}
}

// check holds ops to the engine's properties: they can be carried out one after
// the other, they lead to the plan (fixpoint, idempotence), their reverse leads
// back (reversibility), and what the plan doesn't name is as it was (locality).
func check(t testing.TB, plan Plan, before *Snapshot, ops []Op) {
	t.Helper()
	original := before.Clone()
	after := before.Clone()
	for _, op := range ops {
		if err := after.Apply(op); err != nil {
			t.Fatalf("%v\nof %v\non\n%s", err, ops, strings.Join(before.Lines(), "\n"))
		}
	}
	if again, err := Diff(plan, after); err != nil || len(again) > 0 {
		t.Fatalf("not a fixpoint: %v %v\nafter %v", again, err, ops)
	}
	touched := map[keyInNamespace]bool{}
	for _, op := range ops {
		for _, o := range []Object{op.Before, op.After} {
			if o != nil {
				touched[keyInNamespace{op.NS, o.Key()}] = true
			}
		}
		if l, ok := op.Object().(Link); ok {
			touched[keyInNamespace{l.Peer.NS, Link{Name: l.Peer.Name}}] = true
		}
	}
	for r, o := range before.objects {
		if !touched[r] && after.objects[r] != o {
			t.Errorf("%s is %v after %v", Line(r.ns, o), after.objects[r], ops)
		}
	}
	for _, op := range Reverse(ops) {
		if err := after.Apply(op); err != nil {
			t.Fatalf("reverse: %v\nof %v\non\n%s", err, ops, strings.Join(before.Lines(), "\n"))
		}
	}
	if d := cmp.Diff(before.Lines(), after.Lines()); d != "" {
		t.Fatalf("reverse (-before +after):\n%s\nof %v", d, ops)
	}
	if !before.Equal(original) {
		t.Fatalf("Diff or Apply changed the snapshot it was given")
	}
}

// universe is what FuzzDiff chooses from: few names and addresses, so that
// things collide.
func universe(b []byte) (ns NS, o Object, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, nil, false
	}
	pick := func(i byte, of ...string) string { return of[int(i)%len(of)] }
	ns = NS(pick(b[0]>>4, "host", "pod"))
	dev := pick(b[1], "eth0", "net1", "veth0")
	up := b[1]&64 != 0
	proto := []Protocol{ProtoCoordinator, protoBoot}[b[2]>>7]
	addr := netip.AddrFrom4([4]byte{10, 6, 0, b[3] % 4})
	if b[3]&128 != 0 {
		addr = netip.MustParseAddr(pick(b[3], "fd00::1", "fd00::2", "fd00::3"))
	}
	switch b[0] % 8 {
	case 0:
		l := Link{Name: dev, MTU: 1400 + int(b[3]%2), Up: up, MAC: MAC{2, 0, 0, 0, 0, b[3] % 2}, Group: int(b[3]>>1%2) * 109}
		if b[2]&1 != 0 {
			l.Alias = AliasPrefix + "net/pod/eth0"
		}
		o = l
	case 1:
		l := Link{Name: "veth" + pick(b[1], "a", "b"), Type: "veth", Up: up, Peer: End{NS: Pod, Name: dev, MAC: MAC{2, 1}}}
		if b[2]&1 != 0 {
			l.Alias = AliasPrefix + "net/pod/eth0"
		}
		ns, o = Host, l
	case 2, 3:
		r := NewRoute(ProtoCoordinator, []int{TableMain, 100}[b[2]%2], Single(addr), netip.Addr{}, dev, netip.Addr{})
		r.Proto = proto
		o = r
	case 4:
		r := NewRoute(ProtoCoordinator, TableMain, Default(addr), addr, dev, netip.Addr{})
		r.Proto, r.Onlink = proto, up
		o = r
	case 5:
		o = Rule{Family: FamilyOf(addr), Priority: 1000 + int(b[2]%2), From: Single(addr), Table: 100, Proto: proto}
	case 6:
		o = Neigh{Dev: dev, Dst: addr, MAC: MAC{2, b[2] % 2}, Permanent: up}
	case 7:
		o = Sysctl{Family: IPv4, Dev: dev, Name: "rp_filter", Value: int(b[2] % 3)}
		if b[2] == 255 {
			o = SourceCheck{}
		}
	}
	return ns, o, b[4:], true
}

// FuzzDiff holds Diff to the properties of the engine on any plan and any state
// that a kernel could be in.
func FuzzDiff(f *testing.F) {
	f.Add([]byte("\x00\x40\x00\x00\x10\x40\x00\x00\x02\x00\x00\x01"), []byte("\x01\x02\x01\x00\x12\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, state, wanted []byte) {
		before := NewSnapshot()
		for ns, o, rest, ok := universe(state); ok; ns, o, rest, ok = universe(rest) {
			_ = before.Apply(Op{NS: ns, After: o}) // what can't be isn't
		}
		var plan Plan
		seen := map[keyInNamespace]bool{}
		for ns, o, rest, ok := universe(wanted); ok; ns, o, rest, ok = universe(rest) {
			r := keyInNamespace{ns, o.Key()}
			if route, ok := o.(Route); ok {
				r.key = route.slot() // a plan wants one route per place
			}
			if seen[r] {
				continue
			}
			seen[r] = true
			if o.Kind() != KindLink && len(rest)%3 == 0 {
				plan.Unwant(ns, "", o)
			} else {
				plan.Want(ns, "", o)
			}
		}
		// A plan begins with the pairs it makes: one that comes later may undo
		// what was wanted before.
		slices.SortStableFunc(plan.Present, func(a, b Item) int {
			isPair := func(i Item) bool { l, ok := i.Object.(Link); return ok && l.Peer.Name != "" }
			switch x, y := isPair(a), isPair(b); {
			case x == y:
				return 0
			case x:
				return -1
			}
			return 1
		})
		ops, err := Diff(plan, before)
		if err != nil {
			return // a conflict, or a plan that no kernel would take
		}
		check(t, plan, before, ops)
	})
}

// TestAllAfterChanges: what All has found once is not kept beyond a change, nor
// shared with who changes the list.
func TestAllAfterChanges(t *testing.T) {
	s := NewSnapshot()
	has := func(want ...string) {
		t.Helper()
		var got []string
		links := All[Link](s, Pod)
		for _, l := range links {
			got = append(got, l.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		clear(links)
	}
	has()
	s.Put(Pod, Link{Name: "net2"})
	s.Put(Pod, Link{Name: "net1"})
	s.Put(Host, Link{Name: "net0"})
	has("net1", "net2")
	has("net1", "net2")
	c := s.Clone()
	if err := s.Apply(Op{NS: Pod, Before: Link{Name: "net1"}}); err != nil {
		t.Fatal(err)
	}
	has("net2")
	s = c
	has("net1", "net2")
}

// TestWantMain: the kernel's rule for table main is wanted where it was flushed, and where it is;
// nothing is said of a family whose rules weren't read.
func TestWantMain(t *testing.T) {
	const main = "host: -6 rule pref 32766 from all lookup main proto kernel"
	const local = "host: -6 rule pref 0 from all lookup local proto kernel"
	for name, tt := range map[string]struct {
		have []string
		want string
	}{
		"not read":              {[]string{"host: rule pref 1000 from all lookup 500 proto multihome"}, ""},
		"there":                 {[]string{local, main}, main},
		"flushed":               {[]string{local, "host: -6 rule pref 1000 from all lookup 500"}, main},
		"only for some packets": {[]string{local, "host: -6 rule pref 9 from all fwmark 0x1/0x1 lookup main"}, main},
		"of another family":     {[]string{local, "host: rule pref 32766 from all lookup main"}, main},
		"at another priority":   {[]string{"pod: rule pref 5 from all lookup local", "pod: rule pref 9 from all lookup main"}, "pod: rule pref 9 from all lookup main"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSnapshot()
			for _, line := range tt.have {
				ns, o, err := Parse(line)
				if err != nil {
					t.Fatal(err)
				}
				s.Put(ns, o)
			}
			var p Plan
			p.WantMain(s)
			var got []string
			for _, item := range p.Present {
				got = append(got, Line(item.NS, item.Object))
			}
			if got := strings.Join(got, "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
