// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

var ipForward = Kind{
	ID: "ip-forward", Severity: Problem,
	What: "forwarding is off for a family, IPv4 or IPv6, of which the node and its pods have addresses",
	Why:  "The node forwards packets from pods to Services, and all packets that reach a pod through its node. With forwarding off, the kernel drops them silently. IPv4 forwarding is off by default (Documentation/networking/ip-sysctl.rst).",
	Remedy: `multihome install --drop-ins sysctl
sysctl -e -p /etc/sysctl.d/90-multihome.conf`,
}

// forwarding checks that the node forwards the families that it has to.
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

// dotted returns the name of a setting in the form that sysctl(8) prints.
func dotted(key string) string { return strings.ReplaceAll(key, "/", ".") }

var rpFilterAll = Kind{
	ID: "rp-filter-all", Severity: Warning,
	What:   "net.ipv4.conf.all.rp_filter is not 0; a note if it is 2, or the node has one NIC",
	Why:    "The larger of this value and a link's own counts (Documentation/networking/ip-sysctl.rst). 1 makes every NIC strict: the kernel drops a packet that comes by another NIC than the node would answer by. On a node in several LANs, this breaks NodePorts. 2 makes strict links loose; the table inet multihome-sources still checks the addresses of pods.",
	Remedy: "sysctl -w net.ipv4.conf.all.rp_filter=0",
}

// reversePath checks rp_filter of the node and of its NICs.
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
	Why:  "1 is strict: the kernel drops a packet that comes by the NIC if the node's route to its source leaves by another link (fib_validate_source in net/ipv4/fib_frontend.c). This hits a client in one LAN that asks for the node's address in another LAN, and the answers that a pod in overlay mode sends to its node by the LAN. The larger of all and a NIC's own value counts (Documentation/networking/ip-sysctl.rst), so either of them may be 2, which is loose. Distributions set it for each NIC, by net.ipv4.conf.default or net.ipv4.conf.*.",
	Remedy: `sysctl -w net/ipv4/conf/LINK/rp_filter=2
# also set it in a file of /etc/sysctl.d, or in the configuration that sets it when the node starts`,
}

// nicReversePath checks rp_filter of each NIC. The value for all makes strict NICs loose
// if it is 2.
func nicReversePath(n *node, all int) error {
	k := rpFilterNIC
	if len(n.nics()) < 2 && !slices.ContainsFunc(n.pods, pod.isOverlay) {
		k.Severity = Note
	}
	return eachLink(n.nics(), "ipv4/conf/", "/rp_filter", func(name string, value int) {
		if value == 1 && all < 2 {
			n.found(k, fmt.Sprintf("net.ipv4.conf.%s.rp_filter is 1, with %s", name, counted(len(n.nics()), "NIC")), "LINK", name)
		}
	})
}

// eachLink calls f with a setting of each link that is still there.
func eachLink(names []string, before, after string, f func(name string, value int)) error {
	for _, name := range names {
		value, err := sysctl(before + name + after)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		f(name, value)
	}
	return nil
}

var acceptRA = Kind{
	ID: "accept-ra", Severity: Warning,
	What: "a NIC of a node that forwards IPv6, or has to, has a dynamic IPv6 address, and its accept_ra is 1",
	Why:  "A node that forwards ignores router advertisements, unless accept_ra is 2 (Documentation/networking/ip-sysctl.rst). When forwarding is switched on, the kernel removes the default routes that it learnt by them, and its addresses end with their lifetime (k3s#5019, cilium#21819). systemd-networkd and NetworkManager listen to advertisements themselves, and set accept_ra to 0.",
	Remedy: `sysctl -w net/ipv6/conf/LINK/accept_ra=2
# also set it in a file of /etc/sysctl.d; the default route is back with the router's next advertisement, at once by: rdisc6 LINK`,
}

// adverts checks that NICs whose IPv6 may come by router advertisements accept them although the
// node forwards.
func adverts(n *node) error {
	forwards, err := sysctl("ipv6/conf/all/forwarding")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no IPv6
	}
	if err != nil || forwards == 0 && !n.forwards(netstate.IPv6) {
		return err
	}
	addrs, err := os.ReadFile("/proc/net/if_inet6")
	if err != nil {
		return err
	}
	dynamic := dynamicAddrs(string(addrs))
	return eachLink(n.nics(), "ipv6/conf/", "/accept_ra", func(name string, value int) {
		if value == 1 && dynamic[name] {
			n.found(acceptRA, fmt.Sprintf("net.ipv6.conf.%s.accept_ra is 1, and net.ipv6.conf.all.forwarding is %d", name, forwards), "LINK", name)
		}
	})
}

// dynamicAddrs returns the links with a global address that ends, by /proc/net/if_inet6
// (if6_seq_show in net/ipv6/addrconf.c).
func dynamicAddrs(table string) map[string]bool {
	const fields, scope, flags, name = 6, 3, 4, 5
	const permanent = 0x80 // IFA_F_PERMANENT
	out := map[string]bool{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != fields || f[scope] != "00" {
			continue
		}
		if bits, err := strconv.ParseUint(f[flags], 16, 8); err == nil && bits&permanent == 0 {
			out[f[name]] = true
		}
	}
	return out
}

var proxyARP = Kind{
	ID: "proxy-arp", Severity: Problem,
	What:   "proxy_arp is on for a NIC of the node",
	Why:    "The node has a route to each pod by another link than the NIC, so it answers the LAN's ARP requests for the pods' addresses with its own MAC (arp_fwd_proxy in net/ipv4/arp.c). Then hosts send packets for the pod to the node, while the pod answers directly.",
	Remedy: "sysctl -w net/ipv4/conf/LINK/proxy_arp=0",
}

var arpIgnore = Kind{
	ID: "arp-ignore", Severity: Problem,
	What:   "arp_ignore is 8 for a NIC of the node",
	Why:    "With 8, the node answers no ARP request at all (Documentation/networking/ip-sysctl.rst): the LAN and the gateway no longer reach the node, nor any Service through it. 1, which kube-proxy's strictARP sets, does no harm: pods and node have permanent entries for each other.",
	Remedy: "sysctl -w net/ipv4/conf/LINK/arp_ignore=0",
}

// arp checks proxy_arp and arp_ignore of the NICs that have the node's addresses, and of
// the links that pods' NICs sit on.
func arp(n *node) error {
	dev := append(n.nics(), n.parents()...)
	slices.Sort(dev)
	links := append([]string{"all"}, slices.Compact(dev)...)
	for _, s := range []struct {
		kind Kind
		key  string
		from int
	}{{proxyARP, "proxy_arp", 1}, {arpIgnore, "arp_ignore", 8}} {
		err := eachLink(links, "ipv4/conf/", "/"+s.key, func(name string, value int) {
			if value >= s.from {
				n.found(s.kind, fmt.Sprintf("net.ipv4.conf.%s.%s is %d", name, s.key, value), "LINK", name)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parents returns the node's links that networks put pods' NICs on.
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
	Why:  "The kernel makes no new entry if there are gc_thresh3 entries in all network namespaces together. It drops the packets and logs \"neighbour table overflow!\" (neigh_alloc in net/core/neighbour.c). A LAN of pods fills the default of 1024 quickly. Permanent entries, ours among them, are counted but not limited.",
	Remedy: `multihome install --drop-ins sysctl
sysctl -e -p /etc/sysctl.d/90-multihome.conf`,
}

// neighbours checks how full the neighbour tables are.
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
		if isNearlyFull(entries, limit) {
			n.found(neighbourTable, fmt.Sprintf("%s: %d entries, and net.%s is %d", f.name, entries, dotted(f.limit), limit))
		}
	}
	return nil
}

// isNearlyFull reports whether a table is three quarters full. Without a limit it never is.
func isNearlyFull(entries, limit int) bool { return limit > 0 && entries*4 >= limit*3 }

var conntrackTable = Kind{
	ID: "conntrack-table", Severity: Warning,
	What: "the node's table of connections is three quarters full",
	Why:  "All that pods send to Services and get by NodePorts is in it. When it is full, the kernel drops the first packet of each new connection, and logs \"nf_conntrack: table full, dropping packet\" (kubernetes#71261, calico#8676). kube-proxy sets the limit when it starts, by the number of processors.",
	Remedy: `sysctl -w net.netfilter.nf_conntrack_max=LIMIT
# in kube-proxy's configuration: set conntrack.maxPerCore or conntrack.min, so that this stays`,
}

// connections checks how full the node's table of connections is.
func connections(n *node) error {
	limit, err := sysctl("netfilter/nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing needs conntrack
	}
	if err != nil {
		return err
	}
	entries, err := sysctl("netfilter/nf_conntrack_count")
	if err != nil {
		return err
	}
	if isNearlyFull(entries, limit) {
		n.found(conntrackTable, fmt.Sprintf("%d connections, and net.netfilter.nf_conntrack_max is %d", entries, limit), "LIMIT", strconv.Itoa(2*limit))
	}
	return nil
}
