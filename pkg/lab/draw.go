// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Draw draws the ways between a pod, its node and the LAN.
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

// addrs prints up to two addresses, one in each line.
func addrs(in []netip.Prefix) [2]string {
	var lines [2]string
	for i := range min(len(in), len(lines)) {
		lines[i] = in[i].String()
	}
	return lines
}
