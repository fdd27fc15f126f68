// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/survey"
)

var duplicateAddress = Kind{
	ID: "duplicate-address", Severity: Problem,
	What:   "an address is on two pods of this node, or on a pod and the node",
	Why:    "The node has one route to it, so the other one is never reached by its node, and in one LAN both answer ARP. An IPAM that knows one node only, or that lost its state, gives addresses twice.",
	Remedy: "# delete one of the two, so that its IPAM gives it another address: WHO",
}

// duplicates compares the addresses of living pods with each other and the node's.
func duplicates(n *node) error {
	type owner struct {
		pod  *pod
		name string
	}
	owners := map[netip.Addr]owner{}
	for _, a := range netstate.All[netstate.Addr](n.snapshot, host) {
		if a.Dev != "lo" {
			owners[a.Prefix.Addr()] = owner{nil, "the node's " + a.Dev}
		}
	}
	for i := range n.pods {
		p := &n.pods[i]
		for _, a := range p.addrs("") {
			addr := a.Prefix.Addr()
			mine := owner{p, a.Dev + " of pod " + p.Name}
			if o, taken := owners[addr]; taken && o.pod != p {
				n.foundIn(p, duplicateAddress, fmt.Sprintf("%s is on %s and on %s", addr, mine.name, o.name), "WHO", mine.name+", "+o.name)
				continue
			}
			owners[addr] = mine
		}
	}
	return nil
}

// addrs returns the pod's own addresses that others can reach, on a link or, with "",
// on all but the one to its node.
func (p pod) addrs(dev string) []netstate.Addr {
	return slices.DeleteFunc(netstate.All[netstate.Addr](p.snapshot, inPod), func(a netstate.Addr) bool {
		addr := a.Prefix.Addr()
		return a.Dev == "lo" || addr.IsLinkLocalUnicast() || dev != "" && a.Dev != dev || dev == "" && a.Dev == "veth0"
	})
}

var nicGone = Kind{
	ID: "nic-gone", Severity: Problem,
	What:   "a living pod has lost a NIC that it was given",
	Why:    "A macvlan, ipvlan or VLAN goes with the link that it sits on: a restart of the node's network, or a reloaded driver, deletes it in the pod as well (multus#1008). The plugin that made it does so with a new pod only.",
	Remedy: "# delete the pod, so that it is made anew: WHO",
}

// findMissingNICs looks for NICs that were noted and are not there.
func findMissingNICs(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, a := range p.Attachments {
			if _, ok := netstate.Get(p.snapshot, inPod, netstate.Link{Name: a.IfName}); !ok {
				n.foundIn(p, nicGone, fmt.Sprintf("%s of network %s is not there", a.IfName, a.Network), "WHO", p.Name)
			}
		}
	}
	return nil
}

var bridgedNIC = Kind{
	ID: "bridged-nic", Severity: Problem,
	What:   "the address of a pod's NIC was moved into a virtual machine, and the NIC is a port of a bridge",
	Why:    "KubeVirt's binding bridge does that, and leaves a dummy with the NIC's name. The node sends what is for the address to the pod's namespace, which is not the one that has it, and the machine knows none of the routes that lead the pod to its node and to Services: by its LAN it works, by the node nothing does. CHECK and repair of the pod fail, since the NIC is not what it was.",
	Remedy: `# give the machine's interface another binding, such as masquerade, with which the address stays in the pod; or leave the plugins of this suite out of network NETWORK, if its LAN is all that the machine needs; then make it anew: WHO`,
}

// bridged looks for NICs that are ports of a bridge in the pod, under their own name or,
// as KubeVirt has it, with -nic behind it.
func bridged(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, a := range p.Attachments {
			nic, ok := netstate.Get(p.snapshot, inPod, netstate.Link{Name: a.IfName})
			if renamed, is := netstate.Get(p.snapshot, inPod, netstate.Link{Name: a.IfName + "-nic"}); is {
				nic = renamed
			} else if !ok || len(p.addrs(a.IfName)) > 0 {
				continue
			}
			if bridge, _ := netstate.Get(p.snapshot, inPod, netstate.Link{Name: nic.Master}); nic.Master != "" && bridge.Type == "bridge" {
				n.foundIn(p, bridgedNIC, fmt.Sprintf("%s is a port of bridge %s in the pod", nic.Name, nic.Master), "NETWORK", a.Network, "WHO", p.Name)
			}
		}
	}
	return nil
}

var noDefaultRoute = Kind{
	ID: "no-default-route", Severity: Warning,
	What: "a pod has addresses of a family and no default route for it",
	Why:  "It reaches its NICs' subnets, its node and Services, and nothing else. The default comes from the IPAM's routes; a gateway alone makes none.",
	Remedy: `COMMANDS
# for the pods to come: "routes": [{"dst": "DEFAULT"}] in the IPAM of network NETWORK`,
}

var noGateway = Kind{
	ID: "no-gateway", Severity: Note,
	What:   "the table of a NIC has no default route",
	Why:    "What comes to the NIC from beyond its subnet is answered by another NIC, from an address that isn't of that one's subnet: routers and firewalls drop it. For a LAN without a router that is as it should be.",
	Remedy: "# if the LAN has a router: a gateway for LINK in the IPAM of network NETWORK, and the pod anew",
}

// waysOut looks for default routes, in main and in the tables of further NICs.
func waysOut(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, f := range families {
			p.waysOut(n, f)
		}
	}
	return nil
}

func (p *pod) waysOut(n *node, f netstate.Family) {
	addrs := slices.DeleteFunc(p.addrs(""), func(a netstate.Addr) bool { return netstate.FamilyOf(a.Prefix.Addr()) != f })
	if len(addrs) == 0 {
		return
	}
	main, _ := p.defaultIn(netstate.TableMain, f)
	if main.Dev == "" {
		first := addrs[0]
		command := "ip route add DEFAULT via GATEWAY dev " + first.Dev
		if gateway := p.gateway(first.Dev, f); gateway.IsValid() {
			command = fmt.Sprintf("nsenter --net=%s ip route add default via %s dev %s", p.Netns, gateway, first.Dev)
		} else {
			command = "# in the pod: " + command
		}
		n.foundIn(p, noDefaultRoute, fmt.Sprintf("%s on %s, and no IPv%d default route", first.Prefix, first.Dev, f),
			"COMMANDS", command, "DEFAULT", netstate.Default(first.Prefix.Addr()).String(), "NETWORK", p.network(first.Dev))
		return
	}
	for _, rule := range netstate.All[netstate.Rule](p.snapshot, inPod) {
		if !rule.Owned() || rule.Priority != netstate.FromPriority || rule.Family != f {
			continue
		}
		i := slices.IndexFunc(addrs, func(a netstate.Addr) bool { return rule.From == netstate.Single(a.Prefix.Addr()) })
		if i < 0 || addrs[i].Dev == main.Dev {
			continue
		}
		if _, ok := p.defaultIn(rule.Table, f); !ok {
			n.foundIn(p, noGateway, fmt.Sprintf("table %d of %s has no IPv%d default route", rule.Table, addrs[i].Dev, f),
				"LINK", addrs[i].Dev, "NETWORK", p.network(addrs[i].Dev))
		}
	}
}

func (p pod) defaultIn(table int, f netstate.Family) (netstate.Route, bool) {
	for _, r := range netstate.All[netstate.Route](p.snapshot, inPod) {
		if r.Table == table && r.Dst.Bits() == 0 && netstate.FamilyOf(r.Dst.Addr()) == f {
			return r, true
		}
	}
	return netstate.Route{}, false
}

// gateway returns the one that the IPAM named for a NIC.
func (p pod) gateway(dev string, f netstate.Family) netip.Addr {
	for _, a := range p.Attachments {
		if a.IfName != dev || a.Result == nil {
			continue
		}
		for _, ip := range a.Result.IPs {
			if g := plugin.GatewayOf(ip.Gateway); g.IsValid() && netstate.FamilyOf(g) == f {
				return g
			}
		}
	}
	return netip.Addr{}
}

// network returns the name of the network that a NIC is in.
func (p pod) network(dev string) string {
	for _, a := range p.Attachments {
		if a.IfName == dev {
			return a.Network
		}
	}
	return "of " + dev
}

var serviceRange = Kind{
	ID: "service-range", Severity: Warning,
	What: "Services have addresses that a pod has no route of ours to",
	Why:  "The pod sends what is for them to its NIC's LAN, where nobody knows them. The cluster got another service range, or serviceCIDR never had this one. They are those that kube-proxy translates on this node; in modes iptables and ipvs, addresses of load balancers are among them.",
	Remedy: `# add their range to serviceCIDR: FILES
multihome repairFLAGS`,
}

var loadBalancerRange = Kind{
	ID: "load-balancer-range", Severity: Warning,
	What: "Services have addresses of load balancers, or externalIPs, that a pod has no route of ours to",
	Why:  "The pod asks its NIC's LAN for them. Where a node announces them there (MetalLB's and kube-vip's layer 2), a pod whose own node does so gets no answer: a macvlan or ipvlan doesn't reach the link that it sits on (macvlan_queue_xmit in drivers/net/macvlan.c). Where routers or a cloud lead them to nodes, packets leave the node to come back. By its node a pod reaches them as others do. These are of kube-proxy's mode nftables, in the map service-ips (pkg/proxy/nftables); those of other modes are with service-range.",
	Remedy: `# add them, or their range, to hijackCIDR: FILES
multihome repairFLAGS`,
}

func services(n *node) error {
	addrs, err := survey.ServiceAddrs(n.kernel.Host)
	for _, a := range netstate.All[netstate.Addr](n.snapshot, host) {
		if a.Dev == "kube-ipvs0" && !a.Prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, a.Prefix.Addr())
		}
	}
	n.unreached(serviceRange, addrs)
	balanced, errBalanced := survey.LoadBalancerAddrs(n.kernel.Host)
	n.unreached(loadBalancerRange, balanced)
	return errors.Join(err, errBalanced)
}

// unreached notes the pods that have no route of ours to addresses of Services.
func (n *node) unreached(k Kind, addrs []netip.Addr) {
	for i := range n.pods {
		p := &n.pods[i]
		var missing []string
		for _, a := range addrs {
			if !p.reaches(netstate.Single(a)) {
				missing = append(missing, a.String())
			}
		}
		if len(missing) == 0 {
			continue
		}
		what := strings.Join(missing[:min(len(missing), shown)], ", ")
		if len(missing) > shown {
			what += fmt.Sprintf(" and %d more", len(missing)-shown)
		}
		n.foundIn(p, k, "no route of ours to "+what, "FILES", strings.Join(n.where(p), ", "))
	}
}
