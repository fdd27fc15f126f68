// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/survey"
)

var duplicateAddress = Kind{
	ID: "duplicate-address", Severity: Problem,
	What:   "an address is on two pods of this node, or on a pod and the node",
	Why:    "The node has only one route to the address, so it never reaches the other owner. In one LAN, both owners answer ARP. An IPAM gives out an address twice if it knows only one node, or if it lost its state.",
	Remedy: "# delete one of the two, so that its IPAM gives it another address: WHO",
}

// duplicates compares the addresses of living pods with each other and with the node's.
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

// addrs returns the pod's addresses on a link, without link-local ones. With "", it
// returns those on all links but lo and veth0, the link to its node.
func (p pod) addrs(dev string) []netstate.Addr {
	return slices.DeleteFunc(netstate.All[netstate.Addr](p.snapshot, inPod), func(a netstate.Addr) bool {
		addr := a.Prefix.Addr()
		return a.Dev == "lo" || addr.IsLinkLocalUnicast() || dev != "" && a.Dev != dev || dev == "" && a.Dev == "veth0"
	})
}

var nicGone = Kind{
	ID: "nic-gone", Severity: Problem,
	What:   "a living pod has lost one of its NICs",
	Why:    "The kernel deletes a macvlan, ipvlan or VLAN together with the link that it sits on. So a restart of the node's network, or a reload of a driver, deletes it in the pod as well (multus#1008). The plugin makes the NIC again only for a new pod.",
	Remedy: "# delete the pod, so that it is recreated: WHO",
}

var nicDown = Kind{
	ID: "nic-down", Severity: Problem,
	What: "a NIC of a living pod is down",
	Why:  "Nothing comes or goes by it, and the kernel has removed its routes, the default route among them. Software in the pod or on the node set it down.",
	Remedy: `COMMANDS
multihome repairFLAGS`,
}

// findMissingNICs looks for NICs of attachments that don't exist in their pod, and for those that are down.
func findMissingNICs(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, a := range p.Attachments {
			switch nic, ok := netstate.Get(p.snapshot, inPod, netstate.Link{Name: a.IfName}); {
			case !ok:
				n.foundIn(p, nicGone, fmt.Sprintf("%s of network %s is not there", a.IfName, a.Network), "WHO", p.Name)
			case p.isDown(nic.Name):
				n.foundIn(p, nicDown, fmt.Sprintf("%s of network %s is down", nic.Name, a.Network), "COMMANDS", p.up(nic.Name))
			}
		}
	}
	return nil
}

// isDown reports whether a link with addresses is down. The dummy that KubeVirt leaves in place of a NIC has none.
func (p pod) isDown(dev string) bool {
	l, ok := netstate.Get(p.snapshot, inPod, netstate.Link{Name: dev})
	return ok && !l.Up && len(p.addrs(dev)) > 0
}

// up returns the commands that set a NIC up and, if no other one has the pod's default routes, restore its own.
func (p pod) up(dev string) string {
	enter := "nsenter --net=" + p.Netns + " "
	commands := []string{enter + "ip link set " + dev + " up"}
	for _, f := range families {
		if main, _ := p.defaultIn(netstate.TableMain, f); main.Dev != "" {
			continue
		}
		if gateway := p.gateway(dev, f); gateway.IsValid() {
			commands = append(commands, fmt.Sprintf("%sip route add default via %s dev %s", enter, gateway, dev))
		}
	}
	return strings.Join(commands, "\n")
}

var bridgedNIC = Kind{
	ID: "bridged-nic", Severity: Problem,
	What:   "the address of a pod's NIC was moved into a virtual machine, and the NIC is a port of a bridge",
	Why:    "KubeVirt's binding bridge does this, and leaves a dummy with the NIC's name. The node still sends packets for the address to the pod's namespace, which no longer has the address. The machine has none of the routes that lead the pod to its node and to Services. So the machine works in its LAN, but not through the node. CHECK and repair of the pod fail, because the NIC has changed.",
	Remedy: `# give the machine's interface another binding that keeps the address in the pod, such as masquerade; or, if the machine needs only its LAN, leave the plugins of this suite out of network NETWORK; then recreate it: WHO`,
}

// bridged looks for NICs that are ports of a bridge in the pod. KubeVirt renames such a
// NIC: it appends -nic to the name.
func bridged(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, a := range p.Attachments {
			if nic, is := p.bridged(a.IfName); is {
				n.foundIn(p, bridgedNIC, fmt.Sprintf("%s is a port of bridge %s in the pod", nic.Name, nic.Master), "NETWORK", a.Network, "WHO", p.Name)
			}
		}
	}
	return nil
}

// bridged returns the link that a NIC is now, if it is a port of a bridge in the pod.
func (p pod) bridged(dev string) (netstate.Link, bool) {
	nic, ok := netstate.Get(p.snapshot, inPod, netstate.Link{Name: dev})
	if renamed, is := netstate.Get(p.snapshot, inPod, netstate.Link{Name: dev + "-nic"}); is {
		nic = renamed
	} else if !ok || len(p.addrs(dev)) > 0 {
		return nic, false
	}
	bridge, _ := netstate.Get(p.snapshot, inPod, netstate.Link{Name: nic.Master})
	return nic, nic.Master != "" && bridge.Type == "bridge"
}

// lostAddresses looks for addresses of the runtime's results that pods don't have. Those that the check of pools
// has found, and those that moved into a virtual machine, are said already.
func lostAddresses(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		said := slices.ContainsFunc(n.report.Findings, func(f Finding) bool { return f.ID == addressLost.ID && f.containerID == p.ContainerID })
		for _, a := range p.Attachments {
			_, there := netstate.Get(p.snapshot, inPod, netstate.Link{Name: a.IfName})
			_, moved := p.bridged(a.IfName)
			if said || !there || moved || a.Result == nil || !usesOurs(inspect.Pod{Attachments: []inspect.Attachment{a}}) {
				continue
			}
			var lost []string
			for _, ip := range a.Result.IPs {
				addr, ok := netip.AddrFromSlice(ip.Address.IP)
				has := slices.ContainsFunc(p.addrs(""), func(has netstate.Addr) bool { return has.Prefix.Addr() == addr.Unmap() })
				if ok && !has && !addr.IsLinkLocalUnicast() {
					lost = append(lost, addr.Unmap().String())
				}
			}
			if len(lost) > 0 {
				n.foundIn(p, addressLost, fmt.Sprintf("%s of network %s lacks %s", a.IfName, a.Network, strings.Join(lost, ", ")), "WHO", p.Name)
			}
		}
	}
	return nil
}

var noDefaultRoute = Kind{
	ID: "no-default-route", Severity: Warning,
	What: "a pod has addresses of a family and no default route for it",
	Why:  "The pod reaches its NICs' subnets, its node and Services, and nothing else. The default route comes from the IPAM's routes; a gateway alone makes none.",
	Remedy: `COMMANDS
# for future pods: add "routes": [{"dst": "DEFAULT"}] to the IPAM of network NETWORK`,
}

var noGateway = Kind{
	ID: "no-gateway", Severity: Note,
	What:   "the table of a NIC has no default route",
	Why:    "Replies to hosts beyond the NIC's subnet leave by another NIC, with a source address outside of that NIC's subnet. Routers and firewalls drop them. In a LAN without a router this is right.",
	Remedy: "# if the LAN has a router: set a gateway for LINK in the IPAM of network NETWORK, and recreate the pod",
}

// waysOut looks for missing default routes, in table main and in the tables of further
// NICs.
func waysOut(n *node) error {
	for i := range n.pods {
		p := &n.pods[i]
		for _, f := range families {
			p.waysOut(n, f)
		}
	}
	return nil
}

// waysOut does this for one pod and family.
func (p *pod) waysOut(n *node, f netstate.Family) {
	addrs := slices.DeleteFunc(p.addrs(""), func(a netstate.Addr) bool { return netstate.FamilyOf(a.Prefix.Addr()) != f })
	if len(addrs) == 0 || slices.ContainsFunc(addrs, func(a netstate.Addr) bool { return p.isDown(a.Dev) }) {
		return // nic-down says why there may be no route
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

// defaultIn returns a default route of a family in one of the pod's tables.
func (p pod) defaultIn(table int, f netstate.Family) (netstate.Route, bool) {
	for _, r := range netstate.All[netstate.Route](p.snapshot, inPod) {
		if r.Table == table && r.Dst.Bits() == 0 && netstate.FamilyOf(r.Dst.Addr()) == f {
			return r, true
		}
	}
	return netstate.Route{}, false
}

// gateway returns the gateway that the IPAM named for a NIC, the zero Addr if it named
// none.
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

// network returns the name of a NIC's network, or words that stand for it in a remedy.
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
	What: "a pod has no route of ours to the addresses of some Services",
	Why:  "The pod sends packets for these addresses to its NIC's LAN, where no host has them. The cluster got another service range, or serviceCIDR never contained this one. Doctor reads the addresses that kube-proxy translates on this node; in modes iptables and ipvs, they include addresses of load balancers.",
	Remedy: `# add their range to serviceCIDR of the SpiderCoordinator default, or of: FILES
multihome repairFLAGS`,
}

var loadBalancerRange = Kind{
	ID: "load-balancer-range", Severity: Warning,
	What: "a pod has no route of ours to load balancer addresses, or externalIPs, of Services",
	Why:  "The pod sends packets for these addresses to its NIC's LAN. If its own node announces them there (layer 2 mode of MetalLB and kube-vip), the pod gets no answer: a macvlan or ipvlan doesn't reach the link that it sits on (macvlan_queue_xmit in drivers/net/macvlan.c). If routers or a cloud lead the addresses to nodes, the packets leave the node only to come back. With a route of ours, the pod reaches them through its node, as other pods do. Doctor reads these addresses from the map service-ips of kube-proxy's mode nftables (pkg/proxy/nftables); those of other modes are in service-range.",
	Remedy: `# add them, or their range, to hijackCIDR of the SpiderCoordinator default, or of: FILES
multihome repairFLAGS`,
}

// services looks for pods without a route to addresses of Services.
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

// unreached adds a finding for each pod that has no route of ours to some of the addresses.
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
