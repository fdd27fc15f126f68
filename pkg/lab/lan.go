// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/multihome/multihome/pkg/testbed"
)

// LAN is an Ethernet that the node has a NIC in. It has the address families of
// its prefixes, and pods get addresses of the families of Pods.
type LAN struct {
	NIC    string // of the node
	Node   []netip.Prefix
	Router []netip.Prefix
	Host   []netip.Prefix // of the client
	Pods   []AddrRange

	// A VLAN is reached by one NIC of the node, or a bond of several, with its tag;
	// ifacer makes NIC.
	VLAN    int // 0: none
	Uplinks []string

	Client *testbed.Netns // a host in the LAN
}

// AddrRange is a range of addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// Ens192 is the LAN of a pod's first NIC.
func Ens192() LAN {
	return LAN{
		NIC:    "ens192",
		Node:   prefixes("10.6.168.123/16", "fd00:6::123/64"),
		Router: prefixes("10.6.0.1/16", "fd00:6::1/64"),
		Host:   prefixes("10.6.0.50/16", "fd00:6::50/64"),
		Pods: []AddrRange{
			{netip.MustParseAddr("10.6.168.171"), netip.MustParseAddr("10.6.168.250")},
			{netip.MustParseAddr("fd00:6::171"), netip.MustParseAddr("fd00:6::250")},
		},
	}
}

// Ens224 is the LAN of a pod's second NIC.
func Ens224() LAN {
	return LAN{
		NIC:    "ens224",
		Node:   prefixes("10.7.168.123/16", "fd00:7::123/64"),
		Router: prefixes("10.7.0.1/16", "fd00:7::1/64"),
		Host:   prefixes("10.7.0.50/16", "fd00:7::50/64"),
		Pods: []AddrRange{
			{netip.MustParseAddr("10.7.168.171"), netip.MustParseAddr("10.7.168.250")},
			{netip.MustParseAddr("fd00:7::171"), netip.MustParseAddr("fd00:7::250")},
		},
	}
}

func (l *Lab) addLAN(lan LAN) error {
	sw, err := l.newNetns("switch-" + lan.NIC)
	if err != nil {
		return err
	}
	if err := sw.AddBridge("br0"); err != nil {
		return err
	}
	client := "client"
	if len(l.LANs) > 0 {
		client += "-" + lan.NIC
	}
	if lan.Client, err = l.newNetns(client); err != nil {
		return err
	}
	for _, uplink := range lan.Uplinks {
		tagged := fmt.Sprintf("%s.%d", uplink, lan.VLAN)
		if err := testbed.ConnectVeth(sw, uplink, l.Node.Netns, uplink); err != nil {
			return err
		}
		if err := sw.AddVLAN(uplink, tagged, lan.VLAN); err != nil {
			return err
		}
		if err := sw.SetMaster(tagged, "br0"); err != nil {
			return err
		}
	}
	ports := []port{
		{"node", l.Node.Netns, lan.NIC, lan.Node, len(l.nodeAddrs()) == 0},
		{"router", l.Router, lan.NIC, lan.Router, false},
		{"client", lan.Client, "eth0", lan.Host, true},
	}
	if lan.VLAN != 0 {
		ports = ports[1:] // the node has its uplinks
	}
	for _, port := range ports {
		if err := testbed.ConnectVeth(sw, port.name, port.netns, port.link); err != nil {
			return err
		}
		if err := sw.SetMaster(port.name, "br0"); err != nil {
			return err
		}
		if err := port.netns.AddAddrs(port.link, port.addrs...); err != nil {
			return err
		}
		if !port.gateway {
			continue
		}
		for _, router := range lan.Router {
			if err := port.netns.AddRoutes(defaultRoute(router.Addr(), port.link)); err != nil {
				return err
			}
		}
	}
	l.LANs = append(l.LANs, &lan)
	return nil
}

// port is the link by which a machine is plugged in; with gateway, its default route is
// by the LAN's router.
type port struct {
	name    string // of the switch's end
	netns   *testbed.Netns
	link    string
	addrs   []netip.Prefix
	gateway bool
}

// nodeLAN is the first LAN that the node has addresses in, nil if there is none.
func (l *Lab) nodeLAN() *LAN {
	for _, lan := range l.LANs {
		if len(lan.Node) > 0 {
			return lan
		}
	}
	return nil
}

// nodeAddrs returns the node's addresses in that LAN.
func (l *Lab) nodeAddrs() []netip.Prefix {
	if lan := l.nodeLAN(); lan != nil {
		return lan.Node
	}
	return nil
}

// Conflist is the network of a macvlan NIC in the LAN, with addresses by
// host-local and further plugins chained after it, each given in JSON. In front is
// ifacer if the LAN is a VLAN.
func (lan *LAN) Conflist(chained ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{
  "cniVersion": "1.1.0",
  "name": "macvlan-%s",
  "plugins": [%s
    {
      "type": "macvlan",
      "master": "%s",
      "mode": "bridge",
      "ipam": {
        "type": "host-local",
        "ranges": [
%s
        ],
        "routes": [%s]
      }
    }`, lan.NIC, lan.ifacer(), lan.NIC, lan.ranges(), lan.routes())
	for _, plugin := range chained {
		fmt.Fprintf(&b, ",\n    %s", plugin)
	}
	b.WriteString("\n  ]\n}\n")
	return b.String()
}

// ifacer returns the configuration of the plugin that makes the NIC, with a comma, or "".
func (lan *LAN) ifacer() string {
	if lan.VLAN == 0 {
		return ""
	}
	bond := ""
	if len(lan.Uplinks) > 1 {
		name, _, _ := strings.Cut(lan.NIC, ".")
		bond = fmt.Sprintf(`
      "bond": {"name": "%s", "mode": "active-backup", "options": "primary=%s"},`, name, lan.Uplinks[0])
	}
	return fmt.Sprintf(`
    {
      "type": "ifacer",
      "interfaces": ["%s"],%s
      "vlanID": %d,
      "removeUnused": true
    },`, strings.Join(lan.Uplinks, `", "`), bond, lan.VLAN)
}

func (lan *LAN) ranges() string {
	var lines []string
	for _, pods := range lan.Pods {
		router := inFamily(lan.Router, pods.First)
		lines = append(lines, fmt.Sprintf(`          [{"subnet": "%s", "rangeStart": "%s", "rangeEnd": "%s", "gateway": "%s"}]`,
			router.Masked(), pods.First, pods.Last, router.Addr()))
	}
	return strings.Join(lines, ",\n")
}

func (lan *LAN) routes() string {
	var routes []string
	for _, pods := range lan.Pods {
		routes = append(routes, fmt.Sprintf(`{"dst": "%s"}`, defaultRoute(pods.First, "").Dst))
	}
	return strings.Join(routes, ", ")
}

// inFamily returns the prefix of the same family as an address, if there is one.
func inFamily(in []netip.Prefix, of netip.Addr) netip.Prefix {
	for _, p := range in {
		if p.Addr().Is4() == of.Is4() {
			return p
		}
	}
	return netip.Prefix{}
}

func prefixes(s ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range s {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}
