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

// NodeAddrs returns the addresses by which pods reach their node: of each
// family first the one to send from towards the pod's first address, then the
// global addresses of every link that is up and the node's own, sorted. The pod's
// addresses come with the length of their subnet.
//
// The number of addresses, links and routes on the node is hardly felt: only those
// links are asked for their addresses that may have some of the node's.
func (k *Namespaces) NodeAddrs(pod []netip.Prefix) ([]netip.Addr, error) {
	links, inVRF, err := k.nodeLinks()
	if err != nil {
		return nil, err
	}
	var own []ownAddr
	for _, l := range links {
		addrs, err := k.Host.ownAddrs(l)
		if err != nil {
			return nil, err
		}
		own = append(own, addrs...)
	}
	out, err := nodeAddrs(pod, own, func(p netip.Addr) (netip.Addr, error) { return k.Host.sourceTowards(p, own) })
	if err == nil && len(out) == 0 && inVRF != "" {
		err = fmt.Errorf("host: %s, and the node has no address outside of one, by which pods could reach it: give it one there, or take the link out of the VRF", inVRF)
	}
	return out, err
}

// nodeAddrs decides which addresses those are, and gives the same answer before and
// after there is a route of ours to the pod.
//
// The address to send from is the node's own in the pod's subnet: no route has a say
// in it. Only where there is none the kernel is asked, by towards. What it says of
// the pod's first address becomes the source of our route, so that it says it again.
// Of an address in another subnet the answer counts only if it is in that subnet: then
// it becomes the source of that route.
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
	index      int  // of its link
	deprecated bool // not for new connections (RFC 4862, 5.5.4), such as a floating address
	secondary  bool // of IPv4: another one of the same subnet came first
}

// best returns the address to send from to an address: of its family, rather not
// deprecated, of the outgoing link, and in the smallest subnet that has both, as RFC
// 6724 (rules 3 and 5) and the routes of the subnets have it; then the one that has most
// bits in common with it, and the lowest. It is not valid if there is none.
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
	better := func(a, b ownAddr) int { // negative: a
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

// ownAddrs returns the global addresses of a link of the node's own.
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

// linkNames lists the names of all links. The directory of IPv6's counters has
// one entry for each that has an MTU of 1280 or more (net/ipv6/proc.c), and is
// thirty times as fast to read as a dump of links; a kernel without IPv6 has no
// such directory.
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

// sourceTowards returns the address that the kernel would send from to reach
// dst; it is not valid if there is no way there.
//
// IPv4 tells it with the route. IPv6 would go through all addresses of the
// node to find it, which takes its time with thousands of them, so there the
// choice of RFC 6724 is made here among the node's own.
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
		// Our own route to the pod, from before the node got another address:
		// IPv4 keeps it where it is not in main (fib_sync_down_addr).
	}
	out := r.OIF
	if len(r.Hops) > 0 {
		out = r.Hops[0].OIF
	}
	return best(own, dst, out), nil
}

// isLocal reports whether an address is one of this space, be it the node's own
// or not. The table doesn't tell: local is a part of main until there is a rule
// (fib_unmerge of net/ipv4/fib_frontend.c).
func (s *Namespace) isLocal(a netip.Addr, own []ownAddr) (bool, error) {
	if slices.ContainsFunc(own, func(o ownAddr) bool { return o.Addr() == a }) {
		return true, nil
	}
	r, err := s.RouteTo(a, a.Is6())
	return r.Type == unix.RTN_LOCAL, err
}

// commonBits counts the leading bits that two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	for n := a.BitLen(); n > 0; n-- {
		if p, err := a.Prefix(n); err == nil && p.Contains(b) {
			return n
		}
	}
	return 0
}
