// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/ipam"
)

var testApp = ipam.Application{Group: "apps", Kind: "Deployment", Namespace: "ns", Name: "test-app", UID: "6f1c5e9a-3f5e-4a0d-9a55-b1a361c7e9df"}

func TestAutoPoolNames(t *testing.T) {
	long := testApp
	long.Name = strings.Repeat("a.", 126) + "b"
	for _, x := range []struct {
		pool ipam.AutoPool
		nth  int
		want string
	}{
		{ipam.AutoPool{Application: testApp, Interface: "eth0"}, 1, "auto-test-app-v4-eth0-b1a361c7e9df"},
		{ipam.AutoPool{Application: testApp, Interface: "net1", IPv6: true}, 1, "auto-test-app-v6-net1-b1a361c7e9df"},
		{ipam.AutoPool{Application: testApp, Interface: "eth0"}, 2, "auto-test-app-v4-eth0-b1a361c7e9df-2"},
		{ipam.AutoPool{Application: testApp, Interface: "Net_1"}, 1, "auto-test-app-v4-net-1-b1a361c7e9df"},
		{ipam.AutoPool{Application: long, Interface: "eth0"}, 1, "auto-" + strings.Repeat("a.", 114)[:227] + "-v4-eth0-b1a361c7e9df"},
	} {
		if got := x.pool.Name(x.nth); got != x.want || len(got) > 253 {
			t.Errorf("%d bytes, %s, want %s", len(got), got, x.want)
		}
	}
	pool := ipam.AutoPool{Application: long, Interface: "eth0", Subnet: strings.Repeat("s", 200)}
	for key, value := range pool.Labels(netip.MustParsePrefix("10.6.0.0/16"), true) {
		if len(value) > 63 || value == "" {
			t.Errorf("label %s: %q", key, value)
		}
	}
	if got := ipam.AutoPoolOf(map[string]string{ipam.AutoAnnotation: pool.Annotation()}); got == nil || *got != pool {
		t.Errorf("read again: %+v", got)
	}
}

func TestPoolSettings(t *testing.T) {
	for _, x := range []struct{ number, reclaim, want, err string }{
		{"", "", "+1 true 3 1", ""},
		{"+0", "false", "+0 false 2 0", ""},
		{"5", "true", "5 true 5 3", ""},
		{"", "False", "+1 false 3 1", ""},
		{"1", "", "1 true 1 0", ""},
		{"-1", "", "", `annotation ipam.spidernet.io/ippool-ip-number of the pod: "-1": want a number of addresses, such as 5, or how many more than replicas, such as +1, at most 1000000`},
		{"++1", "", "", `"++1": want a number`},
		{"1000001", "", "", `"1000001": want a number`},
		{"", "yes", "", `annotation ipam.spidernet.io/ippool-reclaim of the pod: "yes": want true or false`},
	} {
		annotations := map[string]string{}
		for key, value := range map[string]string{ipam.IPNumberAnnotation: x.number, ipam.ReclaimAnnotation: x.reclaim} {
			if value != "" {
				annotations[key] = value
			}
		}
		s, err := ipam.ReadPoolSettings(annotations, ipam.Number{N: 1, More: true})
		if err != nil {
			if x.err == "" || !strings.Contains(err.Error(), x.err) {
				t.Errorf("%q: %v, want %q", x.number, err, x.err)
			}
			continue
		}
		if got := fmt.Sprint(s.Number, s.Reclaim, s.Number.Size(2), s.Number.Spare(2)); x.err != "" || strings.ReplaceAll(got, "  ", " ") != x.want {
			t.Errorf("%q %q: %s, want %s %s", x.number, x.reclaim, got, x.want, x.err)
		}
	}
}

func TestJobReplicas(t *testing.T) {
	n := func(i int32) *int32 { return &i }
	for _, x := range []struct {
		completions, parallelism *int32
		want                     int
	}{{nil, nil, 1}, {n(0), n(5), 1}, {n(3), n(2), 3}, {nil, n(4), 4}, {nil, n(0), 1}} {
		if got := ipam.JobReplicas(x.completions, x.parallelism); got != x.want {
			t.Errorf("got %d, want %d", got, x.want)
		}
	}
}

func TestAutoPools(t *testing.T) {
	all := []ipam.Attachment{{Interface: "eth0"}, {Interface: "net1"}}
	nics := []ipam.NIC{{Interface: "net1"}}
	for _, x := range []struct{ key, text, want, err string }{
		{ipam.SubnetsAnnotation, `[{"interface":"eth0","ipv4":["a","b"],"ipv6":["c"]},{"interface":"net1","ipv4":["a"]}]`, "eth0 a 4; eth0 c 6; net1 a 4", ""},
		{ipam.SubnetsAnnotation, `[{"ipv4":["a"]},{"ipv4":["b"]},{"ipv4":["c"]}]`, "eth0 a 4; net1 b 4", ""},
		{ipam.SubnetAnnotation, `{"ipv4":["a"]}`, "net1 a 4", ""},
		{ipam.SubnetAnnotation, `{"interface":"eth0","ipv4":["a"],"ipv6":["c"]}`, "eth0 a 4; eth0 c 6", ""},
		{ipam.SubnetAnnotation, `{"ipv4":["a*"]}`, "", `annotation ipam.spidernet.io/subnet of the pod: "a*": want the name of a SpiderSubnet, not a pattern`},
		{ipam.IPPoolAnnotation, `{"ipv4":["a"]}`, "", ""},
		{ipam.SubnetAnnotation, `{"interface":"eth1","ipv4":["a"]}`, "", `annotation ipam.spidernet.io/subnet of the pod: "eth1": want one of the pod's NICs: eth0, net1`},
		{ipam.SubnetsAnnotation, `[{"interface":"net1","ipv4":["a"]},{"interface":"eth1","ipv4":["a"]}]`, "", `annotation ipam.spidernet.io/subnets of the pod: "eth1": want one of the pod's NICs: eth0, net1`},
	} {
		list, err := ipam.AutoPools(testApp, pod(x.key, x.text), all, nics)
		says(t, err, x.err)
		var got []string
		for _, p := range list {
			family := 4
			if p.IPv6 {
				family = 6
			}
			got = append(got, fmt.Sprintf("%s %s %d", p.Interface, p.Subnet, family))
		}
		if strings.Join(got, "; ") != x.want {
			t.Errorf("%s: %v, want %s", x.text, got, x.want)
		}
	}
}

// TestAutoPoolsLate: as long as no NIC is known to want addresses, the nodes' files may have those that
// an annotation names.
func TestAutoPoolsLate(t *testing.T) {
	for _, annotation := range [][]string{
		{ipam.SubnetAnnotation, `{"interface":"net1","ipv4":["a"]}`}, {ipam.SubnetsAnnotation, `[{"interface":"net1","ipv4":["a"]}]`},
	} {
		list, err := ipam.AutoPools(testApp, pod(annotation...), []ipam.Attachment{{Interface: "eth0", OrFile: true}}, nil)
		if says(t, err, ""); len(list) != 1 || list[0].Interface != "net1" {
			t.Errorf("%v: %v", annotation, list)
		}
	}
}

// members reads addresses, those in use with a "*" behind them.
func members(text string) []ipam.Member {
	var out []ipam.Member
	for f := range strings.FieldsSeq(text) {
		a, used := strings.CutSuffix(f, "*")
		out = append(out, ipam.Member{Addr: netip.MustParseAddr("10.0.0." + a), Free: !used})
	}
	return out
}

func TestResize(t *testing.T) {
	for _, x := range []struct {
		members  string
		size     int
		grow     int
		giveBack string
	}{
		{"", 3, 3, ""},
		{"1 2* 3", 3, 0, ""},
		{"1 2* 3", 1, 0, "3 1"},
		{"1* 2* 3*", 1, 0, ""},
		{"1 2 3*", 0, 0, "2 1"},
		{"1 2* 200", 3, 1, "200"}, // nobody may get 200 any more
		{"1 200*", 2, 0, ""},      // but a pod has it
	} {
		grow, giveBack := ipam.Resize(members(x.members), x.size, ipam.Addresses([]string{"10.0.0.1-10.0.0.99"}))
		var back []string
		for _, a := range giveBack {
			back = append(back, strings.TrimPrefix(a.String(), "10.0.0."))
		}
		if grow != x.grow || strings.Join(back, " ") != x.giveBack {
			t.Errorf("%q to %d: grow %d, give back %v; want %d, %s", x.members, x.size, grow, back, x.grow, x.giveBack)
		}
	}
}

// FuzzResize: whatever a pool has, after what Resize says another time says nothing, and no
// address in use is given back.
func FuzzResize(f *testing.F) {
	f.Add([]byte{1, 2, 130, 200}, uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		may := ipam.Addresses([]string{"10.0.0.1-10.0.0.127"})
		var all []ipam.Member
		seen := map[byte]bool{}
		for _, b := range text {
			if !seen[b] {
				all = append(all, ipam.Member{Addr: netip.AddrFrom4([4]byte{10, 0, 0, b}), Free: b%3 != 0})
			}
			seen[b] = true
		}
		grow, giveBack := ipam.Resize(all, int(size), may)
		for _, a := range giveBack {
			i := slices.IndexFunc(all, func(m ipam.Member) bool { return m.Addr == a })
			if i < 0 || !all[i].Free {
				t.Fatalf("%s is given back", a)
			}
			all = slices.Delete(all, i, i+1)
		}
		for i := range grow {
			all = append(all, ipam.Member{Addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), Free: false})
		}
		if grow, giveBack := ipam.Resize(all, int(size), may); grow != 0 || len(giveBack) != 0 {
			t.Errorf("again: grow %d, give back %v", grow, giveBack)
		}
	})
}

// TestKept: an application's pool hands out what is put into it, of all others, nobody.
func TestKept(t *testing.T) {
	l := ipam.NewLedger()
	l.SetPools(map[string]ipam.Stock{
		"subnet/s": stock("10.0.0.1-10.0.0.6"),
		"app":      {Auto: true, Free: ipam.Addresses([]string{"10.0.0.1-10.0.0.4"})},
	})
	keys := l.Reserve("subnet/s", 3)
	for _, k := range keys {
		l.Keep(k, "app", ipam.Kept)
		l.Clear(k, ipam.Promise)
	}
	take := func(id, pool string) string {
		granted, lacks := l.Allocate(start, []ipam.Applicant{applicant(id, 1, pool)}, id)
		if len(lacks) > 0 {
			return lacks[0].Message
		}
		return granted[id][0].Key.Addr.String()
	}
	for _, x := range []struct{ id, pool, want string }{
		{"x", "app", "10.0.0.1"}, {"y", "app", "10.0.0.2"}, {"bare", "subnet/s", "10.0.0.4"}, {"z", "app", "10.0.0.3"},
		{"v", "app", "no IPv4 address for net1: pool app: 3 of 3 addresses are in use"},
	} {
		if got := take(x.id, x.pool); got != x.want {
			t.Errorf("%s of %s gets %s, want %s", x.id, x.pool, got, x.want)
		}
	}
	// Two come back: the one that came back first goes first.
	for _, a := range []string{"10.0.0.3", "10.0.0.1"} {
		l.Keep(key(a), "app", ipam.Object)
		l.Clear(key(a), ipam.Promise)
		if !l.Keep(key(a), "app", ipam.Kept) {
			t.Errorf("%s isn't free", a)
		}
	}
	if got := take("v", "app"); got != "10.0.0.3" {
		t.Errorf("v gets %s, want 10.0.0.3", got)
	}
	if total, used := l.Counts("app"); total != 3 || used != 2 {
		t.Errorf("%d of %d", used, total)
	}
	// One that is deleted is the subnet's again.
	l.Keep(key("10.0.0.1"), "", 0)
	if got := fmt.Sprint(l.Reserve("subnet/s", 1)); got != "[10.0.0.1]" {
		t.Errorf("reserved %s", got)
	}
	// One that nobody may get any more stays where it is.
	l.Keep(key("10.0.0.6"), "app", ipam.Kept)
	if got := take("w", "app"); got != "no IPv4 address for net1: pool app: 2 of 3 addresses are in use" {
		t.Errorf("w gets %s", got)
	}
}

// TestCandidatesOfSubnets: which pool serves a NIC that names subnets.
func TestCandidatesOfSubnets(t *testing.T) {
	mine := ipam.AutoPool{Application: testApp, Interface: "net1", Subnet: "s"}
	view := func(name string, auto ipam.AutoPool) ipam.PoolView {
		return ipam.PoolView{Name: name, Auto: &auto, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16"}}}
	}
	other := mine
	other.Application.UID = "other"
	moved := mine
	moved.Subnet = "moved"
	subnet := func(name, prefix, space, reason string) ipam.SubnetView {
		return ipam.SubnetView{Name: name, Prefix: netip.MustParsePrefix(prefix), Space: space, Reason: reason}
	}
	off := mine
	off.Subnet = "off"
	disabled := view("disabled", off)
	disabled.Reason, disabled.Disabled = "spec.disable is true", true
	pools := ipam.NewPools([]ipam.PoolView{view("mine", mine), view("others", other), view("moved", moved), disabled}, subnet("off", "10.6.0.0/16", "", ""), subnet("s", "10.6.0.0/16", "", ""),
		subnet("s6", "fd00:6::/64", "x", ""), subnet("bad", "10.8.0.0/16", "", "it is being deleted"), subnet("moved", "10.7.0.0/16", "", ""))
	for _, x := range []struct {
		name string
		nic  ipam.NIC
		app  *ipam.Application
		want string
	}{
		{"the application's pool", ipam.NIC{Subnets: true, IPv4Pools: []string{"s"}}, &testApp, "mine"},
		{"a subnet that was made anew, with another CIDR", ipam.NIC{Subnets: true, IPv4Pools: []string{"moved"}}, &testApp,
			"no IPv4 pool for net1 (x): SpiderSubnet moved: the pool of Deployment ns/test-app from it isn't there yet: if it doesn't come, the events of Deployment ns/test-app say why"},
		{"I00023: a bare pod", ipam.NIC{Subnets: true, IPv4Pools: []string{"s"}}, nil, "subnet/s"},
		{"a subnet that hands out nothing", ipam.NIC{Subnets: true, IPv4Pools: []string{"bad"}}, nil, "no IPv4 pool for net1 (x): SpiderSubnet bad: it is being deleted"},
		{"no such subnet", ipam.NIC{Subnets: true, IPv4Pools: []string{"t"}}, &testApp, "no IPv4 pool for net1 (x): SpiderSubnet t: there is no such SpiderSubnet"},
		{"of another family", ipam.NIC{Subnets: true, IPv4Pools: []string{"s6"}}, nil, "no IPv4 pool for net1 (x): SpiderSubnet s6: it isn't IPv4"},
		{"no pool yet", ipam.NIC{Subnets: true, IPv4Pools: []string{"s"}}, &ipam.Application{Kind: "Job", Namespace: "ns", Name: "j", UID: "j"}, "no IPv4 pool for net1 (x): SpiderSubnet s: the pool of Job ns/j from it isn't there yet: if it doesn't come, the events of Job ns/j say why"},
		{"I00020: a pool by its name", ipam.NIC{IPv4Pools: []string{"mine"}}, &testApp,
			"no IPv4 pool for net1 (x): pool mine: it is the pool of Deployment ns/test-app: want annotation ipam.spidernet.io/subnets, from which each application gets a pool of its own"},
		{"a disabled one: who has addresses of it keeps them", ipam.NIC{Subnets: true, IPv4Pools: []string{"off"}}, &testApp,
			"no IPv4 pool for net1 (x): SpiderSubnet off: spec.disable is true, keeps those of disabled"},
		{"two networks", ipam.NIC{Subnets: true, IPv4Pools: []string{"s"}, IPv6Pools: []string{"s6"}}, nil,
			"subnet/s; no IPv6 pool for net1 (x): SpiderSubnet s6: it is in network x, and both addresses of a NIC are in one network: here no named network"},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.nic.Interface, x.nic.From = "net1", "x"
			needs, rejected := ipam.Candidates(x.nic, pools, ipam.Place{Application: x.app})
			var got []string
			for _, n := range needs {
				if len(n.Pools) == 0 {
					got = append(got, ipam.Explain(x.nic, n, rejected))
				} else {
					got = append(got, n.Pools[0])
				}
				if n.Keep != nil {
					got[len(got)-1] += ", keeps those of " + strings.Join(n.Keep.Disabled, " ")
				}
			}
			if strings.Join(got, "; ") != x.want {
				t.Errorf("got %v, want %s", got, x.want)
			}
		})
	}
}
