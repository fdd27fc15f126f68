// SPDX-License-Identifier: Apache-2.0

package guide

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/testbed"
)

// What the users' guides print.
const (
	printedNodes = `NAME    STATUS   ROLES    AGE   VERSION
node1   Ready    <none>   0s
node2   Ready    <none>   0s
`
	printedPool = `
NAME   VERSION   SUBNET        ALLOCATED-IP-COUNT   TOTAL-IP-COUNT   DEFAULT   DISABLE
lan    4         10.6.0.0/16   3                    10               false     false
`
	printedSubnets = `NAME                 VERSION   SUBNET        ALLOCATED-IP-COUNT   TOTAL-IP-COUNT
subnet-test-ens192   4         10.6.0.1/16   3                    10
subnet-test-ens224   4         10.7.0.1/16   3                    10
`
	printedPools = `
NAME                                 VERSION   SUBNET        ALLOCATED-IP-COUNT   TOTAL-IP-COUNT   DEFAULT   DISABLE
auto-test-app-v4-eth0-b1a361c7e9df   4         10.6.0.1/16   2                    3                false     false
auto-test-app-v4-net1-b1a361c7e9df   4         10.7.0.1/16   2                    3                false     false
`
	printedPods = `NAME                        READY   STATUS    RESTARTS   AGE   IP             NODE    NOMINATED NODE   READINESS GATES
test-app-6f4594ff67-fkqbw   1/1     Running   0          40s   10.6.168.172   node2   <none>           <none>
test-app-6f4594ff67-gwlx8   1/1     Running   0          40s   10.6.168.173   node1   <none>           <none>
`
	printedAddresses = `
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet6 ::1/128 scope host
       valid_lft forever preferred_lft forever
2: tunl0@NONE: <NOARP> mtu 1480 qdisc noop state DOWN group default qlen 1000
    link/ipip 0.0.0.0 brd 0.0.0.0
3: eth0@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether ae:fa:5e:d9:79:11 brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.6.168.172/16 brd 10.6.255.255 scope global eth0
       valid_lft forever preferred_lft forever
    inet6 fe80::acfa:5eff:fed9:7911/64 scope link
       valid_lft forever preferred_lft forever
4: veth0@if13: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether 26:6f:22:91:22:f9 brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet6 fe80::246f:22ff:fe91:22f9/64 scope link
       valid_lft forever preferred_lft forever
5: net1@if3: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    link/ether d6:4b:c2:6a:62:0f brd ff:ff:ff:ff:ff:ff link-netnsid 0
    inet 10.7.168.173/16 brd 10.7.255.255 scope global net1
       valid_lft forever preferred_lft forever
`
	printedRoutes = `
default via 10.6.0.1 dev eth0
10.6.0.0/16 dev eth0 proto kernel scope link src 10.6.168.172
10.6.168.123 dev veth0 scope link
10.96.0.0/12 via 10.6.168.123 dev veth0
`
	printedRules = `
0:	from all lookup local
32764:	from 10.7.168.173 lookup 100
32765:	from all to 10.7.168.173/16 lookup 100
32766:	from all lookup main
32767:	from all lookup default
`
	printedTable = `
default via 10.7.0.1 dev net1
10.6.168.123 dev veth0 scope link
10.7.0.0/16 dev net1 proto kernel scope link src 10.7.168.173
10.96.0.0/12 via 10.6.168.123 dev veth0
`
	printedVLANSubnets = `NAME      MASTER   CIDR
mv1.100   eth0     192.168.1.0/24
`
	printedStaticNIC = `
4: net1@if2: <BROADCAST,MULTICAST,UP,LOWER_UP,M-DOWN> mtu 9001 qdisc noqueue
    link/ether 0a:00:27:00:00:00 brd ff:ff:ff:ff:ff:ff
    inet 192.168.1.100/24 brd 192.168.1.255 scope global net1
       valid_lft forever preferred_lft forever
`
	printedParent = `10: mv1.100@eth0: <BROADCAST,MULTICAST> mtu 9001 qdisc noop state DOWN mode DEFAULT group default
    link/ether b2:fc:cd:02:53:65 brd ff:ff:ff:ff:ff:ff
`
	printedStaticPods = `NAME         VLAN      POD-ID                                 IP                 MAC
samplepod1   mv1.100   4ae53a2a-5f99-11e9-97f6-063e2068ed12   192.168.1.100/24   0a:00:27:00:00:00
samplepod2   mv1.100   b4ec67a5-5f99-11e9-97f6-063e2068ed12   192.168.1.133/24
`
)

// change is a change of an output, and what the error then says.
type change struct{ from, to, says string }

// TestChecks: each check takes what the guides print, and misses each change of it.
func TestChecks(t *testing.T) {
	ens192 := AppNICs[0].Subnet
	three := Interval{ens192.First, netip.MustParseAddr("10.6.168.173")}
	pod, second := netip.MustParsePrefix("10.6.168.172/16"), netip.MustParsePrefix("10.7.168.173/16")
	inPod := map[string]func(string) error{}
	for _, s := range InPod(pod, second, netip.MustParseAddr("10.6.168.123")) {
		inPod[s.Command] = s.Check
	}
	for _, c := range []struct {
		name    string
		check   func(string) error
		printed string
		wrong   []change
	}{
		{"nodes", ReadyNodes(2), printedNodes, []change{
			{"node1   Ready", "node1   NotReady", "node1 is not as wanted"},
			{"node2   Ready    <none>   0s\n", "", "1 rows, want 2"},
		}},
		{"pool", WebPool, printedPool, []change{{"3  ", "2  ", "ALLOCATED-IP-COUNT 3"}, {"lan", "LAN", "NAME lan"}, {"10  ", "11  ", "TOTAL-IP-COUNT 10"}}},
		{"subnets", Subnets(3), printedSubnets, []change{
			{"4         10.6.0.1/16   3 ", "4         10.6.0.1/16   2 ", "ALLOCATED-IP-COUNT 3, NAME subnet-test-ens192"},
			{"3                    10\n", "3                    11\n", "TOTAL-IP-COUNT 10"},
			{"subnet-test-ens224   4", "subnet-test-ens224   6", "VERSION 4"},
			{"10.7.0.1/16", "10.7.0.0/16", "want a row"},
			{"subnet-test-ens224", "subnet-test-ens225", "NAME subnet-test-ens224"},
			{"TOTAL-IP-COUNT", "TOTAL-COUNT", "want a row"},
		}},
		{"pools", Pools(2, 3), printedPools, []change{
			{"net1-b1a361c7e9df", "net1-b1a361c7e9d0", "the same 12 digits"},
			{"eth0-b1a361c7e9df", "eth0-b1a361c7e9d ", "NAME auto-test-app-v4-eth0"},
			{"eth0-b1a361c7e9df", "eth0-B1A361C7E9DF", "want a row"},
			{"2                    3", "3                    3", "ALLOCATED-IP-COUNT 2"},
			{"2                    3", "2                    4", "TOTAL-IP-COUNT 3"},
			{"false     false", "true      false", "DEFAULT false"},
			{"auto-test-app-v4-net1-b1a361c7e9df   4         10.7.0.1/16   2                    3                false     false\n", "", "1 rows, want 2"},
		}},
		{"range", func(text string) error { _, err := OneInterval(text, 3, ens192); return err }, `["10.6.168.171-10.6.168.173"]`, []change{
			{"173", "174", "want one range of 3 addresses of 10.6.168.171-10.6.168.180"},
			{"173", "170", "want one range"},
			{`171-10.6.168.173"`, `171","10.6.168.172-10.6.168.173"`, "want one range"},
			{"10.6.168", "10.7.168", "want one range"},
			{"[", "", "want one range"},
			{"-10.6.168.173", "", "want one range"},
		}},
		{"pods", RunningPods(2, three, []string{"test-app-6f4594ff67-5lhgz"}), printedPods, []change{
			{"1/1     Running   0          40s   10.6.168.172", "0/1     Running   0          40s   10.6.168.172", "test-app-6f4594ff67-fkqbw is not as wanted"},
			{"Running", "Pending", "test-app-6f4594ff67-fkqbw is not as wanted"},
			{"10.6.168.172", "10.6.168.174", "test-app-6f4594ff67-fkqbw has 10.6.168.174: want an address of 10.6.168.171-10.6.168.173"},
			{"10.6.168.172", "10.6.168.173", "both have 10.6.168.173"},
			{"10.6.168.172", "<none>      ", "test-app-6f4594ff67-fkqbw has <none>"},
			{"fkqbw", "5lhgz", "want a new pod"},
		}},
		{"ip a", inPod["ip a"], printedAddresses, []change{
			{"10.6.168.172/16", "10.6.168.171/16", "want a link eth0 with the IPv4 addresses [10.6.168.172/16]"},
			{"10.7.168.173/16", "10.7.168.173/24", "want a link net1"},
			{"3: eth0", "3: eth1", "want a link eth0"},
			{"inet6 fe80::246f:22ff:fe91:22f9/64", "inet 10.6.168.9/16", "want a link veth0"},
		}},
		{"ip r", inPod["ip r show"], printedRoutes, []change{
			{"default via 10.6.0.1", "default via 10.7.0.1", "want a line \"default via 10.6.0.1 dev eth0\""},
			{"10.96.0.0/12", "10.96.0.0/16", "want a line"},
			{"10.6.168.123 dev veth0", "10.6.168.123 dev veth01", "want a line \"10.6.168.123 dev veth0\""},
		}},
		{"ip rule", inPod["ip rule show"], printedRules, []change{
			{"from 10.7.168.173 lookup 100", "from 10.7.168.172 lookup 100", "want a line \"from 10.7.168.173 lookup 100\""},
			{"/16 lookup 100", "/16 lookup 1001", "want a line"},
		}},
		{"table 100", inPod["ip route show table 100"], printedTable, []change{{"net1", "eth0", "want a line"}}},
		{"VLANSubnets", VLANSubnet, printedVLANSubnets, []change{
			{"mv1.100", "mv1x100", "NAME"}, {"eth0", "eth1", "MASTER eth0"}, {"0/24", "0/25", "CIDR"},
		}},
		{"static NIC", StaticNIC(StaticAddress, StaticMAC), printedStaticNIC, []change{
			{"0a:00:27:00:00:00", "0a:00:27:00:00:01", "net1 has the MAC 0a:00:27:00:00:01, want 0a:00:27:00:00:00"},
			{"192.168.1.100/24", "192.168.1.101/24", "want a link net1"},
		}},
		{"parent", OnParent("mv1.100", "eth0"), printedParent, []change{{"@eth0", "@eth1", "want a link mv1.100@eth0"}, {"@eth0", "", "want a link"}}},
		{"StaticPods", func(text string) error {
			_, err := StaticPods(text, "4ae53a2a-5f99-11e9-97f6-063e2068ed12", "b4ec67a5-5f99-11e9-97f6-063e2068ed12")
			return err
		}, printedStaticPods, []change{
			{"4ae53a2a", "b4ec67a5", "POD-ID 4ae53a2a"},
			{"192.168.1.100/24", "192.168.1.101/24", "NAME samplepod1"},
			{"192.168.1.133/24", "192.168.1.100/24", "want an address of a host in 192.168.1.0/24 that is free"},
			{"192.168.1.133/24", "192.168.1.255/24", "samplepod2 has 192.168.1.255/24"},
			{"192.168.1.133/24", "192.168.1.0/24", "samplepod2 has"},
			{"192.168.1.133/24", "192.168.1.999/24", "samplepod2 has"},
			{"0a:00:27:00:00:00", "", "MAC 0a:00:27:00:00:00"},
			{"samplepod2", "samplepod3", "NAME samplepod2"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(c.printed); err != nil {
				t.Fatalf("what the guide prints: %v", err)
			}
			if err := c.check(""); err == nil {
				t.Error("no output is taken")
			}
			for _, w := range c.wrong {
				if !strings.Contains(c.printed, w.from) {
					t.Fatalf("%q is not in what the guide prints", w.from)
				}
				if err := c.check(strings.Replace(c.printed, w.from, w.to, 1)); err == nil || !strings.Contains(err.Error(), w.says) {
					t.Errorf("%q for %q: got %v, want %q", w.to, w.from, err, w.says)
				}
			}
		})
	}
}

// TestOnWire: an exchange counts only by frames in both directions, in its own LAN.
func TestOnWire(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.7.168.171:1234"), netip.MustParseAddrPort("10.7.168.172:80")
	there := testbed.Frame{Link: "node1-ens224", Src: a, Dst: b}
	back := testbed.Frame{Link: "node2-ens224", Src: b, Dst: a}
	lanOf := func(link string) string { _, lan, _ := strings.Cut(link, "-"); return lan }
	elsewhere, outside, others := back, back, back
	elsewhere.Link, outside.Link = "node2-ens192", "outside"
	others.Link, others.Src = "node2-ens192", netip.MustParseAddrPort("10.6.168.171:80")
	for _, c := range []struct {
		name   string
		frames []testbed.Frame
		want   string
	}{
		{"both", []testbed.Frame{there, back}, ""},
		{"outside and others too", []testbed.Frame{there, outside, others, back}, ""},
		{"none", nil, "0 frames from 10.7.168.171 to 10.7.168.172 and 0 back"},
		{"no answer", []testbed.Frame{there, there}, "2 frames from 10.7.168.171 to 10.7.168.172 and 0 back in the LAN of ens224"},
		{"answer by outside only", []testbed.Frame{there, outside}, "and 0 back"},
		{"answer by another LAN", []testbed.Frame{there, back, elsewhere}, "a frame is in the LAN of ens192, want ens224"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := OnWire(c.frames, lanOf, "ens224", a.Addr(), b.Addr())
			if c.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestOfPrinted: names and addresses are read in what the guides print.
func TestOfPrinted(t *testing.T) {
	for nic, want := range map[string]string{"eth0": "auto-test-app-v4-eth0-b1a361c7e9df", "net1": "auto-test-app-v4-net1-b1a361c7e9df", "net2": ""} {
		if got := PoolOf(printedPools, nic); got != want {
			t.Errorf("the pool of %s is %q, want %q", nic, got, want)
		}
	}
	if got, err := AddressOf(printedAddresses, "net1"); err != nil || got != netip.MustParsePrefix("10.7.168.173/16") {
		t.Errorf("net1 has %s: %v", got, err)
	}
	for _, link := range []string{"veth0", "net2"} {
		if got, err := AddressOf(printedAddresses, link); err == nil {
			t.Errorf("%s has %s, want an error", link, got)
		}
	}
}

// TestWithoutVLAN: the example loses its VLAN and nothing else, and what has none is an error.
func TestWithoutVLAN(t *testing.T) {
	const example = "../../examples/static-macvlan/vlan-subnet.yml"
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	without, err := WithoutVLAN(string(text))
	if err != nil || strings.Contains(without, "vlan: ") || len(without) != len(text)-len("  vlan: 100\n") {
		t.Errorf("%v:\n%s", err, without)
	}
	if _, err := WithoutVLAN(without); err == nil {
		t.Error("no error without a VLAN")
	}
}
