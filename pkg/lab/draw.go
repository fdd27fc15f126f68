// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Draw draws the paths between a pod, its node and the LAN.
func (s *Scene) Draw(pod *Pod) string {
	lan := s.LANs[0]
	hostEnd, joint, bar, podEnd := pod.HostEnd(NIC), "---", "|", "veth0"
	if hostEnd == "" {
		joint, bar, podEnd = "", " ", ""
	}
	router, client, node, addrs := addrs(lan.Router), addrs(lan.Host), addrs(lan.Node), addrs(pod.Addrs(NIC))
	var b strings.Builder
	p := func(format string, a ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, a...), " ") + "\n")
	}
	p("  outside --- router                    client")
	p("              %-25s %s", router[0], client[0])
	p("              %-25s %s", router[1], client[1])
	p("                 |                         |")
	p("  ======= LAN ===+=========+===============+=======")
	p("                           |")
	p("  node                     |")
	p("      %15s %3s %s", hostEnd, joint, lan.NIC)
	p("             %s             |      %s", bar, node[0])
	p("             %s             |      %s", bar, node[1])
	p("  - - - - - -%s- - - - - - -|- - - - - - - - - - - -", bar)
	p("             %s          macvlan", bar)
	p("  pod %-6s %s             |", pod.Name(), bar)
	p("           %-9s      %s", podEnd, NIC)
	p("                           %s", addrs[0])
	p("                           %s", addrs[1])
	p("")
	if hostEnd != "" {
		p("  by %s: the node, Services, and replies to what came by it", podEnd)
	}
	p("  by %s: everything else, with the pod's own address", NIC)
	return b.String()
}

// Port is a link of a machine or pod, with addresses.
type Port struct {
	Name, Link string
	Addrs      []netip.Prefix
}

// Ports returns the links that have addresses, set by the lab or by plugins.
func (s *Scene) Ports() []Port {
	var ports []Port
	for _, lan := range s.LANs {
		if len(lan.Node) > 0 {
			ports = append(ports, Port{s.Node.Name(), lan.NIC, lan.Node})
		}
	}
	for _, pod := range s.Pods() {
		for _, a := range s.Attachments {
			ports = append(ports, Port{pod.Name(), a.IfName, pod.Addrs(a.IfName)})
		}
	}
	for _, lan := range s.LANs {
		ports = append(ports, Port{s.Router.Name(), lan.NIC, lan.Router}, Port{lan.Client.Name(), "eth0", lan.Host})
	}
	router, client := Port{Name: s.Router.Name(), Link: "outside0"}, Port{Name: s.Outside.Name(), Link: "eth0"}
	for _, o := range outside {
		router.Addrs, client.Addrs = append(router.Addrs, o.router), append(client.Addrs, o.client)
	}
	return append(ports, router, client)
}

// addrs prints up to two addresses, one per line.
func addrs(in []netip.Prefix) [2]string {
	var lines [2]string
	for i := range min(len(in), len(lines)) {
		lines[i] = in[i].String()
	}
	return lines
}
