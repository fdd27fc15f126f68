// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

func (t *tracer) link(ns netstate.NS, name string) netstate.Link {
	l, _ := netstate.Get(t.Snapshot, ns, netstate.Link{Name: name})
	return l
}

// linkWith returns the link of a namespace that has an address, "" if none has it.
func (t *tracer) linkWith(ns netstate.NS, a netip.Addr) string {
	for _, have := range t.Spaces[ns].Addrs {
		if have.Prefix.Addr() == a {
			return have.Dev
		}
	}
	return ""
}

// hostLink returns the node's link that receives packets sent by a link of the pod: the
// far end of a veth, the bridge that the far end is a port of, or a macvlan on the same
// parent. "" if there is none.
func (t *tracer) hostLink(podDev string) string {
	if far := t.link(netstate.Pod, podDev).Peer; far.NS == netstate.Host {
		if bridge := t.bridgeOf(far.Name); bridge != "" {
			return bridge
		}
		return far.Name
	}
	for _, l := range netstate.All[netstate.Link](t.Snapshot, netstate.Host) {
		if l.Type == "macvlan" && l.Parent != "" && l.Parent == t.Parents[podDev] {
			return l.Name
		}
	}
	return ""
}

// bridgeOf returns the bridge that a link of the node is a port of.
func (t *tracer) bridgeOf(hostDev string) string {
	master := t.link(netstate.Host, hostDev).Master
	if t.link(netstate.Host, master).Type == "bridge" {
		return master
	}
	return ""
}

// podEnd returns the veth of the pod that leads to a link of the node.
func (t *tracer) podEnd(hostDev string) string {
	for _, l := range netstate.All[netstate.Link](t.Snapshot, netstate.Pod) {
		if l.Peer.NS == netstate.Host && (l.Peer.Name == hostDev || t.bridgeOf(l.Peer.Name) == hostDev) {
			return l.Name
		}
	}
	return ""
}

// nodeLink returns the node's link that receives a packet of the pod; "" if the node does
// not receive it. A macvlan of the node receives packets sent to its own MAC only.
func (t *tracer) nodeLink(podDev string, d fib.Decision) string {
	host := t.hostLink(podDev)
	if host == "" || t.podEnd(host) != "" {
		return host
	}
	next := d.Choices[0].Hop.Via
	if !next.IsValid() {
		next = d.Flow.Dst
	}
	n, ok := netstate.Get(t.Snapshot, netstate.Pod, netstate.Neigh{Dev: podDev, Dst: next})
	if ok && n.MAC == t.link(netstate.Host, host).MAC {
		return host
	}
	return ""
}

// podLink returns the pod's link that receives a packet sent by the node's link, or why
// the pod does not receive it.
func (t *tracer) podLink(hostDev string, own netip.Addr) (dev, lost string) {
	if end := t.podEnd(hostDev); end != "" {
		return end, ""
	}
	dev = t.linkWith(netstate.Pod, own)
	if dev == "" {
		return "", fmt.Sprintf("the pod has no address %s", own)
	}
	parent := t.Parents[dev]
	switch {
	case parent == hostDev:
		return "", fmt.Sprintf("it leaves the node by %s, which %s of the pod sits on, and does not reach that", hostDev, dev)
	case t.link(netstate.Host, hostDev).Owned() && t.link(netstate.Host, hostDev).Parent != parent:
		return "", fmt.Sprintf("it leaves the node by %s, which leads to another pod", hostDev)
	}
	return dev, ""
}

// beside returns the node's links that are connected with the pod's, or that lead out.
func (t *tracer) beside() []string {
	links := map[string]bool{}
	for _, l := range netstate.All[netstate.Link](t.Snapshot, netstate.Pod) {
		links[t.hostLink(l.Name)], links[t.Parents[l.Name]] = true, true
		if l.Peer.NS == netstate.Host {
			links[l.Peer.Name] = true
		}
	}
	for _, c := range t.Spaces[netstate.Host].Output(fib.Flow{Dst: t.q.To.Addr()}).Choices {
		links[c.Hop.Dev] = true
	}
	delete(links, "")
	delete(links, "lo")
	return slices.Sorted(maps.Keys(links))
}

// checkSource reports whether the node's check of sources lets an incoming packet pass,
// and says why.
func (t *tracer) checkSource(l *Leg, src netip.Addr) bool {
	check, ok := netstate.Get(t.Snapshot, netstate.Host, netstate.SourceCheck{})
	if !ok || check.Damage != "" || t.link(netstate.Host, l.In).Group != netstate.SourceGroup {
		return true
	}
	d := t.Spaces[netstate.Host].Output(fib.Flow{Dst: src})
	by := "nowhere"
	for _, c := range d.Choices {
		by = c.Hop.Dev
		if by == l.In {
			break
		}
	}
	if by == l.In {
		l.Notes = append(l.Notes, fmt.Sprintf("table inet %s: the way back to %s is by %s", netstate.SourceTable, src, by))
		return true
	}
	l.Ends, l.Out = fmt.Sprintf("dropped by table inet %s: the way back to %s is by %s, not by %s", netstate.SourceTable, src, by, l.In), ""
	return false
}
