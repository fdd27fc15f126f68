// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// NodeAddrs returns the addresses by which pods reach their node: of each
// family first the one the kernel would send from towards the pod's first
// address, then the global addresses of every link that is up and the node's
// own, sorted.
//
// The number of addresses, links and routes on the node is hardly felt: only those
// links are asked for their addresses that may have some of the node's.
func (k *Kernel) NodeAddrs(pod []netip.Addr) ([]netip.Addr, error) {
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
	slices.SortFunc(own, func(a, b ownAddr) int { return a.addr.Compare(b.addr) })
	var out []netip.Addr
	for _, p := range pod {
		src, err := k.Host.sourceTowards(p, own)
		if err != nil {
			return nil, err
		}
		if src.IsValid() && !src.IsLinkLocalUnicast() && !slices.Contains(out, src) {
			out = append(out, src)
		}
	}
	for _, o := range own {
		if !slices.Contains(out, o.addr) {
			out = append(out, o.addr)
		}
	}
	if len(out) == 0 && inVRF != "" {
		return nil, fmt.Errorf("host: %s, and the node has no address outside of one, by which pods could reach it: give it one there, or take the link out of the VRF", inVRF)
	}
	return out, nil
}

// ownAddr is an address of the node itself.
type ownAddr struct {
	addr  netip.Addr
	index int // of its link
}

// ownAddrs returns the global addresses of a link of the node's own.
func (s *Space) ownAddrs(l link) ([]ownAddr, error) {
	list, err := s.addrs(l.index)
	if err != nil {
		return nil, err
	}
	var out []ownAddr
	for _, a := range list {
		if a.scope == unix.RT_SCOPE_UNIVERSE && !a.Tentative && !a.failed && !a.temporary {
			out = append(out, ownAddr{a.Prefix.Addr(), l.index})
		}
	}
	return out, nil
}

// linkNames lists the names of all links. The directory of IPv6's counters has
// one entry for each that has an MTU of 1280 or more (net/ipv6/proc.c), and is
// thirty times as fast to read as a dump of links; a kernel without IPv6 has no
// such directory.
func (s *Space) linkNames() ([]string, error) {
	var names []string
	err := s.enter(func() error {
		fd, err := unix.Open("/proc/thread-self/net/dev_snmp6", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		for {
			n, err := unix.Getdents(fd, s.conn.in)
			if n <= 0 {
				return err
			}
			_, _, names = unix.ParseDirent(s.conn.in[:n], -1, names)
		}
	})
	if err == nil {
		return names, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: list links: %w", s.ns, err)
	}
	links, err := s.links(linkRequest(""))
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
// choice of RFC 6724 is made here among the node's own: an address of the
// outgoing link, the one that has most bits in common with the destination.
func (s *Space) sourceTowards(dst netip.Addr, own []ownAddr) (netip.Addr, error) {
	r, err := s.routeTo(dst, dst.Is6())
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
	out := r.oif
	if len(r.hops) > 0 {
		out = r.hops[0].oif
	}
	var best ownAddr
	for _, o := range own {
		if o.addr.Is4() != dst.Is4() {
			continue
		}
		better := !best.addr.IsValid() || o.index == out && best.index != out
		if (o.index == out) == (best.index == out) && commonBits(o.addr, dst) > commonBits(best.addr, dst) {
			better = true
		}
		if better {
			best = o
		}
	}
	return best.addr, nil
}

// isLocal reports whether an address is one of this space, be it the node's own
// or not. The table doesn't tell: local is a part of main until there is a rule
// (fib_unmerge of net/ipv4/fib_frontend.c).
func (s *Space) isLocal(a netip.Addr, own []ownAddr) (bool, error) {
	if slices.ContainsFunc(own, func(o ownAddr) bool { return o.addr == a }) {
		return true, nil
	}
	r, err := s.routeTo(a, a.Is6())
	return r.kind == unix.RTN_LOCAL, err
}

// commonBits counts the leading bits that two addresses share.
func commonBits(a, b netip.Addr) int {
	if !a.IsValid() {
		return -1
	}
	for n := 128; n > 0; n-- {
		if p, err := a.Prefix(n); err == nil && p.Contains(b) {
			return n
		}
	}
	return 0
}
