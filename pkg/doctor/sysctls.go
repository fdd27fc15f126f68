// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

var ipForward = Kind{
	ID: "ip-forward", Severity: Problem,
	What: "the node and its pods have addresses of a family that the node doesn't forward",
	Why:  "Services, and whatever else comes to a pod by its node, are forwarded: the kernel drops them silently. IPv4 forwarding is off by default (Documentation/networking/ip-sysctl.rst).",
	Remedy: `multihome install --drop-ins sysctl
sysctl -e -p /etc/sysctl.d/90-multihome.conf`,
}

func forwarding(n *node) error {
	keys := map[netstate.Family]string{netstate.IPv4: "ipv4/ip_forward", netstate.IPv6: "ipv6/conf/all/forwarding"}
	for _, f := range families {
		if !n.forwards(f) {
			continue
		}
		key := keys[f]
		value, err := sysctl(key)
		if err != nil {
			return err
		}
		if value == 0 {
			n.found(ipForward, fmt.Sprintf("net.%s is 0, and node and pods have IPv%d addresses", dotted(key), f))
		}
	}
	return nil
}

// dotted is a setting as sysctl(8) prints it.
func dotted(key string) string { return strings.ReplaceAll(key, "/", ".") }

var rpFilterAll = Kind{
	ID: "rp-filter-all", Severity: Warning,
	What:   "net.ipv4.conf.all.rp_filter is not 0; a note if it is 2, or the node has one NIC",
	Why:    "The larger of all and a link's own value counts (Documentation/networking/ip-sysctl.rst). 1 makes every NIC strict: what comes by another NIC than the node would answer by is dropped, as it is for NodePorts on a node in several LANs. 2 makes loose what is strict; the table inet multihome-sources still checks the addresses of pods.",
	Remedy: "sysctl -w net.ipv4.conf.all.rp_filter=0",
}

func reversePath(n *node) error {
	value, err := sysctl("ipv4/conf/all/rp_filter")
	if err != nil {
		return err
	}
	if err := nicReversePath(n, value); err != nil || value == 0 {
		return err
	}
	k := rpFilterAll
	if value == 2 || len(n.nics()) < 2 {
		k.Severity = Note
	}
	n.found(k, fmt.Sprintf("net.ipv4.conf.all.rp_filter is %d, with %s", value, counted(len(n.nics()), "NIC")))
	return nil
}

var rpFilterNIC = Kind{
	ID: "rp-filter-nic", Severity: Warning,
	What: "rp_filter is 1 for a NIC of the node; a note if the node has one NIC, and no pod is in overlay mode",
	Why:  "It is strict: what comes by the NIC from an address that the node has a route to by another link is dropped (fib_validate_source in net/ipv4/fib_frontend.c). Such is a client in one LAN that asks for the node's address in another one, and what a pod in overlay mode answers its node by the LAN. The larger of all and a NIC's own value counts (Documentation/networking/ip-sysctl.rst), so 2, which is loose, may stand at either. Distributions set it for each NIC, by net.ipv4.conf.default or net.ipv4.conf.*.",
	Remedy: `sysctl -w net/ipv4/conf/LINK/rp_filter=2
# and the same in a file of /etc/sysctl.d, or whatever sets it when the node starts`,
}

// nicReversePath looks at the NICs' own values, which the value of all may make loose.
func nicReversePath(n *node, all int) error {
	k := rpFilterNIC
	if len(n.nics()) < 2 && !slices.ContainsFunc(n.pods, pod.isOverlay) {
		k.Severity = Note
	}
	for _, name := range n.nics() {
		value, err := sysctl("ipv4/conf/" + name + "/rp_filter")
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link that has gone
		}
		if err != nil {
			return err
		}
		if value == 1 && all < 2 {
			n.found(k, fmt.Sprintf("net.ipv4.conf.%s.rp_filter is 1, with %s", name, counted(len(n.nics()), "NIC")), "LINK", name)
		}
	}
	return nil
}

var proxyARP = Kind{
	ID: "proxy-arp", Severity: Problem,
	What:   "proxy_arp is on for a NIC of the node",
	Why:    "The node has a route to each pod by another link than the NIC, so it answers the LAN's ARP requests for the pods' addresses with its own MAC (arp_fwd_proxy in net/ipv4/arp.c): hosts send to the node what is the pod's, and the pod answers by itself.",
	Remedy: "sysctl -w net/ipv4/conf/LINK/proxy_arp=0",
}

var arpIgnore = Kind{
	ID: "arp-ignore", Severity: Problem,
	What:   "arp_ignore is 8 for a NIC of the node",
	Why:    "8 answers no ARP request at all (Documentation/networking/ip-sysctl.rst): LAN and gateway lose the node, and with it every Service. 1, as kube-proxy's strictARP sets it, does no harm: pods and node have permanent entries for each other.",
	Remedy: "sysctl -w net/ipv4/conf/LINK/arp_ignore=0",
}

// arp looks at the NICs that have the node's addresses, and at those that pods' NICs
// sit on.
func arp(n *node) error {
	dev := append(n.nics(), n.parents()...)
	slices.Sort(dev)
	for _, name := range append([]string{"all"}, slices.Compact(dev)...) {
		for _, s := range []struct {
			kind Kind
			key  string
			from int
		}{{proxyARP, "proxy_arp", 1}, {arpIgnore, "arp_ignore", 8}} {
			value, err := sysctl("ipv4/conf/" + name + "/" + s.key)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a link that has gone
			}
			if err != nil {
				return err
			}
			if value >= s.from {
				n.found(s.kind, fmt.Sprintf("net.ipv4.conf.%s.%s is %d", name, s.key, value), "LINK", name)
			}
		}
	}
	return nil
}

// parents are the links that networks put pods' NICs on.
func (n *node) parents() (out []string) {
	for _, network := range n.networks {
		for _, p := range network.plugins {
			if _, ok := n.link(text(p, "master")); ok {
				out = append(out, text(p, "master"))
			}
		}
	}
	return out
}

var neighbourTable = Kind{
	ID: "neighbour-table", Severity: Warning,
	What: "the neighbour table is three quarters full",
	Why:  "At gc_thresh3 entries, in all network namespaces together, the kernel makes no new one: packets are dropped, and it logs \"neighbour table overflow!\" (neigh_alloc in net/core/neighbour.c). A LAN of pods fills the default of 1024 quickly. Permanent entries, ours among them, are in the number but not limited.",
	Remedy: `multihome install --drop-ins sysctl
sysctl -e -p /etc/sysctl.d/90-multihome.conf`,
}

func neighbours(n *node) error {
	for _, f := range []struct{ name, limit, counters string }{
		{"IPv4", "ipv4/neigh/default/gc_thresh3", "arp_cache"},
		{"IPv6", "ipv6/neigh/default/gc_thresh3", "ndisc_cache"},
	} {
		limit, err := sysctl(f.limit)
		if errors.Is(err, fs.ErrNotExist) {
			n.fact("neighbours, "+f.name, "the limit is visible in the machine's first network namespace only")
			continue
		}
		if err != nil {
			return err
		}
		entries, err := neighbourEntries(f.counters)
		if err != nil {
			return err
		}
		n.fact("neighbours, "+f.name, "%d of %d", entries, limit)
		if entries*4 >= limit*3 {
			n.found(neighbourTable, fmt.Sprintf("%s: %d entries, and net.%s is %d", f.name, entries, dotted(f.limit), limit))
		}
	}
	return nil
}
