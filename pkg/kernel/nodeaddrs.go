// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/rtnetlink"
)

// NodeAddrs returns the addresses by which pods reach their node. First come the sources
// that the node sends from to the pod's addresses; then, sorted, the global addresses of
// all links that are up and may carry addresses of the node itself. The argument holds the
// pod's addresses with their prefix lengths.
//
// It also returns the subnets of the node itself: these addresses with their prefix lengths,
// without those of bridges that lead nowhere out of the node, as a bridge of pods does, and
// without single addresses, as tunnels and service proxies have them.
//
// It asks only those links for their addresses, so its time hardly grows with the numbers
// of links, addresses and routes on the node.
func (k *Namespaces) NodeAddrs(pod []netip.Prefix) (out []netip.Addr, subnets []netip.Prefix, err error) {
	links, inVRF, err := k.nodeLinks()
	if err != nil {
		return nil, nil, err
	}
	var own []ownAddr
	for _, l := range links {
		addrs, err := k.Host.ownAddrs(l)
		if err != nil {
			return nil, nil, err
		}
		own = append(own, addrs...)
		outside := l.Type != "bridge" || slices.ContainsFunc(links, func(port rtnetlink.Link) bool { return port.Master == l.Name && isUplink(port.Link) })
		for _, a := range addrs {
			if outside && !a.Prefix.IsSingleIP() {
				subnets = append(subnets, a.Prefix)
			}
		}
	}
	out, err = nodeAddrs(pod, own, func(p netip.Addr) (netip.Addr, error) { return k.Host.sourceTowards(p, own) })
	if err == nil && len(out) == 0 && inVRF != "" {
		err = fmt.Errorf("host: %s, and the node has no address outside a VRF, so pods can't reach it: add an address to a link that is in no VRF, or take the link out of the VRF", inVRF)
	}
	return out, subnets, err
}

// NodeSubnets returns the subnets of this node itself: see NodeAddrs.
func NodeSubnets() ([]netip.Prefix, error) {
	k, err := OpenHost()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	_, subnets, err := k.NodeAddrs(nil)
	return subnets, err
}

// nodeAddrs decides which addresses NodeAddrs returns. It gives the same answer before and
// after our routes to the pod are made.
//
// The source for an address of the pod is the node's own address in the pod's subnet,
// whatever the routes are. Only if there is none, it asks the kernel, by towards. For the
// first address of a family it takes any answer: our route gets this source, so that the
// kernel gives the same answer again. For a further address it takes the answer only if it
// is in that address's subnet: our route to that address gets this source.
func nodeAddrs(pod []netip.Prefix, own []ownAddr, towards func(netip.Addr) (netip.Addr, error)) ([]netip.Addr, error) {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for i, p := range pod {
		near := slices.DeleteFunc(slices.Clone(own), func(o ownAddr) bool { return !p.Contains(o.Addr()) && !o.Contains(p.Addr()) })
		src := best(near, p.Addr(), 0)
		if !src.IsValid() && !slices.ContainsFunc(out, p.Contains) && !slices.ContainsFunc(pod[:i], p.Overlaps) {
			from, err := towards(p.Addr())
			if err != nil {
				return nil, err
			}
			first := !slices.ContainsFunc(pod[:i], func(q netip.Prefix) bool { return q.Addr().Is4() == p.Addr().Is4() })
			if first || p.Contains(from) {
				src = from
			}
		}
		add(src)
	}
	slices.SortFunc(own, func(a, b ownAddr) int { return a.Addr().Compare(b.Addr()) })
	for _, o := range own {
		add(o.Addr())
	}
	return out, nil
}

// ownAddr is an address of the node itself, with the length of its subnet.
type ownAddr struct {
	netip.Prefix
	index      int  // ifindex of its link
	deprecated bool // not for new connections (RFC 4862, 5.5.4), such as a floating address
	secondary  bool // IPv4: not the first address in its subnet
}

// best returns the source address for packets to an address, the invalid one if the node
// has none of the family. It prefers, in this order: an address that isn't deprecated (RFC
// 6724, rule 3), one of the outgoing link (rule 5), the smallest subnet that contains both
// (as the routes to the subnets do), one that isn't secondary, the longest common prefix,
// and the lowest address.
func best(own []ownAddr, to netip.Addr, out int) netip.Addr {
	shared := func(o ownAddr) int {
		if !o.Contains(to) {
			return -1
		}
		return o.Bits()
	}
	rank := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	better := func(a, b ownAddr) int { // negative if a is better
		return cmp.Or(
			rank(a.deprecated)-rank(b.deprecated),
			rank(b.index == out)-rank(a.index == out),
			shared(b)-shared(a),
			rank(a.secondary)-rank(b.secondary),
			commonBits(b.Addr(), to)-commonBits(a.Addr(), to),
			a.Addr().Compare(b.Addr()),
		)
	}
	of := slices.DeleteFunc(slices.Clone(own), func(o ownAddr) bool { return o.Addr().Is4() != to.Is4() })
	if len(of) == 0 {
		return netip.Addr{}
	}
	return slices.MinFunc(of, better).Addr()
}

// ownAddrs returns the global addresses of a link, without tentative, failed and temporary
// ones.
func (s *Namespace) ownAddrs(l rtnetlink.Link) ([]ownAddr, error) {
	list, err := s.Addrs(l.Index)
	if err != nil {
		return nil, err
	}
	var out []ownAddr
	for _, a := range list {
		if a.Scope == unix.RT_SCOPE_UNIVERSE && !a.Tentative && !a.Failed && !a.Temporary {
			out = append(out, ownAddr{a.Prefix, l.Index, a.Deprecated, a.Secondary})
		}
	}
	return out, nil
}

// linkNames returns the names of all links with an MTU of 1280 or more. It lists the
// directory of IPv6's counters, which has an entry for each of them (net/ipv6/proc.c):
// that is thirty times as fast as a dump of links. A kernel without IPv6 has no such
// directory; there it dumps all links.
func (s *Namespace) linkNames() ([]string, error) {
	var names []string
	err := s.Enter(func() error {
		fd, err := unix.Open("/proc/thread-self/net/dev_snmp6", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		for buf := s.conn.Buffer(); ; {
			n, err := unix.Getdents(fd, buf)
			if n <= 0 {
				return err
			}
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	})
	if err == nil {
		return names, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: list links: %w", s.ns, err)
	}
	links, err := s.links(rtnetlink.LinkRequest(""))
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names, err
}

// sourceTowards returns the source address that the kernel uses for packets to dst, the
// invalid one if there is no route.
//
// For IPv4 the kernel returns it with the route. For IPv6 the kernel would search all
// addresses of the node, which is slow with thousands of them. So this function makes the
// choice of RFC 6724 itself, among the node's own addresses.
func (s *Namespace) sourceTowards(dst netip.Addr, own []ownAddr) (netip.Addr, error) {
	r, err := s.RouteTo(dst, dst.Is6())
	if err != nil || !r.Dst.IsValid() || dst.Is4() && !r.Src.IsValid() {
		return netip.Addr{}, err
	}
	if r.Src.IsValid() {
		has, err := s.isLocal(r.Src, own)
		if err != nil || has {
			return r.Src, err
		}
		// This is our own route to the pod, with an address that the node no longer
		// has. IPv4 keeps such a route if it isn't in main (fib_sync_down_addr).
	}
	out := r.OIF
	if len(r.Hops) > 0 {
		out = r.Hops[0].OIF
	}
	return best(own, dst, out), nil
}

// isLocal reports whether an address is one of this namespace. It goes by the type of the
// route and not by its table: table local is merged into main until the first rule is
// added (fib_unmerge of net/ipv4/fib_frontend.c).
func (s *Namespace) isLocal(a netip.Addr, own []ownAddr) (bool, error) {
	if slices.ContainsFunc(own, func(o ownAddr) bool { return o.Addr() == a }) {
		return true, nil
	}
	r, err := s.RouteTo(a, a.Is6())
	return r.Type == unix.RTN_LOCAL, err
}

// commonBits returns the number of leading bits that two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	for n := a.BitLen(); n > 0; n-- {
		if p, err := a.Prefix(n); err == nil && p.Contains(b) {
			return n
		}
	}
	return 0
}
