// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// op is the operation that leads from one object to another, each as ip(8) writes it
// behind its namespace; before may be "".
func op(t *testing.T, before, after string) netstate.Op {
	t.Helper()
	parse := func(text string) (netstate.NS, netstate.Object) {
		if text == "" {
			return "", nil
		}
		ns, o, err := netstate.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return ns, o
	}
	_, b := parse(before)
	ns, a := parse(after)
	return netstate.Op{NS: ns, Before: b, After: a}
}

// TestReasons: each error number that a configuration can bring about is told with what
// is in the way and what helps, and one that says enough stays as it is.
func TestReasons(t *testing.T) {
	const bridge = "host: link mybr link ens192 address 02:00:00:00:00:01 type macvlan mode bridge"
	for _, tt := range []struct {
		before, after string
		errno         error
		said          string // by the kernel
		want          []string
	}{
		{"", bridge, unix.EINVAL, "", []string{"ens192 is no Ethernet link", "passthru"}},
		{"", bridge, unix.EBUSY, "", []string{"ens192 carries ipvlans", "can't share a parent"}},
		{"", bridge, unix.EEXIST, "", []string{"another link has the name mybr"}},
		{"", bridge, unix.EOPNOTSUPP, "Unknown device type", []string{"no links of type macvlan", "modprobe macvlan"}},
		{bridge, "host: link mybr link ens192 address 02:00:00:00:00:01 up type macvlan mode bridge", unix.EADDRINUSE, "", []string{"another macvlan on ens192"}},
		{"host: link v link e type vlan protocol 802.1Q id 7", "host: link v link e up type vlan protocol 802.1Q id 7", unix.ENETDOWN, "", []string{"ip link set e up"}},
		{"", "host: link e.7 link e type vlan protocol 802.1Q id 7", unix.EEXIST, "", []string{"e has a VLAN of that ID"}},
		{"", "host: link e.7 link e type vlan protocol 802.1Q id 7", unix.EOPNOTSUPP, "VLANs not supported on device", []string{"e does not support VLANs"}},
		{"", "host: link e.7 link e type vlan protocol 802.1Q id 7", unix.EOPNOTSUPP, "Unknown device type", []string{"modprobe 8021q"}},
		{"", "host: link e.7 link e mtu 9000 type vlan protocol 802.1Q id 7", unix.ERANGE, "", []string{"mtu 9000", "at most that of e"}},
		{"", "host: link b type bond mode 802.3ad", unix.EOPNOTSUPP, "", []string{"modprobe bonding"}},
		{"host: link e up", "host: link e up master b", unix.EBUSY, "", []string{"b does not accept this link as a port"}},
		{"host: link e up", "host: link e up master b", unix.EPERM, "", []string{"CAP_NET_ADMIN"}},
		{"pod: link eth0 address 02:00:00:00:00:02 type macvlan", "pod: link eth0 address 02:00:00:00:00:03 type macvlan", unix.EADDRINUSE, "", []string{"another macvlan on its parent", "02:00:00:00:00:03"}},
		{"pod: link eth0 address 02:00:00:00:00:02 type ipvlan", "pod: link eth0 address 02:00:00:00:00:03 type ipvlan", unix.EOPNOTSUPP, "", []string{"ipvlan has its parent's MAC", "podMACPrefix"}},
		{"pod: link eth0 address 02:00:00:00:00:02", "pod: link eth0 address 02:00:00:00:00:03", unix.EPERM, "", []string{"trust on"}},
		{"pod: link eth0 address 02:00:00:00:00:02", "pod: link eth0 address 02:00:00:00:00:03", unix.EBUSY, "", []string{"can't change the MAC of a link that is up"}},
		{"pod: link eth0 address 02:00:00:00:00:02", "pod: link eth0 address 03:00:00:00:00:03", unix.EADDRNOTAVAIL, "", []string{"first byte is even"}},
		{"", "host: route 10.6.0.2 dev veth1 table 500 proto multihome scope link src 10.6.0.9", unix.EINVAL, "Invalid prefsrc address", []string{"the node has no address 10.6.0.9", "nodeAddresses"}},
		{"", "pod: route fd00::/64 dev net1 src fd00::9 metric 1024", unix.EINVAL, "Invalid source address", []string{"the pod has no address fd00::9"}},
		{"", "pod: route fd01::/64 via fd00::9 dev net1 metric 1024", unix.EINVAL, "Gateway can not be a local address", []string{"fd00::9 is an address of the pod itself", "want the router's"}},
		{"", "pod: route 10.9.0.0/16 via 10.6.255.255 dev net1", unix.EINVAL, "Nexthop has invalid gateway", []string{"10.6.255.255 is no address of a host"}},
		{"", "pod: route 10.9.0.0/16 via 10.7.0.1 dev net1", unix.ENETUNREACH, "Nexthop has invalid gateway", []string{"gateway 10.7.0.1 is in no subnet of net1"}},
		{"", "pod: route fd01::/64 via fd09::1 dev net1 metric 1024", unix.EHOSTUNREACH, "", []string{"gateway fd09::1 is in no subnet of net1"}},
		{"", "pod: route default via 10.6.0.1 dev net1 table 101", unix.ENETDOWN, "Nexthop device is not up", []string{"ip link set net1 up"}},
		{"", "pod: route fd01::/64 dev veth0 metric 1024", unix.EACCES, "IPv6 is disabled on nexthop device", []string{"disable_ipv6=0"}},
		{"", "pod: route fd01::/64 dev veth0 metric 1024", unix.ENODEV, "", []string{"less than 1280"}},
		{"", "pod: route 10.9.0.0/16 dev net1", unix.EEXIST, "", []string{"another route"}},
		{"", "pod: addr fd00::5/64 dev veth0", unix.EACCES, "", []string{"IPv6 is off on veth0"}},
		{"", "pod: addr fd00::5/64 dev veth0", unix.ENOBUFS, "", []string{"less than 1280"}},
		{"", "pod: addr 10.0.0.5/32 dev veth0", unix.EINVAL, "", []string{"no address of a host"}},
		{"", "host: rule pref 1000 from all lookup 500 proto multihome", unix.EAFNOSUPPORT, "", []string{"no policy routing for IPv4"}},
		{"", "pod: sysctl net/ipv4/conf/eth0/rp_filter=0", unix.EROFS, "", []string{"mounted read-only"}},
		{"", "pod: sysctl net/ipv4/conf/eth0/rp_filter=0", unix.EACCES, "", []string{"CAP_NET_ADMIN"}},
		{"", "pod: neigh 10.6.0.1 dev eth0 lladdr 02:00:00:00:00:02 nud permanent", unix.ENOBUFS, "", nil},
	} {
		err := tt.errno
		if tt.said != "" {
			err = fmt.Errorf("%w (%s)", err, tt.said)
		}
		got := reason(op(t, tt.before, tt.after), err)
		for _, words := range tt.want {
			if !strings.Contains(got, words) {
				t.Errorf("%s: %v: %q doesn't say %q", tt.after, err, got, words)
			}
		}
		if e := because(op(t, tt.before, tt.after), err); !strings.HasPrefix(e.Error(), err.Error()) {
			t.Errorf("%s: the kernel's answer isn't in %v", tt.after, e)
		}
	}
}

// TestReasonsOfThisKernel brings the errors about.
func TestReasonsOfThisKernel(t *testing.T) {
	var spaces []*testbed.Netns
	for _, name := range []string{"node", "pod"} {
		n, err := testbed.NewNetns(name)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		spaces = append(spaces, n)
	}
	node, pod := spaces[0], spaces[1]
	sh := func(n *testbed.Netns, script string) {
		t.Helper()
		if err := n.Do(func() error {
			out, err := exec.Command("sh", "-euc", script).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	sh(node, `ip link add ens192 type veth peer name far; ip link set ens192 up; ip link set far up
		ip link add ens224 type veth peer name far2; ip link add passed link ens224 type macvlan mode passthru
		ip link add br0 type bridge; ip link add port type veth peer name far3; ip link set port master br0
		ip link add first link ens192 address 02:00:00:00:00:01 type macvlan mode bridge; ip link set first up
		ip link property add dev far altname other
		ip addr add 10.6.0.9/16 dev ens192`)
	if err := node.AddMacvlan("ens192", pod, "net1"); err != nil {
		t.Fatal(err)
	}
	sh(pod, `ip link add quiet type veth peer name far; ip link add small mtu 1000 type veth peer name far2; ip link set small up
		ip link add six type veth peer name far3; sysctl -qw net.ipv6.conf.six.disable_ipv6=1; ip link set six up
		ip link set net1 up; ip addr add 10.7.0.2/16 dev net1; ip addr add fd00:7::2/64 dev net1 nodad`)
	for _, tt := range []struct {
		before, after string
		want          []string
	}{
		{"", "host: link mybr link ens224 type macvlan mode bridge", []string{"invalid argument", "ens224", "passthru"}},
		{"", "host: link mybr link lo type macvlan mode bridge", []string{"invalid argument", "lo is no Ethernet link"}},
		{"", "host: link mybr link port type macvlan mode bridge", []string{"busy", "port of a bridge"}},
		{"", "host: link other link ens192 type macvlan mode bridge", []string{"file exists", "another link has the name other"}},
		{"host: link first link ens192 address 02:00:00:00:00:01 up type macvlan mode bridge", "host: link first link ens192 address 02:00:00:00:00:01 mtu 9000 up type macvlan mode bridge", []string{"mtu 9000", "at most that of ens192"}},
		{"pod: link net1 up", "pod: link net1 address 02:00:00:00:00:01 up", []string{"address already in use", "another macvlan on its parent", "02:00:00:00:00:01"}},
		{"pod: link net1 up", "pod: link net1 address 03:00:00:00:00:01 up", []string{"first byte is even"}},
		{"", "host: route 10.7.0.2 dev ens192 table 500 proto multihome scope link src 10.99.0.1", []string{"Invalid prefsrc address", "the node has no address 10.99.0.1", "nodeAddresses"}},
		{"", "pod: route fd00:8::/64 dev net1 src fd00:9::9 metric 1024", []string{"Invalid source address", "the pod has no address fd00:9::9"}},
		{"", "pod: route 10.9.0.0/16 via 10.7.255.255 dev net1", []string{"10.7.255.255 is no address of a host"}},
		{"", "pod: route fd00:8::/64 via fd00:7::2 dev net1 metric 1024", []string{"fd00:7::2 is an address of the pod itself"}},
		{"", "pod: route 10.9.0.0/16 via 10.8.0.1 dev net1", []string{"network is unreachable", "10.8.0.1 is in no subnet of net1"}},
		{"", "pod: route fd00:8::/64 via fd00:9::1 dev net1 metric 1024", []string{"no route to host", "fd00:9::1 is in no subnet of net1"}},
		{"", "pod: route 10.9.0.0/16 dev quiet", []string{"network is down", "ip link set quiet up"}},
		{"", "pod: route fd00:8::/64 dev small metric 1024", []string{"small has no IPv6", "1280"}},
		{"", "pod: route fd00:8::/64 dev six metric 1024", []string{"IPv6 is off on six"}},
		{"", "pod: addr fd00:8::1/64 dev six", []string{"IPv6 is off on six"}},
		{"", "pod: addr fd00:8::1/64 dev small", []string{"small has no IPv6"}},
	} {
		err := node.Do(func() error {
			k, err := Open(pod.Path())
			if err != nil {
				return err
			}
			defer k.Close()
			err = k.Apply([]netstate.Op{op(t, tt.before, tt.after)})
			for _, words := range tt.want {
				if err == nil || !strings.Contains(err.Error(), words) {
					t.Errorf("%s: %v doesn't say %q", tt.after, err, words)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
