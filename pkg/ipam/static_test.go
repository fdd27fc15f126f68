// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// staticConfigs are networks of static-macvlan-cni, and one of macvlan with static-ipam.
var staticConfigs = map[string]string{
	"shop/static-macvlan-cni": `{"cniVersion": "0.3.1", "name": "static-macvlan-cni", "type": "static-macvlan-cni", "ipam": {"type": "static-ipam"}}`,
	"shop/bare":               `{"name": "bare", "type": "static-macvlan-cni"}`,
	"shop/macvlan":            `{"name": "macvlan", "type": "macvlan", "master": "eth0", "ipam": {"type": "static-ipam"}}`,
	"shop/lan":                `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool"}}`,
}

func staticPod(networks, vlan, ip, mac string, ordinal int) PodFacts {
	p := PodFacts{Namespace: "shop", Name: "p", Annotations: map[string]string{NetworksAnnotation: networks}}
	for key, value := range map[string]string{VLANAnnotation: vlan, StaticIPAnnotation: ip, StaticMACAnnotation: mac} {
		if value != "" {
			p.Annotations[key] = value
		}
	}
	if ordinal >= 0 {
		p.Ordinal = &ordinal
	}
	return p
}

func staticText(in Intent) string {
	var out []string
	for _, n := range in.NICs {
		text := n.Interface
		if n.Static == nil {
			text += " pools"
		} else {
			text += fmt.Sprintf(" %s %v %v", n.Static.VLANSubnet, n.Static.IPs, n.Static.MACs)
		}
		if n.CleanGateway {
			text += " clean"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestF3StaticAnnotations: what the annotations vlan, static-ip and static-mac mean (F3: auto,
// one, a-b-c, junk, MACs).
func TestF3StaticAnnotations(t *testing.T) {
	const one = "static-macvlan-cni"
	for _, x := range []struct {
		name, networks, vlan, ip, mac string
		ordinal                       int
		want, err                     string
	}{
		{"the seed's pod-1", one, "mv1.100", "192.168.1.100/24", "0a:00:27:00:00:00", -1, "net1 mv1.100 [192.168.1.100/24] [0a:00:27:00:00:00] clean", ""},
		{"the seed's pod-2", one, "mv1.100", "auto", "", -1, "net1 mv1.100 [] [] clean", ""},
		{"no static-ip is auto", one, "mv1.100", "", "", -1, "net1 mv1.100 [] [] clean", ""},
		{"an address without a length", one, "mv1.100", "192.168.1.100", "", -1, "net1 mv1.100 [192.168.1.100] [] clean", ""},
		{"IPv6", one, "mv1.100", "fd00::5-fd00::9", "", -1, "net1 mv1.100 [fd00::5 fd00::9] [] clean", ""},
		{"a list", one, "mv1.100", "192.168.1.5-192.168.1.9-192.168.1.7", "", -1, "net1 mv1.100 [192.168.1.5 192.168.1.9 192.168.1.7] [] clean", ""},
		{"a list, and MACs", one, "mv1.100", "10.0.0.5-10.0.0.9", "0A:00:00:00:00:05-0a:00:00:00:00:09", -1, "net1 mv1.100 [10.0.0.5 10.0.0.9] [0a:00:00:00:00:05 0a:00:00:00:00:09] clean", ""},
		{"pod 1 of a StatefulSet", one, "mv1.100", "10.0.0.5-10.0.0.9", "0a:00:00:00:00:05-0a:00:00:00:00:09", 1, "net1 mv1.100 [10.0.0.9] [0a:00:00:00:00:09] clean", ""},
		{"pod 1 of a StatefulSet with one address waits for it", one, "mv1.100", "10.0.0.5", "", 1, "net1 mv1.100 [10.0.0.5] [] clean", ""},
		{"pod 2 of a StatefulSet with two addresses", one, "mv1.100", "10.0.0.5-10.0.0.9", "", 2, "", "annotation static-ip of the pod: it has 2 addresses, the first of which is pod 0's, and this is pod 2 of the StatefulSet: want an address for each pod"},
		{"a MAC and any address", one, "mv1.100", "auto", "0a:00:27:00:00:00", -1, "net1 mv1.100 [] [0a:00:27:00:00:00] clean", ""},
		{"two NICs", one + "," + one, "mv1.100,mv2", "10.0.0.5, auto", ",0a:00:27:00:00:00", -1, "net1 mv1.100 [10.0.0.5] [] clean; net2 mv2 [] [0a:00:27:00:00:00] clean", ""},
		{"two NICs and another one", one + ",lan," + one, "mv1.100,mv2", "", "", -1, "net1 mv1.100 [] [] clean; net2 pools; net3 mv2 [] [] clean", ""},
		{"a network without ipam", "bare", "mv1.100", "", "", -1, "net1 mv1.100 [] [] clean", ""},
		{"macvlan with static-ipam", "macvlan", "mv1.100", "10.0.0.5", "", -1, "net1 mv1.100 [10.0.0.5] [] clean", ""},
		{"macvlan with static-ipam, without the annotation", "macvlan", "", "", "", -1, "net1 pools", ""},
		{"annotations without such a network", "lan", "mv1.100", "junk", "", -1, "net1 pools", ""},
		{"no vlan", one, "", "auto", "", -1, "", "annotation vlan of the pod: missing: want the name of a VLANSubnet, such as mv1.100, for NIC net1"},
		{"two NICs, one VLANSubnet", one + "," + one, "mv1.100", "", "", -1, "", `annotation vlan of the pod: "mv1.100": want as many entries as the pod has NICs of static-macvlan-cni, with commas between them: 2 for net1, net2`},
		{"two NICs, one address", one + "," + one, "mv1.100,mv2", "auto", "", -1, "", "annotation static-ip of the pod: \"auto\": want as many entries"},
		{"a bad name", one, "MV1", "auto", "", -1, "", `annotation vlan of the pod: "MV1": want the name of a VLANSubnet, such as mv1.100`},
		{"a pattern", one, "mv*", "auto", "", -1, "", `annotation vlan of the pod: "mv*"`},
		{"junk", one, "mv1.100", "10.0.0.5-junk", "", -1, "", `annotation static-ip of the pod: "junk": want auto, an address such as 192.168.1.100/24, or a list with '-' between the addresses`},
		{"blanks around '-'", one, "mv1.100", "10.0.0.5 - 10.0.0.9", "", -1, "", `annotation static-ip of the pod: "10.0.0.5 ": want auto`},
		{"an address twice", one, "mv1.100", "10.0.0.5-10.0.0.5/24", "", -1, "", "annotation static-ip of the pod: 10.0.0.5/24 is there twice: want each address once"},
		{"a MAC with '-'", one, "mv1.100", "10.0.0.5", "0a-00-27-00-00-00", -1, "", `annotation static-mac of the pod: "0a": want a MAC of a single host`},
		{"a MAC of a group", one, "mv1.100", "10.0.0.5", "01:00:5e:00:00:01", -1, "", `annotation static-mac of the pod: "01:00:5e:00:00:01": want a MAC of a single host`},
		{"a MAC of eight bytes", one, "mv1.100", "10.0.0.5", "02:00:5e:10:00:00:00:01", -1, "", "want a MAC of a single host"},
		{"a MAC twice", one, "mv1.100", "10.0.0.5-10.0.0.6", "0a:00:00:00:00:05-0A:00:00:00:00:05", -1, "", "annotation static-mac of the pod: 0a:00:00:00:00:05 is there twice: want each MAC once"},
		{"fewer MACs than addresses", one, "mv1.100", "10.0.0.5-10.0.0.9", "0a:00:00:00:00:05", -1, "", "annotation static-mac of the pod: 1: want as many as static-ip has addresses: 2"},
		{"two MACs and any address", one, "mv1.100", "auto", "0a:00:00:00:00:05-0a:00:00:00:00:06", -1, "", "annotation static-mac of the pod: 2: want as many as static-ip has addresses: 1"},
		{"too many addresses", one, "mv1.100", strings.Repeat("10.0.0.5-", 1024) + "10.0.0.5", "", -1, "", "1025 entries: want at most 1024"},
	} {
		pod := staticPod(x.networks, x.vlan, x.ip, x.mac, x.ordinal)
		all, err := Attachments(pod, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := NICs(pod, nil, all, staticConfigs)
		if x.err != "" {
			if err == nil || !strings.Contains(err.Error(), x.err) {
				t.Errorf("%s:\n got %v\nwant %s", x.name, err, x.err)
			}
		} else if err != nil || staticText(got) != x.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", x.name, staticText(got), err, x.want)
		}
	}
}

// TestStaticDefaultNetwork: only the first NIC of a pod has a default route by the gateway.
func TestStaticDefaultNetwork(t *testing.T) {
	pod := staticPod("", "mv1.100", "auto", "", -1)
	pod.Annotations[DefaultNetworkAnnotation] = "shop/static-macvlan-cni"
	all, err := Attachments(pod, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := NICs(pod, nil, all, staticConfigs)
	if want := "eth0 mv1.100 [] []"; err != nil || staticText(got) != want {
		t.Errorf("got %s, %v, want %s", staticText(got), err, want)
	}
}

func mv1() VLANSubnet {
	return VLANSubnet{Name: "mv1.100", UID: "1", Spec: VLANSubnetSpec{Master: "eth0", VLAN: 100, CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}}
}

// TestX22Refuses: addresses that no pod gets, in words.
func TestX22Refuses(t *testing.T) {
	ranged := mv1()
	ranged.Spec.Ranges = []VLANRange{{"192.168.1.100", "192.168.1.110"}}
	six := VLANSubnet{Name: "six", Spec: VLANSubnetSpec{Master: "eth0", CIDR: "fd00::/64"}}
	p2p := VLANSubnet{Name: "p2p", Spec: VLANSubnetSpec{Master: "eth0", CIDR: "10.0.0.0/31"}}
	for _, x := range []struct {
		v          VLANSubnet
		text, want string
	}{
		{mv1(), "192.168.1.100", ""},
		{mv1(), "192.168.1.100/24", ""},
		{mv1(), "192.168.1.100/16", "192.168.1.100/16: want length 24, as in cidr 192.168.1.0/24 of VLANSubnet mv1.100, or none"},
		{mv1(), "192.168.2.100/24", "192.168.2.100/24: want an address of cidr 192.168.1.0/24 of VLANSubnet mv1.100"},
		{mv1(), "192.168.1.1", "192.168.1.1: it is the gateway of VLANSubnet mv1.100: want another address"},
		{mv1(), "192.168.1.0", "192.168.1.0: it is the network's own address in cidr 192.168.1.0/24 of VLANSubnet mv1.100: want one of a host"},
		{mv1(), "192.168.1.255/24", "192.168.1.255/24: it is the broadcast address of cidr 192.168.1.0/24 of VLANSubnet mv1.100: want one of a host"},
		{mv1(), "fd00::5", "fd00::5: want an address of cidr 192.168.1.0/24 of VLANSubnet mv1.100"},
		{ranged, "192.168.1.110", ""},
		{ranged, "192.168.1.111", "192.168.1.111: want an address of spec.ranges of VLANSubnet mv1.100: 192.168.1.100-192.168.1.110"},
		{six, "fd00::5/64", ""},
		{six, "fd00::", "fd00::: it is the network's own address in cidr fd00::/64 of VLANSubnet six: want one of a host"},
		{six, "fd00::ffff:ffff:ffff:ffff", ""},
		{p2p, "10.0.0.0", ""},
		{p2p, "10.0.0.1", ""},
	} {
		if got := x.v.Refuses(x.text); got != x.want {
			t.Errorf("%s in %s:\n got %s\nwant %s", x.text, x.v.Name, got, x.want)
		}
	}
}

// TestVLANSubnetFaults: each message names the field, the value and what is allowed.
func TestVLANSubnetFaults(t *testing.T) {
	for _, x := range []struct {
		change func(*VLANSubnet)
		want   string
	}{
		{func(*VLANSubnet) {}, ""},
		{func(v *VLANSubnet) { v.Spec.VLAN = 0; v.Name = "a-long-name-of-a-lan" }, ""},
		{func(v *VLANSubnet) { v.Spec.Mode = "passthru" }, ""},
		{func(v *VLANSubnet) { v.Spec.Master = "" }, "spec.master: missing: want the name of a link of the nodes, such as eth0"},
		{func(v *VLANSubnet) { v.Spec.Master = "a/b" }, `spec.master: "a/b": want the name of a link of the nodes, such as eth0`},
		{func(v *VLANSubnet) { v.Spec.VLAN = 4095 }, "spec.vlan: 4095: want a number from 0 to 4094"},
		{func(v *VLANSubnet) { v.Name = "storage-vlan-100" }, `metadata.name: "storage-vlan-100": 16 bytes: want at most 15, for the nodes get a link of this name`},
		{func(v *VLANSubnet) { v.Name = "eth0" }, `metadata.name: "eth0": want another name than that of master: the nodes get a link of this name`},
		{func(v *VLANSubnet) { v.Spec.Mode = "l2" }, `spec.mode: "l2": want one of bridge, private, vepa, passthru`},
		{func(v *VLANSubnet) { v.Spec.CIDR = "192.168.1.0" }, `spec.cidr: "192.168.1.0": want a CIDR, such as 192.168.1.0/24`},
		{func(v *VLANSubnet) { v.Spec.CIDR, v.Spec.Gateway = "", "" }, "spec.cidr: missing: want a CIDR, such as 192.168.1.0/24"},
		{func(v *VLANSubnet) { v.Spec.Gateway = "192.168.2.1" }, `spec.gateway: "192.168.2.1": want an address of cidr 192.168.1.0/24`},
		{func(v *VLANSubnet) { v.Spec.Gateway = "192.168.1.255" }, `spec.gateway: "192.168.1.255": want the address of a router, not the first or the last one of cidr 192.168.1.0/24`},
		{func(v *VLANSubnet) { v.Spec.CIDR, v.Spec.Gateway = "224.0.1.0/24", "" }, `spec.cidr: "224.0.1.0/24": want a CIDR of addresses that a NIC can have, such as 192.168.1.0/24`},
		{func(v *VLANSubnet) { v.Spec.Ranges = []VLANRange{{"192.168.1.9", "192.168.1.5"}} }, `spec.ranges[0]: "192.168.1.9-192.168.1.5": want the lower address first: 192.168.1.5-192.168.1.9`},
		{func(v *VLANSubnet) { v.Spec.Ranges = []VLANRange{{"192.168.1.9", "192.168.2.5"}} }, `spec.ranges[0]: "192.168.1.9-192.168.2.5": want addresses of cidr 192.168.1.0/24`},
		{func(v *VLANSubnet) { v.Spec.Routes = []Route{{"10.7.0.0/16", "10.0.0.1"}} }, `spec.routes[0].gw: "10.0.0.1": want an address of cidr 192.168.1.0/24`},
	} {
		v := mv1()
		x.change(&v)
		var got []string
		for _, f := range v.Validate() {
			got = append(got, f.Path+": "+f.Message)
		}
		if strings.Join(got, "\n") != x.want {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), x.want)
		}
	}
}

// TestF3VLANSubnetsOverlap: two of one VLAN need ranges that have nothing in common; the older
// one keeps what both have. Those of two VLANs have nothing to do with each other, and one
// without ranges hands out neither gateway nor the addresses that hosts can't have.
func TestF3VLANSubnetsOverlap(t *testing.T) {
	at := func(name string, seconds int64, vlan int, ranges ...VLANRange) Pool {
		v := mv1()
		v.Name, v.UID, v.Created, v.Spec.VLAN, v.Spec.Ranges = name, name, time.Unix(seconds, 0), vlan, ranges
		return v.Pool(false)
	}
	pool := Pool{Name: "lan", UID: "lan", Created: time.Unix(5, 0), Spec: PoolSpec{SubnetSpec: SubnetSpec{Subnet: "192.168.1.0/24", IPs: []string{"192.168.1.9"}}}}
	low, high := VLANRange{"192.168.1.2", "192.168.1.9"}, VLANRange{"192.168.1.10", "192.168.1.19"}
	for _, x := range []struct {
		name  string
		pools []Pool
		want  map[string]string
	}{
		{"one", []Pool{at("a", 1, 100)}, map[string]string{"vlansubnet/a": "192.168.1.2-192.168.1.254"}},
		{"two VLANs", []Pool{at("a", 1, 100), at("b", 2, 200)}, map[string]string{"vlansubnet/a": "192.168.1.2-192.168.1.254", "vlansubnet/b": "192.168.1.2-192.168.1.254"}},
		{"one VLAN", []Pool{at("a", 2, 100), at("b", 1, 100)}, map[string]string{
			"vlansubnet/a": "spec.cidr: VLANSubnet b has 192.168.1.2-192.168.1.254 too, and came first: want other addresses, or another network", "vlansubnet/b": "192.168.1.2-192.168.1.254",
		}},
		{"one VLAN, two ranges", []Pool{at("a", 1, 100, low), at("b", 2, 100, high)}, map[string]string{"vlansubnet/a": "192.168.1.2-192.168.1.9", "vlansubnet/b": "192.168.1.10-192.168.1.19"}},
		{"no VLAN, and a pool of the same name", []Pool{at("lan", 1, 0, low), pool}, map[string]string{
			"vlansubnet/lan": "192.168.1.2-192.168.1.9", "lan": "spec.ips: VLANSubnet lan has 192.168.1.9 too, and came first: want other addresses, or another network",
		}},
	} {
		got := map[string]string{}
		for name, s := range Usable(x.pools, nil, nil) {
			got[name] = s.Reason + strings.Join(Text(s.Free), ", ")
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", x.name, diff)
		}
	}
}

// TestStaticMAC: a MAC goes with the address beside it.
func TestStaticMAC(t *testing.T) {
	s := StaticNIC{IPs: []string{"10.0.0.5/24", "10.0.0.9"}, MACs: []string{"0a:00:00:00:00:05", "0a:00:00:00:00:09"}}
	for text, want := range map[string]string{"10.0.0.5": s.MACs[0], "10.0.0.9": s.MACs[1], "10.0.0.7": ""} {
		if got := s.MAC(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := (StaticNIC{MACs: s.MACs[:1]}).MAC(netip.MustParseAddr("10.0.0.7")); got != s.MACs[0] {
		t.Errorf("any address: %q", got)
	}
}

// TestGivenAddresses: an applicant gets one of the addresses that it names, and no other; what
// was passed over meanwhile is handed out in the end, each address once.
func TestGivenAddresses(t *testing.T) {
	l := NewLedger()
	l.SetPools(map[string]Stock{"a": {Free: Addresses([]string{"10.0.0.1-10.0.0.4"})}})
	addrs := func(list ...string) (out []netip.Addr) {
		for _, text := range list {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	n := 0
	ask := func(of ...string) string {
		n++
		id := fmt.Sprint(n)
		granted, lacks := l.Allocate(time.Unix(0, 0), []Applicant{{ID: id, Since: time.Unix(int64(n), 0), Needs: []Need{{Interface: "net1", Pools: []string{"a"}, Addresses: addrs(of...)}}}}, id)
		if len(lacks) > 0 {
			return "none"
		}
		return granted[id][0].Key.Addr.String()
	}
	for _, x := range []struct {
		of   []string
		want string
	}{
		{[]string{"10.0.0.9"}, "none"},
		{[]string{"10.0.0.3"}, "10.0.0.3"},
		{[]string{"10.0.0.3"}, "none"},
		{[]string{"10.0.0.3", "10.0.0.2"}, "10.0.0.2"},
		{nil, "10.0.0.1"},
		{nil, "10.0.0.4"},
		{nil, "none"},
	} {
		if got := ask(x.of...); got != x.want {
			t.Fatalf("%v: %s, want %s", x.of, got, x.want)
		}
	}
	l.Clear(Key{Addr: addrs("10.0.0.3")[0]}, Promise)
	if got := ask(); got != "10.0.0.3" {
		t.Errorf("what came back: %s", got)
	}
	// What an applicant took that lacks something else is free for others, whatever was passed over.
	for _, free := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		l.Clear(Key{Addr: addrs(free)[0]}, Promise)
	}
	for range 3 {
		_, lacks := l.Allocate(time.Unix(0, 0), []Applicant{
			{ID: "old", Needs: []Need{{Interface: "net1", Pools: []string{"a"}, Addresses: addrs("10.0.0.2")}, {Interface: "net2", Pools: []string{"none"}}}},
		}, "old")
		if len(lacks) != 1 {
			t.Fatalf("lacks %v", lacks)
		}
	}
	got := map[string]bool{}
	for range 4 {
		got[ask()] = true
	}
	if len(got) != 4 || got["none"] || ask() != "none" {
		t.Errorf("got %v", got)
	}
}

// TestStart: the first entry of a list is that of the StatefulSet's first pod.
func TestStart(t *testing.T) {
	for ordinal, want := range map[int]string{4: "pod 4", 5: "[10.0.0.5] [0a:00:00:00:00:05]", 6: "[10.0.0.9] [0a:00:00:00:00:09]", 7: "the first of which is pod 5's, and this is pod 7"} {
		pod := staticPod("static-macvlan-cni", "mv1.100", "10.0.0.5-10.0.0.9", "0a:00:00:00:00:05-0a:00:00:00:00:09", ordinal)
		pod.Start = 5
		all, err := Attachments(pod, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		in, err := NICs(pod, nil, all, staticConfigs)
		got := staticText(in)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("pod %d has %s, want %s", ordinal, got, want)
		}
	}
}

// FuzzStaticAnnotations: no text stops a controller, and what is taken is well formed.
func FuzzStaticAnnotations(f *testing.F) {
	f.Add("mv1.100", "192.168.1.100/24", "0a:00:27:00:00:00", 0)
	f.Add("mv1.100,mv2", "a-b-c,auto", "-,", 2)
	f.Fuzz(func(t *testing.T, vlan, ip, mac string, ordinal int) {
		pod := staticPod("static-macvlan-cni", vlan, ip, mac, ordinal)
		all, err := Attachments(pod, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		in, err := NICs(pod, nil, all, staticConfigs)
		if err != nil {
			return
		}
		s := in.NICs[0].Static
		if len(s.Addresses()) != len(s.IPs) || s.VLANSubnet == "" || len(s.MACs) > max(1, len(s.IPs)) {
			t.Errorf("%+v", s)
		}
		mv1().RefusesNIC(in.NICs[0])
	})
}
